"""The instances' working directories: private, one each, named by the instance.

A directory that is empty at its instance's end is renamed for a later one. Measured on ext4 while a journal is being
fsynced: mkdir 0.05 ms, rename 0.03, rmdir 0.6 to 2.7 (it waits for the file system's own journal, and stops the agent
meanwhile). One with files in it stays until it is old.
"""

from __future__ import annotations

import os
import stat
from typing import Final, Protocol

from hetuflow.ports.disk import Disk

SPARE_MAX: Final = 256


class Directories(Protocol):
    """Under one work directory; every method raises `DiskError`."""

    def take(self, path: str) -> None:
        """A private directory at this path, in a private work directory; both may exist."""
        ...

    def give_back(self, path: str) -> None:
        """The instance has ended."""
        ...

    def close(self) -> None:
        """The agent stops."""
        ...


class PlainDirectories:
    """Made and removed, by the disk port alone."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def take(self, path: str) -> None:
        self._disk.make_private_dir(os.path.dirname(path))
        self._disk.make_private_dir(path)

    def give_back(self, path: str) -> None:
        if not self._disk.list(path):
            self._disk.remove(path)

    def close(self) -> None:
        pass


class RecycledDirectories:
    """Of the operating system; keeps spare ones."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._spare: list[str] = []

    def take(self, path: str) -> None:
        while self._spare:
            spare = self._spare.pop()
            if not _is_private(spare):  # its process has changed it
                continue
            try:
                os.rename(spare, path)
            except OSError:
                break  # such as: it exists and has files in it
            return
        self._disk.make_private_dir(os.path.dirname(path))
        self._disk.make_private_dir(path)

    def give_back(self, path: str) -> None:
        if not self._disk.list(path) and len(self._spare) < SPARE_MAX:
            self._spare.append(path)

    def close(self) -> None:
        for path in self._spare:
            self._disk.remove(path)
        self._spare.clear()


def _is_private(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.geteuid()
