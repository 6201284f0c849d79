"""The keeper's operating system, for real: programs started, read, reaped and measured. No trio: `Loop` calls back.

**Starting.** `posix_spawn` with a session of its own (vfork inside: the cost does not grow with the keeper's memory, and
errors of exec come back as errno). What it cannot do is inherited: directory and umask are the keeper's own for the
length of the call. Where libc lacks setsid in posix_spawn: Popen.

**Reading and reaping.** Pipes and pidfds are watched by the keeper's loop. The exit status is taken with wait4, which also
tells CPU time and disk blocks. Its peak memory is useless below the keeper's own: after vfork the kernel starts counting
at the parent's size. So VmHWM of the root is sampled after 20 ms, 60 ms ... and then every second.

The keeper is a subreaper: orphans of its trees come to it, and are reaped here.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from agent import process_tree
from agent.keeper.messages import Launch, Launched
from agent.keeper.orphan import OrphanTree
from agent.keeper.system import Listener, Loop
from agent.keeper.tree import ProcessTree, exit_of
from agent.programs import explain, find_program
from hetuflow.ports.processes import StartError

ORPHANS_SECONDS: Final = 1.0
"""Between two looks for orphans that have ended, while there are any."""
UNWATCHED_SECONDS: Final = 0.05
"""Between two looks at processes of which the kernel does not tell the end (no pidfd)."""
CLOSE_SECONDS_MAX: Final = 1.0
"""A process that was killed ends at once, but for one in the middle of a disk's or a network's work."""
CLOSE_SECONDS_STEP: Final = 0.002
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PR_SET_CHILD_SUBREAPER: Final = 36
_ALL_SIGNALS: Final = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


class OperatingSystem:
    """See `System`. The owner calls `tick` when the time has come that its last call returned, and after each spawn."""

    def __init__(self, loop: Loop, *, bystanders: Sequence[int] = ()) -> None:
        """`bystanders`: children of this process that are none of its programs, to be left alone; others may be added later."""
        self._loop = loop
        self._bystanders = bystanders
        self._running: dict[int, ProcessTree] = {}
        self._unwatched: set[int] = set()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._adopts = _become_subreaper()
        self._has_orphans = False
        self._due = math.inf
        _keep_descriptors()

    def __repr__(self) -> str:
        return f"<OperatingSystem: {len(self._running)} running>"

    def now(self) -> float:
        return time.clock_gettime(_CLOCK)

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def isolation(self) -> str:
        return "session"

    def limits(self) -> Mapping[str, str]:
        return {}

    def spawn(self, launch: Launch, listener: Listener) -> ProcessTree:
        if not launch.argv:
            raise StartError("no program is named: cmd is empty")
        path = find_program(launch.argv[0], launch.environment, launch.directory)
        pipes: dict[int, tuple[int, int]] = {}
        pid = None
        try:
            for stream in (1, 2) if launch.capture_output else ():
                pipes[stream] = os.pipe()
            pid = self._spawn(path, launch, {stream: pair[1] for stream, pair in pipes.items()})
        except OSError as exc:
            raise StartError(explain(path, exc)) from exc
        finally:
            for read_end, write_end in pipes.values():
                os.close(write_end)
                if pid is None:
                    os.close(read_end)
        tree = ProcessTree(self._loop, pid, launch.environment.get(process_tree.MARK), listener, self.now())
        self._running[pid] = tree
        for stream, (read_end, _) in pipes.items():
            os.set_blocking(read_end, False)
            tree.attach(stream, read_end)
        self._watch_exit(tree)
        self._due = min(self._due, tree.sample_deadline)
        return tree

    def orphan(self, launched: Launched) -> OrphanTree:
        return OrphanTree(launched)

    def tick(self, now: float) -> float:
        """Measure what runs, reap orphans; when to be called again (`now()` seconds), infinity = after the next spawn."""
        if now < self._due:
            return self._due
        for pid in list(self._unwatched):
            self._reap(self._running[pid])
        for tree in list(self._running.values()):
            if tree.sample_deadline <= now:
                tree.sample(now)
        if self._adopts and (self._has_orphans or self._running):
            self._reap_adopted()
        dues = [tree.sample_deadline for tree in self._running.values()]
        if self._has_orphans:
            dues.append(now + ORPHANS_SECONDS)
        if self._unwatched:
            dues.append(now + UNWATCHED_SECONDS)
        self._due = min(dues, default=math.inf)
        return self._due

    def close(self) -> None:
        """Kill what still runs, wait for it a moment, and give everything back. No listener is told."""
        trees = list(self._running.values())
        for tree in trees:
            tree.kill()
            tree.close()
        self._running.clear()
        deadline = self.now() + CLOSE_SECONDS_MAX
        while self.now() < deadline:
            self._reap_adopted()  # the roots are among them now
            if not self._has_orphans:
                break
            time.sleep(CLOSE_SECONDS_STEP)
        os.close(self._null)
        os.close(self._home)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _spawn(self, path: str, launch: Launch, ends: Mapping[int, int]) -> int:
        out, err = ends.get(1, self._null), ends.get(2, self._null)
        given = _file_of(launch.stdin) if launch.stdin else self._null
        umask = os.umask(launch.manners.umask)
        try:
            self._enter(launch.directory)
            if not _spawns_sessions():
                return _popen(path, launch, given, out, err)
            return os.posix_spawn(
                path,
                list(launch.argv),
                launch.environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, given, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )
        finally:
            os.umask(umask)
            os.fchdir(self._home)
            if given != self._null:
                os.close(given)

    def _enter(self, directory: str) -> None:
        try:
            os.chdir(directory)
        except OSError as exc:
            raise StartError(f"working directory {directory} cannot be entered: {exc.strerror}") from exc

    def _watch_exit(self, tree: ProcessTree) -> None:
        try:
            tree.pidfd = os.pidfd_open(tree.pid)
        except (AttributeError, OSError):  # no such call here, or no file descriptor left
            self._unwatched.add(tree.pid)
            self._due = 0.0
        else:
            self._loop.watch(tree.pidfd, lambda: self._reap(tree))

    def _reap(self, tree: ProcessTree) -> None:
        try:
            pid, status, usage = os.wait4(tree.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process waits for all children
            pid, status, usage = tree.pid, None, None
        if pid == 0:
            return
        self._unwatched.discard(tree.pid)
        del self._running[tree.pid]
        alone = not process_tree.group_is_alive(tree.pid)
        if self._adopts:
            self._reap_adopted()
            alone = alone and not self._has_orphans
        tree.ended(exit_of(status, usage, tree.memory_peak_bytes), alone=alone)

    def _reap_adopted(self) -> None:
        """Reap orphans that have ended, and remember whether others live."""
        self._has_orphans = False
        for pid in process_tree.adopted_children((*self._running, *self._bystanders)):
            found = process_tree.read_process(pid)
            if found is None or found.session == os.getsid(0):  # not of ours: a child of whoever embeds the keeper
                continue
            if found.state != "Z":
                self._has_orphans = True
                self._due = min(self._due, self.now() + ORPHANS_SECONDS)
                continue
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _file_of(data: bytes) -> int:
    """A nameless file with this content, at its beginning. Unlike a pipe it takes all at once and needs no attendance."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, name = tempfile.mkstemp()
        os.unlink(name)
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _popen(path: str, launch: Launch, given: int, out: int, err: int) -> int:
    import subprocess

    process = subprocess.Popen(
        list(launch.argv),
        executable=path,
        env=launch.environment,
        stdin=given,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    process.returncode = 0  # reaped here with wait4, not by Popen
    return process.pid


def _keep_descriptors() -> None:
    """What this process was given beyond 0, 1 and 2 is not for its children. Its own are closed at exec anyway."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(int(name), False)


def _become_subreaper() -> bool:
    if not process_tree.HAS_PROC:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _spawns_sessions() -> bool:
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
