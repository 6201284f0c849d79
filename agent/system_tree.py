"""The files below an instance's directory, on the operating system. See `agent.instance_tree`.

Everything is done through descriptors of directories that were opened without following a link: a name that turns into a
link meanwhile is an error, not a way out. What may take long runs in a thread, in steps.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from agent.instance_tree import Found, Taken, TreeError
from hetuflow.ports.real import aside

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNFINISHED: Final = ".hetuflow-new"
READ_BYTES: Final = 1024 * 1024
DEPTH_MAX: Final = 64
"""Directories below each other that are looked into."""
REMOVED_PER_STEP: Final = 20_000
"""Entries removed in one go of a thread: an agent that is stopped does not wait for a million of them."""


class SystemTree:
    def create(self, directory: str, path: str, mode: int, user: str) -> SystemNewFile:
        owner = _owner(user)
        with _errors(f"{directory}/{path}"):
            *parents, name = path.split("/")
            parent = _descend(directory, parents, owner)
            return SystemNewFile(parent, name, mode, owner)

    def give(self, directory: str, user: str) -> None:
        uid, gid = _owner(user)
        with _errors(directory):
            fd = os.open(directory, _DIRECTORY)
            try:
                os.fchown(fd, uid, gid)
            finally:
                os.close(fd)
            for above in (os.path.dirname(directory), os.path.dirname(os.path.dirname(directory))):
                found = os.stat(above)
                if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o011 != 0o011:
                    os.chmod(above, stat.S_IMODE(found.st_mode) | 0o011)

    async def find(self, directory: str, files_max: int) -> Sequence[Found]:
        return await aside(_find, directory, files_max)

    async def take(self, directory: str, path: str, target: str, user: str) -> Taken:
        await aside(_move, directory, path, target, _owner(user)[0])
        with _errors(target):
            fd = os.open(target, _READ)
            try:
                digest, size = hashlib.sha256(), 0
                while data := await aside(os.read, fd, READ_BYTES):
                    await aside(digest.update, data)
                    size += len(data)
            finally:
                os.close(fd)
        return Taken(size=size, sha256=digest.hexdigest())

    async def remove(self, path: str) -> None:
        while await aside(_remove_some, path, REMOVED_PER_STEP):
            pass


class SystemNewFile:
    """Owns the descriptor of its directory."""

    def __init__(self, parent: int, name: str, mode: int, owner: tuple[int, int]) -> None:
        self._parent, self._name, self._mode, self._owner = parent, name, mode, owner
        self._temporary = f"{name[:200]}{_UNFINISHED}"
        try:
            with contextlib.suppress(FileNotFoundError):  # of an earlier life of the agent
                os.unlink(self._temporary, dir_fd=parent)
            self._fd = os.open(self._temporary, _NEW, 0o600, dir_fd=parent)
        except OSError:
            os.close(parent)
            raise

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with _errors(self._name):
            while view:
                view = view[os.write(self._fd, view) :]

    def finish(self) -> None:
        with _errors(self._name):
            os.fchown(self._fd, *self._owner)
            os.fchmod(self._fd, self._mode)
            os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
            self._close()

    def discard(self) -> None:
        if self._parent >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._parent)
            self._close()

    def _close(self) -> None:
        for fd in (self._fd, self._parent):
            os.close(fd)
        self._fd = self._parent = -1


def _owner(user: str) -> tuple[int, int]:
    if not user:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise TreeError(f"there is no user {user!r} on this machine") from None
    return entry.pw_uid, entry.pw_gid


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise TreeError(f"{what}: {exc.strerror}") from exc


def _descend(directory: str, parts: Sequence[str], owner: tuple[int, int] | None) -> int:
    """The descriptor of a directory below; with an `owner`, what is missing is made. Raises `OSError`."""
    fd = os.open(directory, _DIRECTORY)
    try:
        for part in parts:
            if owner is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
                    os.chown(part, *owner, dir_fd=fd, follow_symlinks=False)
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError:
        os.close(fd)
        raise
    return fd


def _find(directory: str, files_max: int) -> list[Found]:
    with _errors(directory):
        top = os.open(directory, _DIRECTORY)
        try:
            found = []
            for each in _walk(top, "", DEPTH_MAX):
                found.append(each)
                if len(found) > files_max:
                    raise TreeError(f"{directory} has more than {files_max} files")
        finally:
            os.close(top)
    return sorted(found, key=lambda each: each.path)


def _walk(fd: int, prefix: str, depth: int) -> Iterator[Found]:
    with os.scandir(fd) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                yield _found(path, entry.name, fd)
            elif depth == 0:
                yield Found(path=_utf8(path), size=0, problem=f"lies deeper than {DEPTH_MAX} directories")
            else:
                try:
                    below = os.open(entry.name, _DIRECTORY, dir_fd=fd)
                except OSError as exc:
                    yield Found(path=_utf8(path), size=0, problem=str(exc.strerror))
                    continue
                try:
                    yield from _walk(below, f"{path}/", depth - 1)
                finally:
                    os.close(below)


def _utf8(path: str) -> str:
    return path.encode("utf-8", "replace").decode()


def _found(path: str, name: str, fd: int) -> Found:
    try:
        path.encode()
    except UnicodeEncodeError:
        return Found(path=_utf8(path), size=0, problem="its name is not UTF-8")
    try:
        seen = os.lstat(name, dir_fd=fd)
    except OSError as exc:
        return Found(path=path, size=0, problem=str(exc.strerror))
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode))
    return Found(path=path, size=seen.st_size, problem=None if kind is None else f"is {kind}")


_KINDS: Final = {
    stat.S_IFLNK: "a link, and links are not followed",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _move(directory: str, path: str, target: str, uid: int) -> None:
    """Move what is a regular file of the program's own user under no other name; else copy it."""
    with _errors(f"{directory}/{path}"):
        if os.path.lexists(target):
            return
        *parents, name = path.split("/")
        parent = _descend(directory, parents, None)
        try:
            fd = os.open(name, _READ, dir_fd=parent)
            try:
                seen = os.fstat(fd)
                if not stat.S_ISREG(seen.st_mode):
                    raise TreeError(f"{path} is not a regular file")
                if seen.st_nlink > 1 and seen.st_uid != uid:  # which the agent may read, and the program perhaps not
                    raise TreeError(f"{path} is another user's file under a second name")
                if seen.st_nlink > 1 or not _renamed(parent, name, target, seen):
                    _copy(fd, target)
                else:
                    os.fchmod(fd, 0o600)
            finally:
                os.close(fd)
        finally:
            os.close(parent)


def _renamed(parent: int, name: str, target: str, seen: os.stat_result) -> bool:
    """False: it lies on another file system. Raises `TreeError` when the name has changed its meaning meanwhile."""
    try:
        os.rename(name, target, src_dir_fd=parent)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise
    moved = os.lstat(target)
    if (moved.st_dev, moved.st_ino) != (seen.st_dev, seen.st_ino):
        os.rename(target, name, dst_dir_fd=parent)
        raise TreeError(f"{name} was exchanged while it was taken")
    return True


def _copy(fd: int, target: str) -> None:
    """Whole, or not at all."""
    unfinished = f"{target}{_UNFINISHED}"
    out = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data := os.read(fd, READ_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
    finally:
        os.close(out)
    os.rename(unfinished, target)


# --- removing ------------------------------------------------------------------------------------------------------


def _remove_some(path: str, most: int) -> bool:
    """Remove at most so many entries; whether something is left.

    Directories inside are emptied one level at a time: what is a directory in them moves up to the top first. So a tree
    of any depth takes neither recursion nor more than two descriptors.
    """
    with _errors(path):
        try:
            top = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            return False
        except OSError:
            if _made_open(path):
                return True
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return False
        try:
            os.fchmod(top, 0o700)
            left = most
            for name in _entries(top, most):
                left -= _remove_entry(top, name, left)
                if left <= 0:
                    return True
        finally:
            os.close(top)
        try:
            os.rmdir(path)
        except OSError as exc:
            if exc.errno == errno.ENOTEMPTY:  # subdirectories have moved up, or somebody still writes
                return True
            raise
        return False


def _entries(fd: int, most: int) -> list[str]:
    names = []
    with os.scandir(fd) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) >= most:
                break
    return names


def _remove_entry(top: int, name: str, most: int) -> int:
    """Remove an entry of `top`, or at most so many of its own; how many are gone or moved."""
    try:
        os.unlink(name, dir_fd=top)
        return 1
    except FileNotFoundError:
        return 1
    except (IsADirectoryError, PermissionError):  # POSIX says EPERM for a directory, Linux EISDIR
        pass
    try:
        below = os.open(name, _DIRECTORY, dir_fd=top)
    except PermissionError:
        if not _made_open(name, top):
            raise
        below = os.open(name, _DIRECTORY, dir_fd=top)
    done = 0
    try:
        os.fchmod(below, 0o700)
        for inner in _entries(below, most):
            try:
                os.unlink(inner, dir_fd=below)
            except (IsADirectoryError, PermissionError):
                _move_up(below, inner, top)
            done += 1
    finally:
        os.close(below)
    if done < most:
        os.rmdir(name, dir_fd=top)
        done += 1
    return done


def _move_up(below: int, name: str, top: int) -> None:
    number = os.lstat(name, dir_fd=below).st_ino
    free = (f".hetuflow-{number:x}-{attempt}" for attempt in range(1000))
    new = next(each for each in free if not _exists(each, top))
    try:
        os.rename(name, new, src_dir_fd=below, dst_dir_fd=top)
    except PermissionError:  # its link to the directory above changes: its owner may have shut it
        if not _made_open(name, below):
            raise
        os.rename(name, new, src_dir_fd=below, dst_dir_fd=top)


def _exists(name: str, fd: int) -> bool:
    try:
        os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True


def _made_open(path: str, fd: int | None = None) -> bool:
    """Whether it was a directory that its owner had shut, and is open now."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return False
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISDIR(mode) or stat.S_IMODE(mode) & 0o700 == 0o700:
            return False
        os.chmod(f"/proc/self/fd/{found}", 0o700)  # a descriptor of O_PATH has no fchmod
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(found)
