"""The misfire rule: every nominal time is covered once, in order, and only misfires meet the policy."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.enums import MisfirePolicy
from hetuflow.domain.misfire import FirePlan, SkippedRange, decide_fires
from hetuflow.domain.trigger import (
    CronTrigger,
    IntervalTrigger,
    OnceTrigger,
    Trigger,
    count_between,
    next_after,
    occurrences_between,
)

T0 = datetime(2026, 3, 10, 12, tzinfo=UTC)
EVERY_10_S = IntervalTrigger(T0, 10)
SKIP, FIRE_ONCE, FIRE_ALL = MisfirePolicy.SKIP, MisfirePolicy.FIRE_ONCE, MisfirePolicy.FIRE_ALL


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@pytest.mark.parametrize("policy", list(MisfirePolicy))
def test_fires_within_the_grace_all_fire_whatever_the_policy(policy: MisfirePolicy) -> None:
    plan = decide_fires(EVERY_10_S, T0, at(30), policy, 20)
    assert plan == FirePlan((), (at(10), at(20), at(30)), at(40))


def test_skip_leaves_out_every_misfire() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), SKIP, 15)
    assert plan == FirePlan((SkippedRange(at(10), at(80), 8, "misfire"),), (at(90), at(100)), at(110))


def test_fire_once_fires_the_newest_misfire() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), FIRE_ONCE, 15)
    assert plan == FirePlan((SkippedRange(at(10), at(70), 7, "misfire"),), (at(80), at(90), at(100)), at(110))


def test_fire_once_with_one_misfire_skips_nothing() -> None:
    assert decide_fires(EVERY_10_S, T0, at(19), FIRE_ONCE, 5) == FirePlan((), (at(10),), at(20))


def test_fire_all_fires_each() -> None:
    assert decide_fires(EVERY_10_S, T0, at(40), FIRE_ALL, 0).fires == (at(10), at(20), at(30), at(40))


def test_exactly_the_grace_is_on_time() -> None:
    assert decide_fires(EVERY_10_S, T0, at(15), SKIP, 5).fires == (at(10),)
    assert decide_fires(EVERY_10_S, T0, at(15.000001), SKIP, 5).fires == ()


def test_a_long_absence_is_one_small_plan() -> None:
    now = at(365 * 86_400)
    plan = decide_fires(IntervalTrigger(T0, 1), T0, now, FIRE_ONCE, 60)
    count = 365 * 86_400 - 62
    assert plan.skipped == (SkippedRange(at(1), at(count), count),)
    assert plan.fires == tuple(at(count + k) for k in range(1, 63))
    assert plan.next_run_at == now + timedelta(seconds=1)


def test_what_exceeds_the_limit_is_left_to_the_next_decision() -> None:
    first = decide_fires(EVERY_10_S, T0, at(95), FIRE_ALL, 0, fire_count_max=5)
    assert first == FirePlan((), tuple(at(10 * k) for k in range(1, 6)), at(60))
    assert first.covered_until is not None
    second = decide_fires(EVERY_10_S, first.covered_until, at(96), FIRE_ALL, 0, fire_count_max=5)
    assert second == FirePlan((), tuple(at(10 * k) for k in range(6, 10)), at(100))


def test_nothing_at_or_before_the_enable_instant_is_due_or_covered() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(45), SKIP, 10, not_before=at(20))
    assert plan == FirePlan((SkippedRange(at(30), at(30), 1),), (at(40),), at(50))
    assert decide_fires(EVERY_10_S, T0, at(45), FIRE_ALL, 0, not_before=at(60)) == FirePlan((), (), at(70))


def test_a_clock_that_steps_back_plans_nothing() -> None:
    plan = decide_fires(EVERY_10_S, at(50), at(20), FIRE_ONCE, 60)
    assert plan == FirePlan((), (), at(60))
    assert plan.covered_until is None


def test_fires_left_end_the_schedule() -> None:
    assert decide_fires(EVERY_10_S, T0, at(100), FIRE_ALL, 0, fires_left=2) == FirePlan((), (at(10), at(20)), None)
    assert decide_fires(EVERY_10_S, T0, at(20), FIRE_ALL, 0, fires_left=3) == FirePlan((), (at(10), at(20)), at(30))
    assert decide_fires(EVERY_10_S, T0, at(20), FIRE_ALL, 0, fires_left=0) == FirePlan((), (), None)
    once = decide_fires(EVERY_10_S, T0, at(100), FIRE_ONCE, 0, fires_left=1)
    assert once == FirePlan((SkippedRange(at(10), at(80), 8),), (at(90),), None)


@pytest.mark.parametrize(("policy", "fires"), [("skip", 0), ("fire_once", 1), ("fire_all", 1)])
def test_once_created_late_follows_its_policy(policy: str, fires: int) -> None:
    plan = decide_fires(OnceTrigger(at(-3600)), at(-3601), T0, policy, 60)
    assert len(plan.fires) == fires
    assert sum(skipped.count for skipped in plan.skipped) == 1 - fires
    assert plan.next_run_at is None


def test_a_grace_longer_than_the_calendar_is_everything_on_time() -> None:
    assert decide_fires(EVERY_10_S, T0, at(20), SKIP, 2**53 - 1).fires == (at(10), at(20))


@pytest.mark.parametrize("policy", list(MisfirePolicy))
def test_what_is_older_than_the_maximum_age_never_fires_whatever_the_policy_and_the_grace(
    policy: MisfirePolicy,
) -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), policy, 60, max_age_seconds=25)
    assert plan == FirePlan((SkippedRange(at(10), at(70), 7, "max_age"),), (at(80), at(90), at(100)), at(110))


def test_the_maximum_age_comes_before_the_policy() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), FIRE_ONCE, 0, max_age_seconds=50)
    old, late = SkippedRange(at(10), at(40), 4, "max_age"), SkippedRange(at(50), at(80), 4, "misfire")
    assert plan == FirePlan((old, late), (at(90), at(100)), at(110))
    assert list(plan.steps_with_next()) == [(old, at(50)), (late, at(90)), (at(90), at(100)), (at(100), at(110))]
    assert decide_fires(EVERY_10_S, T0, at(19), FIRE_ONCE, 0, max_age_seconds=5) == FirePlan(
        (SkippedRange(at(10), at(10), 1, "max_age"),), (), at(20)
    )


def test_exactly_the_maximum_age_is_young_enough() -> None:
    assert decide_fires(EVERY_10_S, T0, at(15), FIRE_ALL, 0, max_age_seconds=5).fires == (at(10),)
    assert decide_fires(EVERY_10_S, T0, at(15.000001), FIRE_ALL, 0, max_age_seconds=5).fires == ()


def test_what_is_too_old_is_no_fire_of_those_left() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), FIRE_ALL, 0, max_age_seconds=25, fires_left=2)
    assert (plan.fires, plan.next_run_at) == ((at(80), at(90)), None)


@pytest.mark.parametrize("policy", list(MisfirePolicy))
def test_once_created_too_late_never_fires(policy: MisfirePolicy) -> None:
    plan = decide_fires(OnceTrigger(at(-3600)), at(-3601), T0, policy, 7200, max_age_seconds=3599)
    assert plan == FirePlan((SkippedRange(at(-3600), at(-3600), 1, "max_age"),), (), None)


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        decide_fires(EVERY_10_S, T0, at(20), "sometimes", 60)


def test_each_step_of_a_plan_knows_what_comes_next() -> None:
    plan = decide_fires(EVERY_10_S, T0, at(100), FIRE_ONCE, 5)
    assert list(plan.steps_with_next()) == [
        (SkippedRange(at(10), at(80), 8), at(90)),
        (at(90), at(100)),
        (at(100), at(110)),
    ]
    only_skipped = decide_fires(EVERY_10_S, T0, at(19), SKIP, 5)
    assert list(only_skipped.steps_with_next()) == [(SkippedRange(at(10), at(10), 1), at(20))]


# --- properties (the numbers are those of the invariants in the documentation) -------------------------------------

instants = st.integers(-600 * 10, 600 * 10).map(lambda tenths: at(tenths / 10))
triggers: st.SearchStrategy[Trigger] = st.one_of(
    st.builds(IntervalTrigger, instants, st.integers(1, 700)),
    st.builds(IntervalTrigger, instants, st.integers(1, 90), instants),
    st.builds(CronTrigger, st.sampled_from(["* * * * *", "*/3 * * * *", "0/20 * * * * ?", "5 12 * * *"])),
    st.builds(OnceTrigger, instants),
)
policies = st.sampled_from(list(MisfirePolicy))
max_ages = st.none() | st.integers(1, 400)


@settings(deadline=None)
@given(
    trigger=triggers,
    cursor=instants,
    waits=st.lists(st.integers(-20, 900), min_size=1, max_size=8),
    policy=policies,
    grace=st.integers(0, 300),
    fire_count_max=st.integers(1, 7),
    enabled=st.none() | instants,
    max_age=max_ages,
)
def test_f1_f3_a_run_of_decisions_covers_every_nominal_time_once_and_in_order(
    trigger: Trigger,
    cursor: datetime,
    waits: list[int],
    policy: MisfirePolicy,
    grace: int,
    fire_count_max: int,
    enabled: datetime | None,
    max_age: int | None,
) -> None:
    """The server looks at irregular instants, its clock may step back; at the end it catches up."""
    covered: list[datetime] = []
    begin = cursor if enabled is None else max(cursor, enabled)
    now = latest = cursor
    for wait in waits:
        now += timedelta(seconds=wait)
        latest = max(latest, now)
        while True:
            plan = decide_fires(
                trigger,
                cursor,
                now,
                policy,
                grace,
                max_age_seconds=max_age,
                not_before=enabled,
                fire_count_max=fire_count_max,
            )
            for skipped in plan.skipped:
                assert count_between(trigger, cursor, skipped.last_nominal_at) >= skipped.count
                nominal = list(occurrences_between(trigger, max(cursor, begin), skipped.last_nominal_at, 100_000))
                assert (nominal[0], len(nominal)) == (skipped.first_nominal_at, skipped.count)
                covered += nominal
                cursor = skipped.last_nominal_at
            covered += plan.fires
            assert len(plan.fires) <= fire_count_max
            cursor = plan.covered_until or cursor
            assert plan.next_run_at == next_after(trigger, max(cursor, begin))
            if plan.next_run_at is None or plan.next_run_at > now:
                break
    assert all(earlier < later for earlier, later in pairwise(covered))
    assert covered == list(occurrences_between(trigger, begin, latest, 100_000))


@settings(deadline=None)
@given(
    trigger=triggers,
    cursor=instants,
    wait=st.integers(0, 900),
    policy=policies,
    grace=st.integers(0, 300),
    max_age=max_ages,
)
def test_f2_f5_no_fire_before_its_cursor_or_older_than_policy_and_maximum_age_allow(
    trigger: Trigger, cursor: datetime, wait: int, policy: MisfirePolicy, grace: int, max_age: int | None
) -> None:
    now = cursor + timedelta(seconds=wait)
    plan = decide_fires(trigger, cursor, now, policy, grace, max_age_seconds=max_age, fire_count_max=10_000)
    assert all(cursor < fire <= now for fire in plan.fires)
    late = [fire for fire in plan.fires if (now - fire).total_seconds() > grace]
    nominal = occurrences_between(trigger, cursor, now, 100_000)
    if max_age is not None:
        too_old = [fire for fire in nominal if (now - fire).total_seconds() > max_age]
        assert sum(skipped.count for skipped in plan.skipped if skipped.reason == "max_age") == len(too_old)
        nominal = nominal[len(too_old) :]
    expected_late = [fire for fire in nominal if (now - fire).total_seconds() > grace]
    match policy:
        case MisfirePolicy.SKIP:
            assert late == []
        case MisfirePolicy.FIRE_ONCE:
            assert late == expected_late[-1:]
        case MisfirePolicy.FIRE_ALL:
            assert late == expected_late
    on_time = [fire for fire in nominal if (now - fire).total_seconds() <= grace]
    assert [fire for fire in plan.fires if fire not in late] == on_time


def test_a_plan_without_fires_yields_none() -> None:
    late = datetime(2026, 1, 1, tzinfo=UTC)
    trigger = IntervalTrigger(anchor_at=late, interval_seconds=60, start_at=None, end_at=None)
    plan = decide_fires(trigger, late, late + timedelta(hours=1, seconds=30), MisfirePolicy.SKIP, 0)
    assert not plan.fires and [step for step, _ in plan.steps_with_next()] == [*plan.skipped]
