"""The plan of a schedule with exclusion calendars: as misfire.py has it, for the nominal times that are not excluded.

First a nominal time is excluded or not, as its calendars were at that time; that is a skip of its own, which neither
policy nor age speaks of. Only then come maximum age and misfire policy: the newest misfire that `fire_once` fires is the
newest that is not excluded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attrs import frozen

from hetuflow.domain.enums import MisfirePolicy
from hetuflow.domain.excluded_times import Run, last_free, next_free, runs
from hetuflow.domain.exclusion import TICK, Exclusion
from hetuflow.domain.misfire import (
    FIRE_COUNT_MAX,
    GRACE_SECONDS_MAX,
    REASON_MAX_AGE,
    REASON_MISFIRE,
    FirePlan,
    SkippedRange,
)
from hetuflow.domain.schedule_times import REASON_CALENDAR
from hetuflow.domain.trigger import Trigger, count_between, last_at_or_before, next_after

RANGES_MAX = 100
"""Skipped ranges of one plan; the rest stays due, and follows at once."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)


@frozen(slots=True)
class Borders:
    """Of the nominal times that are not excluded, those before `too_old` and those before `fires_from` do not fire."""

    too_old: datetime
    fires_from: datetime


def decide_free_fires(
    trigger: Trigger,
    exclusion: Exclusion,
    cursor_at: datetime,
    now: datetime,
    policy: MisfirePolicy | str,
    grace_seconds: int,
    *,
    max_age_seconds: int | None = None,
    fire_count_max: int = FIRE_COUNT_MAX,
    fires_left: int | None = None,
) -> FirePlan:
    """Return the plan for the nominal times in (`cursor_at`, `now`]. The arguments are those of `decide_fires`."""
    if fires_left == 0:
        return FirePlan((), (), None)
    borders = _borders(trigger, exclusion, cursor_at, now, MisfirePolicy(policy), grace_seconds, max_age_seconds)
    limit = fire_count_max if fires_left is None else min(fire_count_max, fires_left)
    skipped: list[SkippedRange] = []
    fires: list[datetime] = []
    covered = cursor_at
    for run in runs(trigger, exclusion, cursor_at, now):
        if len(skipped) >= RANGES_MAX or len(fires) >= limit:
            break
        if run.is_excluded:
            skipped.append(_range(trigger, covered, run.last, REASON_CALENDAR))
            covered = run.last
        else:
            covered = _decide_run(trigger, run, covered, borders, limit, skipped, fires)
    if fires_left is not None and len(fires) == fires_left:
        return FirePlan(tuple(skipped), tuple(fires), None)
    following = next_after(trigger, covered)
    if following is not None and following > now:
        following = next_free(trigger, exclusion, covered).at
    return FirePlan(tuple(skipped), tuple(fires), following)


def _borders(
    trigger: Trigger,
    exclusion: Exclusion,
    cursor_at: datetime,
    now: datetime,
    policy: MisfirePolicy,
    grace_seconds: int,
    max_age_seconds: int | None,
) -> Borders:
    too_old = _BEGINNING
    if max_age_seconds is not None:
        too_old = now - timedelta(seconds=min(max_age_seconds, GRACE_SECONDS_MAX))
    if policy is MisfirePolicy.FIRE_ALL:
        return Borders(too_old, _BEGINNING)
    on_time_from = now - timedelta(seconds=min(grace_seconds, GRACE_SECONDS_MAX))
    if policy is MisfirePolicy.SKIP:
        return Borders(too_old, on_time_from)
    after = max(cursor_at, too_old - TICK) if max_age_seconds is not None else cursor_at
    newest = last_free(trigger, exclusion, on_time_from - TICK, after)
    return Borders(too_old, on_time_from if newest is None else newest)


def _decide_run(
    trigger: Trigger,
    run: Run,
    covered: datetime,
    borders: Borders,
    limit: int,
    skipped: list[SkippedRange],
    fires: list[datetime],
) -> datetime:
    """Decide a run of nominal times that are not excluded; return the last one decided."""
    for border, reason in ((borders.too_old, REASON_MAX_AGE), (borders.fires_from, REASON_MISFIRE)):
        if border <= covered:
            continue
        last = last_at_or_before(trigger, min(run.last, border - TICK), after=covered)
        if last is not None:
            skipped.append(_range(trigger, covered, last, reason))
            covered = last
    nominal_at = next_after(trigger, covered)
    while nominal_at is not None and nominal_at <= run.last and len(fires) < limit:
        fires.append(nominal_at)
        covered = nominal_at
        nominal_at = next_after(trigger, covered)
    return covered


def _range(trigger: Trigger, after: datetime, last: datetime, reason: str) -> SkippedRange:
    first = next_after(trigger, after)
    assert first is not None and first <= last
    return SkippedRange(first, last, count_between(trigger, after, last), reason)
