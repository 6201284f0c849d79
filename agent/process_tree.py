"""Which processes belong to an instance, read from /proc: a session, its descendants, and those that slipped away.

A member of the tree of root process `root` is any process that
- is in the session `root` (the root starts one, and a session id is not reused while a member of it lives), or
- descends from a member, or
- carries the tree's mark in its environment, or its ticket (a descendant that called setsid and whose parent has died).

A ticket is for those who clean their environment: a value of RLIMIT_RTTIME, thousands of years, drawn for each tree. It is
inherited by fork and exec, limits nobody (only the CPU time of realtime processes is measured by it), may be read by
everybody, and a program has no reason to lower it. Without privileges a limit can only be lowered, so tickets descend.

Without /proc (macOS) psutil's children of the root and the process group are all that can be found. It is imported only
there: the keeper is small.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

MARK: Final = "HETUFLOW_INSTANCE_ID"
"""Environment variable whose value names the tree; set by the server for every instance."""

HAS_PROC: Final = os.path.exists("/proc/self/stat")
_CHILDREN: Final = "/proc/self/task/{}/children"
_READ_BYTES: Final = 64 * 1024
_WHOLE_BYTES: Final = 16 * 1024
_TICKET_FIRST: Final = 2**62
"""Microseconds, of which the boot's nanoseconds are taken off: no two trees of one boot have the same."""
_TICKET_LINE: Final = b"Max realtime timeout"


@frozen(slots=True)
class Process:
    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: str
    cpu_ticks: int = 0
    """Its own, and of the children that it has waited for."""
    threads: int = 0
    resident_pages: int = 0


def read_proc(path: str) -> bytes:
    """A file of /proc, whole; empty when it, or its process, is gone or not ours to read.

    Four system calls, 8 us; a file object costs 35, and every start and end of a process reads one.
    """
    parts = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(parts)


def read_whole(path: str) -> bytes:
    """Likewise, of a file that the kernel makes whole for its reader and that has at most 16 KiB: one system call fewer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _WHOLE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_process(pid: int) -> Process | None:
    """One line of /proc; None when the process is gone."""
    data = read_whole(f"/proc/{pid}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return Process(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        fields[0].decode(),
        fields[19].decode(),
        int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
        int(fields[17]),
        int(fields[21]),
    )


def identity(pid: int) -> str | None:
    """What tells this process apart from a later one with the same pid on the same boot: its start time."""
    if HAS_PROC:
        data = read_whole(f"/proc/{pid}/stat")
        return data[data.rindex(b")") + 2 :].split(None, 20)[19].decode() if data else None
    import psutil  # only here and below: it costs a keeper 3 MiB, which has /proc on Linux

    with contextlib.suppress(psutil.Error):
        return str(psutil.Process(pid).create_time())
    return None


def send_to(pid: int, started: str, number: int) -> None:
    """A signal to this very process, and to no later one with the same pid. `started`: its `identity`.

    Raises `ProcessLookupError`, `PermissionError`.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, PermissionError, NotImplementedError):  # not Linux, or an old one
        pidfd = -1
    try:
        if identity(pid) != started:
            raise ProcessLookupError(f"process {pid} is another one, or none")
        if pidfd < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def members(root: int, mark: str | None, ticket: int | None = None) -> list[int]:
    """Live processes of the tree, the root first if it lives; zombies do not count.

    Only orphans' environments and limits are read: whatever slipped away has lost its parent, or descends from what has.
    """
    if not HAS_PROC:
        return _members_by_psutil(root)
    table = _snapshot()
    orphanages = (os.getpid(), 1)
    inside = {
        pid
        for pid, process in table.items()
        if process.session == root or (process.parent in orphanages and is_marked(pid, mark, ticket))
    }
    inside.add(root)
    _add_descendants(inside, table)
    alive = [pid for pid in sorted(inside) if pid in table and table[pid].state not in "ZX"]
    return sorted(alive, key=lambda pid: pid != root)


def marked(mark: str) -> list[int]:
    """Live processes anywhere that carry the mark: what an earlier life of the agent left behind."""
    if not HAS_PROC:
        return []
    return [pid for pid, process in sorted(_snapshot().items()) if process.state not in "ZX" and carries(pid, mark)]


def carries(pid: int, mark: str) -> bool:
    """Whether the process was started with this mark; False for another user's, and one that is just ending."""
    environment = read_proc(f"/proc/{pid}/environ")
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def is_marked(pid: int, mark: str | None, ticket: int | None) -> bool:
    """Whether it was started with this ticket; by its mark only if it has none: the environment of another user's cannot be
    read, and to read that of a process that forks without end takes until it lets us.
    """
    found = ticket_of(pid) if ticket is not None else None
    if found is not None:
        return found == ticket
    return mark is not None and carries(pid, mark)


def ticket_of(pid: int) -> int | None:
    """The ticket with which this process was started; None = it has none."""
    _, _, rest = read_proc(f"/proc/{pid}/limits").partition(_TICKET_LINE)
    soft, _, _ = rest.lstrip().partition(b" ")
    return int(soft) if soft.isdigit() else None


def take_ticket(now: float, before: int | None) -> int | None:
    """Draw a ticket and put it on this process, for what it starts next; None where that cannot be.

    Args:
      now: seconds of a clock that runs since the boot of the machine and is never set.
      before: the ticket drawn before.
    """
    ticket = _TICKET_FIRST - int(now * 1e9)
    ticket = ticket if before is None else min(ticket, before - 1)
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (ticket, ticket))
    except (AttributeError, OSError, ValueError):  # no such limit here, or an earlier one is lower
        return None
    return ticket


def descendants(pids: Iterable[int]) -> list[Process]:
    """Those of `pids` that live, and what descends from them, without looking at every process of the machine.

    The kernel promises completeness only while nothing ends or starts: good for measuring, not for ending.
    """
    found: dict[int, Process] = {}
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        process = read_process(pid) if pid not in found else None
        if process is None:
            continue
        found[pid] = process
        threads = [str(pid)] if process.threads <= 1 else _names(f"/proc/{pid}/task")
        for thread in threads:
            waiting += map(int, read_proc(f"/proc/{pid}/task/{thread}/children").split())
    return [process for process in found.values() if process.state not in "ZX"]


def threads_of(uid: int) -> int:
    """How many processes and threads a user has, which is what RLIMIT_NPROC is compared with."""
    total = 0
    for name in _names("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == uid:
                    found = read_process(int(name))
                    total += found.threads if found is not None else 0
    return total


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """To each that is still there. A pid that ended between look and signal is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group_signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_is_alive(group: int) -> bool:
    """Whether the process group has a member; zombies count until they are reaped."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def adopted_children(mine: Iterable[int]) -> list[int]:
    """Children of this process that it did not start: orphans of trees, handed to it as their subreaper."""
    data = read_proc(_CHILDREN.format(os.getpid()))
    started = frozenset(mine)
    return [pid for pid in map(int, data.split()) if pid not in started]


def _snapshot() -> Mapping[int, Process]:
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None and process.pid != os.getpid()}


def _add_descendants(inside: set[int], table: Mapping[int, Process]) -> None:
    grown = True
    while grown:
        more = [pid for pid, process in table.items() if process.parent in inside and pid not in inside]
        inside.update(more)
        grown = bool(more)


def _members_by_psutil(root: int) -> list[int]:
    import psutil

    try:
        process = psutil.Process(root)
        return [found.pid for found in [process, *process.children(recursive=True)] if found.status() != "zombie"]
    except psutil.Error:
        return []
