"""The fire: each nominal time up to now becomes a task, or is skipped with its reason, once.

A fire opens the task's stream in the same append as `ScheduleFired`, under the job's version and the slot's lease as
guards; the task's id is derived from schedule and nominal time, so that the store refuses a second one, whichever
server tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from attrs import evolve as changed

from hetuflow.domain import schedule_fold as fold
from hetuflow.domain import schedule_overlap
from hetuflow.domain.commands import CreateTask, FireSchedule, JobSnapshot
from hetuflow.domain.decider import NOTHING, Address, Decision, Guard, Placement
from hetuflow.domain.enums import JobStatus, TaskTrigger
from hetuflow.domain.events import (
    Event,
    ScheduleDeleted,
    ScheduleEvent,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleUpdated,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.misfire import FirePlan, decide_fires
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import (
    EDITABLE,
    ScheduleState,
    delayed_after,
    is_fixed_delay,
    trigger_of,
)
from hetuflow.domain.schedule_times import covered, expiry, jittered, next_run_after
from hetuflow.domain.task import opening as task_opening
from hetuflow.domain.trigger import INTERVAL_SECONDS_MAX, next_after


def fire(command: FireSchedule, state: ScheduleState, now: datetime) -> Decision:
    """Cover every nominal time up to now, at most `misfire.FIRE_COUNT_MAX` fires; the rest stays due.

    Nothing when it is not due: a clock that stepped back, a schedule that was edited meanwhile.
    """
    if state.status is None:
        raise Rejected("not_found", "there is no such schedule", {"kind": "schedule"})
    if state.is_deleted:
        return NOTHING
    guards = (command.job.guard, *command.guards)
    if command.job.deleted:
        return Decision(
            [ScheduleDeleted(schedule_id=state.schedule_id, job_id=state.job_id, reason="job_deleted")], guards=guards
        )
    if not state.is_enabled or state.is_daemon or state.next_run_at is None or state.next_run_at > now:
        return NOTHING
    asleep_until = _asleep_until(command.job, state, now)
    skipped = covered(state, asleep_until, "job_disabled")
    for event in skipped:
        state = fold.skipped(state, event)
    if asleep_until == now or state.next_run_at is None or state.next_run_at > now:
        events: list[ScheduleEvent] = [*skipped, *expiry(state)]
        return Decision(events or [_restated(state, now)], guards=guards)
    return _fired_by_plan(command, state, now, skipped)


def _asleep_until(job: JobSnapshot, state: ScheduleState, now: datetime) -> datetime:
    """Nominal times at or before this found the job switched off.

    A `once` that was created late lies before its own creation, and so perhaps before the job's: it was asked for when
    the job was already enabled.
    """
    if job.status != JobStatus.ENABLED:
        return now
    if job.enabled_at is None or job.enabled_at <= state.created_at:
        return state.cursor_at
    return min(job.enabled_at, now)


def _fired_by_plan(
    command: FireSchedule, state: ScheduleState, now: datetime, skipped: Sequence[ScheduleSkipped]
) -> Decision:
    plan = plan_of(state, now)
    events: list[ScheduleEvent] = [*skipped, *_misfires(state, plan)]
    opened: dict[Address, Sequence[Event]] = {}
    guards: dict[Guard, None] = dict.fromkeys((command.job.guard, *command.guards))
    placements = iter(command.placements)
    open_ids = schedule_overlap.open_tasks(state, command.has_ended) if plan.fires else ()
    count, next_run_at = state.fire_count, plan.next_run_at
    for place, nominal_at in enumerate(plan.fires):
        is_newest = nominal_at == plan.fires[-1]
        ruling = schedule_overlap.ruling(state.overlap_policy, open_ids, is_newest=is_newest)
        count += not ruling.is_skipped
        next_run_at = _next_after_newest(state, plan, count) if is_newest else plan.fires[place + 1]
        if ruling.is_skipped:
            if is_fixed_delay(state):
                next_run_at = delayed_after(state, now)
            events.append(_overlapped(state, nominal_at, next_run_at))
            continue
        task = _task(command.job, state, nominal_at, ruling.waits_for, placements)
        task_events, task_guards = task_opening(task, now)
        opened[Address("task", task.task_id)] = task_events
        guards.update(dict.fromkeys(task_guards))
        open_ids = (*ruling.waits_for, task.task_id)
        events.append(
            ScheduleFired(
                schedule_id=state.schedule_id,
                job_id=state.job_id,
                nominal_at=nominal_at,
                fired_at=now,
                task_id=task.task_id,
                fire_count=count,
                next_run_at=next_run_at,
                waits_for=ruling.waits_for,
            )
        )
    if next_run_at is None:
        after = state
        for event in events[len(skipped) :]:
            after = fold.FOLDS[type(event)](after, event)
        events += expiry(after)
    return Decision(events or [_restated(state, now)], opened, tuple(guards))


def _task(
    job: JobSnapshot,
    state: ScheduleState,
    nominal_at: datetime,
    waits_for: Sequence[str],
    placements: Iterator[Placement],
) -> CreateTask:
    """What the fire makes; a slot in hand is for one that need not wait."""
    return CreateTask(
        task_id=task_id_of(state.schedule_id, nominal_at),
        job=job,
        trigger=TaskTrigger.SCHEDULE,
        priority=state.priority,
        schedule_id=state.schedule_id,
        schedule_kind=state.schedule_kind,
        nominal_at=nominal_at,
        scheduled_at=jittered(state, nominal_at),
        parameters=state.parameters or {},
        dependencies=schedule_overlap.dependencies(state.overlap_policy, waits_for),
        placement=None if waits_for else next(placements, None),
    )


def _next_after_newest(state: ScheduleState, plan: FirePlan, fire_count: int) -> datetime | None:
    """As the plan says, unless it counted a fire that the overlap policy skipped: then `max_count` is not reached."""
    if plan.next_run_at is not None or (state.max_count is not None and fire_count >= state.max_count):
        return plan.next_run_at
    return next_after(trigger_of(state, state.anchor_at), plan.fires[-1])


def _overlapped(state: ScheduleState, nominal_at: datetime, next_run_at: datetime | None) -> ScheduleSkipped:
    return ScheduleSkipped(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        first_nominal_at=nominal_at,
        last_nominal_at=nominal_at,
        count=1,
        reason=schedule_overlap.REASON_OVERLAP,
        next_run_at=next_run_at,
    )


def plan_of(state: ScheduleState, now: datetime) -> FirePlan:
    """What `decide_fires` says, without asking it in the common case: one nominal time is due, and on time.

    Ten thousand schedules that are due in one second are ten thousand plans: two questions to the trigger, not six.
    """
    trigger = trigger_of(state, state.anchor_at)
    nominal_at = next_after(trigger, state.cursor_at)
    on_time = timedelta(seconds=min(state.misfire_grace_seconds, state.max_age_seconds or INTERVAL_SECONDS_MAX))
    if nominal_at is not None and nominal_at <= now and now - nominal_at <= on_time and state.fires_left != 0:
        following = next_after(trigger, nominal_at)
        if following is None or following > now:
            return FirePlan((), (nominal_at,), None if state.fires_left == 1 else following)
    plan = decide_fires(
        trigger,
        state.cursor_at,
        now,
        state.misfire_policy,
        state.misfire_grace_seconds,
        max_age_seconds=state.max_age_seconds,
        fires_left=state.fires_left,
    )
    if is_fixed_delay(state) and plan.skipped:
        return changed(plan, next_run_at=delayed_after(state, now))
    return plan


def _misfires(state: ScheduleState, plan: FirePlan) -> list[ScheduleSkipped]:
    return [
        ScheduleSkipped(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            first_nominal_at=skipped.first_nominal_at,
            last_nominal_at=skipped.last_nominal_at,
            count=skipped.count,
            reason=skipped.reason,
            next_run_at=next_run_at,
        )
        for skipped, next_run_at in plan.skipped_with_next()
    ]


def _restated(state: ScheduleState, now: datetime) -> ScheduleUpdated:
    """The same schedule with `next_run_at` computed anew, when the stored one turned out to be no nominal time.

    It was computed under other time zone rules. Without an event it would be due for ever, and asked again and again.
    """
    return ScheduleUpdated(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        anchor_at=state.anchor_at,
        next_run_at=next_run_after(state, now),
        updated_at=now,
        changed=(),
        consecutive_failures=state.consecutive_failures,
        **{name: getattr(state, name) for name in EDITABLE},
    )
