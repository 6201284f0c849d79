"""A PostgreSQL of the harness's own that can be killed, restarted, cut off and run out of disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio
from attrs import define, field

from hetuflow.embedded.installation import account, find_installation
from hetuflow.embedded.installation import run as run_as
from hetuflow.embedded.postgres import EmbeddedPostgres
from tests.support.postgres import query

SETTINGS = {"max_connections": "100", "max_wal_size": "64MB", "min_wal_size": "32MB", "restart_after_crash": "on"}


@define
class Disk:
    """A small file system in memory that can be filled with ballast. Needs root."""

    mount: Path
    size_mb: int

    def open(self) -> None:
        self.mount.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.size_mb}m,mode=755", "hetuflow-faults", str(self.mount)],
            check=True,
            capture_output=True,
        )

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], check=False)

    def fill(self) -> None:
        """Take what is left, to the last page."""
        with (self.mount / "ballast").open("ab", buffering=0) as ballast:
            block = b"\0" * 65536
            while block:
                try:
                    ballast.write(block)
                except OSError:
                    block = block[: len(block) // 2] if len(block) > 4096 else b""

    def free(self) -> None:
        (self.mount / "ballast").unlink(missing_ok=True)


@define
class Database:
    """`data` and `wal` are small disks when the data, or the log of PostgreSQL, are to run out of space."""

    directory: Path
    data: Disk | None = None
    wal: Disk | None = None
    port: int | None = None
    server: EmbeddedPostgres = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.server = self._anew()

    async def open(self) -> None:
        for disk in (self.data, self.wal):
            if disk is not None:
                disk.open()
        await self._start()
        if self.wal is not None:
            await trio.to_thread.run_sync(self.server.stop)
            await trio.to_thread.run_sync(_move, self.server.data_dir / "pg_wal", self.wal.mount / "pg_wal")
            await self._start()

    async def close(self) -> None:
        if self.server.pid:
            try:
                os.kill(self.server.pid, signal.SIGQUIT)
            except ProcessLookupError:
                pass
        await trio.to_thread.run_sync(self.server.stop)
        for disk in (self.data, self.wal):
            if disk is not None:
                disk.close()

    @property
    def url(self) -> str:
        return self.server.url

    async def query(self, sql: str, *args: Any) -> list[Any]:
        return await query(self.url, sql, *args)

    async def kill(self) -> None:
        """kill -9 of the postmaster; its backends find out by themselves."""
        os.kill(self.server.pid, signal.SIGKILL)
        while self.is_running:  # noqa: ASYNC110 - the kernel ends it
            await trio.sleep(0.005)
        self._forget()

    async def start_again(self) -> None:
        """Return when it takes connections."""
        self._forget()
        await self._start()

    async def restart_immediately(self) -> None:
        """`pg_ctl restart -m immediate`: a crash and a recovery, by its own tool."""
        installation, runner = find_installation(), account(self.server.data_dir)
        arguments = [
            "restart",
            "-m",
            "immediate",
            "-w",
            "-s",
            "-D",
            str(self.server.data_dir),
            "-l",
            str(self.server.log),
        ]
        if runner.name is not None and self.server.log.exists():
            os.chown(self.server.log, runner.uid, runner.gid)
        command = [installation.command("pg_ctl"), *arguments]
        answer = await trio.to_thread.run_sync(partial(run_as, command, runner))
        if answer.returncode != 0:
            raise RuntimeError(f"pg_ctl: {answer.stdout}")
        await self.start_again()  # adopts it

    async def terminate_backends(self) -> int:
        """End every connection of hetuflow; how many."""
        rows = await self.query(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'hetuflow%'"
        )
        return int(rows[0][0])

    def pids(self) -> list[int]:
        """The postmaster and its children."""
        return [self.server.pid, *(child.pid for child in psutil.Process(self.server.pid).children())]

    @property
    def is_running(self) -> bool:
        return self.server._alive()

    async def _start(self) -> None:
        server = self._anew()
        await trio.to_thread.run_sync(server.start)
        self.server, self.port = server, server.port

    def _anew(self) -> EmbeddedPostgres:
        place = self.directory if self.data is None else self.data.mount
        return EmbeddedPostgres(place / "pg", port=self.port, settings=SETTINGS)

    def _forget(self) -> None:
        """Give up the lock on the directory; what runs goes on, and is adopted at the next start."""
        server = self.server
        if server._process is not None:
            server._process.poll()  # reaped, if it has ended
        if server._lock >= 0:
            os.close(server._lock)
            server._lock = -1


def _move(logs: Path, place: Path) -> None:
    """With owner and modes; a link stays behind."""
    subprocess.run(["cp", "-a", str(logs), str(place)], check=True)
    shutil.rmtree(logs)
    logs.symlink_to(place)
