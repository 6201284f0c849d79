"""PostgreSQL runs out of disk, and has space again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import httpx
import trio

from tests.faults.cluster import Cluster, Setup
from tests.faults.database import Disk
from tests.faults.kinds.fault import Fault, Healed, Scene, now

FULL_SECONDS = 6.0
NOTICED_SECONDS_MAX = 25.0


def no_mounts() -> str | None:
    if os.geteuid() != 0:
        return "a small file system needs root"
    if shutil.which("mount") is None:
        return "mount is not installed"
    with tempfile.TemporaryDirectory() as directory:
        disk = Disk(Path(directory), 1)
        try:
            disk.open()
        except subprocess.CalledProcessError:
            return "this kernel or container does not let us mount a file system"
        disk.close()
    return None


async def health(cluster: Cluster) -> str:
    """What health says, in one word: "healthy", "unhealthy", or the error."""
    try:
        async with cluster.client(seconds=5.0) as http:
            return str((await http.get("/system/health")).json()["status"])
    except (httpx.TransportError, ValueError, KeyError) as problem:
        return type(problem).__name__


async def until_noticed(scene: Scene, words: Sequence[str]) -> tuple[str, ...]:
    """Until a client has been told in one of these words, and health says so; what was missing of that."""
    seen: set[str] = set()
    with trio.move_on_after(NOTICED_SECONDS_MAX):
        while True:
            if await health(scene.cluster) == "unhealthy":
                seen.add("health")
            if any(word in answer for answer in _refusals(scene) for word in words):
                seen.add("503")
            if len(seen) == 2:
                return ()
            await trio.sleep(0.2)
    missing = {"health": "health did not say so", "503": f"no client was told by 503, but {[*_refusals(scene)]}"}
    return tuple(text for what, text in missing.items() if what not in seen)


def _refusals(scene: Scene) -> Sequence[str]:
    """Some may have been before: a busy machine's tables are behind, which is told by 503, too."""
    return [answer for answer in scene.workload.asker.answers if answer.startswith("503 ")]


def unclear(scene: Scene) -> tuple[str, ...]:
    """Answers that are no 503, and no clear words."""
    return tuple(f"a client was told: {it}" for it in scene.workload.asker.answers if it[:3] in ("500", "502"))


class DataFull(Fault):
    """The file system of PostgreSQL's tables is full for some seconds (SQLSTATE 53100)."""

    name = "disk-full-data"
    setup = Setup(data_mb=192, wal_mb=128)
    seconds = 30.0

    def unavailable(self) -> str | None:
        return no_mounts()

    async def strike(self, scene: Scene) -> Healed:
        disk = scene.cluster.database.data
        assert disk is not None
        disk.fill()
        missing = await until_noticed(scene, ("No space left on device", "full", "53100"))
        await trio.sleep(1.0)
        disk.free()
        at = now()
        notes = missing + unclear(scene)
        if not scene.cluster.database.is_running:
            notes += ("PostgreSQL itself ended",)
            await scene.cluster.database.start_again()
            at = now()
        return Healed(at=at, notes=notes)


class WalFull(Fault):
    """The file system of PostgreSQL's write-ahead log is full: it panics, and is started again with space."""

    name = "disk-full-wal"
    setup = DataFull.setup
    seconds = 30.0

    def unavailable(self) -> str | None:
        return no_mounts()

    async def strike(self, scene: Scene) -> Healed:
        """New segments are asked for until there is no space for one: the log that is there would last for minutes."""
        database = scene.cluster.database
        assert database.wal is not None
        database.wal.fill()
        with trio.move_on_after(NOTICED_SECONDS_MAX):
            while database.is_running:
                try:
                    await database.query(
                        "select pg_switch_wal() from (select pg_logical_emit_message(false, 'faults', repeat('x', 100))) m"
                    )
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    break
        missing = await until_noticed(scene, ("No space", "full", "PostgreSQL", "connect"))
        ended = not database.is_running
        database.wal.free()
        await database.start_again()
        notes = missing + unclear(scene)
        return Healed(at=now(), notes=notes, measured=f"PostgreSQL {'ended' if ended else 'recovered by itself'}")


KINDS = (DataFull, WalFull)
