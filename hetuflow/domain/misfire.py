"""The misfire policy: which nominal times between the cursor and now become fires, and which are skipped.

A schedule's **cursor** is the last nominal time covered by a decision. A plan covers the nominal times after it, up to
now, each exactly once and in order: first what is skipped (at most a range for each reason), then the fires.

The rule. A nominal time is *on time* while now - nominal <= grace, and every one that is on time fires, whatever the
policy: two of them inside the grace are two fires. Older ones are *misfires*, and the policy speaks of these alone:

- `skip`: none of them fires;
- `fire_once`: the newest of them fires, the earlier ones are skipped;
- `fire_all`: each of them fires.

Before that comes the *maximum age*, where there is one: of what is older than it when it is decided, nothing fires, whatever
the policy and the grace say.

A plan has at most `fire_count_max` fires, so that one decision (one append) stays small however long the absence was.
What is left over stays uncovered: `next_run_at` then lies at or before now, and the next decision goes on from there,
with its own now. A clock that steps back makes an empty plan: nothing at or before the cursor is covered again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import frozen

from hetuflow.domain.enums import MisfirePolicy
from hetuflow.domain.trigger import Trigger, count_between, last_at_or_before, next_after

FIRE_COUNT_MAX = 100
"""Fires of one plan: one fire is two appended streams, and a batch of the store should stay far below its limits."""

GRACE_SECONDS_MAX = 50 * 366 * 86_400
"""A grace beyond 50 years means the same: everything is on time. No schedule is older, and the calendar has an end."""

REASON_MISFIRE = "misfire"
REASON_MAX_AGE = "max_age"


@frozen(slots=True)
class SkippedRange:
    """`count` nominal times from first to last, both included, that do not fire."""

    first_nominal_at: datetime
    last_nominal_at: datetime
    count: int
    reason: str = REASON_MISFIRE


@frozen(slots=True)
class FirePlan:
    """What a decision covers. `next_run_at` is the first nominal time that it does not, None when none is left."""

    skipped: tuple[SkippedRange, ...]
    fires: tuple[datetime, ...]
    next_run_at: datetime | None

    @property
    def covered_until(self) -> datetime | None:
        """The new cursor; None when nothing was covered and the old one stays."""
        ends = [*self.fires[-1:], *(each.last_nominal_at for each in self.skipped[-1:])]
        return max(ends, default=None)

    def steps_with_next(self) -> Iterator[tuple[SkippedRange | datetime, datetime | None]]:
        """Yield what is skipped and what fires, in order, each with the first nominal time after it."""
        steps: list[SkippedRange | datetime] = sorted((*self.skipped, *self.fires), key=_first)
        following = [*(_first(step) for step in steps[1:]), self.next_run_at] if steps else []
        yield from zip(steps, following, strict=True)


def _first(step: SkippedRange | datetime) -> datetime:
    return step.first_nominal_at if isinstance(step, SkippedRange) else step


def decide_fires(
    trigger: Trigger,
    cursor_at: datetime,
    now: datetime,
    policy: MisfirePolicy | str,
    grace_seconds: int,
    *,
    max_age_seconds: int | None = None,
    not_before: datetime | None = None,
    fire_count_max: int = FIRE_COUNT_MAX,
    fires_left: int | None = None,
) -> FirePlan:
    """Return the plan for the nominal times in (`cursor_at`, `now`].

    Args:
      cursor_at: the last nominal time covered; for a new or edited schedule, the instant of that. For `once`, which may
        be created late, anything before its time.
      policy: or its name, for misfires.
      grace_seconds: a fire decided this late or earlier is on time, >= 0.
      max_age_seconds: a nominal time older than this does not fire; None = no limit, else >= 1.
      not_before: nominal times at or before it are not due and not covered (the instant the job was enabled).
      fire_count_max: of this plan, >= 1.
      fires_left: until the schedule's `max_count`, >= 0; once they are used up `next_run_at` is None, and what lies
        behind is not covered: the schedule is over.
    """
    policy = MisfirePolicy(policy)
    after = cursor_at if not_before is None else max(cursor_at, not_before)
    if fires_left == 0:
        return FirePlan((), (), None)
    skipped: tuple[SkippedRange, ...] = ()
    covered = after
    if max_age_seconds is not None:
        oldest = now - timedelta(seconds=min(max_age_seconds, GRACE_SECONDS_MAX))
        last = _last_before(trigger, after, oldest)
        if last is not None:
            skipped = (_range(trigger, after, last, REASON_MAX_AGE),)
            covered = last
    if policy is not MisfirePolicy.FIRE_ALL:
        on_time_from = now - timedelta(seconds=min(grace_seconds, GRACE_SECONDS_MAX))
        last = _last_skipped(trigger, covered, on_time_from, policy)
        if last is not None:
            skipped = (*skipped, _range(trigger, covered, last, REASON_MISFIRE))
            covered = last
    limit = fire_count_max if fires_left is None else min(fire_count_max, fires_left)
    fires: list[datetime] = []
    nominal_at = next_after(trigger, covered)
    while nominal_at is not None and nominal_at <= now and len(fires) < limit:
        fires.append(nominal_at)
        nominal_at = next_after(trigger, nominal_at)
    is_over = fires_left is not None and len(fires) == fires_left
    return FirePlan(skipped, tuple(fires), None if is_over else nominal_at)


def _last_skipped(trigger: Trigger, after: datetime, on_time_from: datetime, policy: MisfirePolicy) -> datetime | None:
    """The newest nominal time that the policy skips: all late ones, or all but the newest of them."""
    late = _last_before(trigger, after, on_time_from)
    if late is None or policy is MisfirePolicy.SKIP:
        return late
    return _last_before(trigger, after, late)


def _last_before(trigger: Trigger, after: datetime, instant: datetime) -> datetime | None:
    """The newest nominal time in (after, instant)."""
    return last_at_or_before(trigger, instant - timedelta(microseconds=1), after=after)


def _range(trigger: Trigger, after: datetime, last: datetime, reason: str) -> SkippedRange:
    first = next_after(trigger, after)
    assert first is not None and first <= last
    return SkippedRange(first, last, count_between(trigger, after, last), reason)
