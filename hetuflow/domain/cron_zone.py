"""Time zones as what a search needs of them: segments of constant UTC offset.

An instant is an integer: UTC seconds since 1970. The rules of a zone come from `zoneinfo`; this module only finds where
its offset changes. It looks ahead seven days at a time: in tzdata the closest pair of transitions with the same offset
before and after is 21 days apart (Cairo 2010), so no pair can hide between two looks.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from attrs import frozen

LOOK_AHEAD_SECONDS = 7 * 86_400
"""Longest stretch whose two ends are compared. Found in tzdata: San Luis 2008 needs < 22 days, Casablanca 2012 < 31."""

_CHUNK_SECONDS = 52 * LOOK_AHEAD_SECONDS
"""Transitions are kept per zone and year: the first question about a year costs some 60 offsets, the next ones nothing."""

_OVERLAP_SECONDS = 2 * 86_400
"""A chunk begins this much earlier: its first instants may lie in the second pass of the chunk before (at most a day)."""

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_LATEST = (datetime.fromisoformat("9999-12-30T00:00:00+00:00") - _EPOCH) // timedelta(seconds=1)
"""Beyond, a zone could push an instant off the calendar; the offset stays what it is here."""
_FOREIGN_PREFIXES = ("posix/", "right/", "localtime", "posixrules")
"""Files beside the zones: `right/` counts leap seconds, `localtime` means another zone on every machine."""


class UnknownTimeZone(ValueError):
    """The name is not an IANA time zone. `nearest` is the most similar one, if any resembles it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nearest = _nearest_zone(name)
        hint = f", did you mean {self.nearest!r}?" if self.nearest else ", use a name such as 'Europe/Berlin' or 'UTC'"
        super().__init__(f"{name!r} is not a known IANA time zone{hint}")


@frozen(slots=True)
class Transition:
    """At the instant `at` the offset changes from `before` to `after` (seconds east of UTC)."""

    at: int
    before: int
    after: int


def check_zone(name: str) -> None:
    """Raise `UnknownTimeZone` unless `name` is an IANA time zone (case matters)."""
    zone(name)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the zone of that name.

    Raises:
      UnknownTimeZone: there is none, or the name is a file of this machine rather than a zone.
    """
    if name.startswith(_FOREIGN_PREFIXES):
        raise UnknownTimeZone(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # absent, malformed, a directory
        raise UnknownTimeZone(name) from error


def offset_and_fold_end(name: str, instant: int) -> tuple[int, int | None]:
    """Return the zone's offset at `instant` and, inside the second pass of a repeated time, the local end of the first.

    Both in seconds. The second value is None when the local time at `instant` is not being repeated.
    """
    first_offset, instants, transitions = _chunk(name, instant // _CHUNK_SECONDS)
    index = bisect_right(instants, instant)
    if index == 0:
        return first_offset, None
    last = transitions[index - 1]
    first_pass_end = last.at + last.before
    return last.after, first_pass_end if instant + last.after < first_pass_end else None


def first_transition(name: str, after: int, until: int) -> Transition | None:
    """Return the first change of offset with `after` < at <= `until`, or None."""
    for number in range(after // _CHUNK_SECONDS, until // _CHUNK_SECONDS + 1):
        _, instants, transitions = _chunk(name, number)
        index = bisect_right(instants, after)
        if index < len(instants):
            return transitions[index] if instants[index] <= until else None
    return None


@lru_cache(maxsize=32_768)
def _chunk(name: str, number: int) -> tuple[int, list[int], list[Transition]]:
    """The offset before the chunk, and the transitions in it (their instants apart, for bisection)."""
    rules = zone(name)
    end = (number + 1) * _CHUNK_SECONDS - 1
    position = number * _CHUNK_SECONDS - _OVERLAP_SECONDS - 1
    offset = first_offset = _offset(rules, position)
    found: list[Transition] = []
    while position < end:
        probe = min(position + LOOK_AHEAD_SECONDS, end)
        while _offset(rules, probe) != offset:
            at = _bisect(rules, offset, position, probe)
            after = _offset(rules, at)
            found.append(Transition(at, offset, after))
            position, offset = at, after
        position = probe
    return first_offset, [transition.at for transition in found], found


def _bisect(rules: ZoneInfo, offset: int, low: int, high: int) -> int:
    """The first instant with another offset than `offset`, which holds at `low` and not at `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(rules, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset(rules: ZoneInfo, instant: int) -> int:
    shift = (_EPOCH + timedelta(seconds=min(instant, _LATEST))).astimezone(rules).utcoffset()
    assert shift is not None
    return shift.days * 86_400 + shift.seconds


def _nearest_zone(name: str) -> str | None:
    known = {candidate.casefold(): candidate for candidate in sorted(available_timezones())}
    close = get_close_matches(name.casefold(), known, n=1, cutoff=0.6)
    return known[close[0]] if close else None
