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
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from agent import process_tree
from agent.containment import calls, detect
from agent.containment.leaf import Leaf
from agent.containment.manners import environment_of, find_user, io_priority
from agent.containment.privileged import PrivilegedThread
from agent.keeper.descriptors import HandedDown, raise_limit, set_limit
from agent.keeper.following import Followed
from agent.keeper.launching import NoAnswer, Start, start_forked, start_spawned
from agent.keeper.log import Key
from agent.keeper.messages import Launch, Launched
from agent.keeper.orphan import OrphanTree
from agent.keeper.plan import Plan, process_limit
from agent.keeper.remote import Reach, RemoteMounts
from agent.keeper.system import Loop, Wanted
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
SWITCH_SECONDS: Final = 3600.0
"""No thread asks a running one for the interpreter before that. A child of a fork is a copy with one thread: where another
has asked, it waits for ever for that one to take over (`drop_gil` of CPython's ceval_gil). Our two threads take turns anyway.
"""
T = TypeVar("T")
R = TypeVar("R")
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
        self._handed = HandedDown(self._null, self._descriptors_before)
        self._reach = Reach(self.now, RemoteMounts())
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

    def group_of(self, key: Key) -> str:
        """The directory of the group in which this instance will be started; "" = in none."""
        return self._groups.leaf_directory(_leaf_name(*key)) if self._groups is not None else ""

    def spawn(self, wanted: Wanted) -> ProcessTree:
        """Raises `StartError`."""
        [found] = self.spawn_all((wanted,))
        if isinstance(found, Exception):
            raise found
        return found

    def spawn_all(self, wanted: Sequence[Wanted]) -> list[ProcessTree | Exception]:
        """In three rounds, so that little is done between two starts: each hands the processor to somebody else, and what
        comes after it finds nothing in its caches."""
        plans = [_tried(self._plan, each) for each in wanted]
        for plan in plans:
            if isinstance(plan, Plan):
                plan.problem = _tried(self._start, plan)
        return [plan if isinstance(plan, Exception) else _tried(self._follow, plan) for plan in plans]

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
        self._handed.close()
        self._reach.close()
        sys.setswitchinterval(self._switch_seconds)
        set_limit(self._descriptors_before)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _plan(self, wanted: Wanted) -> Plan:
        """Raises `StartError`."""
        launch = wanted.launch
        if not launch.argv:
            raise StartError("no program is named: cmd is empty")
        try:
            remote = self._reach.check(launch.argv[0], wanted.environment, launch.directory)
        except NoAnswer:
            self._expect_orphan()
            raise
        path = find_program(launch.argv[0], wanted.environment, launch.directory)
        user = find_user(launch.manners.run_as)
        priority = io_priority(launch.manners.ionice)
        plan = Plan(wanted, path, remote, self._leaf(launch))
        try:
            plan.open_streams(self._null)
            plan.start = Start(
                path=path,
                argv=launch.argv,
                environment=environment_of(user, wanted.environment),
                directory=launch.directory,
                streams=(plan.given, plan.writes.get(1, self._null), plan.writes.get(2, self._null)),
                umask=launch.manners.umask,
                user=user,
                nice=launch.manners.nice,
                io_priority=priority,
                no_new_privs=launch.manners.no_new_privs and not self._has_given_up,
                limits=process_limit(launch.limits, plan.leaf, user.uid if user is not None else os.geteuid()),
                descriptors=self._descriptors_before,
                is_remote=bool(remote),
            )
        except BaseException as exc:
            self._discard(plan)
            if isinstance(exc, OSError):
                raise StartError(explain(path, exc)) from exc
            raise
        return plan

    def _leaf(self, launch: Launch) -> Leaf | None:
        """A group of its own. None where there are none, or it cannot be made: the tree is followed and sampled then."""
        if self._groups is None:
            return None
        limits = launch.limits
        try:
            return self._groups.leaf(
                _leaf_name(launch.instance_id, launch.epoch),
                memory_bytes=limits.memory_bytes,
                cpu_cores=limits.cpu_cores,
                processes=limits.processes,
            )
        except OSError:
            return None

    def _start(self, plan: Plan) -> None:
        """Raises `StartError`."""
        start, leaf = plan.start, plan.leaf
        assert start is not None
        if leaf is None or self._ticket is not None:  # nor may it have the ticket of another
            self._ticket = process_tree.take_ticket(self.now(), self._ticket) if process_tree.HAS_PROC else None
        plan.ticket = self._ticket
        try:
            if self._privileged is None or plan.wanted.launch.manners.no_new_privs:
                plan.pid = self._start_in(start, leaf)
            else:
                plan.pid = self._privileged.call(lambda: self._start_in(start, leaf))
        except NoAnswer:
            self._reach.note_silent(plan.remote)
            self._expect_orphan()
            raise
        except OSError as exc:
            raise StartError(explain(plan.path, exc)) from exc
        plan.began = self.now()

    def _follow(self, plan: Plan) -> ProcessTree:
        """What was started. Raises why it was not."""
        if plan.problem is not None:
            self._discard(plan)
            raise plan.problem
        plan.close_writes()
        mark = plan.wanted.environment.get(process_tree.MARK)
        held = plan.leaf or Followed(plan.pid, mark, plan.ticket, self._count_orphans)
        tree = ProcessTree(self._loop, plan.wanted, plan.pid, plan.began, self.now, held)
        self._running[plan.pid] = tree
        tree.when_closed = self._closed
        try:
            while plan.reads:
                stream, fd = next(iter(plan.reads.items()))
                os.set_blocking(fd, False)
                tree.attach(stream, plan.reads.pop(stream))
            self._watch_exit(tree)
        except OSError:
            self._give_up(tree, plan.reads.values())
            raise
        self._due = min(self._due, tree.look_deadline)
        return tree

    def _discard(self, plan: Plan) -> None:
        plan.close()
        if plan.leaf is not None:
            self._remove(plan.leaf)

    def _start_in(self, start: Start, leaf: Leaf | None) -> int:
        if leaf is None:
            return start_forked(start) if start.needs_fork else start_spawned(start, self._home, self._handed)
        if leaf.descriptor is not None:
            pid = start_forked(start, into=leaf.descriptor)
        else:
            leaf.enter()
            try:
                pid = start_forked(start) if start.needs_fork else start_spawned(start, self._home, self._handed)
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
        alone = self._is_alone(tree)
        if not (alone or tree.is_closed):
            self._lingering.add(pid)
            self._due = min(self._due, self.now() + ORPHANS_SECONDS)
        tree.ended(exit_of(status, usage, tree.memory_peak_bytes), alone=alone)

    def _is_alone(self, tree: ProcessTree) -> bool:
        """Whether nothing else of the tree can be left, its root having been reaped. Its group knows with one look."""
        if tree.leaf is not None and tree.leaf.is_deserted():
            return True
        alone, before = not process_tree.group_is_alive(tree.pid), self._orphans_ended
        if self._adopts:
            alone = self._count_orphans() == before and alone and not self._has_orphans
        return alone

    def _give_up(self, tree: ProcessTree, unattached: Iterable[int]) -> None:
        """What runs and cannot be followed is ended, and reaped when it has."""
        for fd in unattached:
            os.close(fd)
        tree.kill()
        tree.close()

    def _expect_orphan(self) -> None:
        """A child was left behind, and killed."""
        self._has_orphans = True
        self._due = min(self._due, self.now() + ORPHANS_SECONDS)

    def _closed(self, tree: ProcessTree) -> None:
        if tree.pid in self._running:  # nobody waits for its root any more, but it must be reaped
            self._unwatched.add(tree.pid)
            self._due = 0.0
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


def _leaf_name(instance_id: str, epoch: int) -> str:
    return f"{instance_id}.{epoch}"


def _tried(do: Callable[[T], R], what: T) -> R | Exception:
    """What it returns or raises."""
    try:
        return do(what)
    except Exception as exc:
        return exc


def _keep_descriptors() -> None:
    """What this process was given beyond 0, 1 and 2 is not for its children. Its own are closed at exec anyway."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(int(name), False)
