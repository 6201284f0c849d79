"""System calls that Python does not offer: clone3 into a control group, prctl, ioprio_set."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import signal
import struct
from typing import Any, Final

_CLONE_INTO_CGROUP: Final = 0x200000000
_CLONE3: Final = 435
"""The same on every architecture but alpha."""
_NO_DESCRIPTOR: Final = 0x7FFFFFFF
_FIELDS: Final = struct.Struct("=11Q")


@functools.cache
def libc() -> Any:
    """The C library, called without giving up the interpreter: a child of a call must find it as it was."""
    return ctypes.PyDLL(None, use_errno=True)


def fork(into: int | None = None) -> int:
    """As `os.fork`, but the child may be born in the control group of this descriptor. Raises `OSError`.

    The child must not do more than a few system calls and exec. CPython makes its locks anew there, as with `os.fork`: where
    another thread was about to take one, the child would wait for it for ever. That nobody asks for the interpreter between
    the two calls is the caller's to see to (`sys.setswitchinterval`).
    Measured: 0.5 ms of CPU time from a keeper of 20 MiB either way, against 0.05 for posix_spawn.
    """
    arguments = None if into is None else ctypes.create_string_buffer(_clone_into(into), _FIELDS.size)
    interpreter, calls = ctypes.pythonapi, libc()
    interpreter.PyOS_BeforeFork()
    result: int = calls.fork() if arguments is None else calls.syscall(_CLONE3, arguments, _FIELDS.size)
    if result == 0:
        interpreter.PyOS_AfterFork_Child()
    else:
        number = ctypes.get_errno()
        interpreter.PyOS_AfterFork_Parent()
    if result < 0:
        raise OSError(number, os.strerror(number))
    return result


def _clone_into(descriptor: int) -> bytes:
    return _FIELDS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.cache
def clones_into_groups() -> bool:
    """Whether this kernel, and what filters its calls, lets us. Nothing is made in finding out."""
    if platform.system() != "Linux" or platform.machine() == "alpha":
        return False
    try:
        fork(_NO_DESCRIPTOR)
    except OSError as exc:
        return exc.errno == errno.EBADF
    return False  # unreachable: there is no such group


KEEPER_NICE: Final = -15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_CLASS_SHIFT: Final = 13


def become_subreaper() -> bool:
    """Orphaned descendants come to this process. False where the system has no such thing."""
    return platform.system() == "Linux" and libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def prefer_this_process() -> None:
    """Above all programs, which do not inherit it: among a thousand that spin, the keeper must get to run. Root only.

    A niceness that somebody has chosen for this process is left as it is, and inherited.
    """
    if not hasattr(os, "SCHED_RESET_ON_FORK") or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, KEEPER_NICE)


def forbid_new_privileges() -> bool:
    """For this thread and what it starts, for ever: no setuid program gives it more than it has."""
    return platform.system() == "Linux" and libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def set_io_priority(level: tuple[int, int]) -> None:
    """Of this thread, and of what it starts: (class, level). Raises `OSError`."""
    number = _IOPRIO_SET.get(platform.machine()) if platform.system() == "Linux" else None
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(libc().syscall(number, _IOPRIO_WHO_PROCESS, 0, level[0] << _IOPRIO_CLASS_SHIFT | level[1]))


def forbids_new_privileges() -> bool:
    """Whether this thread has given them up, or where it comes from has."""
    return platform.system() == "Linux" and libc().prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
