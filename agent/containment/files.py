"""The small files of control groups. Four system calls each; a Python file object costs three times as much."""

from __future__ import annotations

import errno
import os
from typing import Final

_READ_BYTES: Final = 64 * 1024
"""More than most files of ours. A buffer of 128 KiB or more would be mapped and unmapped for each read."""


def read(path: str) -> bytes:
    """Whole; raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    """In one call, as the kernel wants it; raises `OSError`. The file exists: none is ever made here."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def number(path: str) -> int:
    """0 when there is no such file, or no number in it ("max")."""
    try:
        return int(read(path))
    except (OSError, ValueError):
        return 0


def is_nought(path: str) -> bool:
    """Whether there is such a file, and "0" in it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 16) == b"0\n"
    except OSError:
        return False
    finally:
        os.close(fd)


def keyed(path: str) -> dict[str, int]:
    """Lines of "name number"; empty when there is no such file."""
    try:
        lines = read(path).decode().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def words(path: str) -> list[str]:
    """Empty when there is no such file."""
    try:
        return read(path).decode().split()
    except OSError:
        return []


def pids(path: str) -> list[int]:
    """Of a `cgroup.procs` or `tasks`; empty when the group is gone."""
    try:
        return [int(pid) for pid in read(path).split()]
    except OSError:
        return []


def is_populated(path: str, said: bytes = b"") -> bool:
    """Whether a file of a group has something in it, or just what is `said`. One that cannot be read (no descriptor is left)
    is no sign that nobody is there; one that is gone is."""
    try:
        found = read(path)
    except OSError as exc:
        return exc.errno not in (errno.ENOENT, errno.ENODEV)
    return said in found if said else bool(found)


def make_group(path: str) -> None:
    """The kernel puts its files into it. Raises `OSError`."""
    os.mkdir(path, 0o755)


def remove_group(path: str) -> bool:
    """Whether it is gone now: not while processes or groups are in it, or by right of somebody else."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def groups(path: str) -> list[str]:
    """Names of the groups in a group; empty when it is gone, or not ours to read."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def remove_with_groups(path: str) -> bool:
    """A group, and those in it that are empty; whether it is gone now."""
    for name in groups(path):
        remove_group(f"{path}/{name}")
    return remove_group(path)
