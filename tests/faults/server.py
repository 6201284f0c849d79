"""The real server in a world that can be broken: `python -m tests.faults.server --fail-point after_commit --nth 17`.

Settings come from the environment and the configuration file, as for `hetuflow server`. At the fail point the process
ends itself with SIGKILL. Points are counted from the first start of the listener for agents (the server serves), or
with `--from-start` from the very beginning, which is how a server is killed while it recovers.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import signal
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import trio
from attrs import define, evolve

from eventstore.event import Appended, Claim
from eventstore.postgres import PostgresStore
from hetuflow.gateway.listener import WebSocketListener
from hetuflow.ports.admission import Admission
from hetuflow.server import World, open_store, run
from hetuflow.settings import ServerSettings, load_server_settings

POINTS = {
    "before_commit": "an append was asked for and has not reached PostgreSQL",
    "during_commit": "an append is on its way to PostgreSQL, or its answer is on its way back",
    "after_commit": "an append is committed, and nothing here knows it",
    "before_send": "a frame for an agent is about to be written",
    "after_send": "a frame for an agent is written",
    "before_projection": "the tables are about to follow the log",
    "after_projection": "the tables have followed the log, and the memory of that has not",
    "recovery": "streams with open work are about to be read (use --from-start)",
}

FLIGHT_SECONDS_MAX = 0.004
"""A commit takes one to a few milliseconds: the kill falls before, into or after it."""


@define
class Fuse:
    """Ends the process at the nth time that a point is passed; `nth` 0 = never."""

    point: str
    nth: int
    is_lit: bool

    def passing(self, point: str) -> bool:
        """Whether this is the time."""
        if point != self.point or not self.is_lit or self.nth <= 0:
            return False
        self.nth -= 1
        return self.nth == 0

    def at(self, point: str) -> None:
        if self.passing(point):
            die()


class TaskTree(trio.abc.Instrument):
    """On SIGUSR2: what every task waits for, on stderr. For a server that does not do what it should."""

    def __init__(self) -> None:
        self._wanted = False
        signal.signal(signal.SIGUSR2, self._asked)

    def _asked(self, number: int, frame: object) -> None:
        self._wanted = True

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._wanted:
            self._wanted = False
            root = task
            while root.parent_nursery is not None:
                root = root.parent_nursery.parent_task
            print("\n".join(_tree(root, 0)), file=sys.stderr, flush=True)


def _tree(task: trio.lowlevel.Task, depth: int) -> list[str]:
    frames = [f"{frame.f_code.co_qualname}:{line}" for frame, line in task.iter_await_frames()][-4:]
    lines = [f"{'  ' * depth}{task.name}: {' > '.join(frames)}"]
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            lines += _tree(child, depth + 1)
    return lines


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class OffsetClock:
    """The wall clock plus what stands in a file of eight bytes (a double, seconds), read at each look."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=struct.unpack("<d", self._map[:8])[0])


def set_offset(path: Path, seconds: float) -> None:
    """For the other side: the whole value in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, struct.pack("<d", seconds), 0)
    finally:
        os.close(descriptor)


class FusedStream:
    """A connection to an agent; everything but sending is the real one's."""

    def __init__(self, stream: Any, fuse: Fuse) -> None:
        self._stream, self._fuse = stream, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, frame: bytes) -> None:
        self._fuse.at("before_send")
        await self._stream.send(frame)
        self._fuse.at("after_send")

    def send_nowait(self, frame: bytes) -> bool:
        self._fuse.at("before_send")
        was_sent: bool = self._stream.send_nowait(frame)
        if was_sent:
            self._fuse.at("after_send")
        return was_sent


def listener_with(fuse: Fuse) -> type[WebSocketListener]:
    class FusedListener(WebSocketListener):
        async def serve(self, handler: Any, **options: Any) -> None:
            fuse.is_lit = True
            await super().serve(lambda stream: handler(FusedStream(stream, fuse)), **options)

    return FusedListener


def fit(store: PostgresStore, fuse: Fuse) -> None:
    """Lay the fuse around what the store does."""
    append, read_streams, transact = store.append, store.read_streams, store.database.transact
    append_each = store.append_each
    write = store._writer.append

    async def fused_append(claims: Sequence[Claim]) -> Appended:
        fuse.at("before_commit")
        appended = await append(claims)
        fuse.at("after_commit")
        return appended

    async def fused_append_each(appends: Sequence[Sequence[Claim]]) -> Any:
        fuse.at("before_commit")
        answers = await append_each(appends)
        fuse.at("after_commit")
        return answers

    async def fused_write(columns: Any) -> Any:  # in the database's thread
        if not fuse.passing("during_commit"):
            return await write(columns)
        asyncio.get_running_loop().call_later(random.uniform(0, FLIGHT_SECONDS_MAX), die)
        answer = await write(columns)
        await asyncio.sleep(1)  # not long enough to get anywhere
        return answer

    async def fused_read(stream_ids: Sequence[str]) -> Any:
        fuse.at("recovery")
        return await read_streams(stream_ids)

    async def fused_transact(work: Any, **options: Any) -> Any:
        fuse.at("before_projection")
        result = await transact(work, **options)
        fuse.at("after_projection")
        return result

    store.append = fused_append  # type: ignore[method-assign]
    store.append_each = fused_append_each  # type: ignore[method-assign]
    store.read_streams = fused_read  # type: ignore[method-assign]
    store._writer.append = fused_write  # type: ignore[method-assign]
    store.database.transact = fused_transact  # type: ignore[method-assign]


def world_with(fuse: Fuse, clock_file: Path | None) -> World:
    @asynccontextmanager
    async def open_fused_store(settings: ServerSettings) -> AsyncIterator[PostgresStore]:
        trio.lowlevel.add_instrument(TaskTree())
        async with open_store(settings) as store:
            fit(store, fuse)
            yield store

    FusedListener = listener_with(fuse)

    def listen(host: str, port: int, admission: Admission) -> WebSocketListener:
        return FusedListener(host, port, admission)

    world = World(open_store=open_fused_store, listen=listen)
    return world if clock_file is None else evolve(world, clock=OffsetClock(clock_file))


@click.command("tests.faults.server")
@click.option("--fail-point", type=click.Choice(list(POINTS)), help="Where to end by SIGKILL.")
@click.option("--nth", type=click.IntRange(1), default=1, help="At which passing of it.")
@click.option("--from-start", is_flag=True, help="Count from the first step, not from when it serves.")
@click.option("--clock-file", type=click.Path(path_type=Path, exists=True), help="Wall clock offset, see OffsetClock.")
@click.option("--host", help="Listen here, also where the settings would not allow it (network namespaces).")
def main(fail_point: str | None, nth: int, from_start: bool, clock_file: Path | None, host: str | None) -> None:
    """Run the real server until SIGTERM, or until its fail point."""
    settings = load_server_settings(None, os.environ, {}, read_text=lambda path: path.read_text())
    if host is not None:
        settings = evolve(settings, server=evolve(settings.server, host=host))
    fuse = Fuse(fail_point or "", nth if fail_point else 0, from_start)
    sys.exit(run(settings, world_with(fuse, clock_file)))


if __name__ == "__main__":
    main()
