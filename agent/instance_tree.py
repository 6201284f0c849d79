"""The port to the files below an instance's directory: its program may have changed them in any way, at any time.

No link is followed, at any level; nothing outside the directory is read, written or removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen


class TreeError(Exception):
    """It cannot be done; the message names the path and why."""


@frozen(slots=True, kw_only=True)
class Found:
    """A file below the directory. `problem`: why it cannot be taken, such as a link or a device."""

    path: str
    size: int
    problem: str | None = None


@frozen(slots=True, kw_only=True)
class Taken:
    """A file that was taken out of the directory: its size in bytes, and its digest in hex."""

    size: int
    sha256: str


class NewFile(Protocol):
    """A file that does not exist under its name before `finish`. Raises `TreeError`."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def discard(self) -> None:
        """No error when it is finished."""
        ...


class InstanceTree(Protocol):
    """Every method raises `TreeError`. `user`: a name, "" = the agent's own."""

    def create(self, directory: str, path: str, mode: int, user: str) -> NewFile:
        """A file of this user, in directories that are made where they are missing."""
        ...

    def give(self, directory: str, user: str) -> None:
        """Make the instance's directory the user's, who may pass through those above it and not look into them."""
        ...

    async def find(self, directory: str, files_max: int) -> Sequence[Found]:
        """All files, by path; an error when there are more."""
        ...

    async def take(self, directory: str, path: str, target: str, user: str) -> Taken:
        """Move a regular file to `target`, and read it there. One that is in `target` already is only read."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file or a directory with all that is in it; no error when it is gone."""
        ...
