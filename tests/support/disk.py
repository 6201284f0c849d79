"""A disk in memory: one per machine, it survives the lives of the agent on it."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from hetuflow.ports.disk import DiskError
from tests.support.ports import TrioClock


class Life:
    """One life of a process: when it is dead, its ports do nothing any more, whatever its `finally` blocks try."""

    def __init__(self) -> None:
        self.is_dead = False


class MemoryDisk:
    """Files by path. `room_bytes` is the free space; None = plenty."""

    def __init__(self, clock: TrioClock) -> None:
        self._clock = clock
        self.files: dict[str, bytearray] = {}
        self.directories: dict[str, float] = {}
        self._modified: dict[str, float] = {}
        self.room_bytes: int | None = None
        self.unwritable: set[str] = set()
        """Paths of files for which there is no room."""

    def copy(self) -> MemoryDisk:
        """Another disk with the same content, as of a disk image."""
        disk = MemoryDisk(self._clock)
        disk.files = {path: bytearray(data) for path, data in self.files.items()}
        disk.directories, disk._modified = dict(self.directories), dict(self._modified)
        return disk

    def mount(self, life: Life) -> MountedDisk:
        return MountedDisk(self, life)

    def write(self, path: str, data: bytes) -> None:
        if path in self.unwritable or (self.room_bytes is not None and len(data) > self.room_bytes):
            raise DiskError(f"cannot write {path}: No space left on device")
        if self.room_bytes is not None:
            self.room_bytes -= len(data)
        self.files.setdefault(path, bytearray()).extend(data)
        self._modified[path] = trio.current_time()

    def remove(self, path: str) -> None:
        for name in [name for name in self.files if name == path or name.startswith(f"{path}/")]:
            if self.room_bytes is not None:
                self.room_bytes += len(self.files[name])
            del self.files[name]
        for name in [name for name in self.directories if name == path or name.startswith(f"{path}/")]:
            del self.directories[name]

    def age_seconds(self, path: str) -> float:
        return trio.current_time() - self._modified.get(path, self.directories.get(path, trio.current_time()))


class MountedDisk:
    """The disk as one life sees it."""

    def __init__(self, disk: MemoryDisk, life: Life) -> None:
        self._disk, self._life = disk, life

    def open_append(self, path: str) -> MountedFile:
        self.append(path, b"")
        return MountedFile(self, path)

    def append(self, path: str, data: bytes) -> None:
        if not self._life.is_dead:
            self._disk.write(path, data)

    def read(self, path: str) -> bytes | None:
        found = self._disk.files.get(path)
        return None if found is None else bytes(found)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        found = self._disk.files.get(path)
        if found is None:
            raise DiskError(f"cannot read {path}: No such file or directory")
        return bytes(found[offset : offset + length])

    def replace(self, path: str, data: bytes) -> None:
        if not self._life.is_dead:
            if path in self._disk.unwritable:
                raise DiskError(f"cannot write {path}: No space left on device")
            self._disk.remove(path)
            self._disk.write(path, data)

    def make_private_dir(self, path: str) -> None:
        if not self._life.is_dead:
            self._disk.directories.setdefault(path, trio.current_time())

    def list(self, path: str) -> Sequence[str]:
        prefix = f"{path}/"
        names = [*self._disk.files, *self._disk.directories]
        return sorted({name[len(prefix) :].partition("/")[0] for name in names if name.startswith(prefix)})

    def remove(self, path: str) -> None:
        if not self._life.is_dead:
            self._disk.remove(path)

    def free_bytes(self, path: str) -> int:
        return 1 << 40 if self._disk.room_bytes is None else self._disk.room_bytes

    def total_bytes(self, path: str) -> int:
        return 1 << 40

    def age_seconds(self, path: str) -> float:
        return self._disk.age_seconds(path)


class MountedFile:
    def __init__(self, disk: MountedDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def append(self, data: bytes) -> None:
        self._disk.append(self._path, data)

    async def sync(self) -> None:
        await trio.sleep(0.002)

    def close(self) -> None: ...
