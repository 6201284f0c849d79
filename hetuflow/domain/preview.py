"""When a schedule would fire, for people who want to see it before: the same triggers, asked ahead."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from attrs import frozen

from hetuflow.domain import cron
from hetuflow.domain.cron_zone import zone
from hetuflow.domain.schedule_state import (
    ScheduleState,
    Timing,
    checked_trigger_of,
    delayed_after,
    has_fixed_times,
    is_fixed_delay,
)
from hetuflow.domain.trigger import CronTrigger, PendingTrigger, count_between, next_after


@frozen(slots=True)
class Upcoming:
    """One nominal time, in UTC and in the schedule's zone.

    `note`: `gap`, it stands for a local time that the clocks skip; `repeated`, its local time comes twice.
    """

    at: datetime
    local: datetime
    note: Literal["gap", "repeated"] | None


@frozen(slots=True)
class Preview:
    """`ends`: no fire follows the last one listed. Of a fixed delay only the next is known, and no end."""

    fires: tuple[Upcoming, ...]
    ends: bool


def preview(
    timing: Timing, anchor_at: datetime, *, now: datetime, after: datetime, count: int, fires_left: int | None
) -> Preview:
    """Return the first `count` nominal times after `after`, as if the schedule were enabled now.

    Args:
      anchor_at: where an interval without `start_time` counts from.
      fires_left: from now on; those between now and `after` are taken off. None = unlimited.
    Raises:
      Rejected: `invalid`, naming the member.
    """
    if not has_fixed_times(timing):
        return Preview((), ends=False)
    trigger = checked_trigger_of(timing, anchor_at)
    if is_fixed_delay(timing) and not _has_open_task(timing) and next_after(trigger, now) is None:
        trigger = PendingTrigger(delayed_after(timing, now))  # as if it were enabled now
    if fires_left is not None:
        fires_left -= count_between(trigger, now, after)
        count = max(min(count, fires_left), 0)
    found: list[Upcoming] = []
    following = next_after(trigger, after)
    while following is not None and len(found) < count:
        note = cron.note(trigger.parsed, following) if isinstance(trigger, CronTrigger) else None
        found.append(Upcoming(following, following.astimezone(zone(timing.timezone)), note))
        following = next_after(trigger, following)
    is_used_up = fires_left is not None and fires_left <= len(found)
    return Preview(tuple(found), ends=is_used_up or (following is None and not is_fixed_delay(timing)))


def _has_open_task(timing: Timing) -> bool:
    return isinstance(timing, ScheduleState) and timing.awaited_task is not None
