"""An oracle of nominal times, by counting: intervals by arithmetic, cron by looking at every minute with `zoneinfo`.

It knows the written rule (docs/guide/schedules.md) and nothing of the system's code. A fixed cron time (second, minute
and hour do not begin with `*`) is local: one that the clocks skip fires at the first instant after the gap, one that
they repeat fires on the first pass. Everything else follows real time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from attrs import frozen

MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
MINUTES_MAX = 20_000
"""Longest stretch that is looked at minute by minute: two weeks."""

CRON, INTERVAL = 1, 2
"""Kinds of schedules that have nominal times."""

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@frozen(slots=True)
class Timing:
    """When a schedule fires: its members as they are in the events; `anchor_at` by the rule of the guide."""

    members: Mapping[str, Any]
    anchor_at: datetime

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The nominal times in (after, until], oldest first."""
        members = self.members
        start, end = _instant(members["start_time"]), _instant(members["end_time"])
        if end is not None:
            until = min(until, end)
        if members["schedule_kind"] == INTERVAL:
            if members["max_count"] == 1 and start is not None:
                return [start] if after < start <= until else []
            return _every(members["interval_secs"], start, self.anchor_at, after, until)
        if members["schedule_kind"] == CRON:
            if start is not None:
                after = max(after, start - TICK)
            return list(_cron(members["cron_expression"], members["timezone"], after, until))
        return []


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _every(seconds: int, start: datetime | None, anchor: datetime, after: datetime, until: datetime) -> list[datetime]:
    step = timedelta(seconds=seconds)
    first = start if start is not None else anchor + step
    number = max(0, (after - first) // step)
    found = []
    while (at := first + step * number) <= until:
        if at > after:
            found.append(at)
        number += 1
    return found


# --- cron --------------------------------------------------------------------------------------------------------------


@frozen(slots=True)
class Fields:
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    joins_with_or: bool
    is_fixed: bool

    def has_minute(self, at: datetime) -> bool:
        return at.minute in self.minutes and at.hour in self.hours and at.month in self.months and self._has_day(at)

    def _has_day(self, at: datetime) -> bool:
        day = self.days is None or at.day in self.days
        weekday = self.weekdays is None or at.isoweekday() % 7 in self.weekdays
        if self.joins_with_or and self.days is not None and self.weekdays is not None:
            return day or weekday
        return day and weekday


@lru_cache(maxsize=256)
def fields_of(expression: str) -> Fields:
    """Five fields are Vixie cron, six are Quartz with seconds (no `L`, `W`, `#`, no years: the runs use none)."""
    parts = expression.lower().split()
    is_quartz = len(parts) == 6
    second = parts.pop(0) if is_quartz else "0"
    if len(parts) != 5:
        raise ValueError(f"the oracle reads five or six fields: {expression!r}")
    minute, hour, day, month, weekday = parts
    days = None if day in ("*", "?") else _numbers(day, 1, 31)
    weekdays = None if weekday in ("*", "?") else _weekdays(weekday, is_quartz)
    starred = day.startswith("*") or weekday.startswith("*")
    return Fields(
        seconds=_numbers(second, 0, 59),
        minutes=_numbers(minute, 0, 59),
        hours=_numbers(hour, 0, 23),
        days=days,
        months=_numbers(month, 1, 12, MONTHS),
        weekdays=weekdays,
        joins_with_or=not is_quartz and not starred,
        is_fixed=not any(part.startswith("*") for part in (second, minute, hour)),
    )


def _weekdays(text: str, is_quartz: bool) -> frozenset[int]:
    """As 0 = Sunday; Quartz counts from 1 = Sunday, Vixie has 7 for Sunday too."""
    if is_quartz:
        for number, name in enumerate(WEEKDAYS, 1):
            text = text.replace(name, str(number))
        return frozenset(number - 1 for number in _numbers(text, 1, 7))
    for number, name in enumerate(WEEKDAYS):
        text = text.replace(name, str(number))
    return frozenset(number % 7 for number in _numbers(text, 0, 7))


def _numbers(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    for number, name in enumerate(names, low):
        text = text.replace(name, str(number))
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            begin, end = low, high
        elif "-" in span:
            begin, end = (int(each) for each in span.split("-"))
        else:
            begin = int(span)
            end = high if step else begin
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _cron(expression: str, zone_name: str, after: datetime, until: datetime) -> Iterator[datetime]:
    fields, zone = fields_of(expression), ZoneInfo(zone_name)
    minute = after.astimezone(UTC).replace(second=0, microsecond=0)
    if (until - minute) / MINUTE > MINUTES_MAX:
        raise ValueError(f"the oracle looks at {MINUTES_MAX} minutes at most, not from {after} to {until}")
    while minute <= until:
        for at in _in_minute(fields, minute, zone):
            if after < at <= until:
                yield at
        minute += MINUTE


def _in_minute(fields: Fields, minute: datetime, zone: ZoneInfo) -> list[datetime]:
    local = minute.astimezone(zone)
    if not fields.is_fixed:
        return _seconds(fields, minute) if fields.has_minute(local) else []
    found = _seconds(fields, minute) if not local.fold and fields.has_minute(local) else []
    if not found or found[0] != minute:
        wall, before = local.replace(tzinfo=None), (minute - MINUTE).astimezone(zone).replace(tzinfo=None) + MINUTE
        while before < wall:  # the clocks jumped over these
            if fields.has_minute(before):
                return [minute, *found]
            before += MINUTE
    return found


def _seconds(fields: Fields, minute: datetime) -> list[datetime]:
    return [minute + timedelta(seconds=second) for second in sorted(fields.seconds)]
