"""The real watcher: inotify and its like, through watchfiles. Imported by whoever watches something, when it does."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

import trio

from hetuflow.ports.files import ChangeKind, FileChange, WatchError

T = TypeVar("T")

STEP_MS: Final = 40
"""How long no change must come before those that came are told. Its loop wakes up as often: 25 times a second."""
GROUP_MS: Final = 200
"""The longest that changes are gathered."""
LOOK_MS: Final = 2_000
"""How often it is looked whether the directory is still the one that is watched."""

_KINDS: Final[Mapping[int, ChangeKind]] = {1: ChangeKind.CREATED, 2: ChangeKind.MODIFIED, 3: ChangeKind.DELETED}


class SystemFileWatcher:
    """See `hetuflow.ports.files.FileWatcher`. A thread for each directory, most of the time asleep."""

    @asynccontextmanager
    async def watch(self, directory: str, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[FileChange]]]:
        identity = await _look(_identity, directory)
        notify = await _look(_open, directory, recursive)
        stop = threading.Event()
        try:
            async with aclosing(_changes(notify, directory, identity, stop)) as changes:
                yield changes
        finally:
            stop.set()  # its thread ends within a step, and the watch with it


def _open(directory: str, recursive: bool) -> Any:
    try:
        from watchfiles._rust_notify import RustNotify
    except ImportError:
        raise WatchError(f"{directory}: watchfiles is not installed (pip install 'hetuflow[agent]')") from None
    try:
        return RustNotify([directory], False, False, 300, recursive, True)
    except Exception as exc:
        raise WatchError(f"{directory}: {exc}") from exc


async def _changes(
    notify: Any, directory: str, identity: tuple[int, int], stop: threading.Event
) -> AsyncGenerator[Sequence[FileChange], None]:
    while True:
        found = await trio.to_thread.run_sync(
            notify.watch, GROUP_MS, STEP_MS, LOOK_MS, stop, abandon_on_cancel=True, limiter=_THREADS
        )
        if isinstance(found, str):
            if found == "stop":
                return
            if await _look(_identity, directory) != identity:
                raise WatchError(f"{directory}: another directory stands there now")
            continue
        changes = await _look(_told, found)
        if changes:
            yield changes


_THREADS: Final = trio.CapacityLimiter(64)
"""Watching threads are not those that the rest of the process waits for."""
_LOOKS: Final = trio.CapacityLimiter(64)
"""Nor are those that look into a directory: on a file server that is gone they wait for ever."""


async def _look(look: Callable[..., T], *arguments: Any) -> T:
    return await trio.to_thread.run_sync(look, *arguments, abandon_on_cancel=True, limiter=_LOOKS)


def _identity(directory: str) -> tuple[int, int]:
    try:
        found = os.stat(directory)
    except OSError as exc:
        raise WatchError(f"{directory}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode):
        raise WatchError(f"{directory}: not a directory")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise WatchError(f"{directory}: Permission denied")
    return found.st_dev, found.st_ino


def _told(found: Iterable[tuple[int, str]]) -> list[FileChange]:
    """One change for each path: what was created and written is created; what came and went again is not told."""
    kinds: dict[str, set[ChangeKind]] = {}
    for number, path in sorted(found, key=lambda change: change[1]):
        kinds.setdefault(path, set()).add(_KINDS[number])
    return [change for path, of_path in kinds.items() if (change := _change(path, of_path)) is not None]


def _change(path: str, kinds: set[ChangeKind]) -> FileChange | None:
    try:
        now = os.stat(path, follow_symlinks=False)
    except OSError:
        is_news = ChangeKind.CREATED not in kinds
        return FileChange(kind=ChangeKind.DELETED, path=path) if is_news and ChangeKind.DELETED in kinds else None
    if not stat.S_ISREG(now.st_mode):
        return None
    is_new = ChangeKind.CREATED in kinds and ChangeKind.DELETED not in kinds
    kind = ChangeKind.CREATED if is_new else ChangeKind.MODIFIED
    return FileChange(kind=kind, path=path, size=now.st_size, modified_ns=now.st_mtime_ns, inode=now.st_ino)
