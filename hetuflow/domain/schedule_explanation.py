"""What a schedule did, or will do, at one moment: fired, skipped and why, still to come, or no nominal time of it at all.

Pure: everything comes in. What has been decided is told by the decision, whatever the rule says today; what has not, by
the rule that was in force then, or that is in force now for what is to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import frozen

from hetuflow.domain import cron
from hetuflow.domain import schedule_fold as fold
from hetuflow.domain.cron_zone import zone
from hetuflow.domain.enums import JobStatus, OverlapPolicy, ScheduleKind, ScheduleStatus, TaskStatus
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleEvent,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleSuspended,
    ScheduleUpdated,
)
from hetuflow.domain.exclusion import Exclusion
from hetuflow.domain.preview import Upcoming
from hetuflow.domain.schedule_state import JUST_BEFORE, ScheduleState, has_fixed_times, is_fixed_delay, trigger_of
from hetuflow.domain.schedule_times import jittered
from hetuflow.domain.trigger import CronTrigger, Trigger, count_between, last_at_or_before, next_after

LIFECYCLE = (
    ScheduleCreated,
    ScheduleUpdated,
    ScheduleEnabled,
    ScheduleDisabled,
    ScheduleSuspended,
    ScheduleExpired,
    ScheduleDeleted,
)
"""The events that say when the rule of times applied, and which; as few as there were changes."""

PRECISION = timedelta(seconds=1)
"""Who asks of 08:00:00 means a nominal time of 08:00:00.25, too."""


@frozen(slots=True)
class Lived:
    """An event of the schedule's life, and when it was recorded."""

    event: ScheduleEvent
    recorded_at: datetime


@frozen(slots=True, kw_only=True)
class Decided:
    """The decision that covers the moment. `why`: a skip's reason in words; `task_status`: None = the task is deleted."""

    event: ScheduleFired | ScheduleSkipped
    recorded_at: datetime
    why: str = ""
    task_status: TaskStatus | None = None


@frozen(slots=True, kw_only=True)
class Backfilled:
    """A backfill made the task of the moment. `task_status`: None = the task is deleted."""

    backfill_id: str
    task_id: str
    task_status: TaskStatus | None

    @property
    def sentence(self) -> str:
        return f"Backfill {self.backfill_id} made task {self.task_id} for it, {_became(self.task_status)}."


@frozen(slots=True, kw_only=True)
class JobStanding:
    """The schedule's job now."""

    status: JobStatus
    note: str | None = None
    is_deleted: bool = False


@frozen(slots=True, kw_only=True)
class MomentExplanation:
    """`outcome`: `fired`, `skipped`, `due`, `will_fire`, `will_not_fire` or `no_nominal_time`; `code` why, where it says so."""

    outcome: str
    code: str | None
    summary: str
    nominal: Upcoming | None = None
    due_at: datetime | None = None
    before: Upcoming | None = None
    after: Upcoming | None = None


@frozen(slots=True, kw_only=True)
class Asked:
    """The question, and all that is known. `now`: the schedule as it is; `exclusion`: what its calendars exclude."""

    at: datetime
    asked_at: datetime
    lives: Sequence[Lived]
    now: ScheduleState
    job: JobStanding | None
    decided: Decided | None = None
    decided_before: datetime | None = None
    decided_after: datetime | None = None
    exclusion: Exclusion | None = None

    @property
    def is_past(self) -> bool:
        return self.at <= self.asked_at

    @property
    def then(self) -> ScheduleState:
        """The schedule as it was at the moment, without what its fires changed; as it is now for what is to come."""
        return state_at(self.lives, self.at) if self.is_past else self.now


def state_at(lives: Sequence[Lived], at: datetime) -> ScheduleState:
    state = ScheduleState()
    for each in lives:
        if each.recorded_at > at:
            break
        state = fold.FOLDS[type(each.event)](state, each.event)
    return state


def nominal_near(asked: Asked) -> datetime | None:
    """The nominal time that is meant: at the moment, or in the second that begins with it."""
    state = asked.then
    if state.status is None or not has_fixed_times(state):
        return None
    at = next_after(trigger_of(state, state.anchor_at), asked.at - JUST_BEFORE)
    return at if at is not None and at < asked.at + PRECISION else None


def explain_moment(asked: Asked) -> MomentExplanation:
    if asked.decided is not None and _is_meant(asked, asked.decided.event):
        return _decided(asked, asked.decided)
    state = asked.then
    if state.status is None:
        created = asked.lives[0]
        return _none(
            asked, "not_created", f"The schedule did not exist then: it was created at {_at(created.recorded_at)}."
        )
    if not has_fixed_times(state):
        kind = ScheduleKind(state.schedule_kind).name.title()
        return _none(asked, "no_fixed_times", f"A schedule of kind {kind} has no times of its own.")
    if is_fixed_delay(state):
        return _delayed(asked, state)
    outside = _outside(asked, state)
    nominal_at = nominal_near(asked)
    if outside is not None and nominal_at is None:
        return _none(asked, *outside)
    if nominal_at is None:
        return _none(asked, "no_nominal_time", "It is not a nominal time of the schedule.")
    return _undecided(asked, state, nominal_at)


def _is_meant(asked: Asked, event: ScheduleFired | ScheduleSkipped) -> bool:
    """A range of skipped times has moments in it that are none."""
    if isinstance(event, ScheduleFired) or nominal_near(asked) is not None:
        return True
    ends = (event.first_nominal_at, event.last_nominal_at)
    return any(asked.at <= end < asked.at + PRECISION for end in ends)


# --- what was decided -------------------------------------------------------------------------------------------------


def _decided(asked: Asked, decided: Decided) -> MomentExplanation:
    event = decided.event
    if isinstance(event, ScheduleFired):
        late = (event.fired_at - event.nominal_at).total_seconds()
        when = f"at {_at(event.fired_at)}" + (f", {late:.0f} s late," if late >= 1 else "")
        summary = f"It fired {when} and made task {event.task_id}, {_became(decided.task_status)}."
        return _with_neighbours(asked, "fired", None, summary, event.nominal_at)
    others = f", with {event.count - 1} others" if event.count > 1 else ""
    summary = f"It was skipped at {_at(decided.recorded_at)}{others}: {decided.why or event.reason}."
    inside = nominal_near(asked)
    nominal_at = event.first_nominal_at if event.count == 1 or inside is None else inside
    return _with_neighbours(asked, "skipped", event.reason, summary, nominal_at)


def _became(status: TaskStatus | None) -> str:
    if status is None:
        return "which is deleted"
    words = {TaskStatus.SUCCEEDED: "which succeeded", TaskStatus.FAILED: "which failed"}
    words |= {TaskStatus.CANCELLED: "which was cancelled", TaskStatus.RUNNING: "which runs"}
    return words.get(status, f"which is {status.name.replace('_', ' ').lower()}")


# --- what was not -----------------------------------------------------------------------------------------------------


def _outside(asked: Asked, state: ScheduleState) -> tuple[str, str] | None:
    if state.start_time is not None and asked.at + PRECISION <= state.start_time:
        return "before_start", f"It is before start_time, {_at(state.start_time)}."
    if state.end_time is not None and asked.at > state.end_time:
        return "after_end", f"It is after end_time, {_at(state.end_time)}."
    return None


def _undecided(asked: Asked, state: ScheduleState, nominal_at: datetime) -> MomentExplanation:
    off = _switched_off(asked)
    if off is not None:
        verb = "It was a nominal time, but" if asked.is_past else "It would fire then, but"
        return _with_neighbours(asked, "will_not_fire", off[0], f"{verb} {off[1]}.", nominal_at)
    if asked.exclusion is not None and (by := asked.exclusion.excluded_by(nominal_at)):
        return _with_neighbours(asked, "will_not_fire", "calendar", _excluded(asked, by), nominal_at)
    if asked.is_past:
        summary = "It is due and not decided yet: no server has come to it, or its clock is behind."
        return _with_neighbours(asked, "due", "undecided", summary, nominal_at)
    return _ahead(asked, state, nominal_at)


def _excluded(asked: Asked, by: Sequence[str]) -> str:
    named = f"calendar{'s' if len(by) > 1 else ''} {' and '.join(by)}"
    if not asked.is_past:
        return f"It will not fire: it is excluded by {named}, unless that is changed before."
    following = f" at {_at(asked.now.next_run_at)}" if asked.now.next_run_at is not None else ""
    return f"It does not fire: it is excluded by {named}. Its skip is recorded together with the next fire{following}."


def _ahead(asked: Asked, state: ScheduleState, nominal_at: datetime) -> MomentExplanation:
    job = asked.job
    if job is None or job.is_deleted:
        summary = "It will not fire: its job is deleted, and the schedule with it."
        return _with_neighbours(asked, "will_not_fire", "job_deleted", summary, nominal_at)
    if job.status is not JobStatus.ENABLED:
        noted = f" ({job.note})" if job.note else ""
        summary = f"It will be skipped unless its job is enabled before: that is {job.status.name.title()}{noted}."
        return _with_neighbours(asked, "will_not_fire", "job_disabled", summary, nominal_at)
    if state.fires_left is not None:
        ahead = count_between(trigger_of(state, state.anchor_at), max(state.cursor_at, asked.asked_at), nominal_at)
        if ahead > state.fires_left:
            summary = (
                f"It will not fire: max_count ({state.max_count}) is reached before, after {state.fires_left} more."
            )
            return _with_neighbours(asked, "will_not_fire", "max_count", summary, nominal_at)
    due_at = jittered(state, nominal_at)
    delay = f" Its task is due at {_at(due_at)} (jitter)." if due_at != nominal_at else ""
    found = _with_neighbours(asked, "will_fire", None, f"It will fire then{_unless(state)}.{delay}", nominal_at)
    return MomentExplanation(
        outcome=found.outcome,
        code=None,
        summary=found.summary,
        nominal=found.nominal,
        due_at=due_at,
        before=found.before,
        after=found.after,
    )


def _unless(state: ScheduleState) -> str:
    match state.overlap_policy:
        case OverlapPolicy.SKIP:
            return ", unless a task that it made before has not ended"
        case OverlapPolicy.QUEUE:
            return ", and start when the tasks that it made before have ended"
        case OverlapPolicy.CANCEL_PREVIOUS:
            return ", and cancel what it made before and has not ended"
        case _:
            return ""


def _switched_off(asked: Asked) -> tuple[str, str] | None:
    """Why the schedule decided nothing then, or would not now; None when it was on."""
    since: Lived | None = None
    for each in asked.lives:
        if each.recorded_at > asked.at and asked.is_past:
            break
        match each.event:
            case ScheduleEnabled():
                since = None
            case ScheduleCreated(status=status):
                since = None if status == ScheduleStatus.ENABLED else each
            case ScheduleDisabled() | ScheduleSuspended() | ScheduleExpired() | ScheduleDeleted():
                since = each
    return None if since is None else _off_words(since, "was" if asked.is_past else "is")


def _off_words(since: Lived, is_: str) -> tuple[str, str]:
    at = _at(since.recorded_at)
    match since.event:
        case ScheduleDeleted():
            return "deleted", f"the schedule was deleted at {at}"
        case ScheduleExpired(reason=reason):
            return "expired", f"the schedule {is_} over since {at} ({reason.replace('_', ' ')})"
        case ScheduleSuspended(error=error):
            return "schedule_disabled", f"the schedule was suspended at {at} after a defect: {error}"
        case ScheduleDisabled(status=status, note=note):
            noted = f" ({note})" if note else ""
            return "schedule_disabled", f"the schedule {is_} {ScheduleStatus(status).name.title()} since {at}{noted}"
        case _:
            return "schedule_disabled", f"the schedule was created switched off at {at}"


def _delayed(asked: Asked, state: ScheduleState) -> MomentExplanation:
    """A fixed delay: what is to come is known only up to the next time, and that only while no task of it is open."""
    now = asked.now
    off = _switched_off(asked)
    if off is not None:
        return _none(asked, off[0], f"It is no nominal time: {off[1]}.")
    following = now.next_run_at
    if following is not None and asked.at <= following < asked.at + PRECISION:
        if asked.is_past:
            return _with_neighbours(asked, "due", "undecided", "It is due and not decided yet.", following)
        return _ahead(asked, now, following)
    if asked.is_past:
        return _none(asked, "no_nominal_time", "It was not a nominal time: those follow the ends of its tasks.")
    if following is not None:
        summary = f"The next nominal time is {_at(following)}; what follows is known when that task has ended."
        return _none(asked, "not_known", summary)
    summary = f"The next nominal time is known when task {now.awaited_task} has ended: {now.interval_secs} s later."
    return _none(asked, "not_known", summary)


# --- neighbours -------------------------------------------------------------------------------------------------------


def _none(asked: Asked, code: str, summary: str) -> MomentExplanation:
    return _with_neighbours(asked, "no_nominal_time", code, summary, None)


def _with_neighbours(
    asked: Asked, outcome: str, code: str | None, summary: str, nominal_at: datetime | None
) -> MomentExplanation:
    state = asked.then if asked.then.status is not None else asked.now
    trigger = trigger_of(state, state.anchor_at) if has_fixed_times(state) else None
    at = nominal_at or asked.at
    before, after = asked.decided_before, asked.decided_after
    if trigger is not None and not is_fixed_delay(state):
        before, after = last_at_or_before(trigger, at - JUST_BEFORE), next_after(trigger, at)
    elif is_fixed_delay(state) and after is None and asked.now.next_run_at is not None and asked.now.next_run_at > at:
        after = asked.now.next_run_at
    return MomentExplanation(
        outcome=outcome,
        code=code,
        summary=summary,
        nominal=_upcoming(trigger, state, nominal_at),
        before=_upcoming(trigger, state, before),
        after=_upcoming(trigger, state, after),
    )


def _upcoming(trigger: Trigger | None, state: ScheduleState, at: datetime | None) -> Upcoming | None:
    if at is None:
        return None
    note = cron.note(trigger.parsed, at) if isinstance(trigger, CronTrigger) else None
    return Upcoming(at.astimezone(UTC), at.astimezone(zone(state.timezone)), note)


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
