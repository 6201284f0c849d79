"""Nominal times under an exclusion, against a walk over each of them; and that nobody walks over each of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain import excluded_times
from hetuflow.domain import trigger as triggers
from hetuflow.domain.excluded_times import Ahead, Run, last_free, next_free, runs
from hetuflow.domain.exclusion import TICK, Exclusion
from hetuflow.domain.trigger import CronTrigger, IntervalTrigger, OnceTrigger, Trigger, occurrences_between
from tests.domain.test_calendar_rules import exclusion, instant

T0 = datetime(2026, 3, 28, tzinfo=UTC)
EXCLUSIONS = [
    {"times": [{"from": "22:00", "to": "06:00"}]},
    {"dates": ["2026-03-29"], "weekdays": [{"days": ["tue"], "from": "12:00", "to": "13:00"}]},
    {"weekdays": [{"days": ["sat", "sun", "mon"]}]},
    {"times": [{"from": "00:00", "to": "24:00"}]},
    {"periods": [{"from": "2026-03-29T10:07:00+00:00", "to": "2026-03-29T10:08:00+00:00"}]},
    {},
]
TRIGGERS: list[Trigger] = [
    CronTrigger("7 * * * *", "Europe/Berlin"),
    CronTrigger("0 12 * * *", "Europe/Berlin"),
    CronTrigger("*/20 * * * *", "UTC", end_at=T0 + timedelta(days=2)),
    IntervalTrigger(T0, 3700),
    IntervalTrigger(T0, 420, end_at=T0 + timedelta(days=1)),
    OnceTrigger(T0 + timedelta(hours=30)),
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(TRIGGERS),
    st.sampled_from(EXCLUSIONS),
    st.sampled_from(["Europe/Berlin", "UTC", "America/New_York"]),
    st.integers(-600, 4000),
    st.integers(0, 6000),
)
def test_runs_next_and_last_are_those_of_a_walk(
    trigger: Trigger, members: dict[str, Any], zone: str, begin: int, length: int
) -> None:
    excluded = exclusion(zone, **members)
    after = T0 + timedelta(minutes=begin)
    until = after + timedelta(minutes=length)
    nominal = occurrences_between(trigger, after, until, 10_000)
    walked = []
    for is_excluded, group in groupby(nominal, excluded.excludes):
        times = list(group)
        walked.append(Run(times[0], times[-1], is_excluded))
    assert list(runs(trigger, excluded, after, until)) == walked
    free = [at for at in nominal if not excluded.excludes(at)]
    assert last_free(trigger, excluded, until, after) == (free[-1] if free else None)
    if free:
        assert next_free(trigger, excluded, after) == Ahead(free[0])


def test_what_is_excluded_to_its_end_is_answered_with_its_last_time() -> None:
    every_hour = CronTrigger("0 * * * *", end_at=instant("2026-12-25T20:30Z"))
    holiday = exclusion("UTC", dates=["2026-12-25"])
    assert next_free(every_hour, holiday, instant("2026-12-24T23:00Z")) == Ahead(
        instant("2026-12-25T20:00Z"), is_free=False
    )
    assert next_free(every_hour, holiday, instant("2026-12-25T20:00Z")) == Ahead(None)


def test_what_is_excluded_for_ever_is_answered_beyond_the_horizon() -> None:
    always = exclusion("UTC", times=[{"from": "00:00", "to": "24:00"}])
    found = next_free(CronTrigger("* * * * *"), always, T0)
    assert not found.is_free and found.at is not None
    assert timedelta(days=3650) < found.at - T0 < timedelta(days=3670)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each question to the trigger."""
    found: list[str] = []

    def next_after(trigger: Trigger, at: datetime) -> datetime | None:
        found.append("next")
        return triggers.next_after(trigger, at)

    def last_at_or_before(trigger: Trigger, at: datetime, *, after: datetime | None = None) -> datetime | None:
        found.append("last")
        return triggers.last_at_or_before(trigger, at, after=after)

    monkeypatch.setattr(excluded_times, "next_after", next_after)
    monkeypatch.setattr(excluded_times, "last_at_or_before", last_at_or_before)
    return found


def test_a_minutely_schedule_under_a_year_of_exclusion_costs_a_few_questions(asked: list[str]) -> None:
    year = exclusion("Europe/Berlin", ranges=[{"from": "2027-01-01", "to": "2027-12-31"}])
    minutely = CronTrigger("* * * * *", "Europe/Berlin")
    new_year = instant("2027-01-01T00:00+01:00")
    assert next_free(minutely, year, new_year - TICK) == Ahead(instant("2028-01-01T00:00+01:00"))
    assert len(asked) == 2
    asked.clear()
    found = list(runs(minutely, year, new_year - TICK, instant("2028-01-01T00:05+01:00")))
    assert [run.is_excluded for run in found] == [True, False]
    assert found[0].last == instant("2027-12-31T23:59+01:00")
    assert len(asked) < 12


def test_a_question_ends_after_so_many_steps(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    monkeypatch.setattr(excluded_times, "STEPS_MAX", 50)
    midnight = exclusion("UTC", times=[{"from": "23:30", "to": "00:30"}])
    daily = CronTrigger("0 0 * * *")
    stopped = next_free(daily, midnight, T0)
    assert stopped == Ahead(T0 + timedelta(days=51), is_free=False)
    assert len(asked) <= 60
    assert list(runs(daily, midnight, T0, T0 + timedelta(days=300))) == [
        Run(T0 + timedelta(days=1), T0 + timedelta(days=50), is_excluded=True)
    ]
    assert last_free(daily, midnight, T0 + timedelta(days=300), T0) is None


def test_no_calendar_is_no_question() -> None:
    assert next_free(OnceTrigger(T0), None, T0 - TICK) == Ahead(T0)
    assert not Exclusion(()).excludes(T0)
