"""Asks schedules to fire, at the instant and not before: sleeps until the earliest due moment, never polls for it.

A server that stands by asks nothing, nor does one whose wall clock disagrees with the database's (`clocks`).

The question is put to the schedule's actor, with what the decision needs from elsewhere: the job as it is now, a slot
that may be used at once, and the lease. The actor covers every nominal time up to now; what is then due next comes back
as an intent. Many that are due at once are taken in chunks, so that ten thousand cost two reads each chunk, not two each,
and are put to the kernel as one question: who cannot be answered there (busy, no, conflict) is asked alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime

import trio
from attrs import evolve

from eventstore.errors import EventStoreError, SqlError, WrongExpectedVersion
from hetuflow.actors import FOLLOWING, SYSTEM, ActorSystem, Crashed, GuardLost, Question
from hetuflow.actors.patience import PASSING, STOPPING, UNSTORABLE, Patience
from hetuflow.domain.backfilled_fires import BACKFILLS_UNKNOWN
from hetuflow.domain.commands import DeleteSchedule, FireSchedule, SuspendSchedule
from hetuflow.domain.decider import Address, Guard, Placement
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.flow_graph import FlowGraph
from hetuflow.domain.need import Need
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import CALENDARS_UNKNOWN
from hetuflow.domain.schedule_overlap import FLOW_UNKNOWN, TASKS_UNKNOWN
from hetuflow.measure import Histogram
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import Agenda, later
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.earlier import Earlier, look_at, which_backfilled
from hetuflow.scheduler.flow_graphs import FlowUnusable, FollowersOf, find_flow
from hetuflow.scheduler.leases import Leases
from hetuflow.scheduler.surroundings import Around, Surroundings

log = logging.getLogger(__name__)

CHUNK = 200
"""Schedules per read of the store, as many as the kernel folds with one statement."""

CHUNKS_MAX = 4
"""Chunks under way at once: what one decides while another waits for its commit fills the writer's batches."""

DEFECTS_MAX = 3
"""A schedule that failed this often in a row (its decider crashed, its task's id is taken, its job changes at every try)
is suspended: visible, never in silence. No more than the crashes that the kernel allows before it quarantines."""

GUARD_ATTEMPTS = 5
"""How often the job is read anew within one question."""

TOLD_ANEW = (TASKS_UNKNOWN, CALENDARS_UNKNOWN, FLOW_UNKNOWN, BACKFILLS_UNKNOWN)
"""What a schedule asks back for, once it has seen what is due."""

LATENESS_SAMPLES = 1000

SPIN_SECONDS = 0.0015
"""The last stretch before a due instant is not slept: epoll counts whole milliseconds, rounded up, so that a sleep ends
up to 1 ms late (measured: 0.9 on average), a third of what lies between the instant and the process."""
SPIN_SHARE = 0.02
"""Of a core, at most: beyond some 15 due instants a second they are slept for, and batches hide it."""
SPIN_ADVANCE_SECONDS = 0.2


class SpinBudget:
    """At most `SPIN_SHARE` of the time since the start, and a little in advance."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._spent = 0.0

    def allows(self, now: float) -> bool:
        if self._started is None:
            self._started = now
        return self._spent < SPIN_SHARE * (now - self._started) + SPIN_ADVANCE_SECONDS

    def spent(self, seconds: float) -> None:
        self._spent += seconds


class Ticker:
    """`tick_seconds`: longest sleep without a look at the wall clock, so that a clock that steps is noticed."""

    def __init__(
        self,
        system: ActorSystem,
        agenda: Agenda,
        leases: Leases,
        dispatcher: Dispatcher,
        clock: Clock,
        clocks: ClockWatch,
        followers_of: FollowersOf,
        *,
        tick_seconds: float,
    ) -> None:
        self._clocks = clocks
        self._followers_of = followers_of
        self._system = system
        self._agenda = agenda
        self._leases = leases
        self._dispatcher = dispatcher
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._chunks = 0
        self._spin = SpinBudget()
        self._patience = Patience()
        self._defects: dict[str, tuple[int, str]] = {}
        self._surroundings = Surroundings(system)
        self.alarm = Alarm()
        self.asked = 0
        self.lateness_seconds: deque[float] = deque(maxlen=LATENESS_SAMPLES)
        self.lateness = Histogram()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now = self._clock.now()
                if not (self._leases.is_deciding and self._clocks.allows(now)):
                    await self.alarm.wait(self._tick_seconds)
                elif self._chunks < CHUNKS_MAX and (due := self._agenda.take_due(now, CHUNK)):
                    self._chunks += 1
                    nursery.start_soon(self._fire_chunk, due)
                else:
                    await self._wait_until_due(now)

    async def _wait_until_due(self, now: datetime) -> None:
        """Until something is due, the alarm rings, or it is time to look at the clock."""
        at = self._agenda.next_due_at()
        if at is None or self._chunks >= CHUNKS_MAX:
            await self.alarm.wait(self._tick_seconds)
            return
        seconds = (at - now).total_seconds()
        if seconds > self._tick_seconds:
            await self.alarm.wait(self._tick_seconds)
        elif seconds > SPIN_SECONDS or not self._spin.allows(trio.current_time()):
            await self.alarm.wait(seconds - SPIN_SECONDS if self._spin.allows(trio.current_time()) else seconds)
        else:
            await self._spin_until(at)

    async def _spin_until(self, at: datetime) -> None:
        """Let everybody else have their turns until the instant itself."""
        if self.alarm.has_rung:  # it is heard here: going round again without a pause would give nobody a turn
            await self.alarm.wait(0)
            return
        began = trio.current_time()
        last: datetime | None = None
        while not self.alarm.has_rung and (now := self._clock.now()) < at:
            if now == last:  # a clock that only sleeping moves
                await self.alarm.wait((at - now).total_seconds())
                break
            last = now
            await trio.lowlevel.checkpoint()
        self._spin.spent(trio.current_time() - began)

    # --- a chunk -----------------------------------------------------------------------------------------------------

    async def _fire_chunk(self, schedule_ids: Sequence[str]) -> None:
        left = schedule_ids
        try:
            around = await self._surroundings.read(schedule_ids)
            if len(schedule_ids) == 1:
                await self._fire(schedule_ids[0], around)
                return
            left = await self._fire_together(schedule_ids, around)
            if left:
                around = await self._surroundings.read(left)  # a guard may have been lost
            async with trio.open_nursery() as nursery:
                for schedule_id in left:
                    nursery.start_soon(self._fire, schedule_id, around)
        except STOPPING:
            pass
        except (EventStoreError, *PASSING) as problem:
            log.warning("%d schedules cannot be asked yet: %s", len(left), problem)
            for schedule_id in left:
                self._settle(schedule_id)
        finally:
            self._chunks -= 1
            self.alarm.ring()

    async def _fire_together(self, schedule_ids: Sequence[str], around: Around) -> Sequence[str]:
        """Ask all at once, with what was read; return those that are to be asked alone. Raises errors of the store."""
        asked: dict[str, datetime] = {}
        questions: list[Question] = []
        placements: list[Placement] = []
        guards: dict[str, Guard | None] = {}  # found once for each job; it holds while nobody else has a turn
        try:
            for schedule_id in schedule_ids:
                due_at, job = self._agenda.due_at(schedule_id), around.jobs.get(schedule_id)
                if due_at is None or job is None or schedule_id in self._defects:
                    continue
                if job.job_id not in guards:
                    guards[job.job_id] = self._leases.guard(job.job_id)
                guard = guards[job.job_id]
                if guard is None:
                    continue
                command = FireSchedule(job=job, guards=(guard,), calendars=around.calendars.get(schedule_id, ()))
                question, placement = self._question(Address("schedule", schedule_id), command, wants_slot=True)
                if placement is not None:
                    placements.append(placement)
                asked[schedule_id] = due_at
                questions.append(question)
            answers = await self._system.ask_each(questions) if questions else {}
        finally:
            for placement in placements:
                self._dispatcher.release(placement)
        left = []
        for schedule_id in schedule_ids:
            answer = answers.get(Address("schedule", schedule_id))
            if answer is None:
                left.append(schedule_id)
            else:
                self._answered(schedule_id, asked[schedule_id], answer if isinstance(answer, EventStoreError) else None)
        return left

    # --- one schedule ----------------------------------------------------------------------------------------------

    async def _fire(self, schedule_id: str, around: Around) -> None:
        """Ask, and put the schedule back: at once when it was answered, after a pause when it was not."""
        due_at = self._agenda.due_at(schedule_id)
        problem: Exception | None = None
        try:
            defects, error = self._defects.get(schedule_id, (0, ""))
            if defects >= DEFECTS_MAX:
                log.error("schedule %s is suspended: %s", schedule_id, error)
                await self._system.ask(Address("schedule", schedule_id), SuspendSchedule(error=error))
            elif due_at is not None:
                await self._ask(schedule_id, around)
        except (Rejected, GuardLost, Crashed, FlowUnusable, EventStoreError, *STOPPING, *PASSING) as exc:
            problem = exc
        self._answered(schedule_id, due_at, problem)

    def _answered(self, schedule_id: str, due_at: datetime | None, problem: Exception | None) -> None:
        """Put the schedule back. Raises `problem` when nobody knows what to do about it."""
        if isinstance(problem, STOPPING):
            return
        if isinstance(problem, Rejected):
            log.info("schedule %s does not fire: %s", schedule_id, problem)
        elif isinstance(problem, (WrongExpectedVersion, GuardLost, Crashed, FlowUnusable, *UNSTORABLE)):
            self._failed(schedule_id, problem)
        elif isinstance(problem, (EventStoreError, *PASSING)):
            log.warning("schedule %s cannot be asked yet: %s", schedule_id, problem)
        elif due_at is not None and self._agenda.due_at(schedule_id) != due_at:
            self.asked += 1
            late_seconds = (self._clock.now() - due_at).total_seconds()
            self.lateness_seconds.append(late_seconds)
            self.lateness.observe(late_seconds)
        job_id = self._surroundings.job_of(schedule_id)
        if job_id is None or self._leases.guard(job_id) is not None:
            self._settle(schedule_id, due_at)
        else:
            self._agenda.park_due(schedule_id)  # another server decides for it

    async def _ask(self, schedule_id: str, around: Around) -> None:
        """Put the question, again when what it needs has changed since it was read. Raises what `ActorSystem.ask` raises."""
        wants_slot = True
        earlier = Earlier()
        flow: FlowGraph | None = None
        is_backfilled: dict[str, bool] | None = None
        for attempt in range(1, GUARD_ATTEMPTS + 1):
            if schedule_id not in around.jobs:
                return  # it or its job cannot be folded: the kernel has said so, and looks again later
            job, calendars = around.jobs[schedule_id], around.calendars.get(schedule_id, ())
            if job is None:
                await self._system.ask(Address("schedule", schedule_id), DeleteSchedule(reason="job_deleted"))
                return
            guard = self._leases.guard(job.job_id)
            if guard is None:
                return
            try:
                question = FireSchedule(
                    job=job,
                    guards=(guard, *earlier.guards),
                    has_ended=earlier.has_ended,
                    is_backfilled=is_backfilled,
                    calendars=calendars,
                    flow=flow,
                )
                await self._ask_once(Address("schedule", schedule_id), question, wants_slot)
                return
            except Rejected as no:
                if no.code not in TOLD_ANEW or attempt == GUARD_ATTEMPTS:
                    raise
                if no.code == TASKS_UNKNOWN:
                    earlier = await look_at(self._system, no.detail["task_ids"])
                elif no.code == BACKFILLS_UNKNOWN:
                    is_backfilled = {
                        **(is_backfilled or {}),
                        **await which_backfilled(self._system, no.detail["task_ids"]),
                    }
                elif no.code == FLOW_UNKNOWN:
                    flow = await find_flow(self._system, self._followers_of, [job.job_id])
                else:
                    self._surroundings.learn_calendars(schedule_id, no.detail["calendar_ids"])
            except GuardLost as lost:
                if self._leases.lost(lost.stream_id, lost.actual):
                    return
                earlier, flow, is_backfilled = Earlier(), None, None
                # another server may have told the agent's news first: fire without its slot rather than not at all
                wants_slot = wants_slot and Address.of_stream(lost.stream_id).category != "agent"
                if attempt == GUARD_ATTEMPTS:
                    raise
            except WrongExpectedVersion as taken:
                if is_backfilled is not None or Address.of_stream(taken.stream_id).category != "task":
                    raise
                is_backfilled = {}
            around = await self._surroundings.read([schedule_id])

    async def _ask_once(self, address: Address, question: FireSchedule, wants_slot: bool) -> None:
        """Fire, with a slot in hand where there is one: creation and dispatch are then one append."""
        asked, placement = self._question(address, question, wants_slot=wants_slot)
        try:
            await self._system.ask(address, asked.command, asked.context)
        finally:
            if placement is not None:
                self._dispatcher.release(placement)

    def _question(
        self, address: Address, command: FireSchedule, *, wants_slot: bool
    ) -> tuple[Question, Placement | None]:
        """The command with a slot in hand, which is to be released, where there is one."""
        placement = None
        if wants_slot and command.job.status == JobStatus.ENABLED:
            placement = self._dispatcher.reserve(Need.of(command.job))
            if placement is not None:
                command = evolve(command, placements=(placement,))
        follows = self._surroundings.follows_events(address.id)
        return Question(address, command, FOLLOWING if follows else SYSTEM), placement

    def _failed(self, schedule_id: str, problem: Exception) -> None:
        """Nothing that passes by itself: tried again, and in the end suspended."""
        log.error("schedule %s failed: %s", schedule_id, problem)
        cause = problem.__cause__ if isinstance(problem, Crashed) else problem
        if isinstance(cause, SqlError):
            return  # the database's trouble (a full disk, say), not the schedule's
        count, _ = self._defects.get(schedule_id, (0, ""))
        self._defects[schedule_id] = (count + 1, f"{type(cause).__name__}: {cause}")

    def _settle(self, schedule_id: str, asked_at: datetime | None = None) -> None:
        """Put the schedule back; one that still wants the very moment it was asked for is left alone for a while."""
        wanted_at = self._agenda.due_at(schedule_id)
        if wanted_at is None:
            self._surroundings.forget(schedule_id)
        if wanted_at is None or (asked_at is not None and wanted_at != asked_at):
            self._patience.worked(schedule_id)
            self._defects.pop(schedule_id, None)
            self._agenda.settle_due(schedule_id)
        else:
            self._agenda.settle_due(schedule_id, later(self._clock.now(), self._patience.failed(schedule_id)))
