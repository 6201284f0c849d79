"""The life of one instance in the keeper, as a small state machine that is told of events and asked for its next deadline.

    RUNNING -> ENDING -> KILLING -> DRAINING -> FINISHED

RUNNING: the root lives. ENDING: SIGTERM was sent, SIGKILL follows after the grace. KILLING: SIGKILL is repeated until
nothing is left, or it is given up. DRAINING: the tree is gone, and output may still be in the pipes. States are left out
when there is nothing to do in them. What a root that has ended by itself leaves running is ended too: a slot that is free
must be free.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Protocol

from agent.keeper.log import Entry, Intent, Key, Log, Recorded, not_launched
from agent.keeper.messages import Finished, Held, KeeperMessage, Launch, Launched
from agent.keeper.outcome import (
    KILLED,
    LEFT,
    UNKNOWN,
    Outcome,
    Why,
    instant,
    lease_message,
    measured,
    outcome_of,
    sampled,
)
from agent.keeper.system import System, Tree, Usage, Wanted
from agent.keeper.telling import NO_OUTPUT, Kept, NoMore, Told
from agent.limits import cut, lease_grace_seconds, run_deadline, timeout_message
from agent.output import NOTHING_WRITTEN, Capture
from agent.programs import why_impossible
from agent.spool import Owner, Spool
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.processes import Exit, StartError

KILL_SECONDS_MAX: Final = 5.0
"""How long SIGKILL is repeated before the instance says that processes are left (uninterruptible ones)."""
KILL_LOOKS_MIN: Final = 8
"""And how often at least: the machine may have slept meanwhile, and then it takes its time."""
DRAIN_SECONDS_MAX: Final = 2.0
"""How long output is awaited after the tree is gone: somebody outside may hold the pipe open."""
DRAIN_READS_MAX: Final = 32
"""Turns of the loop in which output is still read when that time is over: who was stopped meanwhile, or slept, finds pipes full,
and a turn reads 48 KiB of the 1 MiB that a pipe may hold."""
POLL_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
LIMIT_SECONDS: Final = 0.25
"""Between two looks at the limits of a tree that has some."""
SAMPLE_SECONDS: Final = 5.0
KEEPER_MARK: Final = "HETUFLOW_KEEPER_MARK"
"""Environment variable of every program that a keeper starts; its value is drawn at the start of the keeper."""
NEVER: Final = float("inf")


class Phase(Enum):
    RUNNING = "running"
    ENDING = "ending"
    KILLING = "killing"
    DRAINING = "draining"
    FINISHED = "finished"


class Room(Protocol):
    """What an instance needs of its keeper."""

    @property
    def system(self) -> System: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def log(self) -> Log: ...
    @property
    def mark(self) -> str: ...
    @property
    def renewed_at(self) -> float: ...
    @property
    def is_attached(self) -> bool: ...

    def grew(self, instance: Instance) -> None:
        """There is something to tell the agent."""
        ...

    def changed(self, instance: Instance) -> None:
        """Likewise, and perhaps another deadline."""
        ...

    def finished(self, instance: Instance) -> None:
        """Its tree is gone."""
        ...

    def complain(self, problem: str) -> None:
        """For people."""
        ...


class Instance:
    """One try of a task. It is started once, when its `intent` is in the log: `wanted`, `started`. The rest is told by the tree
    (see `Listener`) and by the keeper."""

    def __init__(self, launch: Launch, room: Room) -> None:
        self.key: Key = (launch.instance_id, launch.epoch)
        self.launch = launch
        """What is to be started; afterwards without what may be large."""
        self.phase = Phase.RUNNING
        self.launched: Launched | None = None
        self.ended: Finished | None = None
        self.told = Told()
        self.tree: Tree | None = None
        self.lease_seconds, self.kill_grace_seconds = launch.lease_seconds, launch.kill_grace_seconds
        self._task_id, self._timeout_seconds = launch.task_id, launch.timeout_seconds
        self._room = room
        self._why: Why | None = None
        self._exit: Exit | None = None
        self._root_gone = self._failed = self._is_orphan = False
        self._final = Outcome("lost")
        self._captures = launch.capture_output
        self._closed = not self._captures
        self._started = 0.0
        self._run_deadline = self._kill_at = self._limit_at = self._sample_at = self._poll_at = self._over_at = NEVER
        self._polls = 0
        self._drain_reads = DRAIN_READS_MAX
        self._has_written = False
        """Since the last look at a tree that is gone."""
        self._spool_path, self._output_bytes_max = launch.spool_path, launch.output_bytes_max
        self.spool: Kept = NO_OUTPUT
        self._capture: Capture | None = None
        """Made for the first output, which many have none of."""
        self._found_output: Mapping[str, Any] | None = None

    @classmethod
    def of_earlier(cls, entry: Entry, room: Room) -> Instance:
        """What an earlier keeper has left of one in the log: how it ended, or something to end. See `end_orphan`, `lose_orphan`."""
        intent = entry.intent
        launch = Launch(
            task_id=intent.task_id,
            instance_id=intent.instance_id,
            epoch=intent.epoch,
            argv=(),
            environment={},
            directory="",
            spool_path=intent.spool_path,
            capture_output=False,
        )
        found = cls(launch, room)
        found.launched = entry.launched
        if entry.recorded is not None:
            found.phase, found.ended = Phase.FINISHED, entry.recorded.finished
            length = entry.recorded.spool_bytes
            found.spool = NoMore(entry.kept_small(length), length)
        elif (spool := entry.found_spool(room.disk)) is not None:
            found.spool = spool
            try:
                found._found_output = spool.summary()
            except DiskError as exc:  # what can be read of it is told; of how much it was, nothing
                room.complain(f"{found.key[0]}: {exc}")
        return found

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        match self.phase:
            case Phase.RUNNING:
                sample = self._sample_at if self._room.is_attached else NEVER
                return min(self._run_deadline, self._lease_deadline(), self._limit_at, sample)
            case Phase.ENDING:
                return min(self._poll_at, self._kill_at, self._lease_over())
            case Phase.KILLING:
                return self._poll_at if self._polls < KILL_LOOKS_MIN else min(self._poll_at, self._over_at)
            case Phase.DRAINING:
                return self._over_at
            case Phase.FINISHED:
                return NEVER

    def intent(self) -> Intent:
        """What must be in the log before it is started."""
        launch = self.launch
        return Intent(
            task_id=launch.task_id,
            instance_id=launch.instance_id,
            epoch=launch.epoch,
            spool_path=launch.spool_path,
        )

    def wanted(self) -> Wanted | None:
        """What is to be started. None: no system could, and that is its end."""
        launch, mark = self.launch, self._room.mark
        with self:
            problem = why_impossible(launch.argv, launch.environment)
            if problem is None:
                environment = {**launch.environment, KEEPER_MARK: mark} if mark else launch.environment
                return Wanted(launch, environment, self)
            self._finish(Outcome("start_error", problem))
        return None

    def started(self, tree: Tree | Exception) -> None:
        """What has become of it. Whatever that is will be told; that it runs is for the caller to write down."""
        launch, self.launch = self.launch, NOTHING  # it may be large, and is used
        with self:
            if isinstance(tree, StartError):
                self._finish(Outcome("start_error", str(tree)))
                return
            if isinstance(tree, Exception):
                raise tree
            self.tree = tree
            self._begin(launch, tree)

    def _begin(self, launch: Launch, tree: Tree) -> None:
        room = self._room
        now = room.system.now()
        began = self._started = tree.began
        self._run_deadline = run_deadline(began, launch.timeout_seconds)
        self._sample_at = now + SAMPLE_SECONDS
        limits = launch.limits
        if limits.memory_bytes or limits.cpu_cores or limits.processes:
            self._limit_at = now + LIMIT_SECONDS
        self.launched = Launched(
            task_id=launch.task_id,
            instance_id=launch.instance_id,
            epoch=launch.epoch,
            pid=tree.pid,
            identity=tree.identity,
            started_at=instant(room.system.wall() - timedelta(seconds=now - began)),
            isolation=tree.isolation,
        )
        room.changed(self)

    def give_up(self, problem: str) -> None:
        """It is not started, because what is to be started cannot be written down."""
        with self:
            self._finish(Outcome("rejected", problem))

    def refuse(self, reason: str, message: str) -> None:
        """It is not started at all."""
        with self:
            self._record(self.intent())
            self._finish(Outcome(reason, message))

    def lose_orphan(self, why: str) -> None:
        """Nothing is left of it, or nothing that is this keeper's to end."""
        with self:
            self._root_gone = self._is_orphan = True
            self._finish(Outcome("lost", why), self._facts())

    def end_orphan(self) -> None:
        """End what is left of an instance whose keeper was killed."""
        with self:
            self._root_gone = self._is_orphan = True
            self._why = Why("lost", KILLED)
            launched = self.launched or not_launched(self._task_id, *self.key)
            self.tree = self._room.system.orphan(launched)
            if self.tree.is_alive():
                self._begin_killing(self._room.system.now())
            else:
                self._drain()

    def end(self, why: Why, grace_seconds: float) -> None:
        """Begin to end the tree, or end it sooner. The first reason counts."""
        now = self._room.system.now()
        if self.phase is Phase.RUNNING:
            self._why = why
            self._begin_ending(now, grace_seconds)
        elif self.phase is Phase.ENDING:
            self._kill_at = min(self._kill_at, now + grace_seconds)
        self._room.changed(self)

    def lease_anew(self, seconds: float) -> None:
        """Its lease is so long from now on, counted from the last renewal as before."""
        self.lease_seconds = seconds
        self._room.changed(self)

    # --- what the tree tells, see `Listener` -----------------------------------------------------------------------

    def wrote(self, stream: int, data: bytes) -> None:
        with self:
            if self.phase is not Phase.FINISHED:
                self._has_written = True
                capture = self._capture or self._begin_capture()
                capture.write(stream, data, self._room.system.wall())

    def closed(self) -> None:
        with self:
            self._closed = True
            if self.phase is Phase.DRAINING:
                self._complete()

    def exited(self, exit_: Exit) -> None:
        with self:
            self._exit, self._root_gone = exit_, True
            if self.phase is Phase.RUNNING:
                self._ended_by_itself(exit_)
            elif self.phase in (Phase.ENDING, Phase.KILLING):
                self._look()

    # --- time ------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        with self:
            match self.phase:
                case Phase.RUNNING:
                    self._tick_running(now)
                case Phase.ENDING:
                    if now >= min(self._kill_at, self._lease_over()):
                        self._begin_killing(now)
                    elif now >= self._poll_at:
                        self._look()
                case Phase.KILLING:
                    self._tick_killing(now)
                case Phase.DRAINING:
                    if now >= self._over_at:
                        self._tick_draining(now)
                case Phase.FINISHED:
                    pass

    # --- what to tell the agent ------------------------------------------------------------------------------------

    def next_message(self) -> KeeperMessage | None:
        """In the order of its life; output is told as it stands now, however often it has grown."""
        return self.told.next_message(self.key, self.launched, self.spool, self.ended)

    def held(self) -> Held:
        """As it is now; from here on, `next_message` tells what comes after."""
        launched = self.launched or not_launched(self._task_id, *self.key)
        self.told = Told()
        return self.told.held(launched, self.spool, self.ended)

    # --- inside: running -------------------------------------------------------------------------------------------

    def _tick_running(self, now: float) -> None:
        if now >= self._lease_deadline():
            grace = min(lease_grace_seconds(self.lease_seconds), self.kill_grace_seconds)
            self.end(Why("lost", lease_message(self.lease_seconds)), grace)
        elif now >= self._run_deadline:
            message = timeout_message(self._timeout_seconds)
            self.end(Why("timeout", message), self.kill_grace_seconds)
        elif now >= self._limit_at:
            self._limit_at = now + LIMIT_SECONDS
            self._check_limits()
        elif now >= self._sample_at:
            self._sample_at = now + SAMPLE_SECONDS
            if self._room.is_attached and self.tree is not None:
                self.told.sample = sampled(self.tree.usage())
        self._room.changed(self)

    def _check_limits(self) -> None:
        """A tree that has broken a limit is given no time: what it does with it is what the limit is for."""
        broken = self.tree.exceeded() if self.tree is not None else None
        if broken is not None:
            self.end(Why(*broken), 0.0)

    def _ended_by_itself(self, exit_: Exit) -> None:
        assert self.tree is not None
        may_be_broken = self._limit_at != NEVER or exit_.signal == 9  # by its tree, at the ceiling that each one has
        broken = self.tree.exceeded() if may_be_broken else None
        now = self._room.system.now()
        if broken is not None:
            self._why = Why(*broken)
        elif exit_.signal == 9 and now >= self._lease_over():
            self._why = Why("lost", lease_message(self.lease_seconds))  # the dead-man's switch was faster
        if self.tree.is_alive():
            self._begin_ending(now, 0.0 if broken is not None else self.kill_grace_seconds)
        else:
            self._drain()

    # --- inside: ending --------------------------------------------------------------------------------------------

    def _begin_ending(self, now: float, grace_seconds: float) -> None:
        assert self.tree is not None
        self.phase, self._kill_at = Phase.ENDING, now + grace_seconds
        if grace_seconds <= 0:
            self._begin_killing(now)
            return
        self.tree.terminate()
        self._poll_soon(now)

    def _begin_killing(self, now: float) -> None:
        assert self.tree is not None
        self.phase, self._over_at = Phase.KILLING, now + KILL_SECONDS_MAX
        self.tree.kill()
        self._polls = 0
        self._poll_soon(now)

    def _tick_killing(self, now: float) -> None:
        assert self.tree is not None
        if now < self._over_at or self._polls < KILL_LOOKS_MIN:
            self.tree.kill()
            self._look()
        elif not self._look():
            outcome = self._outcome()
            outcome.message = f"{outcome.message or 'ended'}; {LEFT}"
            self._drain(outcome)

    def _tick_draining(self, now: float) -> None:
        if self._has_written and self._drain_reads:
            self._has_written, self._drain_reads, self._over_at = False, self._drain_reads - 1, now
            self._room.changed(self)
        else:
            self._complete()

    def _look(self) -> bool:
        """Whether the tree is gone."""
        assert self.tree is not None
        if not self._root_gone or self.tree.is_alive():
            self._poll_soon(self._room.system.now())
            return False
        self._drain()
        return True

    def _poll_soon(self, now: float) -> None:
        self._poll_at = now + POLL_SECONDS[min(self._polls, len(POLL_SECONDS) - 1)]
        self._polls += 1
        self._room.changed(self)

    def _drain(self, outcome: Outcome | None = None) -> None:
        """The tree is gone, or given up."""
        self._final = outcome or self._outcome()
        self.phase = Phase.DRAINING
        if self._closed:
            self._complete()
            return
        self._over_at = self._room.system.now() + DRAIN_SECONDS_MAX
        self._room.changed(self)

    def _outcome(self) -> Outcome:
        if self._why is not None:
            return Outcome(self._why.reason, self._why.message)
        return outcome_of(self._exit) if self._exit is not None else Outcome("lost", UNKNOWN)

    # --- inside: finished ------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        if self._capture is not None:
            self._capture.finish(self._room.system.wall())
        self._finish(self._final, self._facts())

    def _finish(self, outcome: Outcome, facts: Mapping[str, Any] | None = None) -> None:
        """It is on disk before anybody is told."""
        instance_id, epoch = self.key
        self.phase, self.launch = Phase.FINISHED, NOTHING
        self.ended = Finished(
            instance_id=instance_id,
            epoch=epoch,
            completed_at=instant(self._room.system.wall()),
            reason=outcome.reason,
            message=cut(outcome.message),
            **(facts or {}),
        )
        self._record(Recorded(finished=self.ended, spool_bytes=self.spool.end))
        if self.tree is not None:
            self.tree.close()
            self.tree = None
        self._room.changed(self)
        self._room.finished(self)

    def _facts(self) -> Mapping[str, Any]:
        """Members of the report that only an instance which started has."""
        if self._is_orphan:
            return {"output": self._found_output}
        facts: dict[str, Any] = {
            "duration_seconds": round(self._room.system.now() - self._started, 6),
            "output": self._output() if self._captures else None,
        }
        if self._exit is not None:
            usage = self.tree.usage() if self.tree is not None else Usage()
            facts["exit_code"], facts["signal"] = self._exit.exit_code, self._exit.signal
            facts["metrics"] = measured(self._exit, usage)
        return facts

    def _begin_capture(self) -> Capture:
        room, (instance_id, epoch) = self._room, self.key
        owner = Owner(task_id=self._task_id, instance_id=instance_id, epoch=epoch)
        self.spool = spool = Spool(room.disk, self._spool_path, owner, room.log)
        self._capture = capture = Capture(spool, bytes_max=self._output_bytes_max, grown=lambda: room.grew(self))
        return capture

    def _output(self) -> Mapping[str, Any]:
        return self._capture.summary() if self._capture is not None else NOTHING_WRITTEN

    def _record(self, record: Intent | Recorded) -> None:
        try:
            self._room.log.append(record)
        except DiskError as exc:  # it counts in memory, and is in the file when that is written again
            self._room.complain(f"{self.key[0]}: {exc}")

    # --- inside ----------------------------------------------------------------------------------------------------

    def _lease_deadline(self) -> float:
        """When it must begin to end, so that it is gone when its lease is: see `agent.limits.Lease`."""
        seconds = self.lease_seconds
        return self._room.renewed_at + seconds - lease_grace_seconds(seconds) if seconds > 0 else NEVER

    def _lease_over(self) -> float:
        """When the server may give the work to others."""
        seconds = self.lease_seconds
        return self._room.renewed_at + seconds if seconds > 0 else NEVER

    def __enter__(self) -> None:
        """Errors of the block are the instance's own."""

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> bool:
        if not isinstance(exc, Exception):
            return False
        self.fail(exc)
        return True

    def fail(self, exc: Exception) -> None:
        """A bug in handling one instance must not end the others. What it has started is ended all the same."""
        message = f"internal error of the keeper: {exc!r}"
        self._room.complain(f"{self.key[0]}: {message}")
        if self.phase is Phase.FINISHED:
            return
        if self.tree is not None and not self._failed:
            self._failed, self._why = True, Why("lost", message)
            with self:
                self._begin_killing(self._room.system.now())
            return
        tree, self.tree = self.tree, None
        if tree is not None:
            with contextlib.suppress(Exception):
                tree.kill()
                tree.close()
        try:
            self._finish(Outcome("lost", message))
        except Exception as again:  # it is told all the same
            self._room.complain(f"{self.key[0]}: {again!r}")
            self._room.finished(self)


NOTHING: Final = Launch(
    task_id="", instance_id="", epoch=0, argv=(), environment={}, directory="", spool_path="", capture_output=False
)
