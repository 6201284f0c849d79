"""Files that change: directories that are watched. The only way in which anybody hears of a file that nobody names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from attrs import frozen


class WatchError(Exception):
    """The directory cannot be watched, or not any more: missing, not permitted, too many. The message names it."""


class ChangeKind(StrEnum):
    CREATED = "created"
    MODIFIED = "modified"
    DELETED = "deleted"


@frozen(slots=True, kw_only=True)
class FileChange:
    """A regular file at an absolute path. `size` (bytes), `modified_ns` (since 1970) and `inode` as it was found just
    afterwards; 0 of one that is gone."""

    kind: ChangeKind
    path: str
    size: int = 0
    modified_ns: int = 0
    inode: int = 0


class FileWatcher(Protocol):
    def watch(
        self, directory: str, *, recursive: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[FileChange]]]:
        """Every change from the moment the block is entered, those close together in one sequence. A file that is renamed
        is deleted under its old name and created under the new one. Raises `WatchError`, also while it is iterated."""
        ...


class NoFileWatcher:
    """Where nothing can be watched."""

    def watch(
        self, directory: str, *, recursive: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[FileChange]]]:
        raise WatchError(f"{directory}: this agent cannot watch files")


class LateFileWatcher:
    """The system's, which is imported when something is watched for the first time: most agents watch nothing."""

    def watch(
        self, directory: str, *, recursive: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[FileChange]]]:
        from hetuflow.ports.real_files import SystemFileWatcher

        return SystemFileWatcher().watch(directory, recursive=recursive)
