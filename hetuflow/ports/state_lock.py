"""One process per directory: two servers would claim one identity and decide for each other; two agents would write one
journal and clean away each other's output."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from hetuflow.ports.disk import DiskError


class StateInUse(DiskError):
    """Another process holds the directory; the message names it where it is known."""


@contextlib.contextmanager
def hold(directory: str, *, who: str, option: str, path: str | None = None) -> Iterator[None]:
    """Hold the lock file of the directory for the length of the block; the kernel lets go of it when the process dies.

    Args:
      who: what holds it, for the message: "server" or "agent"; `option` is the flag that gives it another directory.
      path: of the lock file; None = `<directory>/lock`.
    Raises `StateInUse`, or `DiskError` when the file cannot be made.
    """
    path = path or f"{directory}/lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise DiskError(f"{path}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            process = f" (process {holder})" if holder.isdigit() else ""
            raise StateInUse(
                f"another {who}{process} uses {directory}: stop it, or give this one its own directory with {option}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
