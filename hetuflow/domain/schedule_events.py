"""The schedule that waits for events: each that it matches becomes a task, or is skipped with its reason, once.

Events come in the order of the log, and the position of the newest one decided about is part of the state: one that is
told again changes nothing. Its nominal time is when it was recorded, moved behind what was covered before; the task's id
is derived from schedule and event, so that the store refuses a second one, whichever server tries.

With `debounce_seconds` a matching event is held until there has been quiet; a newer one takes its place. A stream of
events that never pauses does not hold a task back for ever: after `HELD_MAX` times the debounce it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from attrs import define, field, frozen

from hetuflow.domain import schedule_fold as fold
from hetuflow.domain import schedule_overlap
from hetuflow.domain.commands import CreateTask, FireSchedule, JobSnapshot, MatchedEvent, TriggerSchedule
from hetuflow.domain.decider import NOTHING, Address, Decision, Guard, Placement
from hetuflow.domain.enums import JobStatus, TaskTrigger
from hetuflow.domain.events import (
    Event,
    ScheduleDeleted,
    ScheduleEvent,
    ScheduleEventHeld,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
)
from hetuflow.domain.identity import event_task_id_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import HeldEvent, ScheduleState
from hetuflow.domain.schedule_times import event_nominal_at, expiry, held_skipped, jittered
from hetuflow.domain.task import opening as task_opening

DEBOUNCE_SECONDS_MAX = 86_400
HELD_MAX = 10

END_GRACE = timedelta(seconds=1)
"""After the end time: an event that was recorded within the window is decided about a moment later."""

DEBOUNCED = "debounced"
LOOP_GUARD = "loop_guard"
JOB_DISABLED = "job_disabled"
UNFIT = "unfit"


def due_at(state: ScheduleState) -> datetime | None:
    """When an enabled schedule for events wants to be asked: at the end of the quiet, or of its window."""
    if not state.is_enabled:
        return None
    end = None if state.end_time is None else state.end_time + END_GRACE
    wanted = [at for at in (None if state.held is None else state.held.quiet_at, end) if at is not None]
    return min(wanted, default=None)


def trigger(command: TriggerSchedule, state: ScheduleState, now: datetime) -> Decision:
    """Decide about the events, in their order. Nothing about those before the newest one decided about.

    Raises:
      Rejected: `not_found`; `tasks_unknown`, see `schedule_overlap.open_tasks`.
    """
    if state.status is None:
        raise Rejected("not_found", "there is no such schedule", {"kind": "schedule"})
    if not state.is_enabled or not state.is_event or state.defined_at != command.defined_at:
        return NOTHING
    if command.job.deleted:
        return _job_deleted(command, state)
    deciding = _Deciding(state, command, now)
    for event in command.events:
        if event.position > deciding.state.decided_position and deciding.state.is_enabled and _is_within(state, event):
            deciding.take(event, command.depth_max)
    return deciding.decision()


def tick(command: FireSchedule, state: ScheduleState, now: datetime) -> Decision:
    """Make the task of the event that has waited for quiet, and end the schedule when its window is over."""
    if state.status is None:
        raise Rejected("not_found", "there is no such schedule", {"kind": "schedule"})
    if not state.is_enabled or not state.is_event:
        return NOTHING
    if command.job.deleted:
        return _job_deleted(command, state)
    deciding = _Deciding(state, command, now)
    if state.held is not None and (state.held.quiet_at <= now or _is_over(state, now)):
        deciding.release()
    if _is_over(state, now):
        deciding.end()
    return deciding.decision()


def _is_over(state: ScheduleState, now: datetime) -> bool:
    return state.end_time is not None and state.end_time + END_GRACE <= now


def _is_within(state: ScheduleState, event: MatchedEvent) -> bool:
    start, end = state.start_time, state.end_time
    return (start is None or start <= event.recorded_at) and (end is None or event.recorded_at <= end)


def _job_deleted(command: TriggerSchedule | FireSchedule, state: ScheduleState) -> Decision:
    deleted = ScheduleDeleted(schedule_id=state.schedule_id, job_id=state.job_id, reason="job_deleted")
    return Decision([deleted], guards=(command.job.guard, *command.guards))


def _is_asleep(job: JobSnapshot, state: ScheduleState, event: MatchedEvent) -> bool:
    """Whether the job was switched off when the event was recorded, as far as can be told: in the order of the log, else
    by the times of two clocks."""
    if job.status != JobStatus.ENABLED:
        return True
    if job.enabled_at is None or job.enabled_at <= state.created_at or event.job_enabled_at == job.enabled_at:
        return False
    return event.recorded_at <= job.enabled_at


@frozen(slots=True)
class _Cause:
    """What a task is made of: one event, or the newest of those that were held."""

    event_id: str
    position: int
    type: str
    data: dict[str, object]
    depth: int
    recorded_at: datetime
    count: int | None = None

    @classmethod
    def of(cls, event: MatchedEvent | HeldEvent) -> _Cause:
        count = event.count if isinstance(event, HeldEvent) else None
        return cls(event.event_id, event.position, event.type, dict(event.data), event.depth, event.recorded_at, count)


@define(slots=True)
class _Deciding:
    """One decision in the making: the state after the events so far."""

    state: ScheduleState
    command: TriggerSchedule | FireSchedule
    now: datetime
    events: list[ScheduleEvent] = field(factory=list)
    opened: dict[Address, Sequence[Event]] = field(factory=dict)
    guards: dict[Guard, None] = field(factory=dict)
    _placements: Iterator[Placement] = field(init=False)
    _made: dict[str, bool] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.guards = dict.fromkeys((self.command.job.guard, *self.command.guards))
        self._placements = iter(self.command.placements)

    def decision(self) -> Decision:
        return Decision(self.events, self.opened, tuple(self.guards)) if self.events else NOTHING

    # --- what may happen ---------------------------------------------------------------------------------------------

    def take(self, event: MatchedEvent, depth_max: int) -> None:
        """Decide about one event; what is held and has had its quiet before it comes first."""
        held = self.state.held
        if held is not None and held.quiet_at <= event.recorded_at:
            self.release()
            if not self.state.is_enabled:
                return
        if (reason := self._why_not(event, depth_max)) is not None:
            self._skip(_Cause.of(event), reason, event.unfit if reason == UNFIT else None)
        elif self.state.debounce_seconds:
            self._hold(event)
        else:
            self._fire(_Cause.of(event))

    def release(self) -> None:
        """The event that waited becomes a task."""
        held = self.state.held
        assert held is not None
        if self.command.job.status != JobStatus.ENABLED:
            self._add_skipped(held_skipped(self.state, held, JOB_DISABLED))
        else:
            self._fire(_Cause.of(held))

    def end(self) -> None:
        if self.state.is_enabled:
            expired = ScheduleExpired(schedule_id=self.state.schedule_id, job_id=self.state.job_id, reason="end_time")
            self.events.append(expired)
            self.state = fold.expired(self.state, expired)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _why_not(self, event: MatchedEvent, depth_max: int) -> str | None:
        if _is_asleep(self.command.job, self.state, event):
            return JOB_DISABLED
        if event.depth >= depth_max:
            return LOOP_GUARD
        return None if event.unfit is None else UNFIT

    def _hold(self, event: MatchedEvent) -> None:
        earlier = self.state.held
        if earlier is not None:
            self._add_skipped(held_skipped(self.state, earlier, DEBOUNCED))
        first_at = event.recorded_at if earlier is None else earlier.first_at
        debounce = timedelta(seconds=self.state.debounce_seconds)
        held = ScheduleEventHeld(
            schedule_id=self.state.schedule_id,
            job_id=self.state.job_id,
            event_id=event.event_id,
            event_position=event.position,
            event_type=event.type,
            data=event.data,
            depth=event.depth,
            recorded_at=event.recorded_at,
            count=1 if earlier is None else earlier.count + 1,
            first_at=first_at,
            quiet_at=min(event.recorded_at + debounce, first_at + HELD_MAX * debounce),
        )
        self.events.append(held)
        self.state = fold.event_held(self.state, held)

    def _fire(self, cause: _Cause) -> None:
        state = self.state
        known = {**self.command.has_ended, **self._made}
        open_ids = schedule_overlap.open_tasks(state, known)
        ruling = schedule_overlap.ruling(state.overlap_policy, open_ids, is_newest=True)
        if ruling.is_skipped:
            self._skip(cause, schedule_overlap.REASON_OVERLAP)
            return
        nominal_at = event_nominal_at(state, cause.recorded_at)
        task = self._task(cause, nominal_at, ruling.waits_for)
        events, guards = task_opening(task, self.now)
        self.opened[Address("task", task.task_id)] = events
        self.guards.update(dict.fromkeys(guards))
        self._made[task.task_id] = False
        fired = ScheduleFired(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            nominal_at=nominal_at,
            fired_at=self.now,
            task_id=task.task_id,
            fire_count=state.fire_count + 1,
            next_run_at=None,
            waits_for=ruling.waits_for,
            event_id=cause.event_id,
            event_position=cause.position,
            event_depth=cause.depth + 1,
        )
        self.events.append(fired)
        self.state = fold.fired(state, fired)
        for expired in expiry(self.state):
            self.events.append(expired)
            self.state = fold.expired(self.state, expired)

    def _task(self, cause: _Cause, nominal_at: datetime, waits_for: Sequence[str]) -> CreateTask:
        state = self.state
        event = {"id": cause.event_id, "type": cause.type, "position": cause.position, "depth": cause.depth + 1}
        parameters = {**(state.parameters or {}), **cause.data}
        if cause.count is not None:
            event["count"] = parameters["event_count"] = cause.count
        return CreateTask(
            task_id=event_task_id_of(state.schedule_id, cause.event_id, cause.recorded_at),
            job=self.command.job,
            trigger=TaskTrigger.EVENT,
            priority=state.priority,
            schedule_id=state.schedule_id,
            schedule_kind=state.schedule_kind,
            nominal_at=nominal_at,
            scheduled_at=jittered(state, min(nominal_at, self.now)),
            parameters=parameters,
            dependencies=schedule_overlap.dependencies(state.overlap_policy, waits_for),
            event=event,
            placement=None if waits_for else next(self._placements, None),
        )

    def _skip(self, cause: _Cause, reason: str, note: str | None = None) -> None:
        nominal_at = event_nominal_at(self.state, cause.recorded_at)
        self._add_skipped(
            ScheduleSkipped(
                schedule_id=self.state.schedule_id,
                job_id=self.state.job_id,
                first_nominal_at=nominal_at,
                last_nominal_at=nominal_at,
                count=1,
                reason=reason,
                next_run_at=None,
                event_id=cause.event_id,
                event_position=cause.position,
                note=note,
            )
        )

    def _add_skipped(self, skipped: ScheduleSkipped) -> None:
        self.events.append(skipped)
        self.state = fold.skipped(self.state, skipped)
