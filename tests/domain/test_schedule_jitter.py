"""Jitter: a delay of each fire that looks drawn, and is the same whoever decides."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.events import ScheduleFired, TaskCreated, TaskDispatched, TaskLocked
from hetuflow.domain.schedule_times import jittered
from tests.support.given import later
from tests.support.schedules import SCHEDULE_ID, a_cron, a_fire, a_minutely, a_schedule
from tests.support.tasks import PLACEMENT

OTHER_ID = "0198c0de-0000-7000-8000-000000000009"


def test_the_task_is_made_at_the_nominal_time_and_due_later() -> None:
    outcome = a_schedule(a_minutely(jitter_seconds=30)).next(60).when(a_fire(placements=(PLACEMENT,)))
    fired = outcome.event(ScheduleFired)
    (task,) = outcome.decision.opened.values()
    assert fired.nominal_at == fired.fired_at == later(60)
    (created,) = task  # not dispatched: it is not due
    assert isinstance(created, TaskCreated)
    assert created.nominal_at == later(60) < created.scheduled_at < later(90)
    assert outcome.state.next_run_at == later(120)


def test_a_late_fire_whose_delay_is_over_is_dispatched_at_once() -> None:
    outcome = a_schedule(a_minutely(jitter_seconds=30)).next(95).when(a_fire(placements=(PLACEMENT,)))
    (task,) = outcome.decision.opened.values()
    assert [type(event) for event in task] == [TaskCreated, TaskLocked, TaskDispatched]


def test_the_delay_differs_between_fires_and_between_schedules_and_stays_when_asked_again() -> None:
    state = a_schedule(a_minutely(jitter_seconds=60)).state
    other = a_schedule(a_minutely(jitter_seconds=60, schedule_id=OTHER_ID)).state
    assert state.schedule_id == SCHEDULE_ID
    delays = [jittered(state, later(60 * n)) - later(60 * n) for n in range(1, 101)]
    assert delays == [jittered(state, later(60 * n)) - later(60 * n) for n in range(1, 101)]
    assert len(set(delays)) > 90
    assert delays != [jittered(other, later(60 * n)) - later(60 * n) for n in range(1, 101)]
    tens = [sum(10 * k <= delay.total_seconds() < 10 * k + 10 for delay in delays) for k in range(6)]
    assert min(tens) >= 5, tens  # spread over the whole minute


def test_without_jitter_the_task_is_due_at_its_nominal_time() -> None:
    assert jittered(a_schedule().state, later(60)) == later(60)


@settings(max_examples=200, deadline=None)
@given(interval=st.integers(1, 7200), jitter=st.integers(0, 30 * 86_400), number=st.integers(1, 10_000))
def test_never_early_never_up_to_the_next(interval: int, jitter: int, number: int) -> None:
    state = a_schedule(a_minutely(interval_secs=interval, jitter_seconds=jitter)).state
    nominal = later(interval * number)
    delay = jittered(state, nominal) - nominal
    limit = timedelta(seconds=min(jitter, interval))
    assert delay == limit == timedelta(0) or timedelta(0) <= delay < limit


def test_the_distance_to_the_next_fire_of_cron_is_the_limit() -> None:
    state = a_schedule(a_cron("0,1 * * * *", jitter_seconds=3600)).state
    for hour in range(50):
        assert jittered(state, later(3600 * hour)) < later(3600 * hour + 60)
    assert max(jittered(state, later(3600 * h + 60)) - later(3600 * h + 60) for h in range(50)) > timedelta(minutes=40)


def test_a_single_run_is_delayed_by_the_whole_jitter_at_most() -> None:
    state = a_schedule(a_minutely(interval_secs=None, max_count=1, start_time=later(60), jitter_seconds=3600)).state
    assert later(60) <= jittered(state, later(60)) < later(3660)
