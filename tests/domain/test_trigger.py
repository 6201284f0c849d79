"""Triggers: interval arithmetic, windows, and questions that must not cost more for a long absence."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.cron import CronError, UnknownTimeZone
from hetuflow.domain.trigger import (
    INTERVAL_SECONDS_MAX,
    CronTrigger,
    IntervalTrigger,
    OnceTrigger,
    Trigger,
    count_between,
    last_at_or_before,
    next_after,
    occurrences_between,
)

T0 = datetime(2026, 3, 10, 12, 0, 0, 250_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def after(seconds: float, start: datetime = T0) -> datetime:
    return start + timedelta(seconds=seconds)


def all_of(trigger: Trigger, since: datetime, until: datetime) -> list[datetime]:
    return list(occurrences_between(trigger, since, until, 10_000))


def test_interval_without_start_fires_first_one_interval_after_its_anchor() -> None:
    trigger = IntervalTrigger(T0, 10)
    assert all_of(trigger, T0 - SECOND, after(30)) == [after(10), after(20), after(30)]
    assert next_after(trigger, after(10)) == after(20)
    assert next_after(trigger, after(9.999999)) == after(10)


def test_interval_with_start_fires_at_the_start_itself() -> None:
    start = after(7)
    trigger = IntervalTrigger(T0, 10, start_at=start)
    assert all_of(trigger, T0, after(30)) == [after(7), after(17), after(27)]


def test_interval_with_start_in_the_past_keeps_its_phase() -> None:
    """Contract: fires at multiples of 300 s from that time, none of the past ones."""
    trigger = IntervalTrigger(T0, 300, start_at=datetime(2024, 1, 1, tzinfo=UTC))
    assert next_after(trigger, T0) == datetime(2026, 3, 10, 12, 5, tzinfo=UTC)


def test_interval_is_elapsed_seconds_whatever_the_zone() -> None:
    """A day of 86 400 s moves by the clock on the day that has 23 hours."""
    start = datetime.fromisoformat("2026-03-28T08:00:00+01:00")
    fires = all_of(IntervalTrigger(T0, 86_400, start_at=start), T0, after(3 * 86_400, start))
    assert [fire - start for fire in fires] == [timedelta(days=day) for day in range(4)]
    assert all(fire.tzinfo is UTC for fire in fires)


@pytest.mark.parametrize("trigger", [
    IntervalTrigger(T0, 60, T0, after(120)), CronTrigger("* * * * *", "UTC", T0.replace(microsecond=0), after(119.75))
])  # fmt: skip
def test_window_includes_both_ends(trigger: IntervalTrigger | CronTrigger) -> None:
    assert trigger.start_at and trigger.end_at
    fires = all_of(trigger, T0 - timedelta(days=1), T0 + timedelta(days=1))
    assert (fires[0], fires[-1], len(fires)) == (trigger.start_at, trigger.end_at, 3)
    assert next_after(trigger, trigger.end_at) is None
    assert last_at_or_before(trigger, T0 + timedelta(days=1)) == trigger.end_at
    assert last_at_or_before(trigger, trigger.start_at - TICK) is None
    assert count_between(trigger, trigger.start_at - TICK, trigger.end_at) == 3


def test_window_of_a_cron_trigger_that_starts_between_fires() -> None:
    trigger = CronTrigger("0 9 * * *", "Europe/Berlin", start_at=T0)
    assert next_after(trigger, T0 - timedelta(days=30)) == datetime(2026, 3, 11, 8, tzinfo=UTC)
    assert last_at_or_before(trigger, datetime(2026, 3, 11, 7, 59, tzinfo=UTC)) is None


def test_once_is_one_instant() -> None:
    at = datetime.fromisoformat("2026-03-10T14:00:00+02:00")
    trigger = OnceTrigger(at)
    assert next_after(trigger, at - TICK) == at
    assert next_after(trigger, at) is None
    assert last_at_or_before(trigger, at) == at
    assert last_at_or_before(trigger, at - TICK) is None
    assert (count_between(trigger, at - TICK, at), count_between(trigger, at, after(1, at))) == (1, 0)


def test_a_year_of_one_second_intervals_is_counted_not_visited() -> None:
    trigger = IntervalTrigger(T0, 1)
    now = T0 + timedelta(days=365, microseconds=5)
    assert count_between(trigger, T0, now) == 365 * 86_400
    assert last_at_or_before(trigger, now) == T0 + timedelta(days=365)
    assert occurrences_between(trigger, T0, now, 2) == (after(1), after(2))


def test_newest_fire_of_a_rare_expression_is_found_far_back() -> None:
    trigger = CronTrigger("0 0 29 2 *")
    assert last_at_or_before(trigger, T0) == datetime(2024, 2, 29, tzinfo=UTC)
    assert last_at_or_before(CronTrigger("0 0 0 1 1 ? 2000"), T0) == datetime(2000, 1, 1, tzinfo=UTC)
    assert last_at_or_before(CronTrigger("0 0 0 1 1 ? 2090"), T0) is None


def test_interval_that_leaves_the_calendar_has_no_next() -> None:
    trigger = IntervalTrigger(T0, 60)
    assert next_after(trigger, datetime.max.replace(tzinfo=UTC)) is None


WEST = timezone(timedelta(hours=-8))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: IntervalTrigger(T0, 0), ValueError, "interval_seconds is 0, use 1-"),
    (lambda: IntervalTrigger(T0, INTERVAL_SECONDS_MAX + 1), ValueError, "use 1-"),
    (lambda: IntervalTrigger(T0.replace(tzinfo=None), 1), ValueError, "anchor_at must have a time zone"),
    (lambda: IntervalTrigger(T0, 1, after(1), T0), ValueError, "end_at .* is before start_at"),
    (lambda: IntervalTrigger(T0, 1, datetime.max.replace(tzinfo=WEST)), ValueError, "start_at is 9999.* 2 to 9998"),
    (lambda: CronTrigger("* * * * *", "UTC", after(1), T0), ValueError, "end_at .* is before start_at"),
    (lambda: CronTrigger("* * * *"), CronError, "4 fields"),
    (lambda: CronTrigger("* * * * *", "Nowhere"), UnknownTimeZone, "Nowhere"),
    (lambda: OnceTrigger(T0.replace(tzinfo=None)), ValueError, "at must have a time zone"),
])  # fmt: skip
def test_trigger_that_makes_no_sense_cannot_be_made(make, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        make()


def test_cron_trigger_is_a_value() -> None:
    assert CronTrigger("@daily") == CronTrigger("@daily")
    assert hash(CronTrigger("@daily")) == hash(CronTrigger("@daily"))
    assert "parsed" not in repr(CronTrigger("@daily"))


# --- laws for every kind -------------------------------------------------------------------------------------------

instants = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
short_spans = st.integers(0, 4 * 3600 * 1_000_000).map(lambda us: timedelta(microseconds=us))


@st.composite
def windows(draw: st.DrawFn, around: datetime) -> tuple[datetime | None, datetime | None]:
    offsets = sorted(draw(st.lists(st.integers(-7200, 7200), min_size=2, max_size=2)))
    start, end = (around + timedelta(seconds=offset) for offset in offsets)
    return draw(st.sampled_from([start, None])), draw(st.sampled_from([end, None]))


@st.composite
def triggers_at(draw: st.DrawFn, around: datetime) -> Trigger:
    start, end = draw(windows(around))
    match draw(st.sampled_from(["interval", "cron", "once"])):
        case "interval":
            anchor = around + timedelta(seconds=draw(st.integers(-7200, 7200)))
            return IntervalTrigger(anchor, draw(st.integers(1, 4000)), start, end)
        case "cron":
            texts = ["*/7 * * * *", "30 2 * * *", "0/40 */5 * * * ?", "0 0 12 ? * 6L", "0 0 29 2 *", "15,45 1-3 * * *"]
            zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]))
            return CronTrigger(draw(st.sampled_from(texts)), zone, start, end)
        case _:
            return OnceTrigger(around + timedelta(seconds=draw(st.integers(-7200, 7200))))


@settings(deadline=None)
@given(data=st.data(), since=instants, span=short_spans)
def test_count_last_and_occurrences_tell_the_same_story(data: st.DataObject, since: datetime, span: timedelta) -> None:
    trigger = data.draw(triggers_at(since))
    until = since + span
    fires = all_of(trigger, since, until)
    assert all(since < fire <= until for fire in fires)
    assert all(earlier < later for earlier, later in pairwise(fires))
    assert count_between(trigger, since, until) == len(fires)
    last = last_at_or_before(trigger, until)
    assert (last if last is not None and last > since else None) == (fires[-1] if fires else None)
    if last is not None:
        assert next_after(trigger, last - TICK) == last
    following = next_after(trigger, last if last is not None else since)
    assert following is None or following > until
    middle = since + span / 2
    assert all_of(trigger, since, middle) + all_of(trigger, middle, until) == fires


@settings(deadline=None)
@given(data=st.data(), seconds=st.integers(1, 5000), since=instants, span=short_spans)
def test_interval_by_its_formula(data: st.DataObject, seconds: int, since: datetime, span: timedelta) -> None:
    """Enumerate start + k * interval, or anchor + (k + 1) * interval, as the contract writes it."""
    start, end = data.draw(windows(since))
    anchor = since + timedelta(seconds=data.draw(st.integers(-20_000, 20_000)))
    until = since + span
    expected, k = [], 0
    while True:
        nominal = start + k * timedelta(seconds=seconds) if start else anchor + (k + 1) * timedelta(seconds=seconds)
        if nominal > until or (end and nominal > end):
            break
        if nominal > since:
            expected.append(nominal)
        k += 1
    assert all_of(IntervalTrigger(anchor, seconds, start, end), since, until) == expected[:10_000]
