"""What one start needs, found and opened before it, so that little is left to be done in the start itself."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Final

from agent import process_tree
from agent.containment.leaf import Leaf
from agent.keeper.launching import Start
from agent.keeper.messages import Limits
from agent.keeper.system import Wanted

PROCESSES_SPARE: Final = 1024
"""Processes of the same user beyond a tree's limit: RLIMIT_NPROC counts them all, and the others must not be in its way."""


class Plan:
    """One start, from what is wanted to what has become of it."""

    __slots__ = (
        "began",
        "given",
        "leaf",
        "path",
        "pid",
        "problem",
        "reads",
        "remote",
        "start",
        "ticket",
        "wanted",
        "writes",
    )

    def __init__(self, wanted: Wanted, path: str, remote: tuple[str, ...], leaf: Leaf | None) -> None:
        self.wanted, self.path, self.leaf = wanted, path, leaf
        self.remote = remote
        """The mounts of file servers that it needs."""
        self.start: Start | None = None
        self.reads: dict[int, int] = {}
        """Our ends of the output's pipes, by stream."""
        self.writes: dict[int, int] = {}
        self.given = -1
        """Standard input."""
        self.ticket: int | None = None
        self.problem: Exception | None = None
        """Why it was not started."""
        self.pid, self.began = 0, 0.0

    def open_streams(self, null: int) -> None:
        """Raises `OSError`; `close` is needed all the same."""
        launch = self.wanted.launch
        for stream in (1, 2) if launch.capture_output else ():
            self.reads[stream], self.writes[stream] = os.pipe()
        self.given = file_of(launch.stdin) if launch.stdin else null
        if self.given != null:
            self.writes[0] = self.given

    def close_writes(self) -> None:
        """What only the program has to have."""
        for fd in self.writes.values():
            os.close(fd)
        self.writes.clear()

    def close(self) -> None:
        self.close_writes()
        for fd in self.reads.values():
            os.close(fd)
        self.reads.clear()


def process_limit(limits: Limits, leaf: Leaf | None, uid: int) -> Mapping[int, int]:
    """RLIMIT_NPROC, where nothing better stands between a fork bomb and the machine. It does not hold for root."""
    if not limits.processes or uid == 0 or (leaf is not None and "processes" in leaf.enforced):
        return {}
    wanted = process_tree.threads_of(uid) + limits.processes + PROCESSES_SPARE
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    return {resource.RLIMIT_NPROC: wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)}


def file_of(data: bytes) -> int:
    """A nameless file with this content, at its beginning. Unlike a pipe it takes all at once and needs no attendance."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, name = tempfile.mkstemp()
        os.unlink(name)
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd
