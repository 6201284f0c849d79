"""One agent per state directory, and per work directory: two would write one journal, claim one identity, and clean away
each other's output."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


class StateInUse(Exception):
    """Another agent holds the directory; the message names its process where it is known."""


@contextlib.contextmanager
def hold(directory: str, path: str, option: str) -> Iterator[None]:
    """Hold the lock file for the length of the block; the kernel lets go of it when the process dies.

    Args:
      directory: what it protects, and `option` the flag that gives an agent another one.
    Raises:
      StateInUse. OSError: the file cannot be made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            process = f" (process {holder})" if holder.isdigit() else ""
            raise StateInUse(
                f"another agent{process} uses {directory}: stop it, or give this one its own directory with {option}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
