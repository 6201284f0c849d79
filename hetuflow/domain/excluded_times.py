"""The nominal times of a trigger under an exclusion: the next that is free, and the runs of free and excluded ones.

An exclusion is stepped over as a whole, however many nominal times lie in it: a minutely schedule under a calendar that
excludes a year costs one step. A question takes at most `STEPS_MAX` steps and looks at most `exclusion.HORIZON` ahead;
what is not found by then is answered with the nominal time where the search stopped, to go on from when it has come.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from attrs import frozen

from hetuflow.domain.exclusion import HORIZON, TICK, Exclusion
from hetuflow.domain.trigger import Trigger, last_at_or_before, next_after

STEPS_MAX = 4000
"""Nominal times visited by one question: ten years of a daily one. About 0.1 s at worst, and only where all of them are
excluded."""


@frozen(slots=True)
class Ahead:
    """The next nominal time that is free; or, where the search found none, the last one it came to. None = there is no
    nominal time at all."""

    at: datetime | None
    is_free: bool = True


@frozen(slots=True)
class Run:
    """Nominal times in a row, all free or all excluded; both ends are included."""

    first: datetime
    last: datetime
    is_excluded: bool


def next_free(trigger: Trigger, exclusion: Exclusion | None, after: datetime) -> Ahead:
    """Return the first nominal time after `after` that is not excluded.

    When none follows, or none within the horizon, it is the last one there is, or the first one beyond the horizon: it
    has to be decided all the same when it comes, and the calendar may have been edited by then.
    """
    at = next_after(trigger, after)
    if at is None or exclusion is None:
        return Ahead(at)
    limit = horizon_after(at)
    for _ in range(STEPS_MAX):
        end = exclusion.end_of(at, limit)
        if end is None:
            return Ahead(at)
        following = next_after(trigger, end - TICK)
        if following is None:
            return Ahead(last_at_or_before(trigger, end - TICK, after=at) or at, is_free=False)
        at = following
        if at >= limit:
            break
    return Ahead(at, is_free=not exclusion.excludes(at))


def last_free(trigger: Trigger, exclusion: Exclusion, until: datetime, after: datetime) -> datetime | None:
    """Return the newest nominal time in (`after`, `until`] that is not excluded; None when the search finds none."""
    at = last_at_or_before(trigger, until, after=after)
    for _ in range(STEPS_MAX):
        if at is None:
            break
        start = exclusion.start_of(at, after)
        if start is None:
            return at
        at = last_at_or_before(trigger, start - TICK, after=after)
    return None


def runs(trigger: Trigger, exclusion: Exclusion, after: datetime, until: datetime) -> Iterator[Run]:
    """Yield the nominal times in (`after`, `until`] as runs, alternately free and excluded, without a gap.

    They end early after `STEPS_MAX` steps: what lies behind the last run is for another question.
    """
    pending: Run | None = None
    at = next_after(trigger, after)
    for _ in range(STEPS_MAX):
        if at is None or at > until:
            break
        end = exclusion.end_of(at, until + TICK)
        border = end or exclusion.next_start(at, until + TICK) or until + TICK
        last, following = _before(trigger, at, border)
        if pending is None or pending.is_excluded is not (end is not None):
            if pending is not None:
                yield pending
            pending = Run(at, last, is_excluded=end is not None)
        else:
            pending = Run(pending.first, last, pending.is_excluded)
        at = following
    if pending is not None:
        yield pending


def _before(trigger: Trigger, at: datetime, border: datetime) -> tuple[datetime, datetime | None]:
    """The newest nominal time before `border`, from the nominal time `at` on, and the one that follows it."""
    following = next_after(trigger, at)
    if following is None or following >= border:
        return at, following
    last = last_at_or_before(trigger, border - TICK, after=at)
    assert last is not None
    return last, next_after(trigger, last)


def horizon_after(at: datetime) -> datetime:
    return at + HORIZON if at.year < 9980 else at + TICK
