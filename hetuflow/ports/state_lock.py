"""One server per state directory: two would claim one identity, and each decide for the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from hetuflow.ports.disk import DiskError


class StateInUse(DiskError):
    """Another server holds the state directory; the message names its process where it is known."""


@contextlib.contextmanager
def hold(state_dir: str) -> Iterator[None]:
    """Hold `<state_dir>/lock` for the length of the block; the kernel lets go of it when the process dies.

    Raises `StateInUse`, or `DiskError` when the file cannot be made.
    """
    path = f"{state_dir}/lock"
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
                f"another server{process} uses {state_dir}: stop it, or give this one its own directory with --state-dir"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
