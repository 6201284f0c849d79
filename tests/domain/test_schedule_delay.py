"""Fixed delay: each nominal time counts from the end of the task before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    NoteTaskEnds,
    TaskEnd,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Due, Follow, Guard
from hetuflow.domain.enums import ScheduleStatus, TaskStatus
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleTaskEnded,
    ScheduleUpdated,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.schedule import SCHEDULE
from tests.support.given import Outcome, given, later
from tests.support.schedules import SCHEDULE_ID, a_fire, a_minutely, a_schedule
from tests.support.stored import stored
from tests.support.tasks import JOB_ID, a_job

FIRST = task_id_of(SCHEDULE_ID, later(60))


def a_delay(**members: Any) -> CreateSchedule:
    return a_minutely(**{"interval_mode": "fixed_delay", "overlap_policy": "skip", **members})


def end(task_id: str, seconds: float, status: TaskStatus = TaskStatus.SUCCEEDED) -> NoteTaskEnds:
    return NoteTaskEnds(ends=[TaskEnd(task_id=task_id, status=status, ended_at=later(seconds))])


def once_fired(**members: Any) -> Outcome:
    return a_schedule(a_delay(**members)).next(60).when(a_fire())


def test_the_first_is_an_interval_after_the_creation_or_at_the_start() -> None:
    assert a_schedule(a_delay()).state.next_run_at == later(60)
    assert a_schedule(a_delay(start_time=later(10))).state.next_run_at == later(10)
    assert a_schedule(a_delay(start_time=later(-10))).state.next_run_at == later(60)


def test_while_its_task_has_not_ended_nothing_follows_and_the_end_is_wanted() -> None:
    fired = once_fired().then(ScheduleFired)
    assert fired.event(ScheduleFired).next_run_at is None
    assert fired.state.status is ScheduleStatus.ENABLED
    assert fired.intents == {Follow(Address("schedule", SCHEDULE_ID), JOB_ID, frozenset({FIRST}))}
    fired.next(1000).when(a_fire()).then_nothing()


@pytest.mark.parametrize("status", [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_the_next_counts_from_the_end_however_it_ended(status: TaskStatus) -> None:
    outcome = once_fired().next(100).when(end(FIRST, 155, status)).then(ScheduleTaskEnded)
    ended = outcome.event(ScheduleTaskEnded)
    assert (ended.ended_as, ended.ended_at, ended.next_run_at) == (status, later(155), later(215))
    assert outcome.intents == {Due(later(215))}
    outcome.when(end(FIRST, 155, status)).then_nothing()
    ENDED = {FIRST: True}
    second = outcome.next(55).when(a_fire(has_ended=ENDED, guards=(Guard(f"task-{FIRST}", 6),))).then(ScheduleFired)
    assert second.state.awaited_task == task_id_of(SCHEDULE_ID, later(215))


def test_the_end_of_another_task_means_nothing() -> None:
    once_fired().when(end("0198c0de-0000-7000-8000-0000000000ff", 70)).then_nothing()


def test_a_task_that_was_opened_again_is_not_overlapped() -> None:
    ended = once_fired().next(5).when(end(FIRST, 65))
    skipped = ended.next(60).when(a_fire(has_ended={FIRST: False})).then(ScheduleSkipped)
    assert (skipped.event(ScheduleSkipped).reason, skipped.state.next_run_at) == ("overlap", later(185))
    skipped.next(60).when(a_fire(has_ended={FIRST: True})).then(ScheduleFired)


@pytest.mark.parametrize(
    ("members", "reason"), [({"misfire_policy": "skip"}, "misfire"), ({"max_age_seconds": 3600}, "max_age")]
)
def test_after_one_that_was_skipped_the_interval_counts_from_the_decision(members: dict[str, Any], reason: str) -> None:
    outcome = a_schedule(a_delay(**members)).next(86_400).when(a_fire()).then(ScheduleSkipped)
    skipped = outcome.event(ScheduleSkipped)
    assert (skipped.reason, skipped.count, skipped.first_nominal_at) == (reason, 1, later(60))
    assert outcome.intents == {Due(later(86_460))}


def test_late_by_a_day_it_fires_once() -> None:
    a_schedule(a_delay()).next(86_400).when(a_fire()).then(ScheduleFired).then(ScheduleFired)


def test_a_disabled_job_is_asked_again_an_interval_later() -> None:
    outcome = a_schedule(a_delay()).next(90).when(a_fire(a_job(status=99))).then(ScheduleSkipped)
    assert (outcome.event(ScheduleSkipped).reason, outcome.state.next_run_at) == ("job_disabled", later(150))


def test_it_ends_with_its_end_time_and_with_its_last_task() -> None:
    over = once_fired(end_time=later(150)).next(40).when(end(FIRST, 100)).then(ScheduleTaskEnded, ScheduleExpired)
    assert over.event(ScheduleExpired).reason == "end_time"
    last = a_schedule(a_delay(max_count=2)).next(60).when(a_fire()).next(10).when(end(FIRST, 70))
    last = last.next(60).when(a_fire(has_ended={FIRST: True})).then(ScheduleFired, ScheduleExpired)
    assert last.event(ScheduleExpired).reason == "max_count"


def test_disabled_while_its_task_runs_it_goes_on_counting_when_it_is_enabled() -> None:
    disabled = once_fired().when(DisableSchedule())
    assert disabled.intents == frozenset()
    disabled.when(end(FIRST, 65)).then_nothing()
    enabled = disabled.next(100).when(EnableSchedule()).then(ScheduleEnabled)
    assert (enabled.state.next_run_at, enabled.state.status) == (None, ScheduleStatus.ENABLED)
    assert enabled.intents == {Follow(Address("schedule", SCHEDULE_ID), JOB_ID, frozenset({FIRST}))}
    told = enabled.when(end(FIRST, 65)).then(ScheduleTaskEnded)  # ended long ago: F2, an interval after the enable
    assert told.state.next_run_at == later(220)


def test_an_edit_of_its_interval_leaves_the_wait_for_the_end() -> None:
    edited = once_fired().when(UpdateSchedule(changes={"interval_secs": 600})).then(ScheduleUpdated)
    assert (edited.state.next_run_at, edited.state.awaited_task) == (None, FIRST)
    assert edited.when(end(FIRST, 100)).state.next_run_at == later(700)


def test_a_change_from_a_fixed_rate_waits_for_the_newest_task() -> None:
    rate = a_schedule(a_minutely(overlap_policy="skip")).next(60).when(a_fire())
    delayed = rate.when(UpdateSchedule(changes={"interval_mode": "fixed_delay"}))
    assert (delayed.state.next_run_at, delayed.state.awaited_task) == (None, FIRST)
    fresh = (
        a_schedule().next(30).when(UpdateSchedule(changes={"interval_mode": "fixed_delay", "overlap_policy": "skip"}))
    )
    assert fresh.state.next_run_at == later(90)
    back = delayed.when(UpdateSchedule(changes={"interval_mode": "fixed_rate"}))
    assert (back.state.next_run_at, back.state.awaited_task) == (later(120), None)


def test_a_clock_that_was_set_back_does_not_make_a_time_that_is_over() -> None:
    told = once_fired().when(end(FIRST, -3600))
    assert told.state.next_run_at == later(120)  # an interval after the task's own nominal time


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"overlap_policy": "allow"}, "overlap_policy"),
        ({"overlap_policy": "queue"}, "overlap_policy"),
        ({"overlap_policy": "cancel_previous"}, "overlap_policy"),
        ({"misfire_policy": "fire_all"}, "misfire_policy"),
        ({"max_count": 1}, "interval_mode"),
        ({"schedule_kind": 1, "cron_expression": "* * * * *"}, "interval_mode"),
        ({"interval_mode": "sometimes"}, "interval_mode"),
        ({"interval_secs": None}, "interval_secs"),
    ],
)
def test_what_contradicts_a_fixed_delay_is_refused(members: dict[str, Any], path: str) -> None:
    a_schedule(a_delay(**members)).then_rejected("invalid", path=path)
    a_schedule(a_delay()).when(UpdateSchedule(changes=members)).then_rejected("invalid", path=path)


# --- random lives ---------------------------------------------------------------------------------------------------


class DelayMachine(RuleBasedStateMachine):
    """One open task at most; the next nominal time is an interval after the end, the enable or the skip, and increases."""

    @initialize(
        interval=st.sampled_from([1, 30, 60]),
        start=st.sampled_from([None, -10, 45]),
        policy=st.sampled_from(["skip", "fire_once"]),
        max_age=st.sampled_from([None, 100]),
        pauses=st.sampled_from([None, 1, 2]),
    )
    def create(self, interval: int, start: int | None, policy: str, max_age: int | None, pauses: int | None) -> None:
        self.interval = interval
        self.job = a_job(enabled_at=later(-1000))
        self.at = given(SCHEDULE)
        self.events: list[Any] = []
        self.nominal: list[datetime] = []
        self.open: set[str] = set()
        self.to_tell: list[TaskEnd] = []
        self.failures = 0
        self.pauses = pauses
        self.do(
            a_delay(
                interval_secs=interval,
                start_time=None if start is None else later(start),
                misfire_policy=policy,
                max_age_seconds=max_age,
                pause_on_failures=pauses,
            )
        )

    def do(self, command: Any) -> None:
        outcome = self.at.when(command)
        assert outcome.rejected is None
        for event in outcome.decision.events:
            self.sees(event)
        self.events += outcome.decision.events
        self.at = outcome.next()

    def sees(self, event: Any) -> None:
        match event:
            case ScheduleFired():
                assert not self.open, "fired beside a task that has not ended"
                self.open.add(event.task_id)
                self.covers(event.nominal_at)
                assert event.next_run_at is None
            case ScheduleSkipped():
                assert event.count == 1 and event.first_nominal_at == event.last_nominal_at
                self.covers(event.first_nominal_at)
            case ScheduleTaskEnded():
                told = next(each for each in self.to_tell if each.task_id == event.task_id)
                if self.counts(event.task_id) and told.status != TaskStatus.CANCELLED:
                    self.failures = self.failures + 1 if told.status == TaskStatus.FAILED else 0
                assert event.consecutive_failures == self.failures
                if event.next_run_at is not None:
                    assert (event.next_run_at - told.ended_at).total_seconds() >= self.interval
            case ScheduleDisabled(reason="failures"):
                assert self.pauses is not None and event.failures == self.failures >= self.pauses
            case ScheduleEnabled() | ScheduleCreated():
                self.failures = 0
                self.since = len(self.nominal)
                if event.next_run_at is not None:
                    assert event.next_run_at > self.at.now, "F2"

    def counts(self, task_id: str) -> bool:
        """Whether it was made since the last enable, and failures are counted."""
        made = [task_id_of(SCHEDULE_ID, at) for at in self.nominal[self.since :]]
        return self.pauses is not None and task_id in made

    def covers(self, nominal_at: datetime) -> None:
        assert not self.nominal or nominal_at > self.nominal[-1], "F3"
        assert nominal_at <= self.at.now
        self.nominal.append(nominal_at)

    @property
    def is_enabled(self) -> bool:
        return bool(self.at.state.is_enabled)

    @rule(seconds=st.sampled_from([0, 1, 30, 60, 61, 400]))
    def time_passes(self, seconds: float) -> None:
        self.at = self.at.after(seconds)

    @rule(seconds=st.sampled_from([1, 30, 100]))
    def the_clock_steps_back(self, seconds: float) -> None:
        self.at = self.at.after(-seconds)

    @rule()
    def fire(self) -> None:
        known = {task_id: task_id not in self.open for task_id in self.at.state.open_tasks}
        self.do(a_fire(self.job, has_ended=known))

    @precondition(lambda self: self.open)
    @rule(status=st.sampled_from([TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED]))
    def the_task_ends(self, status: TaskStatus) -> None:
        task_id = self.open.pop()
        self.to_tell.append(TaskEnd(task_id=task_id, status=int(status), ended_at=self.at.now))

    @rule(count=st.integers(1, 3))
    def the_schedule_is_told(self, count: int) -> None:
        """Now or much later, and again."""
        self.do(NoteTaskEnds(ends=self.to_tell[-count:]))
        self.do(NoteTaskEnds(ends=self.to_tell[-count:]))

    @precondition(lambda self: self.at.state.exists)
    @rule()
    def disable(self) -> None:
        self.do(DisableSchedule())

    @precondition(lambda self: self.at.state.exists)
    @rule()
    def enable(self) -> None:
        self.do(EnableSchedule())

    @precondition(lambda self: len(self.events) > 8 and self.at.state.exists)
    @rule()
    def delete(self) -> None:
        self.do(DeleteSchedule())
        assert type(self.events[-1]) is ScheduleDeleted

    @invariant()
    def it_waits_for_a_moment_or_for_an_end_and_never_stands_still(self) -> None:
        wishes = SCHEDULE.intents(self.at.state)
        assert bool(wishes) == self.is_enabled
        follows = [wish for wish in wishes if type(wish) is Follow]
        if self.is_enabled and not any(type(wish) is Due for wish in wishes):
            ended = {each.task_id for each in self.to_tell}
            assert follows and follows[0].task_ids <= self.open | ended
            assert self.at.state.awaited_task in follows[0].task_ids

    def teardown(self) -> None:
        if self.events:
            assert given(SCHEDULE, *stored(self.events)).state == self.at.state


TestDelayMachine = DelayMachine.TestCase
TestDelayMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
