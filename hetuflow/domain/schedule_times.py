"""Which nominal times a schedule still owes a decision, and when it is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.events import ScheduleExpired, ScheduleSkipped
from hetuflow.domain.excluded_times import next_free
from hetuflow.domain.exclusion import TICK, Exclusion
from hetuflow.domain.identity import fraction_of
from hetuflow.domain.schedule_state import (
    JUST_BEFORE,
    HeldEvent,
    ScheduleState,
    delayed_after,
    is_fixed_delay,
    is_once,
    trigger_of,
)
from hetuflow.domain.trigger import Trigger, count_between, last_at_or_before, next_after

JITTER_SECONDS_MAX = 30 * 86_400
"""A month: beyond, the task could leave the calendar, and nobody means it."""

REASON_CALENDAR = "calendar"

_MILLISECOND = timedelta(milliseconds=1)


def next_run_after(state: ScheduleState, now: datetime, exclusion: Exclusion | None = None) -> datetime | None:
    """The first nominal time after both now and the cursor that is not excluded; None when none is left."""
    if state.fires_left == 0:
        return None
    if is_fixed_delay(state):
        return delayed_after(state, max(now, state.cursor_at)) if state.awaited_task is None else None
    return next_free(trigger_of(state, state.anchor_at), exclusion, max(now, state.cursor_at)).at


def jittered(state: ScheduleState, nominal_at: datetime) -> datetime:
    """When the task of this nominal time is due: in [nominal, nominal + jitter), and before the next nominal time.

    The delay is derived from schedule and nominal time, so that whoever decides, again or elsewhere, names the same
    instant; whole milliseconds.
    """
    if not state.jitter_seconds:
        return nominal_at
    limit = timedelta(seconds=state.jitter_seconds)
    following = next_after(trigger_of(state, state.anchor_at), nominal_at)
    if following is not None:
        limit = min(limit, following - nominal_at)
    return nominal_at + fraction_of(state.schedule_id, nominal_at, limit // _MILLISECOND) * _MILLISECOND


def covered(state: ScheduleState, until: datetime, reason: str) -> list[ScheduleSkipped]:
    """The nominal times up to `until` that no decision has covered, as skipped: one range, or none.

    Those before `next_run_at` are excluded by a calendar, and are a range of their own before it.
    """
    if state.is_enabled and state.held is not None:
        return [held_skipped(state, state.held, reason)]
    if not state.is_enabled or state.is_daemon or state.next_run_at is None:
        return []
    is_due = state.next_run_at <= until
    if not is_due and not state.exclude_calendars:
        return []
    trigger = trigger_of(state, state.anchor_at)
    after, found = state.cursor_at, []
    if state.exclude_calendars:
        if until <= state.cursor_at:
            return []
        excluded_until = min(until, state.next_run_at - TICK)
        found += skipped(state, trigger, after, excluded_until, REASON_CALENDAR)
        after = max(after, excluded_until)
    return [*found, *skipped(state, trigger, after, until, reason)] if is_due else found


def skipped(
    state: ScheduleState, trigger: Trigger, after: datetime, until: datetime, reason: str
) -> list[ScheduleSkipped]:
    """The nominal times in (`after`, `until`] as a range that is skipped; empty when there are none."""
    first = next_after(trigger, after)
    last = last_at_or_before(trigger, until)
    if first is None or last is None or last < first:
        return []
    return [
        ScheduleSkipped(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            first_nominal_at=first,
            last_nominal_at=last,
            count=count_between(trigger, after, until),
            reason=reason,
            next_run_at=delayed_after(state, until) if is_fixed_delay(state) else next_after(trigger, last),
            calendars=state.calendars,
        )
    ]


def event_nominal_at(state: ScheduleState, recorded_at: datetime) -> datetime:
    """The nominal time that stands for an event: when it was recorded, or just after what was covered before.

    Events of one append are recorded at one instant, and the clock of the log is not the one that says when a schedule
    was made.
    """
    return max(recorded_at, state.cursor_at + JUST_BEFORE)


def held_skipped(state: ScheduleState, held: HeldEvent, reason: str) -> ScheduleSkipped:
    """The event that waits, as skipped."""
    nominal_at = event_nominal_at(state, held.recorded_at)
    return ScheduleSkipped(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        first_nominal_at=nominal_at,
        last_nominal_at=nominal_at,
        count=1,
        reason=reason,
        next_run_at=None,
        event_id=held.event_id,
        event_position=held.position,
    )


def expiry(state: ScheduleState) -> list[ScheduleExpired]:
    """The end of an enabled schedule that will not fire any more."""
    if not state.is_enabled or state.next_run_at is not None or state.is_daemon:
        return []
    if state.awaited_task is not None and state.fires_left != 0:
        return []  # what follows is known when that has ended
    if state.schedule_kind == ScheduleKind.FLOW:
        return []  # it never fires by itself
    if state.is_event and state.fires_left != 0:
        return []  # its end time comes by itself, see schedule_events.py
    if state.fires_left == 0:
        reason = "max_count"
    else:
        reason = "no_further_fire" if state.end_time is None or is_once(state) else "end_time"
    return [ScheduleExpired(schedule_id=state.schedule_id, job_id=state.job_id, reason=reason)]
