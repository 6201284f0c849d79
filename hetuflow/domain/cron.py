"""Cron: when an expression fires. Pure, exact, without a clock.

A walk over segments of constant UTC offset: inside a segment naive arithmetic on bit masks is exact, and only its edges,
the changes of clocks, need a rule. The rule is that of Vixie cron as Debian ships it:

- A **fixed** expression (neither seconds, minutes nor hours begin with `*`) means local times. A time that the clocks
  skip fires once, at the first instant after the gap; a time they repeat fires once, on the first pass.
- Any other expression follows real time: both passes of a repeated hour, nothing for a skipped one.

Whole skipped days (Samoa 2011), half-hour shifts (Lord Howe) and gaps at midnight (Cairo) need nothing more. Instants are
UTC with whole seconds. The search begins in 1970 (before, offsets have odd seconds) and ends after 50 years.

Text is read in cron_parse.py, masks are in cron_fields.py, zones in cron_zone.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from hetuflow.domain.cron_fields import YEAR_MIN, CronExpression, count_local, first_local
from hetuflow.domain.cron_parse import CronError, parse
from hetuflow.domain.cron_zone import UnknownTimeZone, check_zone, first_transition, offset_and_fold_end

__all__ = [
    "CronError",
    "CronExpression",
    "UnknownTimeZone",
    "count_between",
    "first_between",
    "next_after",
    "note",
    "occurrences",
    "parse_cron",
]

HORIZON_SECONDS = 50 * 31_557_600
"""An expression without a fire within 50 years (of 365.25 days) has none: the rarest one that has, a 29 February on a
given weekday across 2100, needs 40."""

_NOTHING_SEEN = -(1 << 40)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_INSTANT_MAX = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _SECOND


@lru_cache(maxsize=4096)
def parse_cron(text: str, zone: str = "UTC") -> CronExpression:
    """Return the expression `text` in the IANA time zone `zone`.

    Five fields are Vixie cron, six or seven Quartz (see cron_parse.py).

    Raises:
      CronError: malformed, or it can never fire; says where and what is allowed.
      UnknownTimeZone: there is no such zone; says which one resembles it.
    """
    check_zone(zone)
    expression = parse(text, zone)
    if expression.years is not None:
        # A calendar day exists; does the clock of that zone show that time? Few years to look at, so ask.
        first_year = YEAR_MIN + (expression.years & -expression.years).bit_length() - 1
        start = (datetime(first_year, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
        if _first_fire(expression, start - 2 * 86_400, start + 2 * HORIZON_SECONDS) is None:
            raise CronError(f"this never fires: {zone} has no such local time", 0)
    return expression


def next_after(expression: CronExpression, instant: datetime) -> datetime | None:
    """Return the first fire strictly after `instant` (aware), in UTC.

    None when there is none within 50 years, or the year field is exhausted.
    """
    found = _next(expression, _floor(instant))
    return None if found is None else _EPOCH + timedelta(seconds=found)


def first_between(expression: CronExpression, after: datetime, until: datetime) -> datetime | None:
    """Return the first fire in (`after`, `until`], in UTC, or None. Never looks beyond `until`."""
    found = _first_fire(expression, max(_floor(after), -1), min(_floor(until), _INSTANT_MAX) + 1)
    return None if found is None else _EPOCH + timedelta(seconds=found)


def occurrences(expression: CronExpression, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the fires in (`after`, `until`], oldest first."""
    instant, last = _floor(after), _floor(until)
    while (found := _next(expression, instant)) is not None and found <= last:
        yield _EPOCH + timedelta(seconds=found)
        instant = found


def count_between(expression: CronExpression, after: datetime, until: datetime) -> int:
    """Return how many fires lie in (`after`, `until`], without visiting them: the work grows with the months between."""
    instant, last = max(_floor(after), -1), min(_floor(until), _INSTANT_MAX)
    if instant >= last:
        return 0
    offset, seen = _local_start(expression, instant)
    local, total = instant + 1 + offset, 0
    while True:
        transition = first_transition(expression.zone, instant, last)
        if transition is None:
            return total + count_local(expression, max(local, seen), last + 1 + offset)
        instant = transition.at
        total += count_local(expression, max(local, seen), instant + offset)
        local, offset = instant + transition.after, transition.after
        gap_start = instant + transition.before
        if expression.is_fixed:
            has_skipped = first_local(expression, max(gap_start, seen), local) is not None
            if has_skipped and first_local(expression, local, local + 1) is None:  # else it fires then anyway
                total += 1
            seen = max(seen, gap_start)


def note(expression: CronExpression, fire_at: datetime) -> Literal["gap", "repeated"] | None:
    """Say what is special about a fire: it stands for a skipped local time, or its local time comes twice."""
    instant = _floor(fire_at)
    offset, fold_end = offset_and_fold_end(expression.zone, instant)
    if first_local(expression, instant + offset, instant + offset + 1) is None:
        return "gap"
    if fold_end is not None:
        return "repeated"
    ahead = first_transition(expression.zone, instant, instant + 86_400)
    return "repeated" if ahead and instant + offset >= ahead.at + ahead.after else None


def _next(expression: CronExpression, instant: int) -> int | None:
    end = min(max(instant, 0) + HORIZON_SECONDS, _INSTANT_MAX)
    return _first_fire(expression, max(instant, -1), end)


def _first_fire(expression: CronExpression, instant: int, end: int) -> int | None:
    """The first fire in (instant, end)."""
    zone, is_fixed = expression.zone, expression.is_fixed
    offset, seen = _local_start(expression, instant)
    local = instant + 1 + offset
    while True:
        found = first_local(expression, max(local, seen), end + offset)
        candidate = end - 1 if found is None else found - offset
        transition = first_transition(zone, instant, candidate)
        if transition is None:
            return candidate if found is not None else None
        instant = transition.at
        gap_start = instant + offset
        local, offset = instant + transition.after, transition.after
        if is_fixed:
            if first_local(expression, max(gap_start, seen), local) is not None:
                return instant
            seen = max(seen, gap_start)


def _local_start(expression: CronExpression, instant: int) -> tuple[int, int]:
    """The offset at `instant`, and the local time before which a fixed expression has had its fires already."""
    offset, fold_end = offset_and_fold_end(expression.zone, instant)
    return offset, fold_end if fold_end is not None and expression.is_fixed else _NOTHING_SEEN


def _floor(instant: datetime) -> int:
    return (instant - _EPOCH) // _SECOND
