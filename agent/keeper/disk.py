"""The keeper's disk: the same port, without trio, and without fsync.

What the keeper writes must outlive a kill, not a crash of the machine: that leaves no process to remember. And a loop
that everything waits for must not wait for a disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final

from hetuflow.ports.disk import DiskError

_READ_BYTES: Final = 1024 * 1024


class KeeperFile:
    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            raise DiskError(f"cannot write {self._path}: {exc.strerror}") from exc

    async def sync(self) -> None:
        raise NotImplementedError("the keeper does not sync")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class KeeperDisk:
    def open_append(self, path: str) -> KeeperFile:
        return KeeperFile(path)

    def read(self, path: str) -> bytes | None:
        if not os.path.exists(path):
            return None
        return self.read_range(path, 0, -1)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` -1: to the end."""
        parts = []
        fd = _open(path, os.O_RDONLY)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            while length and (part := os.read(fd, _READ_BYTES if length < 0 else length)):
                parts.append(part)
                length -= len(part) if length > 0 else 0
        except OSError as exc:
            raise DiskError(f"cannot read {path}: {exc.strerror}") from exc
        finally:
            os.close(fd)
        return b"".join(parts)

    def replace(self, path: str, data: bytes) -> None:
        temporary = f"{path}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        try:
            file = KeeperFile(temporary)
            try:
                file.append(data)
            finally:
                file.close()
            _rename(temporary, path)
        except DiskError:
            with contextlib.suppress(OSError):  # a full disk needs the room
                os.unlink(temporary)
            raise

    def overwrite(self, path: str, data: bytes) -> None:
        """Over the first bytes of a file that exists, at once; needs no room. Raises `DiskError`."""
        fd = _open(path, os.O_WRONLY)
        try:
            if os.pwrite(fd, data, 0) < len(data):
                raise DiskError(f"cannot write {path}: No space left on device")
        except OSError as exc:
            raise DiskError(f"cannot write {path}: {exc.strerror}") from exc
        finally:
            os.close(fd)

    def make_private_dir(self, path: str) -> None:
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as exc:
            raise DiskError(f"cannot create directory {path}: {exc.strerror}") from exc

    def list(self, path: str) -> Sequence[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise DiskError(f"cannot list {path}: {exc.strerror}") from exc

    def remove(self, path: str) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as exc:
            raise DiskError(f"cannot remove {path}: {exc.strerror}") from exc

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def total_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def age_seconds(self, path: str) -> float:
        raise NotImplementedError("the keeper removes nothing for its age")


def _rename(temporary: str, path: str) -> None:
    try:
        os.replace(temporary, path)
    except OSError as exc:
        raise DiskError(f"cannot write {path}: {exc.strerror}") from exc


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise DiskError(f"cannot open {path}: {exc.strerror}") from exc
