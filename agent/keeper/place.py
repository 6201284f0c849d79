"""Where a keeper can be found: files in the agent's state directory, and who it is that they speak of.

A keeper is told apart by its pid *and* its start time *and* the boot of the machine, never by a pid alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, Protocol

from attrs import frozen

from agent import process_tree
from agent.keeper.disk import KeeperDisk
from hetuflow.ports.disk import Disk, DiskError

IDENTITY_BYTES: Final = 512
"""Padded, so that one can be written over another."""
SOCKET_PATH_BYTES_MAX: Final = 100
"""Of `sun_path`, which has 108 on Linux and 104 on macOS."""


BUSY: Final = "busy"
"""What a keeper says of its start when there is another one."""


@frozen(slots=True)
class Place:
    """Paths of one agent's keeper."""

    state_dir: str

    @property
    def socket(self) -> str:
        return f"{self.state_dir}/keeper.sock"

    @property
    def identity(self) -> str:
        return f"{self.state_dir}/keeper.json"

    @property
    def lock(self) -> str:
        return f"{self.state_dir}/keeper.lock"

    @property
    def log(self) -> str:
        return f"{self.state_dir}/keeper.log"

    @property
    def complaints(self) -> str:
        """What a keeper says to people: its standard error, since its start."""
        return f"{self.state_dir}/keeper.err"


@frozen(slots=True, kw_only=True)
class Identity:
    pid: int
    start_time: str
    boot_id: str
    version: str = ""
    watchdog_pid: int = 0
    isolation: str = "auto"
    """As it was wanted: see `agent.containment.ISOLATIONS`."""

    def is_alive(self, boot_id: str) -> bool:
        """Whether this very process runs (a zombie does not)."""
        if self.boot_id != boot_id or self.pid <= 1:
            return False
        if not process_tree.HAS_PROC:
            return process_tree.identity(self.pid) == self.start_time
        found = process_tree.read_process(self.pid)
        return found is not None and found.state not in "ZX" and found.start_ticks == self.start_time


def write_identity(disk: KeeperDisk, place: Place, identity: Identity) -> None:
    """Raises `DiskError`. On a full disk over the earlier one, whose place it has: nobody could find this keeper else."""
    body = {name: getattr(identity, name) for name in Identity.__slots__ if not name.startswith("__")}
    data = json.dumps(body).encode().ljust(IDENTITY_BYTES - 1) + b"\n"
    try:
        disk.replace(place.identity, data)
    except DiskError:
        disk.overwrite(place.identity, data)


def read_identity(disk: Disk, place: Place) -> Identity | None:
    """None when there is none, or it cannot be understood: then nobody can be found by it."""
    try:
        found = json.loads(disk.read(place.identity) or b"null")
        return Identity(
            pid=int(found["pid"]),
            start_time=str(found["start_time"]),
            boot_id=str(found["boot_id"]),
            version=str(found.get("version", "")),
            watchdog_pid=int(found.get("watchdog_pid", 0)),
            isolation=str(found.get("isolation", "auto")),
        )
    except (DiskError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_locked(place: Place) -> bool:
    """Whether a keeper of this very directory runs. The files of one that was copied name the original's."""
    try:
        fd = os.open(place.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it cannot be told, and who is named there lives
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


class HasOptions(Protocol):
    """A socket, of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """Another name of the socket's path that fits into an address, for the length of the block."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if process_tree.HAS_PROC:
            yield f"/proc/self/fd/{fd}/{name}"
        else:
            home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchdir(fd)
            try:
                yield name
            finally:
                os.fchdir(home)
                os.close(home)
    finally:
        os.close(fd)


def peer_of(connection: HasOptions) -> tuple[int, int]:
    """(pid, user id) of the process at the other end; pid 0 where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0, os.geteuid()  # the socket lies in a directory that only this user may enter
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return pid, uid
