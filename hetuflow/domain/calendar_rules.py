"""The rules of an exclusion calendar as a value: which instants it excludes.

All rules but `periods` speak of local time in the calendar's zone: an instant is excluded when the date and time that
the clocks there show at it are. So both passes of a repeated hour are, and a rule for a skipped hour excludes nothing.
Beginnings are included and ends of times are not (`from 22:00 to 06:00` lets 06:00:00 fire); ends of date ranges are.

A question costs what lies between its instants: days for rules that recur, nothing for those of single dates.
Instants are integers here: UTC seconds since 1970, as in cron_zone.py.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from attrs import frozen

from hetuflow.domain.cron_zone import first_transition, offset_and_fold_end

JSON = Mapping[str, Any]
Span: TypeAlias = tuple[int, int]
"""From the first number to before the second one."""

DAY = 86_400
_YEAR = 366 * DAY
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_WHOLE_DAY: Sequence[Span] = ((0, DAY),)
INSTANT_MAX = 253_370_000_000
"""Early in the year 9999: no zone pushes what lies before off the calendar."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RULES = ("dates", "ranges", "yearly", "weekdays", "times", "periods")
"""The members of a calendar that exclude something."""


@frozen(slots=True)
class CalendarRules:
    """`days`: ranges of whole days (days since 1970), apart and in order, and where they begin, for bisection. `weekly`:
    what is excluded of each day of the week, Monday first, in seconds of the local day. `periods`: instants."""

    zone: str = "UTC"
    days: tuple[Span, ...] = ()
    day_starts: tuple[int, ...] = ()
    yearly: frozenset[tuple[int, int]] = frozenset()
    weekly: tuple[tuple[Span, ...], ...] = ((),) * 7
    periods: tuple[Span, ...] = ()
    recurs: bool = False
    """Whether it excludes something of days without end."""


NO_RULES = CalendarRules()


def rules_of(timezone: str, members: JSON) -> CalendarRules:
    """Return the value that the members of a calendar amount to (see calendar_members.py for what they may be).

    Args:
      members: `dates`, `ranges`, `yearly`, `weekdays`, `times`, `periods`; one that is absent excludes nothing.
    """
    single = [(day, day + 1) for day in map(_day_number, members.get("dates") or ())]
    several = [(_day_number(each["from"]), _day_number(each["to"]) + 1) for each in members.get("ranges") or ()]
    days = tuple(merged(sorted(single + several)))
    weekly, yearly = _weekly(members), _yearly(members)
    return CalendarRules(
        zone=timezone,
        days=days,
        day_starts=tuple(first for first, _ in days),
        yearly=yearly,
        weekly=weekly,
        recurs=bool(yearly) or any(weekly),
        periods=tuple(
            merged(sorted((_instant(each["from"]), _instant(each["to"])) for each in members.get("periods") or ()))
        ),
    )


def spans(rules: CalendarRules, low: int, high: int) -> Iterator[Span]:
    """Yield what the rules exclude of [low, high): spans in order, none touching the next."""
    high = min(high, INSTANT_MAX)
    sources: list[Iterable[Span]] = [_local_spans(rules, low, high)]
    if rules.periods:
        sources.append(_clipped(rules.periods, low, high))
    return merged(heapq.merge(*sources))


def contains(rules: CalendarRules, instant: int) -> bool:
    """Whether the rules exclude the instant: what `spans` says, without looking further."""
    offset, _ = offset_and_fold_end(rules.zone, instant)
    day, second = divmod(instant + offset, DAY)
    index = bisect_right(rules.day_starts, day)
    if index and day < rules.days[index - 1][1]:
        return True
    if rules.recurs and any(first <= second < last for first, last in _of_day(rules, day)):
        return True
    place = bisect_right(rules.periods, instant, key=_begin)
    return place > 0 and instant < rules.periods[place - 1][1]


def merged(ordered: Iterable[Span]) -> Iterator[Span]:
    """Yield the same spans, in order of their beginnings, with those that touch or overlap made one."""
    pending: Span | None = None
    for low, high in ordered:
        if pending is None:
            pending = low, high
        elif low <= pending[1]:
            pending = pending[0], max(pending[1], high)
        else:
            yield pending
            pending = low, high
    if pending is not None:
        yield pending


def time_of_day(text: str) -> int:
    """`HH:MM` or `HH:MM:SS` as seconds of the day; `24:00` is its end."""
    hours, minutes, *seconds = (int(part) for part in text.split(":"))
    return hours * 3600 + minutes * 60 + (seconds[0] if seconds else 0)


def _begin(span: Span) -> int:
    return span[0]


def _day_number(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH_DAY


def _instant(value: Any) -> int:
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return (at - _EPOCH) // timedelta(seconds=1)


def _yearly(members: JSON) -> frozenset[tuple[int, int]]:
    return frozenset((int(text[:2]), int(text[3:])) for text in members.get("yearly") or ())


def _weekly(members: JSON) -> tuple[tuple[Span, ...], ...]:
    """Windows that reach over midnight are cut there: the rest belongs to the next day of the week."""
    found: list[list[Span]] = [[] for _ in WEEKDAYS]
    every_day = [{"days": WEEKDAYS, **window} for window in members.get("times") or ()]
    for rule in [*(members.get("weekdays") or ()), *every_day]:
        low = time_of_day(rule.get("from") or "00:00")
        high = time_of_day(rule.get("to") or "24:00")
        for weekday in map(WEEKDAYS.index, rule["days"]):
            if low < high:
                found[weekday].append((low, high))
            else:
                found[weekday].append((low, DAY))
                found[(weekday + 1) % 7].append((0, high))
    return tuple(tuple(merged(sorted(span for span in day if span[0] < span[1]))) for day in found)


def _local_spans(rules: CalendarRules, low: int, high: int) -> Iterator[Span]:
    """By segments of constant offset, within which local time and instants run alike."""
    while low < high:
        offset, _ = offset_and_fold_end(rules.zone, low)
        end = min(high, low + _YEAR)
        transition = first_transition(rules.zone, low, end)
        if transition is not None:
            end = min(end, transition.at)
        for first, last in _days_between(rules, low + offset, end + offset):
            yield max(first - offset, low), min(last - offset, end)
        low = end


def _days_between(rules: CalendarRules, low: int, high: int) -> Iterator[Span]:
    """What is excluded of the days that touch the local times [low, high), cut to these, in local time."""
    day = low // DAY
    while day * DAY < high:
        index = bisect_right(rules.day_starts, day)
        if index and day < rules.days[index - 1][1]:
            following = rules.days[index - 1][1]
            yield day * DAY, following * DAY
            day = following
        elif rules.recurs:
            for first, last in _of_day(rules, day):
                if day * DAY + first < high and low < day * DAY + last:
                    yield day * DAY + first, day * DAY + last
            day += 1
        elif index < len(rules.days):
            day = rules.day_starts[index]
        else:
            return


def _of_day(rules: CalendarRules, day: int) -> Sequence[Span]:
    if rules.yearly:
        at = date.fromordinal(day + _EPOCH_DAY)
        if (at.month, at.day) in rules.yearly:
            return _WHOLE_DAY
    return rules.weekly[(day + 3) % 7]  # 1970 began on a Thursday


def _clipped(ordered: Sequence[Span], low: int, high: int) -> Iterator[Span]:
    first = max(bisect_right(ordered, (low, low)) - 1, 0)
    for index in range(first, len(ordered)):
        begin, end = ordered[index]
        if begin >= high:
            return
        if end > low:
            yield max(begin, low), min(end, high)
