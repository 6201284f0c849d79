"""Clock, ids, randomness and disk of the operating system."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, SafeUUID

import trio
from outcome import Outcome

from hetuflow.ports.disk import DiskError

T = TypeVar("T")


async def aside(compute: Callable[..., T], *args: Any) -> T:
    """Return `compute(*args)`, a long computation without effects, from a thread: the event loop goes on meanwhile."""
    return await trio.to_thread.run_sync(compute, *args)


def unpredictable(count: int) -> bytes:
    """So many random bytes, which nobody can guess from those before."""
    return secrets.token_bytes(count)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemRandom:
    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)


RANDOM_BLOCK_BYTES = 4096
"""Random bytes drawn at once: a system call for each id made `uuid7` cost 6 µs instead of 1.5."""


class SystemIds:
    """Version-7 UUIDs: 48 bits of milliseconds, a 12-bit sequence, 62 random bits (RFC 9562, method 1)."""

    def __init__(self) -> None:
        self._last_ms, self._sequence = 0, 0
        self._random, self._used = b"", 0

    def uuid7(self) -> UUID:
        ms = time.time_ns() // 1_000_000
        random_bits = self._random_64()
        if ms <= self._last_ms:
            self._sequence += 1
            if self._sequence > 0xFFF:
                self._last_ms, self._sequence = self._last_ms + 1, 0
            ms = self._last_ms
        else:
            self._last_ms, self._sequence = ms, random_bits & 0xFF
        rest = (random_bits >> 2) & 0x3FFF_FFFF_FFFF_FFFF
        return _uuid((ms << 80) | (0x7 << 76) | (self._sequence << 64) | (0b10 << 62) | rest)

    def token(self) -> str:
        return secrets.token_hex(8)

    def _random_64(self) -> int:
        if self._used == len(self._random):
            self._random, self._used = secrets.token_bytes(RANDOM_BLOCK_BYTES), 0
        used = self._used
        self._used = used + 8
        return int.from_bytes(self._random[used : used + 8], "big")


def _uuid(number: int) -> UUID:
    """As `UUID(int=number)`, which looks through its six other arguments: 0.5 µs instead of 0.8."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class SystemAppendFile:
    """Concurrent `sync` calls share one fsync: those that arrive while one runs wait for the next."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DiskError(f"cannot open {path}: {exc.strerror}") from exc
        self._lock = trio.Lock()
        self._written = self._synced = 0

    def append(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as exc:
            raise DiskError(f"cannot write {self._path}: {exc.strerror}") from exc
        self._written += 1

    async def sync(self) -> None:
        wanted = self._written
        async with self._lock:
            if self._synced >= wanted:
                return
            covers = self._written
            try:
                await _in_thread(partial(os.fdatasync, self._fd))
            except OSError as exc:
                raise DiskError(f"cannot sync {self._path}: {exc.strerror}") from exc
            self._synced = covers

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def _in_thread(work: Callable[[], None]) -> None:
    """As `trio.to_thread.run_sync`, without a limit, a name for the thread, a context and a way back into the loop, which made
    up half of what an fsync cost its caller."""
    task, loop = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

    def deliver(result: Outcome[None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # nobody waits any more
            loop.run_sync_soon(trio.lowlevel.reschedule, task, result)

    trio.lowlevel.start_thread_soon(work, deliver)
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


class SystemDisk:
    def open_append(self, path: str) -> SystemAppendFile:
        return SystemAppendFile(path)

    def read(self, path: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise DiskError(f"cannot read {path}: {exc.strerror}") from exc

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as exc:
            raise DiskError(f"cannot read {path}: {exc.strerror}") from exc

    def replace(self, path: str, data: bytes) -> None:
        temporary = f"{path}.tmp"
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            with contextlib.suppress(OSError):  # a full disk needs the room
                os.unlink(temporary)
            raise DiskError(f"cannot write {path}: {exc.strerror}") from exc

    def make_private_dir(self, path: str) -> None:
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            found = os.stat(path)
        except OSError as exc:
            raise DiskError(f"cannot create directory {path}: {exc.strerror}") from exc
        if found.st_uid != os.geteuid():
            raise DiskError(f"directory {path} belongs to user id {found.st_uid}, not to {os.geteuid()}")
        if stat.S_IMODE(found.st_mode) & 0o066:  # passing through, by somebody who knows a name inside, is fine
            raise DiskError(f"directory {path} is open to others: run `chmod 700 {path}`")

    def list(self, path: str) -> Sequence[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise DiskError(f"cannot list {path}: {exc.strerror}") from exc

    def remove(self, path: str) -> None:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        except OSError as exc:
            raise DiskError(f"cannot remove {path}: {exc.strerror}") from exc

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def total_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def age_seconds(self, path: str) -> float:
        return time.time() - os.stat(path).st_mtime


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
