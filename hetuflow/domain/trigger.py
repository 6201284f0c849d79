"""Triggers: the rule of times of a schedule, as a value, and the questions one may ask it.

A trigger never reads a clock and keeps no state: a schedule's past is its cursor (see misfire.py). All instants are aware
`datetime`s and answers are UTC. No question costs more for a long absence: after a year without a server, a one-second
interval has 31 million nominal times in between, which are counted by division, never visited; those of a cron expression
are counted month by month.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from attrs import field, frozen

from hetuflow.domain import cron
from hetuflow.domain.cron import CronExpression, parse_cron

INTERVAL_SECONDS_MAX = 100 * 366 * 86_400
"""Longest interval, in seconds: a century. Beyond, instants leave the calendar."""

_RESOLUTION = timedelta(microseconds=1)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def _check_instant(name: str, value: datetime | None) -> None:
    if value is None:
        return
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone: {value.isoformat()}")
    if not 1 < value.year < 9999:  # so that no zone pushes it off the calendar
        raise ValueError(f"{name} is {value.isoformat()}, use a year from 2 to 9998")


def _check_window(start: datetime | None, end: datetime | None) -> None:
    _check_instant("start_at", start)
    _check_instant("end_at", end)
    if start is not None and end is not None and end < start:
        raise ValueError(f"end_at {end.isoformat()} is before start_at {start.isoformat()}")


@frozen(slots=True)
class IntervalTrigger:
    """Fixed rate in elapsed seconds, never drifting.

    At `start_at` + k x interval; without `start_at`, at `anchor_at` + (k + 1) x interval, where `anchor_at` is the
    instant of creation or of the last change of the interval (k >= 0). Nothing after `end_at`, which is included.

    Raises:
      ValueError: interval not 1-`INTERVAL_SECONDS_MAX`, an instant without zone, or `end_at` before `start_at`.
    """

    anchor_at: datetime
    interval_seconds: int
    start_at: datetime | None = None
    end_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        _check_instant("anchor_at", self.anchor_at)
        _check_window(self.start_at, self.end_at)
        if not 1 <= self.interval_seconds <= INTERVAL_SECONDS_MAX:
            raise ValueError(f"interval_seconds is {self.interval_seconds}, use 1-{INTERVAL_SECONDS_MAX}")

    @property
    def first_at(self) -> datetime:
        """The nominal time with k = 0, in UTC."""
        if self.start_at is not None:
            return self.start_at.astimezone(UTC)
        return self.anchor_at.astimezone(UTC) + timedelta(seconds=self.interval_seconds)


@frozen(slots=True)
class CronTrigger:
    """Each fire of a cron expression in the window; both ends are included.

    Raises:
      CronError: the expression is wrong, see `parse_cron`.
      UnknownTimeZone: there is no such zone.
      ValueError: an instant without zone, or `end_at` before `start_at`.
    """

    expression: str
    zone: str = "UTC"
    start_at: datetime | None = None
    end_at: datetime | None = None
    parsed: CronExpression = field(init=False, eq=False, repr=False)

    @parsed.default
    def _parse(self) -> CronExpression:
        return parse_cron(self.expression, self.zone)

    def __attrs_post_init__(self) -> None:
        _check_window(self.start_at, self.end_at)


@frozen(slots=True)
class OnceTrigger:
    """One nominal time."""

    at: datetime

    def __attrs_post_init__(self) -> None:
        _check_instant("at", self.at)


@frozen(slots=True)
class PendingTrigger:
    """The one nominal time that is known now, None while it is not: of a fixed delay, whose next follows from an end."""

    at: datetime | None

    def __attrs_post_init__(self) -> None:
        _check_instant("at", self.at)


Trigger: TypeAlias = IntervalTrigger | CronTrigger | OnceTrigger | PendingTrigger


def next_after(trigger: Trigger, instant: datetime) -> datetime | None:
    """Return the first nominal time strictly after `instant`, in UTC; None when there is none."""
    match trigger:
        case IntervalTrigger():
            return _up_to(_interval_at(trigger, _interval_count(trigger, instant)), trigger.end_at)
        case CronTrigger():
            return _up_to(cron.next_after(trigger.parsed, _opened(trigger, instant)), trigger.end_at)
        case OnceTrigger() | PendingTrigger():
            return trigger.at.astimezone(UTC) if trigger.at is not None and trigger.at > instant else None


def occurrences_between(trigger: Trigger, after: datetime, until: datetime, limit: int) -> tuple[datetime, ...]:
    """Return the nominal times in (`after`, `until`], oldest first, at most `limit` of them."""
    found: list[datetime] = []
    while len(found) < limit:
        nominal_at = next_after(trigger, after)
        if nominal_at is None or nominal_at > until:
            break
        found.append(nominal_at)
        after = nominal_at
    return tuple(found)


def last_at_or_before(trigger: Trigger, instant: datetime, *, after: datetime | None = None) -> datetime | None:
    """Return the newest nominal time at or before `instant`, in UTC; None when there is none, or none after `after`."""
    if after is not None and instant <= after:
        return None
    match trigger:
        case IntervalTrigger():
            count = _interval_count(trigger, _earlier(instant, trigger.end_at))
            newest = _interval_at(trigger, count - 1) if count else None
        case CronTrigger():
            newest = _last_cron(trigger, after or _EARLIEST - _RESOLUTION, _earlier(instant, trigger.end_at))
        case OnceTrigger() | PendingTrigger():
            newest = trigger.at.astimezone(UTC) if trigger.at is not None and trigger.at <= instant else None
    return newest if newest is None or after is None or newest > after else None


def count_between(trigger: Trigger, after: datetime, until: datetime) -> int:
    """Return how many nominal times lie in (`after`, `until`]."""
    if until <= after:
        return 0
    match trigger:
        case IntervalTrigger():
            last = _earlier(until, trigger.end_at)
            return max(_interval_count(trigger, last) - _interval_count(trigger, after), 0)
        case CronTrigger():
            return cron.count_between(trigger.parsed, _opened(trigger, after), _earlier(until, trigger.end_at))
        case OnceTrigger() | PendingTrigger():
            return int(trigger.at is not None and after < trigger.at <= until)


def _interval_count(trigger: IntervalTrigger, instant: datetime) -> int:
    """How many nominal times lie at or before `instant`, were there no end."""
    elapsed = instant - trigger.first_at
    if elapsed < timedelta(0):
        return 0
    return elapsed // timedelta(seconds=trigger.interval_seconds) + 1


def _interval_at(trigger: IntervalTrigger, k: int) -> datetime | None:
    try:
        return trigger.first_at + k * timedelta(seconds=trigger.interval_seconds)
    except OverflowError:  # past the year 9999
        return None


def _last_cron(trigger: CronTrigger, after: datetime, instant: datetime) -> datetime | None:
    """The newest fire in (after, instant]: look back in doubling windows, then halve the one that has a fire."""
    after = _opened(trigger, after)
    window = timedelta(minutes=2)
    low, newest = instant, None
    while newest is None and low > after:
        high = low
        low = low - window if low - after > window else after
        newest = cron.first_between(trigger.parsed, low, high)
        window *= 2
    if newest is None:
        return None
    low, high = newest, instant
    while high - low >= timedelta(seconds=1):  # fires are whole seconds
        middle = low + (high - low) / 2
        later = cron.first_between(trigger.parsed, middle, high)
        if later is None:
            high = middle
        else:
            low = newest = later
    return newest


def _opened(trigger: CronTrigger, instant: datetime) -> datetime:
    """`instant`, moved to just before the window when it lies earlier."""
    if trigger.start_at is None or trigger.start_at <= instant:
        return instant
    return trigger.start_at - _RESOLUTION


def _up_to(nominal_at: datetime | None, end_at: datetime | None) -> datetime | None:
    if nominal_at is None or (end_at is not None and nominal_at > end_at):
        return None
    return nominal_at


def _earlier(instant: datetime, end_at: datetime | None) -> datetime:
    return instant if end_at is None else min(instant, end_at)
