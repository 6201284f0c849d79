"""Keeps daemons running: tells each what becomes of its tasks, asks it when something is due, ends what it wants ended.

A daemon wants to be told (`Keep`), again after every start: that wish is the memory, so that nothing is lost whatever
crashes. Its tasks are looked at when the wish is new, and their news is heard from the log afterwards, in its order; so
are those of its job. Told twice is told once. Only the server that decides asks, and each append is guarded by its
lease; what another server decides for is looked at again when this one does (`look_again`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

import trio

from eventstore.errors import EventStoreError, SqlError, StoreUnavailable, WrongExpectedVersion
from eventstore.event import RecordedEvent
from hetuflow.actors import FOLLOWING, ActorSystem, Crashed, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, UNSTORABLE, Patience
from hetuflow.domain.commands import CancelTask, JobSnapshot, SeatTask, SuspendSchedule, TendDaemon
from hetuflow.domain.daemon import BECAUSE, CAUSE, glimpse
from hetuflow.domain.daemon_state import open_seats
from hetuflow.domain.decider import Address, Keep
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import (
    InstanceStarted,
    JobDisabled,
    JobEnabled,
    JobUpdated,
    TaskCancelled,
    TaskFailed,
    TaskSucceeded,
)
from hetuflow.domain.instants import Instants
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import later
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

NEWS = frozenset(cls.__name__ for cls in (InstanceStarted, TaskSucceeded, TaskFailed, TaskCancelled))
"""Of a task, what its daemon is told."""
EDITS = frozenset(cls.__name__ for cls in (JobUpdated, JobEnabled, JobDisabled))
"""Of a job, what its daemons look at."""

ASKING_MAX = 16
"""Daemons that are asked at once; the rest waits its turn."""

GUARD_ATTEMPTS = 5
"""How often the job is read anew within one question."""

AGAIN_SECONDS = 1.0
"""A daemon that was due and had nothing to do is asked again then: the clock has stepped back."""

DEFECTS_MAX = 3
"""A daemon that crashed its decider so often in a row is suspended: visible, never in silence."""


class Daemons:
    """`tick_seconds`: longest time without a look at the wall clock. Every change costs O(log n) and its own seats."""

    def __init__(
        self, system: ActorSystem, leases: Leases, clock: Clock, clocks: ClockWatch, *, tick_seconds: float
    ) -> None:
        self._system = system
        self._leases = leases
        self._clock = clock
        self._clocks = clocks
        self._tick_seconds = tick_seconds
        self._wishes: dict[str, Keep] = {}
        self._of_task: dict[str, str] = {}
        self._of_job: dict[str, dict[str, None]] = {}
        self._instants = Instants()
        self._to_ask: dict[str, dict[str, None]] = {}
        """Daemons to be asked, each with those of its tasks that are to be looked at."""
        self._has_reason: set[str] = set()
        """Of those, the ones to be asked whatever their tasks say."""
        self._in_hand: set[str] = set()
        self._asking = 0
        self._patience = Patience()
        self._defects: dict[str, int] = {}
        self._alarm = Alarm()
        self.asked = 0

    def __repr__(self) -> str:
        return f"<Daemons: {len(self._wishes)} tended, {len(self._of_task)} tasks, {len(self._to_ask)} to be asked>"

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, wish: Keep) -> None:
        """The daemon wants this. Tasks that it did not name before may have news already: they are looked at."""
        before = self._wishes.get(wish.schedule_id)
        known = frozenset() if before is None else before.task_ids
        known_cancels = frozenset() if before is None else before.cancels
        self._wishes[wish.schedule_id] = wish
        self._of_job.setdefault(wish.job_id, {})[wish.schedule_id] = None
        for task_id in sorted(wish.task_ids - known):
            self._of_task[task_id] = wish.schedule_id
        self._look_no_more(wish.schedule_id, known - wish.task_ids)
        if looked_at := (wish.task_ids - known) | (wish.cancels - known_cancels):
            self._ask_soon(wish.schedule_id, sorted(looked_at))
        if before is None or before.revision != wish.revision:
            self._ask_soon(wish.schedule_id, has_reason=True)
        self._set_instant(wish)

    def remove(self, wish: Keep) -> None:
        """The daemon does not want this any more, unless it has said so anew."""
        now = self._wishes.get(wish.schedule_id)
        if now == wish:
            del self._wishes[wish.schedule_id]
            self._forget(wish)
            now = None
        for task_id in wish.task_ids - (now.task_ids if now is not None else frozenset()):
            if self._of_task.get(task_id) == wish.schedule_id:
                del self._of_task[task_id]

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order, after the actors have taken note of it."""
        if event.type in NEWS:
            task_id = Address.of_stream(event.stream_id).id
            schedule_id = self._of_task.get(task_id)
            if schedule_id is not None:
                self._ask_soon(schedule_id, (task_id,))
        elif event.type in EDITS:
            for schedule_id in self._of_job.get(Address.of_stream(event.stream_id).id, ()):
                self._ask_soon(schedule_id, has_reason=True)

    def look_again(self) -> None:
        """This server decides for daemons that another one was deciding for."""
        for wish in self._wishes.values():
            self._ask_soon(wish.schedule_id, sorted(wish.task_ids), has_reason=True)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now = self._clock.now()
                if self._leases.is_deciding and self._clocks.allows(now):
                    for schedule_id in self._instants.take(now, len(self._instants)):
                        self._ask_soon(schedule_id, has_reason=True)
                    while self._asking < ASKING_MAX and (found := self._next()) is not None:
                        self._in_hand.add(found)
                        self._asking += 1
                        nursery.start_soon(self._tend, found)
                await self._alarm.wait(self._seconds_until_next())

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ask_soon(self, schedule_id: str, task_ids: Iterable[str] = (), *, has_reason: bool = False) -> None:
        self._to_ask.setdefault(schedule_id, {}).update(dict.fromkeys(task_ids))
        if has_reason:
            self._has_reason.add(schedule_id)
        self._alarm.ring()

    def _look_no_more(self, schedule_id: str, task_ids: Iterable[str]) -> None:
        """It does not name these any more. On a server that stands by nobody takes them from what is to be looked at."""
        to_look_at = self._to_ask.get(schedule_id, {})
        for task_id in task_ids:
            to_look_at.pop(task_id, None)

    def _forget(self, wish: Keep) -> None:
        self._to_ask.pop(wish.schedule_id, None)
        self._has_reason.discard(wish.schedule_id)
        self._defects.pop(wish.schedule_id, None)
        self._patience.worked(wish.schedule_id)
        self._instants.discard(wish.schedule_id)
        of_job = self._of_job.get(wish.job_id, {})
        of_job.pop(wish.schedule_id, None)
        if not of_job:
            self._of_job.pop(wish.job_id, None)

    def _set_instant(self, wish: Keep) -> None:
        if wish.at is None:
            self._instants.discard(wish.schedule_id)
        else:
            self._instants.set(wish.schedule_id, wish.at)
            if self._instants.first_at() == wish.at:
                self._alarm.ring()

    def _next(self) -> str | None:
        return next((schedule_id for schedule_id in self._to_ask if schedule_id not in self._in_hand), None)

    def _seconds_until_next(self) -> float:
        at, now = self._instants.first_at(), self._clock.now()
        if at is None or not self._leases.is_deciding or not self._clocks.allows(now):
            return self._tick_seconds  # what is due stays due: without the clock's leave it must not be waited for
        return min((at - now).total_seconds(), self._tick_seconds)

    async def _tend(self, schedule_id: str) -> None:
        """Look at what is new, and ask; later again, if that fails or does not bring it further."""
        task_ids, has_reason = (
            tuple(self._to_ask.pop(schedule_id, ())),
            schedule_id in self._has_reason,
        )  # () = gone since
        self._has_reason.discard(schedule_id)
        pause = 0.0
        try:
            await self._bring_further(schedule_id, task_ids, has_reason)
        except STOPPING:
            return
        except (EventStoreError, Rejected, *FAILING) as problem:
            pause = self._failed(schedule_id, problem)
        else:
            self._patience.worked(schedule_id)
            self._defects.pop(schedule_id, None)
        finally:
            self._asking -= 1
            if not pause:
                self._in_hand.discard(schedule_id)
            self._alarm.ring()
        if pause:
            await trio.sleep(pause)
            self._in_hand.discard(schedule_id)
            if schedule_id in self._wishes:
                self._ask_soon(schedule_id, task_ids, has_reason=has_reason)
            self._alarm.ring()

    def _failed(self, schedule_id: str, problem: Exception) -> float:
        """Count it; return the seconds to leave the daemon alone."""
        log.warning("daemon %s cannot be looked after yet: %s", schedule_id, problem)
        cause = problem.__cause__ if isinstance(problem, Crashed) else problem
        is_defect = isinstance(problem, (Crashed, WrongExpectedVersion, *UNSTORABLE))
        if is_defect and not isinstance(cause, SqlError):  # which is the database's trouble, not the daemon's
            self._defects[schedule_id] = self._defects.get(schedule_id, 0) + 1
        return self._patience.failed(schedule_id)

    async def _bring_further(self, schedule_id: str, task_ids: Sequence[str], has_reason: bool) -> None:
        """Raises what `ActorSystem.ask` raises."""
        wish = self._wishes.get(schedule_id)
        guard = None if wish is None else self._leases.guard(wish.job_id)
        if wish is None or guard is None:
            return  # what another server decides for waits for `look_again`
        if self._defects.get(schedule_id, 0) >= DEFECTS_MAX:
            error = "its decider failed again and again"
            log.error("daemon %s is suspended: %s", schedule_id, error)
            await self._system.ask(Address("schedule", schedule_id), SuspendSchedule(error=error))
            return
        addresses = [Address("task", task_id) for task_id in task_ids if task_id in wish.task_ids]
        readings = await self._system.read_many(addresses)
        tasks = [glimpse(address.id, reading.state) for address, reading in readings.items()]
        await self._cancel(wish, [task.task_id for task in tasks if task.ended_at is None])
        if has_reason or any(task.is_running or task.ended_at is not None for task in tasks):
            await self._ask(wish, tasks)
        if unread := [address.id for address in addresses if address not in readings]:
            raise StoreUnavailable(f"task {unread[0]} cannot be read")  # the kernel has said why; its news is not lost

    async def _ask(self, wish: Keep, tasks: Sequence[SeatTask]) -> None:
        address = Address("schedule", wish.schedule_id)
        for attempt in range(1, GUARD_ATTEMPTS + 1):
            guard, job = self._leases.guard(wish.job_id), await self._job(wish.job_id)
            if guard is None or job is None:
                return
            self.asked += 1
            try:
                answer = await self._system.ask(address, TendDaemon(job=job, tasks=tasks, guards=(guard,)), FOLLOWING)
            except GuardLost as lost:
                if self._leases.lost(lost.stream_id, lost.actual):
                    return
                if attempt == GUARD_ATTEMPTS:
                    raise
            else:
                self._rest_if_nothing_follows(wish, job, answer.state.end_time, bool(answer.decision))
                return

    def _rest_if_nothing_follows(
        self, wish: Keep, job: JobSnapshot, end_time: datetime | None, has_decided: bool
    ) -> None:
        """What is due waits for the job to be enabled, which is heard; only the end of its time comes by itself."""
        if has_decided or self._wishes.get(wish.schedule_id) != wish or wish.at is None:
            return
        if job.status == JobStatus.ENABLED:
            self._instants.set(wish.schedule_id, max(wish.at, later(self._clock.now(), AGAIN_SECONDS)))
        elif end_time is not None and end_time > self._clock.now():
            self._instants.set(wish.schedule_id, end_time)

    async def _job(self, job_id: str) -> JobSnapshot | None:
        """The job as it is now; None when there never was one."""
        reading = await self._system.read(Address("job", job_id))
        return snapshot(reading.state, reading.version) if reading.version else None

    async def _cancel(self, wish: Keep, open_ids: Sequence[str]) -> None:
        """End what the daemon wants ended; the end is then heard as any other."""
        for task_id in open_ids:
            if task_id in wish.cancels:
                state = (await self._system.read(Address("schedule", wish.schedule_id))).state
                cause = next((seat.stopping for seat in open_seats(state) if seat.task_id == task_id), None)
                reason = BECAUSE.get(cause or "", cause)
                try:
                    await self._system.ask(
                        Address("task", task_id), CancelTask(cause=CAUSE, reason=reason, by="schedule"), FOLLOWING
                    )
                except Rejected as no:
                    log.info("task %s is not ended for its daemon: %s", task_id, no)
