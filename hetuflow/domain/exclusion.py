"""What a schedule's calendars exclude together, each as it was at the instant that is asked about.

A calendar that is edited is another one from the instant of the edit on, and stays what it was up to that instant: so a
nominal time is judged alike however late, by whichever server and after whatever crash it is decided.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from attrs import frozen

from hetuflow.domain.calendar_rules import NO_RULES, CalendarRules, Span, contains, merged, spans

HORIZON = timedelta(days=10 * 366)
"""How far ahead of a nominal time the end of its exclusion is looked for."""

TICK = timedelta(microseconds=1)
"""The resolution of time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_ONE_SECOND = timedelta(seconds=1)
_LATEST = (datetime(9998, 12, 31, tzinfo=UTC) - _EPOCH) // TICK


@frozen(slots=True)
class Edition:
    """The rules that hold after the instant `since_at`, up to the next edition; None = from the beginning of time."""

    since_at: datetime | None
    rules: CalendarRules


@frozen(slots=True)
class Calendar:
    """A calendar as of `version` of its stream. `editions`: oldest first, never empty; the first one is also taken for
    what lies before it."""

    calendar_id: str
    version: int
    editions: tuple[Edition, ...]


@frozen(slots=True)
class Exclusion:
    """Several calendars: what one of them excludes is excluded."""

    calendars: tuple[Calendar, ...]

    @property
    def versions(self) -> dict[str, int]:
        return {each.calendar_id: each.version for each in self.calendars}

    def excludes(self, at: datetime) -> bool:
        second = (at - _EPOCH) // _ONE_SECOND
        return any(contains(_in_force(each.editions, at), second) for each in self.calendars)

    def excluded_by(self, at: datetime) -> list[str]:
        """The ids of the calendars that exclude the instant."""
        return [each.calendar_id for each in self.calendars if Exclusion((each,)).excludes(at)]

    def end_of(self, at: datetime, limit: datetime) -> datetime | None:
        """Return where the exclusion that contains `at` ends, at most `limit`; None when `at` is not excluded."""
        if not self.excludes(at):
            return None
        first = next(self._spans(_ticks(at), _ticks(limit)), None)
        return None if first is None else _instant(first[1])

    def next_start(self, at: datetime, limit: datetime) -> datetime | None:
        """Return the first instant in [`at`, `limit`) that is excluded."""
        first = next(self._spans(_ticks(at), _ticks(limit)), None)
        return None if first is None else _instant(first[0])

    def start_of(self, at: datetime, limit: datetime) -> datetime | None:
        """Return where the exclusion that contains `at` begins, at least `limit`; None when `at` is not excluded."""
        high, lowest = _ticks(at) + 1, _ticks(limit)
        window = 2 * 86_400 * _SECOND
        while True:
            low = max(high - window, lowest)
            last = next(iter(deque(self._spans(low, high), maxlen=1)), None)
            if last is None or last[1] < high:
                return None
            if last[0] > low or low == lowest:
                return _instant(last[0])
            window *= 4

    def _spans(self, low: int, high: int) -> Iterator[Span]:
        return merged(heapq.merge(*(_spans_of(each.editions, low, high) for each in self.calendars)))


def _in_force(editions: Sequence[Edition], at: datetime) -> CalendarRules:
    for edition in reversed(editions):
        if edition.since_at is None or edition.since_at < at:
            return edition.rules
    return editions[0].rules


def _spans_of(editions: Sequence[Edition], low: int, high: int) -> Iterator[Span]:
    """In microseconds: edits happen between whole seconds."""
    return merged(_pieces(editions, low, high))


def _pieces(editions: Sequence[Edition], low: int, high: int) -> Iterable[Span]:
    for index, edition in enumerate(editions):
        begin = low
        if index and edition.since_at is not None:
            begin = max(low, _ticks(edition.since_at) + 1)
        following = editions[index + 1].since_at if index + 1 < len(editions) else None
        end = high if following is None else min(high, _ticks(following) + 1)
        if begin >= end or edition.rules is NO_RULES:
            continue
        for first, last in spans(edition.rules, begin // _SECOND, -(-end // _SECOND)):
            yield max(first * _SECOND, begin), min(last * _SECOND, end)


def _ticks(at: datetime) -> int:
    return (at - _EPOCH) // TICK


def _instant(ticks: int) -> datetime:
    return _EPOCH + TICK * min(ticks, _LATEST)
