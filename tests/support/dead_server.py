"""A directory of a file server that is gone: whoever looks into it waits."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

MNT_DETACH = 2


@contextlib.contextmanager
def open_dead_server(directory: Path) -> Iterator[str]:
    """A mount of FUSE that nobody answers for. Nothing in this process may look into it. Skips where it cannot be had."""
    directory.mkdir()
    point = str(directory)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        pytest.skip(f"needs FUSE: {exc}")
    try:
        options = f"fd={server},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
        if libc.mount(b"dead", os.fsencode(point), b"fuse", 0, options.encode()) != 0:
            pytest.skip(f"needs to mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield point
        finally:
            libc.umount2(os.fsencode(point), MNT_DETACH)
    finally:
        os.close(server)  # who still waits is told now
