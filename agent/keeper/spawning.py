"""The keeper's operating system, for real: programs started, reaped, measured and ended. No trio: `Loop` calls back.

How one is started is in `launching`, what becomes of it in `tree`, what keeps it together in `agent.containment`.

Every tree is born in a control group of its own where there is one to be had: with version 1 it costs 0.05 ms, and holds
together what starts a session, loses its parent and cleans its environment. With version 2 it costs a fork (0.5 ms).

The keeper is a subreaper: orphans of its trees come to it, and are reaped here. It gives up new privileges for itself, and
so for all programs (`give_up_privileges`); those that may have them are started by a thread from before that.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import evolve

from agent import process_tree
from agent.containment import calls, detect
from agent.containment.leaf import Leaf
from agent.containment.manners import environment_of, find_user, io_priority
from agent.containment.privileged import PrivilegedThread
from agent.keeper.descriptors import LowNumbers, raise_limit, set_limit
from agent.keeper.following import Followed
from agent.keeper.launching import Start, start_forked, start_spawned
from agent.keeper.messages import Launch, Launched, Limits
from agent.keeper.orphan import OrphanTree
from agent.keeper.system import Listener, Loop
from agent.keeper.tree import ProcessTree, exit_of
from agent.programs import explain, find_program
from hetuflow.ports.processes import StartError

ORPHANS_SECONDS: Final = 1.0
"""Between two looks for orphans that have ended, while there are any."""
UNWATCHED_SECONDS: Final = 0.05
"""Between two looks at processes of which the kernel does not tell the end (no pidfd)."""
LEFTOVERS_SECONDS: Final = 0.1
"""Between two tries to remove control groups that were not empty yet."""
LEFTOVERS_TRIES_MAX: Final = 600
CLOSE_SECONDS_MAX: Final = 1.0
"""A process that was killed ends at once, but for one in the middle of a disk's or a network's work."""
CLOSE_SECONDS_STEP: Final = 0.002
PROCESSES_SPARE: Final = 1024
"""Processes of the same user beyond a tree's limit: RLIMIT_NPROC counts them all, and the others must not be in its way."""
SWITCH_SECONDS: Final = 3600.0
"""No thread asks a running one for the interpreter before that. A child of a fork is a copy with one thread: where another
has asked, it waits for ever for that one to take over (`drop_gil` of CPython's ceval_gil). Our two threads take turns anyway.
"""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class OperatingSystem:
    """See `System`. The owner calls `tick` after each round of its loop, and sleeps no longer than that says."""

    def __init__(
        self, loop: Loop, *, agent: str = "agent", isolation: str = "auto", bystanders: Sequence[int] = ()
    ) -> None:
        """`bystanders`: children of this process that are none of its programs, to be left alone; others may be added later.

        Raises `ContainmentError`: `isolation` insists on control groups, see `agent.containment.detect`.
        """
        self._loop = loop
        self._descriptors_before = raise_limit()
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._bystanders = bystanders
        self._running: dict[int, ProcessTree] = {}
        self._unwatched: set[int] = set()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._low = LowNumbers(self._null)
        self._adopts = calls.become_subreaper()
        self._has_orphans = False
        self._orphans_ended = 0
        self._lingering: set[int] = set()
        """Roots that were reaped, and of whose trees something was left; until these are closed."""
        self._ticket: int | None = None
        self._due = math.inf
        self._hierarchies = detect.find_hierarchies() if isolation != "session" else []
        self._groups, self.isolation_reason = detect.open_groups(
            isolation, agent, process_tree.identity(os.getpid()) or "0", self._hierarchies
        )
        self._unremoved: list[Leaf] = []
        self._leftover_tries = LEFTOVERS_TRIES_MAX if self._hierarchies else 0
        self._remove_leftovers()
        self._has_given_up = calls.forbids_new_privileges()
        self._privileged: PrivilegedThread | None = None
        _keep_descriptors()

    def __repr__(self) -> str:
        return f"<OperatingSystem, {self.isolation()}: {len(self._running)} running>"

    def now(self) -> float:
        return time.clock_gettime(_CLOCK)

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def isolation(self) -> str:
        return self._groups.level if self._groups is not None else "session"

    def limits(self) -> Mapping[str, str]:
        held = self._groups.limits if self._groups is not None else ()
        others = ("memory", "cpu", "processes") if process_tree.HAS_PROC else ()
        return {limit: self.isolation() if limit in held else "sampled" for limit in others}

    def group_directories(self) -> tuple[str, ...]:
        """Below these, `*/cgroup.procs` names every program: for who must end them when this process is killed."""
        return self._groups.directories if self._groups is not None else ()

    def spawn(self, launch: Launch, listener: Listener) -> ProcessTree:
        if not launch.argv:
            raise StartError("no program is named: cmd is empty")
        path = find_program(launch.argv[0], launch.environment, launch.directory)
        leaf = self._leaf(launch)
        pipes: dict[int, tuple[int, int]] = {}
        pid = None
        try:
            for stream in (1, 2) if launch.capture_output else ():
                pipes[stream] = os.pipe()
            pid = self._start(path, launch, {stream: pair[1] for stream, pair in pipes.items()}, leaf)
        except OSError as exc:
            raise StartError(explain(path, exc)) from exc
        finally:
            for read_end, write_end in pipes.values():
                os.close(write_end)
                if pid is None:
                    os.close(read_end)
            if pid is None and leaf is not None:
                self._remove(leaf)
        held = leaf or Followed(pid, launch.environment.get(process_tree.MARK), self._ticket, self._count_orphans)
        tree = ProcessTree(self._loop, launch, pid, listener, self.now, held)
        self._running[pid] = tree
        tree.when_closed = self._closed
        unattached = {stream: read_end for stream, (read_end, _) in pipes.items()}
        try:
            while unattached:
                stream, read_end = unattached.popitem()
                os.set_blocking(read_end, False)
                tree.attach(stream, read_end)
            self._watch_exit(tree)
        except OSError:
            self._give_up(tree, unattached.values())
            raise
        self._due = min(self._due, tree.look_deadline)
        return tree

    def give_up_privileges(self) -> None:
        """For this thread, for ever, and so for what it starts: programs that may not have new ones need no fork then."""
        if not self._has_given_up:
            self._privileged = PrivilegedThread()
            self._has_given_up = calls.forbid_new_privileges()

    def orphan(self, launched: Launched) -> OrphanTree:
        return OrphanTree(launched)

    def tick(self, now: float) -> float:
        """Measure what runs, reap orphans; when to be called again (`now()` seconds), infinity = after the next spawn."""
        if now < self._due:
            return self._due
        for pid in sorted(self._unwatched):
            self._reap(self._running[pid])
        if self._adopts and (self._has_orphans or self._lingering or self._running):
            self._reap_adopted()
        for tree in list(self._running.values()):
            if tree.look_deadline <= now:
                tree.look(now)
        self._due = math.inf
        self._remove_leftovers()
        dues = [self._due, *(tree.look_deadline for tree in self._running.values())]
        if self._has_orphans or self._lingering:
            dues.append(now + ORPHANS_SECONDS)
        if self._unwatched:
            dues.append(now + UNWATCHED_SECONDS)
        self._due = min(dues)
        return self._due

    def close(self) -> None:
        """Kill what still runs, wait for it a moment, and give everything back. No listener is told."""
        trees = list(self._running.values())
        self._running.clear()
        deadline = self.now() + CLOSE_SECONDS_MAX
        for tree in trees:
            tree.kill()
            tree.close()
        while True:
            self._reap_adopted()  # the roots are among them now
            self._unremoved = [leaf for leaf in self._unremoved if not leaf.remove()]
            if not (self._has_orphans or self._unremoved) or self.now() >= deadline:
                break
            time.sleep(CLOSE_SECONDS_STEP)
        if self._groups is not None:
            self._groups.close()
        if self._privileged is not None:
            self._privileged.close()
        os.close(self._null)
        os.close(self._home)
        self._low.close()
        sys.setswitchinterval(self._switch_seconds)
        set_limit(self._descriptors_before)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _leaf(self, launch: Launch) -> Leaf | None:
        """A group of its own. None where there are none, or it cannot be made: the tree is followed and sampled then."""
        if self._groups is None:
            return None
        limits = launch.limits
        try:
            return self._groups.leaf(
                f"{launch.instance_id}.{launch.epoch}",
                memory_bytes=limits.memory_bytes,
                cpu_cores=limits.cpu_cores,
                processes=limits.processes,
            )
        except OSError:
            return None

    def _start(self, path: str, launch: Launch, ends: Mapping[int, int], leaf: Leaf | None) -> int:
        user = find_user(launch.manners.run_as)
        start = Start(
            path=path,
            argv=launch.argv,
            environment=environment_of(user, launch.environment),
            directory=launch.directory,
            streams=(self._null, ends.get(1, self._null), ends.get(2, self._null)),
            umask=launch.manners.umask,
            user=user,
            nice=launch.manners.nice,
            io_priority=io_priority(launch.manners.ionice),
            no_new_privs=launch.manners.no_new_privs and not self._has_given_up,
            limits=_process_limit(launch.limits, leaf, user.uid if user is not None else os.geteuid()),
            descriptors=self._descriptors_before,
        )
        self._ticket = process_tree.take_ticket(self.now(), self._ticket) if process_tree.HAS_PROC else None
        given = _file_of(launch.stdin) if launch.stdin else self._null
        start = evolve(start, streams=(given, *start.streams[1:]))
        try:
            if launch.manners.no_new_privs or self._privileged is None:
                return self._start_in(start, leaf)
            return self._privileged.call(lambda: self._start_in(start, leaf))
        finally:
            if given != self._null:
                os.close(given)

    def _start_in(self, start: Start, leaf: Leaf | None) -> int:
        if leaf is None:
            return start_forked(start) if start.needs_fork else start_spawned(start, self._home, self._low)
        if leaf.descriptor is not None:
            pid = start_forked(start, into=leaf.descriptor)
        else:
            leaf.enter()
            try:
                pid = start_forked(start) if start.needs_fork else start_spawned(start, self._home, self._low)
            finally:
                leaf.leave()
        with contextlib.suppress(OSError):  # it has ended already, or is ended for its limit by the next look
            leaf.confine()
        return pid

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
        alone, before = not process_tree.group_is_alive(tree.pid), self._orphans_ended
        if self._adopts:
            alone = self._count_orphans() == before and alone and not self._has_orphans
        if not alone:
            self._lingering.add(pid)
            self._due = min(self._due, self.now() + ORPHANS_SECONDS)
        tree.ended(exit_of(status, usage, tree.memory_peak_bytes), alone=alone)

    def _give_up(self, tree: ProcessTree, unattached: Iterable[int]) -> None:
        """What runs and cannot be followed is ended, and reaped when it has."""
        for fd in unattached:
            os.close(fd)
        tree.kill()
        tree.close()
        self._unwatched.add(tree.pid)
        self._due = 0.0

    def _closed(self, tree: ProcessTree) -> None:
        if tree.pid in self._lingering:  # its last orphans may come to us in this very moment: one more look is due
            self._lingering.discard(tree.pid)
            self._has_orphans = True
            self._due = min(self._due, self.now() + ORPHANS_SECONDS)
        if tree.leaf is not None:
            self._remove(tree.leaf)

    def _count_orphans(self) -> int:
        self._reap_adopted()
        return self._orphans_ended

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
                self._orphans_ended += os.waitpid(pid, os.WNOHANG)[0] != 0

    def _remove(self, leaf: Leaf) -> None:
        if not leaf.remove():
            self._unremoved.append(leaf)
            self._due = min(self._due, self.now() + LEFTOVERS_SECONDS)

    def _remove_leftovers(self) -> None:
        """Groups that were not empty when they should have gone, and those of keepers that are no more."""
        self._unremoved = [leaf for leaf in self._unremoved if not leaf.remove()]
        if self._leftover_tries:
            gone = detect.remove_leftovers(self._hierarchies, lambda pid, start: process_tree.identity(pid) == start)
            self._leftover_tries = 0 if gone else self._leftover_tries - 1
        if self._unremoved or self._leftover_tries:
            self._due = min(self._due, self.now() + LEFTOVERS_SECONDS)


def _process_limit(limits: Limits, leaf: Leaf | None, uid: int) -> Mapping[int, int]:
    """RLIMIT_NPROC, where nothing better stands between a fork bomb and the machine. It does not hold for root."""
    if not limits.processes or uid == 0 or (leaf is not None and "processes" in leaf.enforced):
        return {}
    wanted = process_tree.threads_of(uid) + limits.processes + PROCESSES_SPARE
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    return {resource.RLIMIT_NPROC: wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)}


def _file_of(data: bytes) -> int:
    """A nameless file with this content, at its beginning. Unlike a pipe it takes all at once and needs no attendance."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, name = tempfile.mkstemp()
        os.unlink(name)
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _keep_descriptors() -> None:
    """What this process was given beyond 0, 1 and 2 is not for its children. Its own are closed at exec anyway."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(int(name), False)
