"""Directories that change when a test says so, in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from hetuflow.ports.files import ChangeKind, FileChange, WatchError


class FakeFiles:
    """`missing` directories cannot be watched. A change is told to whoever watches a directory that it is in."""

    def __init__(self, missing: Sequence[str] = ()) -> None:
        self.missing = set(missing)
        self._watching: dict[tuple[str, bool], trio.MemorySendChannel[Sequence[FileChange]]] = {}
        self.opened: list[tuple[str, bool]] = []

    @property
    def watched(self) -> set[tuple[str, bool]]:
        return set(self._watching)

    @asynccontextmanager
    async def watch(self, directory: str, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[FileChange]]]:
        await trio.lowlevel.checkpoint()
        if directory in self.missing:
            raise WatchError(f"{directory}: No such file or directory")
        send, receive = trio.open_memory_channel[Sequence[FileChange]](math.inf)
        key = (directory, recursive)
        self._watching[key] = send
        self.opened.append(key)
        try:
            yield receive
        finally:
            del self._watching[key]

    def change(self, path: str, kind: ChangeKind = ChangeKind.CREATED, *, inode: int = 1, at: int = 0) -> None:
        found = FileChange(kind=kind, path=path, size=7, modified_ns=at, inode=inode)
        for (directory, recursive), send in self._watching.items():
            inside = path.startswith(directory.rstrip("/") + "/")
            if inside and (recursive or "/" not in path[len(directory.rstrip("/")) + 1 :]):
                send.send_nowait([found])
