"""The fire: each nominal time up to now becomes a task, or is skipped with its reason, once.

A fire opens the task's stream in the same append as `ScheduleFired`, under the job's version and the slot's lease as
guards; the task's id is derived from schedule and nominal time, so that the store refuses a second one, whichever
server tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve as changed
from attrs import frozen

from hetuflow.domain import schedule_fold as fold
from hetuflow.domain import schedule_overlap
from hetuflow.domain.backfilled_fires import REASON_BACKFILLED, backfilled
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
from hetuflow.domain.excluded_fires import decide_free_fires
from hetuflow.domain.excluded_times import next_free
from hetuflow.domain.exclusion import Exclusion
from hetuflow.domain.flow import opening as flow_opening
from hetuflow.domain.flow_graph import FlowGraph
from hetuflow.domain.flow_plan import FlowWishes, RootTask, started
from hetuflow.domain.identity import flow_run_id_of, task_id_of
from hetuflow.domain.misfire import FIRE_COUNT_MAX, FirePlan, SkippedRange, decide_fires
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import exclusion_of, guards_of, versions_of
from hetuflow.domain.schedule_state import EDITABLE, ScheduleState, delayed_after, is_fixed_delay, trigger_of
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
    exclusion = exclusion_of(state.exclude_calendars, command.calendars)
    guards = (*guards, *guards_of(state.exclude_calendars, command.calendars))
    asleep_until = _asleep_until(command.job, state, now)
    if exclusion is not None and asleep_until > state.cursor_at:
        state = changed(
            state, next_run_at=next_run_after(state, state.cursor_at, exclusion)
        )  # the calendars may be edited
    skipped = covered(state, asleep_until, "job_disabled")
    if skipped and exclusion is not None:
        skipped = _with_next_free(state, skipped, exclusion)
    for event in skipped:
        state = fold.skipped(state, event)
    if asleep_until == now or state.next_run_at is None or state.next_run_at > now:
        events: list[ScheduleEvent] = [*skipped, *expiry(state)]
        return Decision(events or [_restated(state, now, exclusion)], guards=guards)
    return _fired_by_plan(command, state, now, skipped, guards, exclusion)


def _with_next_free(
    state: ScheduleState, skipped: Sequence[ScheduleSkipped], exclusion: Exclusion
) -> list[ScheduleSkipped]:
    """The same skips, the last of which tells the next nominal time that is not excluded."""
    *before, last = skipped
    following = next_free(trigger_of(state, state.anchor_at), exclusion, last.last_nominal_at).at
    return [*before, changed(last, next_run_at=following, calendars=exclusion.versions)]


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
    command: FireSchedule,
    state: ScheduleState,
    now: datetime,
    skipped: Sequence[ScheduleSkipped],
    given: Sequence[Guard],
    exclusion: Exclusion | None,
) -> Decision:
    plan = plan_of(state, now, exclusion, fire_count_max=max(1, FIRE_COUNT_MAX // _size(command, state)))
    versions = versions_of(exclusion)
    events: list[ScheduleEvent] = [*skipped]
    opened: dict[Address, Sequence[Event]] = {}
    guards: dict[Guard, None] = dict.fromkeys(given)
    placements = iter(command.placements)
    open_ids = schedule_overlap.open_tasks(state, command.has_ended) if plan.fires else ()
    run_already = backfilled(state.schedule_id, plan.fires, command.is_backfilled)
    newest = max((at for at in plan.fires if at not in run_already), default=None)
    size = _size(command, state)
    count, next_run_at = state.fire_count, plan.next_run_at
    for step, following in plan.steps_with_next():
        if isinstance(step, SkippedRange):
            events.append(_skipped(state, step, following, versions))
            continue
        ruling = schedule_overlap.ruling(state.overlap_policy, open_ids, is_newest=step == newest, size=size)
        reason = _reason(ruling.is_skipped, step in run_already)
        count += reason is None
        if following is None:
            following = next_run_at = _next_after_newest(state, plan, count, exclusion)
        if reason is not None:
            if is_fixed_delay(state):
                following = next_run_at = delayed_after(state, now)
            events.append(_skipped(state, SkippedRange(step, step, 1, reason), following, versions))
            continue
        task = _task(command.job, state, step, ruling.waits_for, placements)
        made = _run_of(command.flow, state, task, now) if state.run_flow else _alone(task, now)
        opened.update(made.opened)
        guards.update(dict.fromkeys(made.guards))
        open_ids = (*ruling.waits_for, task.task_id, *made.also_made)
        events.append(
            ScheduleFired(
                schedule_id=state.schedule_id,
                job_id=state.job_id,
                nominal_at=step,
                fired_at=now,
                task_id=task.task_id,
                fire_count=count,
                next_run_at=following,
                waits_for=ruling.waits_for,
                flow_run_id=made.flow_run_id,
                also_made=made.also_made,
                calendars=versions,
            )
        )
    if next_run_at is None:
        after = state
        for event in events[len(skipped) :]:
            after = fold.FOLDS[type(event)](after, event)
        events += expiry(after)
    return Decision(events or [_restated(state, now, exclusion)], opened, tuple(guards))


def _reason(is_overlapping: bool, is_backfilled: bool) -> str | None:
    """Why a nominal time that the misfire policy lets fire makes no task; None: it makes one."""
    if is_backfilled:
        return REASON_BACKFILLED
    return schedule_overlap.REASON_OVERLAP if is_overlapping else None


@frozen(slots=True)
class _Made:
    """What one fire opens."""

    opened: Mapping[Address, Sequence[Event]]
    guards: Sequence[Guard]
    flow_run_id: str | None = None
    also_made: tuple[str, ...] = ()


def _alone(task: CreateTask, now: datetime) -> _Made:
    events, guards = task_opening(task, now)
    return _Made({Address("task", task.task_id): events}, guards)


def _run_of(graph: FlowGraph | None, state: ScheduleState, task: CreateTask, now: datetime) -> _Made:
    """A run of the flow of which this is the first task."""
    assert graph is not None
    wishes = FlowWishes(
        priority=task.priority,
        parameters=task.parameters,
        scheduled_at=task.scheduled_at,
        nominal_at=task.nominal_at,
    )
    root = RootTask(
        task_id=task.task_id,
        trigger=task.trigger,
        schedule_id=state.schedule_id,
        schedule_kind=state.schedule_kind,
        dependencies=task.dependencies,
        placement=task.placement,
    )
    command = started(flow_run_id_of(task.task_id), graph, wishes, root)
    event, tasks, guards = flow_opening(command, now)
    others = tuple(each.task_id for each in command.tasks[1:])
    return _Made({Address("flow", command.flow_run_id): [event], **tasks}, guards, command.flow_run_id, others)


def _size(command: FireSchedule, state: ScheduleState) -> int:
    """How many tasks a fire makes.

    Raises:
      Rejected: `flow_unknown`, it runs the job's flow, which is not told.
    """
    if not state.run_flow:
        return 1
    if command.flow is None:
        raise Rejected(schedule_overlap.FLOW_UNKNOWN, "the flow of its job is not told", {"job_id": state.job_id})
    return len(command.flow.jobs)


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


def _next_after_newest(
    state: ScheduleState, plan: FirePlan, fire_count: int, exclusion: Exclusion | None
) -> datetime | None:
    """None, unless the plan counted a fire that was skipped after all (overlap, backfilled): then `max_count` is not reached."""
    if state.max_count is not None and fire_count >= state.max_count:
        return None
    return next_free(trigger_of(state, state.anchor_at), exclusion, plan.fires[-1]).at


def plan_of(
    state: ScheduleState, now: datetime, exclusion: Exclusion | None = None, fire_count_max: int = FIRE_COUNT_MAX
) -> FirePlan:
    """What `decide_fires` says, without asking it in the common case: one nominal time is due, and on time.

    Ten thousand schedules that are due in one second are ten thousand plans: two questions to the trigger, not six.
    """
    trigger = trigger_of(state, state.anchor_at)
    nominal_at = next_after(trigger, state.cursor_at)
    on_time = timedelta(seconds=min(state.misfire_grace_seconds, state.max_age_seconds or INTERVAL_SECONDS_MAX))
    if nominal_at is not None and nominal_at <= now and now - nominal_at <= on_time and state.fires_left != 0:
        following = next_after(trigger, nominal_at)
        if (following is None or following > now) and (exclusion is None or not exclusion.excludes(nominal_at)):
            if state.fires_left == 1:
                following = None
            elif exclusion is not None and following is not None and exclusion.excludes(following):
                following = next_free(trigger, exclusion, nominal_at).at
            return FirePlan((), (nominal_at,), following)
    members: dict[str, Any] = {
        "max_age_seconds": state.max_age_seconds,
        "fires_left": state.fires_left,
        "fire_count_max": fire_count_max,
    }
    misfires = (state.misfire_policy, state.misfire_grace_seconds)
    if exclusion is not None:
        return decide_free_fires(trigger, exclusion, state.cursor_at, now, *misfires, **members)
    plan = decide_fires(trigger, state.cursor_at, now, *misfires, **members)
    if is_fixed_delay(state) and plan.skipped:
        return changed(plan, next_run_at=delayed_after(state, now))
    return plan


def _skipped(
    state: ScheduleState, step: SkippedRange, next_run_at: datetime | None, calendars: Mapping[str, int]
) -> ScheduleSkipped:
    return ScheduleSkipped(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        first_nominal_at=step.first_nominal_at,
        last_nominal_at=step.last_nominal_at,
        count=step.count,
        reason=step.reason,
        next_run_at=next_run_at,
        calendars=calendars,
    )


def _restated(state: ScheduleState, now: datetime, exclusion: Exclusion | None) -> ScheduleUpdated:
    """The same schedule with `next_run_at` computed anew, when the stored one turned out to be no nominal time.

    It was computed under other time zone rules. Without an event it would be due for ever, and asked again and again.
    """
    return ScheduleUpdated(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        anchor_at=state.anchor_at,
        next_run_at=next_run_after(state, now, exclusion),
        updated_at=now,
        changed=(),
        consecutive_failures=state.consecutive_failures,
        calendars=versions_of(exclusion),
        **{name: getattr(state, name) for name in EDITABLE},
    )
