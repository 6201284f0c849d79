"""PostgreSQL, a server and agents as child processes of one command: what `dev`, `demo` and the acceptance tests run.

The children are in sessions of their own, so that a Ctrl-C on the terminal reaches only this process, which then stops
them in order: agents, server, PostgreSQL. Each child's output goes to a file in the data directory, or to the terminal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import click
import httpx
import trio
from attrs import define, field, frozen

STOP_SECONDS = 20.0
"""How long a child may take to stop before it is killed; longer than the server's and the agent's own deadlines."""

RESTART_SECONDS = 1.0
"""Between the end of a child that was killed and its next start."""

READY_SECONDS = 60.0
"""How long the server may take to answer; a first start with migrations takes about two seconds."""


class ClusterError(Exception):
    """Something did not start, or ended by itself; the message says what, and where its log is."""


@frozen(kw_only=True)
class Layout:
    """Where everything is, and what listens where."""

    data_dir: Path
    http_port: int
    websocket_port: int
    database_port: int | None = None
    agents: int = 1
    slots: int = 5
    logs_to_terminal: bool = False
    read_only: bool = False
    restarts_killed: bool = False
    """Whether a server or agent that is killed by a signal is started again, as a service manager would; else all ends."""

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"


@define
class Child:
    """One process, watched until it ends."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    restart: Callable[[], None] | None = None
    stopping: bool = False
    ended: trio.Event = field(factory=trio.Event)

    async def watch(self, report: Callable[[Child], None]) -> None:
        await _wait(self.process)
        self.ended.set()
        if not self.stopping:
            report(self)

    async def stop(self) -> None:
        self.stopping = True
        if self.process.poll() is None:
            self.process.terminate()
        with trio.move_on_after(STOP_SECONDS) as deadline:
            await _wait(self.process)  # itself: `watch` may have been cancelled
        if deadline.cancelled_caught:
            self.process.kill()
            await _wait(self.process)


async def _wait(process: subprocess.Popen[bytes]) -> None:
    if not hasattr(os, "pidfd_open"):
        await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        return
    if process.poll() is not None:
        return
    pidfd = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    process.wait()


@define
class Cluster:
    """A running cluster. `failed` is set, with the reason in `failure`, when a child ends by itself."""

    layout: Layout
    database_url: str
    children: dict[str, Child] = field(factory=dict)
    failed: trio.Event = field(factory=trio.Event)
    failure: str = ""

    @property
    def http_url(self) -> str:
        return self.layout.http_url

    def report(self, child: Child) -> None:
        """A child has ended by itself."""
        number = -(child.process.returncode or 0)
        if number > 0 and self.layout.restarts_killed and child.restart is not None:
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            click.echo(f"{child.name} was killed ({name}); it is started again", err=True)
            child.restart()
            return
        if not self.failure:
            self.failure = f"{child.name} ended with exit status {child.process.returncode}{_last_words(child.log)}"
        self.failed.set()


@asynccontextmanager
async def open_cluster(
    layout: Layout,
    *,
    environ: Mapping[str, str] | None = None,
    prepare: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[Cluster]:
    """Start PostgreSQL, then the server, then the agents; stop them in the opposite order.

    `prepare` is given the database's URL before the server is started; what it raises ends the start.

    Raises:
      ClusterError: a child ended by itself while starting.
      eventstore.errors.StartError: PostgreSQL cannot start on that data directory or port.
    """
    from hetuflow.embedded.postgres import open_embedded_postgres

    _make_data_dir(layout)
    async with open_embedded_postgres(layout.data_dir / "postgres", port=layout.database_port) as postgres:
        cluster = Cluster(layout, postgres.url)
        if prepare is not None:
            await prepare(postgres.url)
        async with trio.open_nursery() as nursery:
            try:
                await start_server(cluster, nursery, environ)
                for number in range(1, layout.agents + 1):
                    await start_agent(cluster, nursery, number, environ)
                yield cluster
            finally:
                with trio.CancelScope(shield=True):
                    await stop_children(cluster)
                nursery.cancel_scope.cancel()


def _make_data_dir(layout: Layout) -> None:
    """Raises `ClusterError` when it cannot be written. What is there already keeps its mode."""
    try:
        layout.data_dir.mkdir(parents=True, exist_ok=True)
        layout.log("x").parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise ClusterError(f"cannot use {layout.data_dir}: {exc.strerror}; choose another --data-dir") from exc


async def start_server(cluster: Cluster, nursery: trio.Nursery, environ: Mapping[str, str] | None = None) -> Child:
    """Start the server and wait until it answers."""
    layout = cluster.layout
    child = _spawn(
        cluster,
        nursery,
        "server",
        [
            *("-m", "hetuflow.cli.main", "server", "--migrate", "--database-url", cluster.database_url),
            *("--http-port", str(layout.http_port), "--websocket-port", str(layout.websocket_port)),
            *("--state-dir", str(layout.data_dir / "server")),
            *(("--read-only",) if layout.read_only else ()),
        ],
        environ,
    )
    await _until_healthy(cluster, child)
    return child


async def start_agent(
    cluster: Cluster, nursery: trio.Nursery, number: int, environ: Mapping[str, str] | None = None
) -> Child:
    """Start one agent, `agent-01` and so on."""
    layout, name = cluster.layout, f"agent-{number:02}"
    return _spawn(
        cluster,
        nursery,
        name,
        [
            *("-m", "agent", "--server-url", f"ws://127.0.0.1:{layout.websocket_port}"),
            *("--id", name, "--slots", str(layout.slots)),
            *("--state-dir", str(layout.data_dir / name), "--work-dir", str(layout.data_dir / f"{name}-work")),
        ],
        environ,
    )


async def stop_children(cluster: Cluster) -> None:
    """Agents first, together; then the server."""
    async with trio.open_nursery() as nursery:
        for name, child in cluster.children.items():
            if name != "server":
                nursery.start_soon(child.stop)
    if "server" in cluster.children:
        await cluster.children["server"].stop()


def _spawn(
    cluster: Cluster, nursery: trio.Nursery, name: str, arguments: list[str], environ: Mapping[str, str] | None
) -> Child:
    log = None if cluster.layout.logs_to_terminal else cluster.layout.log(name)
    output = (
        sys.stderr.fileno()
        if log is None
        else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    )
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=dict(os.environ if environ is None else environ),
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    finally:
        if log is not None:
            os.close(output)

    async def again() -> None:
        await trio.sleep(RESTART_SECONDS)
        if not child.stopping:
            _spawn(cluster, nursery, name, arguments, environ)

    child = cluster.children[name] = Child(name, process, log, restart=lambda: nursery.start_soon(again))
    nursery.start_soon(child.watch, cluster.report)
    return child


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """In the child: SIGTERM when the thread that started it, our main thread, is gone, be it by `kill -9`.

    So the children are started by the main thread itself, not in trio's worker threads, which end when idle.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _until_healthy(cluster: Cluster, child: Child) -> None:
    with trio.move_on_after(READY_SECONDS):
        async with httpx.AsyncClient(base_url=cluster.http_url, timeout=2.5, trust_env=False) as http:
            while not child.ended.is_set():
                try:
                    if (await http.get("/api/v1/system/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                with trio.move_on_after(0.05):
                    await child.ended.wait()
    if child.ended.is_set():
        raise ClusterError(f"the server did not start{_last_words(child.log)}")
    raise ClusterError(f"the server did not answer within {READY_SECONDS:.0f} s{_last_words(child.log)}")


def _last_words(log: Path | None) -> str:
    if log is None:
        return " (see above)"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f": {lines[-1]} (log: {log})" if lines else f" (log: {log})"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
