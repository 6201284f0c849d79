"""How one program is started: by `posix_spawn` where that is enough, by a fork where something must be done in the child.

posix_spawn costs 0.05 ms of the keeper's CPU time, a fork 0.48. What the first cannot do is inherited where that can be
taken back: directory and umask are the keeper's own for the length of the call. A fork is for another user, nice, ionice,
limits of the process, and for who is born in a control group of version 2.

Errors in the child come back through a pipe that exec closes: a step's name and an errno.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from agent.containment import calls
from agent.containment.manners import User
from agent.keeper.descriptors import Bounds, HandedDown, Streams, set_limit
from agent.programs import explain
from hetuflow.ports.processes import StartError

_ALL_SIGNALS: Final = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
_REPORT_BYTES: Final = 256
_REPORT_SECONDS_MAX: Final = 5.0
"""For what a child does before it is the program: entering a directory of a server that is gone can take for ever."""


class NoAnswer(StartError):
    """Somebody was waited for, in vain. A child that waits still was killed, and is to be reaped as an orphan."""


@frozen(slots=True, kw_only=True)
class Start:
    """Everything about a start. `streams`: descriptors for 0, 1 and 2. `limits`: resource -> value, both soft and hard."""

    path: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    streams: tuple[int, int, int]
    umask: int
    user: User | None = None
    nice: int = 0
    io_priority: tuple[int, int] | None = None
    no_new_privs: bool = False
    """To be given up in the child: the keeper itself has not."""
    limits: Mapping[int, int]
    descriptors: Bounds
    """How many the program may have open."""

    is_remote: bool = False
    """Something of it lies on a file server, which may be gone in this moment."""

    @property
    def needs_fork(self) -> bool:
        by_priority = bool(self.nice) or self.io_priority is not None
        return self.user is not None or by_priority or bool(self.limits) or self.no_new_privs or self.is_remote


def start_spawned(start: Start, home: int, handed: HandedDown) -> int:
    """The pid. `home`: a descriptor of the keeper's own directory. Raises `StartError`."""
    umask = os.umask(start.umask)
    try:
        _enter(start.directory)
        if not spawns_sessions():
            return _popen(start)
        with handed:
            if handed.takes(start.streams):
                return _spawn(start, start.streams)
            with handed.numbered(start.streams) as streams:
                return _spawn(start, streams)
    except OSError as exc:
        raise StartError(explain(start.path, exc)) from exc
    except ValueError as exc:
        raise StartError(f"program {start.path!r} cannot be started: {exc}") from exc
    finally:
        os.umask(umask)
        os.fchdir(home)


def _spawn(start: Start, streams: Streams) -> int:
    given, out, err = streams
    return os.posix_spawn(
        start.path,
        start.argv,
        start.environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, given, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_ALL_SIGNALS,
    )


def start_forked(start: Start, *, into: int | None = None) -> int:
    """The pid, once the program has replaced the child. `into`: a descriptor of its control group. Raises `StartError`."""
    argv = [os.fsencode(word) for word in start.argv]
    environment = {os.fsencode(name): os.fsencode(value) for name, value in start.environment.items()}
    reports, report = os.pipe()
    try:
        with _signals_blocked():
            pid = calls.fork(into)
            if pid == 0:
                _be_child(start, argv, environment, report)
        os.close(report)
        report = -1
        failure = _read_report(reports, pid)
        if failure is None:
            raise NoAnswer(
                f"the program was not started within {_REPORT_SECONDS_MAX:g} s: does {start.directory}, its working directory, answer?"
            )
    except OSError as exc:
        raise StartError(explain(start.path, exc)) from exc
    finally:
        os.close(reports)
        if report != -1:
            os.close(report)
    if not failure:
        return pid
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    raise StartError(_explain(start, failure.decode()))


def answers(path: str) -> bool:
    """Whether whoever holds this path says anything of it, good or bad. Raises `StartError` when nobody can be sent to ask."""
    try:
        reports, report = os.pipe()
    except OSError as exc:
        raise StartError(explain(path, exc)) from exc
    try:
        with _signals_blocked():
            pid = calls.fork()
            if pid == 0:
                _look_at(path)
        os.close(report)
        report = -1
        if _read_report(reports, pid) is None:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return True
    except OSError as exc:
        raise StartError(explain(path, exc)) from exc
    finally:
        os.close(reports)
        if report != -1:
            os.close(report)


def _look_at(path: str) -> None:
    """Never returns. What the keeper will do itself, so that it finds the same answers kept."""
    try:
        os.setsid()
        os.access(path, os.X_OK)
        os.path.isdir(path)
    finally:
        os._exit(0)


def _read_report(reports: int, pid: int) -> bytes | None:
    """Empty: the child is the program now, or has ended. None: it said nothing, and was killed."""
    poll = select.poll()
    poll.register(reports, select.POLLIN)
    if poll.poll(_REPORT_SECONDS_MAX * 1000):
        return os.read(reports, _REPORT_BYTES)
    os.kill(pid, signal.SIGKILL)
    return None


def _be_child(start: Start, argv: list[bytes], environment: dict[bytes, bytes], report: int) -> None:
    """Never returns. System calls only: this is a copy of the keeper, and it must not do any of the keeper's work."""
    step, number = "session", 0
    try:
        os.setsid()
        step = "signals"
        for each in _ALL_SIGNALS:
            calls.libc().signal(int(each), None)  # SIG_DFL
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = "streams"
        _set_streams(start.streams)
        step = "nice"
        if start.nice:
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + start.nice)
        step = "ionice"
        if start.io_priority is not None:
            calls.set_io_priority(start.io_priority)
        step = "limits"
        for name, value in start.limits.items():
            resource.setrlimit(name, (value, value))
        set_limit(start.descriptors)
        step = "run_as"
        if start.user is not None:
            os.setgroups(start.user.groups)
            os.setgid(start.user.gid)
            os.setuid(start.user.uid)
        step = "directory"  # as the user: what it may not enter it must not be in
        os.chdir(start.directory)
        if start.no_new_privs:
            calls.forbid_new_privileges()
        step = "program"
        os.umask(start.umask)
        os.execve(start.path, argv, environment)
    except OSError as exc:
        number = exc.errno or 0
    except BaseException:
        pass
    finally:
        os.write(report, f"{step} {number}".encode())
        os._exit(127)


def _set_streams(streams: tuple[int, int, int]) -> None:
    """Each of them is above 2, or already where it belongs."""
    for target, source in enumerate(streams):
        os.dup2(source, target, inheritable=True)


def _explain(start: Start, failure: str) -> str:
    step, _, number = failure.partition(" ")
    reason = OSError(int(number), os.strerror(int(number)))
    if step == "program":
        return explain(start.path, reason, start.user.name if start.user is not None else None)
    as_whom = f" by user {start.user.name}" if start.user is not None else ""
    sentences = {
        "directory": f"working directory {start.directory} cannot be entered{as_whom}",
        "run_as": f"run_as: the agent cannot become{as_whom.removeprefix(' by')}",
        "nice": f"nice: {start.nice} cannot be set",
        "ionice": "ionice: it cannot be set",
    }
    return f"{sentences.get(step, f'the program cannot be started ({step})')}: {reason.strerror}"


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """So that none is handled in the child, by the keeper's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as exc:
        raise StartError(f"working directory {directory} cannot be entered: {exc.strerror}") from exc


def _popen(start: Start) -> int:
    import subprocess

    given, out, err = start.streams
    process = subprocess.Popen(
        start.argv,
        executable=start.path,
        env=start.environment,
        stdin=given,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    process.returncode = 0  # reaped by the keeper with wait4, not by Popen
    return process.pid


def spawns_sessions() -> bool:
    """Whether posix_spawn knows setsid here (glibc 2.26; not musl before 1.1.24, not macOS before 10.15)."""
    global _SPAWNS_SESSIONS
    if _SPAWNS_SESSIONS is None:
        try:
            os.posix_spawn("/nonexistent", ["x"], {}, setsid=True)
        except FileNotFoundError:
            _SPAWNS_SESSIONS = True
        except (NotImplementedError, OSError):
            _SPAWNS_SESSIONS = False
    return _SPAWNS_SESSIONS is True


_SPAWNS_SESSIONS: bool | None = None
