"""PostgreSQL, servers and agents as processes, put together as one kind of fault needs them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import Factory, define, frozen

from hetuflow.cli.cluster import free_port
from hetuflow.server import SERVER_ID_FILE
from tests.faults.database import Database, Disk
from tests.faults.netns import Net
from tests.faults.processes import Node, spawn
from tests.faults.relay import Relay, open_relay
from tests.faults.server import set_offset

READY_SECONDS = 60.0
SLOTS = 24


@frozen(kw_only=True)
class Setup:
    """What a cluster is made of. Kinds with equal setups share one cluster.

    Attributes:
      lease_seconds: of the agents; the server allows 5 at least.
      relay: agents reach the servers through a relay that can hold bytes back and change its target.
      database_relay: the servers reach PostgreSQL through one.
      net: agent-01 lives in a network namespace of its own.
      clock: the servers' wall clock can be set.
      data_mb, wal_mb: size of a file system of its own for PostgreSQL's data, and for its write-ahead log; 0 = none.
    """

    lease_seconds: float = 10.0
    agents: int = 2
    relay: bool = False
    database_relay: bool = False
    net: bool = False
    clock: bool = False
    data_mb: int = 0
    wal_mb: int = 0


@define
class Cluster:
    """`server` is the one that clients speak to."""

    setup: Setup
    directory: Path
    database: Database
    clock_file: Path
    state_dir: Path
    http_port: int = 0
    websocket_port: int = 0
    relay: Relay | None = None
    database_relay: Relay | None = None
    net: Net | None = None
    server: Node | None = None
    nodes: list[Node] = Factory(list)
    agents: dict[str, Node] = Factory(dict)
    seconds_started: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def lines(self) -> Path:
        return self.directory / "lines"

    def work_dir(self, agent: str) -> Path:
        return self.directory / "work" / agent

    # --- servers ----------------------------------------------------------------------------------------------------

    def spawn_server(self, *faults: str) -> Node:
        """Start a server on our ports, in the state directory of the last one; it does not answer yet.

        `faults`: arguments of `tests.faults.server`.
        """
        url = self.database.url if self.database_relay is None else self.database_relay.rewritten(self.database.url)
        environ = {
            "DATABASE_URL": url,
            "HETUFLOW_SERVER__HTTP_PORT": str(self.http_port),
            "HETUFLOW_SERVER__WEBSOCKET_PORT": str(self.websocket_port),
            "HETUFLOW_SERVER__STATE_DIR": str(self.state_dir),
        }
        arguments = list(faults)
        if self.setup.clock:
            arguments += ["--clock-file", str(self.clock_file)]
        if self.net is not None:
            arguments += ["--host", "0.0.0.0"]
            environ["HETUFLOW_SERVER__ALLOWED_HOSTS"] = self.net.outside
        command = ("tests.faults.server", *arguments) if arguments else ("hetuflow.cli.main", "server")
        log = self.directory / "logs" / f"{self.state_dir.name}.log"
        node = spawn(self.state_dir.name, [sys.executable, "-m", *command], log, environ)
        self.server = node
        self.nodes.append(node)
        if self.relay is not None:
            self.relay.target = ("127.0.0.1", self.websocket_port)
        return node

    def spawn_second_server(self, *, same_identity: bool = False) -> Node:
        """One on other ports: clients, and agents that dial anew, come to it from now on.

        `same_identity`: another life of the first one, as after a copy of its state directory.
        """
        self.seconds_started += 1
        self.http_port, self.websocket_port = free_port(), free_port()
        first, self.state_dir = self.state_dir, self.directory / f"server-{self.seconds_started + 1}"
        if same_identity:
            self.state_dir.mkdir(mode=0o700)
            shutil.copy(first / SERVER_ID_FILE, self.state_dir)
        return self.spawn_server()

    async def until_healthy(self) -> None:
        """Until the server says that it works."""
        server = self.server
        assert server is not None
        async with self.client() as http:
            with trio.move_on_after(READY_SECONDS):
                while server.is_alive:
                    try:
                        if (await http.get("/system/health")).json()["status"] == "healthy":
                            return
                    except (httpx.TransportError, ValueError, KeyError):
                        pass
                    await trio.sleep(0.05)
        raise RuntimeError(f"{server.name} is not healthy:\n{server.last_words()}")

    def client(self, seconds: float = 30.0) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", timeout=seconds, trust_env=False)

    # --- agents -----------------------------------------------------------------------------------------------------

    def spawn_agent(self, agent: str) -> Node:
        inside = self.net is not None and agent == "agent-01"
        host = self.net.outside if inside and self.net is not None else "127.0.0.1"
        port = self.relay.port if self.relay is not None else self.websocket_port
        environ = {
            "HETUFLOW_AGENT__LOST_AFTER_SECONDS": str(self.setup.lease_seconds),
            "HETUFLOW_AGENT__HEARTBEAT_INTERVAL": str(self.setup.lease_seconds / 4),
        }
        arguments = [
            *(sys.executable, "-m", "agent", "--server-url", f"ws://{host}:{port}", "--id", agent),
            *("--slots", str(SLOTS), "--state-dir", str(self.directory / agent)),
            *("--work-dir", str(self.directory / "work")),
        ]
        prefix = self.net.prefix if inside and self.net is not None else ()
        node = spawn(agent, arguments, self.directory / "logs" / f"{agent}.log", environ, prefix)
        self.agents[agent] = node
        self.nodes.append(node)
        return node

    async def until_online(self, count: int) -> None:
        async with self.client() as http:
            with trio.move_on_after(READY_SECONDS):
                while True:
                    try:
                        if (await http.get("/gateway/status")).json().get("online_agents") == count:
                            return
                    except (httpx.TransportError, ValueError):
                        pass
                    await trio.sleep(0.05)
        raise RuntimeError(
            f"not {count} agents online: " + "; ".join(node.last_words() for node in self.agents.values())
        )

    # --- the clock --------------------------------------------------------------------------------------------------

    def offset_clock(self, seconds: float) -> None:
        """What the servers' wall clock is wrong by."""
        set_offset(self.clock_file, seconds)

    # --- the end ----------------------------------------------------------------------------------------------------

    def unexpected_ends(self) -> Sequence[Node]:
        return [node for node in self.nodes if not node.is_expected and not node.is_alive]

    def forget_ended(self) -> None:
        self.nodes = [node for node in self.nodes if node.is_alive]

    async def stop(self) -> None:
        async with trio.open_nursery() as nursery:
            for node in self.agents.values():
                nursery.start_soon(node.stop)
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                nursery.start_soon(node.stop)


@asynccontextmanager
async def open_cluster(setup: Setup, directory: Path) -> AsyncIterator[Cluster]:
    """Everything is up and healthy; stopped at the end, also of what a fault left half dead."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - once
    os.chmod(directory, 0o711)
    clock_file = directory / "clock"
    set_offset(clock_file, 0.0)
    data = Disk(directory / "data-disk", setup.data_mb) if setup.data_mb else None
    wal = Disk(directory / "wal-disk", setup.wal_mb) if setup.wal_mb else None
    database = Database(directory / "database", data, wal, free_port())
    async with AsyncExitStack() as stack:
        cluster = Cluster(setup, directory, database, clock_file, directory / "server", free_port(), free_port())
        cluster.lines.mkdir(exist_ok=True)
        (directory / "work").mkdir(mode=0o700, exist_ok=True)
        try:
            await database.open()
            if setup.net:
                cluster.net = stack.enter_context(Net.open())
            if setup.relay:
                cluster.relay = await stack.enter_async_context(open_relay("127.0.0.1", cluster.websocket_port))
            if setup.database_relay:
                cluster.database_relay = await stack.enter_async_context(open_relay("127.0.0.1", database.server.port))
            await migrated(database.url)
            cluster.spawn_server()
            await cluster.until_healthy()
            for number in range(1, setup.agents + 1):
                cluster.spawn_agent(f"agent-{number:02}")
            await cluster.until_online(setup.agents)
            yield cluster
        finally:
            with trio.CancelScope(shield=True):
                await cluster.stop()
                await database.close()


async def migrated(url: str) -> None:
    command: list[Any] = [sys.executable, "-m", "hetuflow.cli.main", "migrate", "--database-url", url]
    answer = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"hetuflow migrate: {answer.stderr.decode()}")
