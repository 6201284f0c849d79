"""What a backfill covers: the nominal times of a schedule in a past window, and which of them it may make tasks for.

Only what the schedule itself will never decide again: nominal times at or before its cursor, or before now while it is
switched off. An interval that counts from its creation is continued into the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.events import BackfillStarted
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import JUST_BEFORE, ScheduleState, is_fixed_delay, is_once
from hetuflow.domain.switch_notes import checked_note
from hetuflow.domain.trigger import CronTrigger, IntervalTrigger, OnceTrigger, Trigger, count_between, next_after

TOTAL_MAX = 100_000
"""Nominal times of one backfill: weeks of a minutely one. More is asked for in parts, which can be watched and cancelled."""

CONCURRENT_MAX = 100


def start_of(
    backfill_id: str,
    schedule: ScheduleState,
    from_at: datetime,
    until_at: datetime,
    now: datetime,
    *,
    max_concurrent: int,
    note: str | None = None,
) -> BackfillStarted:
    """Return the first event of the backfill.

    Raises:
      Rejected: `invalid`, naming the member (`from`, `to`, `max_concurrent`, `note`), or the schedule has no such times.
    """
    if not schedule.exists:
        raise Rejected(
            "not_found", "there is no such schedule", {"kind": "schedule", "id": schedule.schedule_id or None}
        )
    if not 1 <= max_concurrent <= CONCURRENT_MAX:
        raise _invalid("max_concurrent", f"must be 1-{CONCURRENT_MAX}")
    if until_at < from_at:
        raise _invalid("to", "must not be before from")
    until_at = min(until_at, schedule.cursor_at if schedule.is_enabled else now)
    members = _rule(schedule, from_at)
    total = 0 if until_at < from_at else count_between(trigger_of(members), from_at - JUST_BEFORE, until_at)
    if total == 0:
        raise _invalid("from", "the schedule has no nominal time in this window that it has decided already")
    if total > TOTAL_MAX:
        raise _invalid(
            "to", f"{total} nominal times lie in this window, at most {TOTAL_MAX} are allowed: take it in parts"
        )
    return BackfillStarted(
        backfill_id=backfill_id,
        schedule_id=schedule.schedule_id,
        job_id=schedule.job_id,
        from_at=from_at.astimezone(UTC),
        until_at=until_at.astimezone(UTC),
        total=total,
        max_concurrent=max_concurrent,
        note=checked_note(note),
        exclude_calendars=tuple(schedule.exclude_calendars),
        parameters=schedule.parameters or {},
        priority=schedule.priority,
        started_at=now,
        **members,
    )


def _rule(schedule: ScheduleState, from_at: datetime) -> dict[str, Any]:
    kind, start = schedule.schedule_kind, schedule.start_time
    if kind not in (ScheduleKind.CRON, ScheduleKind.INTERVAL) or is_fixed_delay(schedule):
        what = "a fixed delay" if is_fixed_delay(schedule) else f"kind {ScheduleKind(kind).name.title()}"
        raise _invalid("id", f"{what} has no nominal times of its own in the past")
    if schedule.run_flow:
        raise _invalid("id", "the schedule runs a flow, and a backfill makes single tasks: start the runs one by one")
    if kind == ScheduleKind.INTERVAL and start is None:
        start = _on_the_grid(schedule, from_at if schedule.end_time is None else min(from_at, schedule.end_time))
    return {
        "schedule_kind": kind,
        "cron_expression": schedule.cron_expression,
        "interval_secs": None if is_once(schedule) else schedule.interval_secs,
        "timezone": schedule.timezone,
        "start_time": start,
        "end_time": schedule.end_time,
    }


def nominal_within(schedule: ScheduleState, from_at: datetime, before: datetime) -> datetime | None:
    """The first nominal time in [`from_at`, `before`) as a backfill sees them: also before the schedule's creation."""
    try:
        rule = _rule(schedule, from_at)
    except Rejected:
        return None
    found = next_after(trigger_of(rule), from_at - JUST_BEFORE)
    return found if found is not None and found < before else None


def _on_the_grid(schedule: ScheduleState, from_at: datetime) -> datetime:
    """A nominal time at or before `from_at`, were there no beginning."""
    interval = timedelta(seconds=schedule.interval_secs or 1)
    return schedule.anchor_at + (from_at - schedule.anchor_at) // interval * interval


def trigger_of(members: Mapping[str, Any]) -> Trigger:
    """The rule of times of a backfill, from the members of its first event."""
    start, end = members["start_time"], members["end_time"]
    if members["schedule_kind"] == ScheduleKind.CRON:
        return CronTrigger(members["cron_expression"], members["timezone"], start, end)
    if members["interval_secs"] is None:
        return OnceTrigger(start)
    return IntervalTrigger(start, members["interval_secs"], start, end)


def _invalid(path: str, message: str) -> Rejected:
    return Rejected("invalid", f"{path}: {message}", {"path": path})
