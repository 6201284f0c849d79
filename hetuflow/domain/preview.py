"""When a schedule would fire, for people who want to see it before: the same triggers, asked ahead."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from attrs import frozen

from hetuflow.domain import cron
from hetuflow.domain.cron_zone import zone
from hetuflow.domain.excluded_times import next_free, runs
from hetuflow.domain.exclusion import TICK, Exclusion
from hetuflow.domain.schedule_state import (
    ScheduleState,
    Timing,
    checked_trigger_of,
    delayed_after,
    has_fixed_times,
    is_fixed_delay,
)
from hetuflow.domain.trigger import CronTrigger, PendingTrigger, Trigger, count_between, next_after


@frozen(slots=True)
class Upcoming:
    """One nominal time, in UTC and in the schedule's zone.

    `note`: `gap`, it stands for a local time that the clocks skip; `repeated`, its local time comes twice.
    `excluded_by`: the calendars that exclude it; it then does not fire.
    """

    at: datetime
    local: datetime
    note: Literal["gap", "repeated"] | None
    excluded_by: tuple[str, ...] = ()


@frozen(slots=True)
class Preview:
    """`ends`: no fire follows the last one listed, or none that is not excluded as far as calendars are looked at. Of a
    fixed delay only the next is known, and no end."""

    fires: tuple[Upcoming, ...]
    ends: bool


def preview(
    timing: Timing,
    anchor_at: datetime,
    *,
    now: datetime,
    after: datetime,
    count: int,
    fires_left: int | None,
    exclusion: Exclusion | None = None,
    with_excluded: bool = False,
) -> Preview:
    """Return the first `count` nominal times after `after` that fire, as if the schedule were enabled now.

    Args:
      anchor_at: where an interval without `start_time` counts from.
      fires_left: from now on; those between now and `after` are taken off. None = unlimited.
      exclusion: what its calendars exclude.
      with_excluded: those that are excluded are listed too, and count.
    Raises:
      Rejected: `invalid`, naming the member.
    """
    if not has_fixed_times(timing):
        return Preview((), ends=False)
    trigger = checked_trigger_of(timing, anchor_at)
    if is_fixed_delay(timing) and not _has_open_task(timing) and next_after(trigger, now) is None:
        trigger = PendingTrigger(delayed_after(timing, now))  # as if it were enabled now
    if fires_left is not None:
        fires_left = max(fires_left - _count_free(trigger, exclusion, now, after), 0)
    found: list[Upcoming] = []
    following = _ahead(trigger, exclusion, after, with_excluded)
    while following is not None and len(found) < count and fires_left != 0:
        note = cron.note(trigger.parsed, following) if isinstance(trigger, CronTrigger) else None
        excluded_by = tuple(exclusion.excluded_by(following)) if exclusion is not None and with_excluded else ()
        found.append(Upcoming(following, following.astimezone(zone(timing.timezone)), note, excluded_by))
        if fires_left is not None and not excluded_by:
            fires_left -= 1
        following = _ahead(trigger, exclusion, following, with_excluded)
    return Preview(tuple(found), ends=fires_left == 0 or (following is None and not is_fixed_delay(timing)))


def _has_open_task(timing: Timing) -> bool:
    return isinstance(timing, ScheduleState) and timing.awaited_task is not None


def _ahead(trigger: Trigger, exclusion: Exclusion | None, after: datetime, with_excluded: bool) -> datetime | None:
    if with_excluded or exclusion is None:
        return next_after(trigger, after)
    ahead = next_free(trigger, exclusion, after)
    return ahead.at if ahead.is_free else None


def _count_free(trigger: Trigger, exclusion: Exclusion | None, after: datetime, until: datetime) -> int:
    if exclusion is None:
        return count_between(trigger, after, until)
    free = (run for run in runs(trigger, exclusion, after, until) if not run.is_excluded)
    return sum(count_between(trigger, run.first - TICK, run.last) for run in free)
