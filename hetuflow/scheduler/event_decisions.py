"""Puts a matched event to its schedule, with what the decision needs from elsewhere: job, slot, earlier tasks, lease."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from attrs import evolve

from eventstore.errors import EventStoreError, SqlError, WrongExpectedVersion
from hetuflow.actors import ActorSystem, Context, Crashed, GuardLost
from hetuflow.actors.patience import PASSING, STOPPING, UNSTORABLE
from hetuflow.domain.commands import DeleteSchedule, JobSnapshot, MatchedEvent, SuspendSchedule, TriggerSchedule
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import ScheduleSkipped
from hetuflow.domain.job import snapshot
from hetuflow.domain.need import Need
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_events import LOOP_GUARD
from hetuflow.domain.schedule_overlap import TASKS_UNKNOWN
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.earlier import Earlier, look_at
from hetuflow.scheduler.event_index import Waiting
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

GUARD_ATTEMPTS: Final = 5
DEFECTS_MAX: Final = 3
NOTE_CHARACTERS_MAX: Final = 500


class Standing(Enum):
    """What became of a question."""

    DECIDED = auto()
    AGAIN = auto()
    NOT_OURS = auto()
    """Another server decides."""


class EventDecisions:
    """`depth_max`: the loop guard, see `TriggerSchedule`."""

    def __init__(self, system: ActorSystem, leases: Leases, dispatcher: Dispatcher, *, depth_max: int) -> None:
        self._system = system
        self._leases = leases
        self._dispatcher = dispatcher
        self._depth_max = depth_max
        self._defects: dict[tuple[str, int], int] = {}

    async def put(self, waiting: Waiting, event: MatchedEvent, cause: Context) -> Standing:
        """Ask once. Raises only when the process stops."""
        key = (waiting.schedule_id, event.position)
        try:
            standing = await self._put(waiting, event, cause)
        except STOPPING:
            raise
        except Rejected as no:
            if no.code == "version_conflict":  # its job is about to be deleted, or is not after all
                return Standing.AGAIN
            if no.code == "not_found":
                return Standing.DECIDED
            standing = await self._give_up(waiting, event, cause, no)
        except UNSTORABLE as no:
            standing = await self._give_up(waiting, event, cause, no)
        except GuardLost as lost:
            return Standing.NOT_OURS if self._leases.lost(lost.stream_id, lost.actual) else Standing.AGAIN
        except (Crashed, WrongExpectedVersion) as problem:
            if isinstance(problem, Crashed) and isinstance(problem.__cause__, SqlError):
                return Standing.AGAIN  # the database's trouble
            log.error("schedule %s failed on event %s: %s", waiting.schedule_id, event.event_id, problem)
            self._defects[key] = self._defects.get(key, 0) + 1
            if self._defects[key] < DEFECTS_MAX:
                return Standing.AGAIN
            standing = await self._give_up(waiting, event, cause, problem)
        except (EventStoreError, *PASSING) as problem:
            log.warning(
                "schedule %s cannot be asked about event %s yet: %s", waiting.schedule_id, event.event_id, problem
            )
            return Standing.AGAIN
        if standing is Standing.DECIDED:
            self._defects.pop(key, None)
        return standing

    async def _give_up(self, waiting: Waiting, event: MatchedEvent, cause: Context, why: Exception) -> Standing:
        """No task can be made of it: skipped where that can be said, else the schedule is suspended."""
        log.error("no task of schedule %s can be made of event %s: %s", waiting.schedule_id, event.event_id, why)
        try:
            return await self._put(waiting, evolve(event, unfit=str(why)[:NOTE_CHARACTERS_MAX]), cause)
        except STOPPING:
            raise
        except (Rejected, Crashed, WrongExpectedVersion, *UNSTORABLE) as problem:
            error = f"{type(problem).__name__}: {problem}"
        except (EventStoreError, *PASSING, GuardLost):
            return Standing.AGAIN
        try:
            await self._system.ask(Address("schedule", waiting.schedule_id), SuspendSchedule(error=error))
        except STOPPING:
            raise
        except (Rejected, EventStoreError, Crashed, *PASSING) as problem:
            log.error("schedule %s cannot be suspended yet: %s", waiting.schedule_id, problem)
            return Standing.AGAIN
        log.error("schedule %s is suspended: %s", waiting.schedule_id, error)
        return Standing.DECIDED

    async def _put(self, waiting: Waiting, event: MatchedEvent, cause: Context) -> Standing:
        """Raises what `ActorSystem.ask` raises."""
        earlier, wants_slot = Earlier(), event.unfit is None
        for attempt in range(1, GUARD_ATTEMPTS + 1):
            guard = self._leases.guard(waiting.job_id)
            if guard is None:
                return Standing.NOT_OURS
            reading = await self._system.read(Address("job", waiting.job_id))
            if not reading.state.exists:
                await self._system.ask(
                    Address("schedule", waiting.schedule_id), DeleteSchedule(reason="job_deleted"), cause
                )
                return Standing.DECIDED
            job = snapshot(reading.state, reading.version)
            try:
                await self._ask(waiting, event, job, (guard, *earlier.guards), earlier, cause, wants_slot)
                return Standing.DECIDED
            except Rejected as no:
                if no.code != TASKS_UNKNOWN or attempt == GUARD_ATTEMPTS:
                    raise
                earlier = await look_at(self._system, no.detail["task_ids"])
            except GuardLost as lost:
                if self._leases.lost(lost.stream_id, lost.actual):
                    return Standing.NOT_OURS
                earlier = Earlier()
                wants_slot = wants_slot and Address.of_stream(lost.stream_id).category != "agent"
        return Standing.AGAIN

    async def _ask(
        self,
        waiting: Waiting,
        event: MatchedEvent,
        job: JobSnapshot,
        guards: Sequence[Guard],
        earlier: Earlier,
        cause: Context,
        wants_slot: bool,
    ) -> None:
        placement = None
        if wants_slot and job.status == JobStatus.ENABLED:
            placement = self._dispatcher.reserve(Need.of(job))
        command = TriggerSchedule(
            job=job,
            events=(event,),
            defined_at=waiting.defined_at,
            depth_max=self._depth_max,
            placements=() if placement is None else (placement,),
            guards=guards,
            has_ended=earlier.has_ended,
        )
        try:
            answer = await self._system.ask(Address("schedule", waiting.schedule_id), command, cause)
        finally:
            if placement is not None:
                self._dispatcher.release(placement)
        if any(isinstance(made, ScheduleSkipped) and made.reason == LOOP_GUARD for made in answer.decision.events):
            log.warning(
                "event schedules start each other: schedule %s makes no task of %s at position %d, there are %d of them behind"
                " it (scheduler.event_depth_max)",
                waiting.schedule_id,
                event.type,
                event.position,
                event.depth,
            )
