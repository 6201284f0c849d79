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
from tests.faults.machines import Machine, build_clock
from tests.faults.netns import Net
from tests.faults.processes import DIRECTORY_VARIABLE, Node, spawn
from tests.faults.relay import Relay, open_relay
from tests.faults.server import set_offset

READY_SECONDS = 60.0
SLOTS = 24


@frozen(kw_only=True)
class Setup:
    """What a cluster is made of. Kinds with equal setups share one cluster.

    Attributes:
      lease_seconds: of the agents; the server allows 5 at least.
      server_lost_seconds: silence after which another server takes over.
      standby: two servers from the start; agents know the addresses of both.
      relay: agents reach the servers through a relay that can hold bytes back and change its target.
      database_relay: the servers reach PostgreSQL through one.
      net: agent-01 lives in a network namespace of its own.
      clock: the servers' wall clock can be set.
      agent_boots: agents see a boot id of their own, which can be changed.
      agent_clock: the wall clock of agent-01 can be set.
      agent_mb: size of a file system of its own for state and work of agent-01; 0 = none.
      data_mb, wal_mb: size of a file system of its own for PostgreSQL's data, and for its write-ahead log; 0 = none.
    """

    lease_seconds: float = 10.0
    server_lost_seconds: float = 10.0
    agents: int = 2
    standby: bool = False
    relay: bool = False
    database_relay: bool = False
    net: bool = False
    clock: bool = False
    agent_boots: bool = False
    agent_clock: bool = False
    agent_mb: int = 0
    data_mb: int = 0
    wal_mb: int = 0


@frozen
class Seat:
    """Where a server has its state and listens, through all of its lives."""

    state_dir: Path
    http_port: int
    websocket_port: int

    @property
    def name(self) -> str:
        return self.state_dir.name


@define
class Cluster:
    """`server` is the one that clients speak to, in `seat`; `other` the standby, in `other_seat`."""

    setup: Setup
    directory: Path
    database: Database
    clock_file: Path
    seat: Seat
    other_seat: Seat | None = None
    relay: Relay | None = None
    database_relay: Relay | None = None
    net: Net | None = None
    server: Node | None = None
    other: Node | None = None
    nodes: list[Node] = Factory(list)
    agents: dict[str, Node] = Factory(dict)
    machines: dict[str, Machine] = Factory(dict)
    seats: int = 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.seat.http_port}"

    @property
    def lines(self) -> Path:
        return self.directory / "lines"

    def work_dir(self, agent: str) -> Path:
        return self.machines[agent].work_root / agent

    # --- servers ----------------------------------------------------------------------------------------------------

    def spawn_server(self, *faults: str) -> Node:
        """Start a server, in the seat of the last one; it does not answer yet.

        `faults`: arguments of `tests.faults.server`.
        """
        self.server = self._spawn(self.seat, faults)
        if self.relay is not None:
            self.relay.target = ("127.0.0.1", self.seat.websocket_port)
        return self.server

    def spawn_standby(self) -> Node:
        """Start the other server."""
        assert self.other_seat is not None
        self.other = self._spawn(self.other_seat, ())
        return self.other

    def change_seats(self) -> None:
        """Clients speak to the other server from now on."""
        assert self.other_seat is not None
        self.seat, self.other_seat = self.other_seat, self.seat
        self.server, self.other = self.other, self.server

    def spawn_second_server(self, *, same_identity: bool = False) -> Node:
        """One in a new seat: clients, and agents that dial anew, come to it from now on.

        `same_identity`: another life of the first one, as after a copy of its state directory.
        """
        first, self.seat = self.seat, self.new_seat()
        if same_identity:
            self.seat.state_dir.mkdir(mode=0o700)
            shutil.copy(first.state_dir / SERVER_ID_FILE, self.seat.state_dir)
        return self.spawn_server()

    def new_seat(self) -> Seat:
        self.seats += 1
        return Seat(self.directory / f"server-{self.seats}", free_port(), free_port())

    def _spawn(self, seat: Seat, faults: Sequence[str]) -> Node:
        url = self.database.url if self.database_relay is None else self.database_relay.rewritten(self.database.url)
        environ = {
            DIRECTORY_VARIABLE: str(self.directory),
            "DATABASE_URL": url,
            "HETUFLOW_SERVER__HTTP_PORT": str(seat.http_port),
            "HETUFLOW_SERVER__WEBSOCKET_PORT": str(seat.websocket_port),
            "HETUFLOW_SERVER__STATE_DIR": str(seat.state_dir),
            "HETUFLOW_SCHEDULER__SERVER_LOST_AFTER": str(self.setup.server_lost_seconds),
        }
        arguments = list(faults)
        if self.setup.clock:
            arguments += ["--clock-file", str(self.clock_file)]
        if self.net is not None:
            arguments += ["--host", "0.0.0.0"]
            environ["HETUFLOW_SERVER__ALLOWED_HOSTS"] = self.net.outside
        command = ("tests.faults.server", *arguments) if arguments else ("hetuflow.cli.main", "server")
        log = self.directory / "logs" / f"{seat.name}.log"
        node = spawn(seat.name, [sys.executable, "-m", *command], log, environ)
        self.nodes.append(node)
        return node

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
        # Nothing is encrypted here, and reading the machine's certificates takes 20 ms of each client.
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", timeout=seconds, trust_env=False, verify=False)

    # --- agents -----------------------------------------------------------------------------------------------------

    def spawn_agent(self, agent: str) -> Node:
        """Start the agent, on its machine."""
        if agent not in self.machines:
            self.machines[agent] = self._new_machine(agent)
        node = self.spawn_agent_on(self.machines[agent], agent)
        self.agents[agent] = node
        return node

    def spawn_agent_on(self, machine: Machine, agent: str, name: str = "") -> Node:
        """`name`: of the process and its log, where it is not the agent's id."""
        inside = self.net is not None and agent == "agent-01"
        host = self.net.outside if inside and self.net is not None else "127.0.0.1"
        ports = [self.relay.port] if self.relay is not None else [self.seat.websocket_port]
        if self.other_seat is not None:
            ports.append(self.other_seat.websocket_port)
        urls = ",".join(f"ws://{host}:{port}" for port in sorted(ports))
        environ = {
            DIRECTORY_VARIABLE: str(self.directory),
            "HETUFLOW_AGENT__LOST_AFTER_SECONDS": str(self.setup.lease_seconds),
            "HETUFLOW_AGENT__HEARTBEAT_INTERVAL": str(self.setup.lease_seconds / 4),
            "HETUFLOW_EXECUTOR__DISK_FREE_MIN": "0",  # our small disks are always below it
        }
        arguments = [
            *(sys.executable, "-m", "agent", "--server-url", urls, "--id", agent),
            *("--slots", str(SLOTS), "--state-dir", str(machine.state_dir)),
            *("--work-dir", str(machine.work_root)),
        ]
        prefix = [*(self.net.prefix if inside and self.net is not None else ()), *machine.prefix]
        name = name or agent
        node = spawn(name, arguments, self.directory / "logs" / f"{name}.log", environ, prefix)
        self.nodes.append(node)
        return node

    def _new_machine(self, agent: str) -> Machine:
        setup, place = self.setup, self.directory
        is_first = agent == "agent-01"
        if is_first and setup.agent_mb:
            disk = Disk(place / f"{agent}-disk", setup.agent_mb)
            disk.open()
            work = disk.mount / "work"
            work.mkdir(mode=0o700)
            machine = Machine(state_dir=disk.mount / agent, work_root=work, disk=disk)
        else:
            machine = Machine(state_dir=place / agent, work_root=place / "work")
        if setup.agent_boots:
            machine.boot = place / f"{agent}-boot"
            machine.boot_anew()
        if is_first and setup.agent_clock:
            machine.clock_file = place / f"{agent}-clock"
            machine.offset_clock(0.0)
            machine.etc = build_clock(place, machine.clock_file)
        return machine

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
        for machine in self.machines.values():
            if machine.disk is not None:
                machine.disk.close()


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
        seat = Seat(directory / "server-1", free_port(), free_port())
        cluster = Cluster(setup, directory, database, clock_file, seat)
        cluster.lines.mkdir(exist_ok=True)
        (directory / "work").mkdir(mode=0o700, exist_ok=True)
        try:
            await database.open()
            if setup.net:
                cluster.net = stack.enter_context(Net.open())
            if setup.relay:
                cluster.relay = await stack.enter_async_context(open_relay("127.0.0.1", seat.websocket_port))
            if setup.database_relay:
                cluster.database_relay = await stack.enter_async_context(open_relay("127.0.0.1", database.server.port))
            await migrated(database.url)
            cluster.spawn_server()
            await cluster.until_healthy()
            if setup.standby:
                cluster.other_seat = cluster.new_seat()
                cluster.spawn_standby()
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
