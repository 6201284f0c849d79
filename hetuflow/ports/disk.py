"""Files: the agent's journal and spool, identities. The only place that opens files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class DiskError(Exception):
    """The operation failed (full, read-only, missing, not permitted); the message names the path."""


class AppendFile(Protocol):
    """An open file that only grows."""

    def append(self, data: bytes) -> None:
        """Write at the end, into the operating system's cache: survives a crash of the process, not of the machine."""
        ...

    async def sync(self) -> None:
        """fsync: survives a crash of the machine. Concurrent callers may share one fsync."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    def open_append(self, path: str) -> AppendFile: ...

    def read(self, path: str) -> bytes | None:
        """The whole file; None when it does not exist."""
        ...

    def read_range(self, path: str, offset: int, length: int) -> bytes: ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a file whole and durably: temporary file, fsync, rename, fsync of the directory."""
        ...

    def make_private_dir(self, path: str) -> None:
        """Create with mode 0700 if missing; `DiskError` when it exists with another owner or others may enter it."""
        ...

    def list(self, path: str) -> Sequence[str]: ...

    def remove(self, path: str) -> None:
        """Remove a file or a directory tree; no error when it is gone."""
        ...

    def free_bytes(self, path: str) -> int:
        """Of the file system that holds the path, as far as this user may use it."""
        ...

    def total_bytes(self, path: str) -> int:
        """The size of that file system."""
        ...

    def age_seconds(self, path: str) -> float:
        """Wall-clock seconds since the last modification."""
        ...
