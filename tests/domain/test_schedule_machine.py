"""Random lives of an interval schedule against an outside model: F1, F2, F3 and the age bound F5 of the promises.

The model computes nominal times by arithmetic of its own, keeps when schedule and job were enabled, and reads events
only. Skipped ranges say how many nominal times they cover: the model counts them itself.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from attrs import evolve, frozen
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import DeleteSchedule, DisableSchedule, EnableSchedule, UpdateSchedule
from hetuflow.domain.decider import Due
from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleUpdated,
    TaskCreated,
)
from hetuflow.domain.misfire import decide_fires
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.schedule_fires import plan_of
from hetuflow.domain.schedule_state import trigger_of
from tests.support.given import NOW, Given, Outcome, given, later
from tests.support.schedules import a_fire, a_minutely, a_schedule
from tests.support.stored import stored
from tests.support.tasks import a_job

GRACE_SECONDS = 20
SECOND = timedelta(seconds=1)


@frozen
class Rule:
    """Nominal times as the contract says them: start + k x interval, else anchor + (k + 1) x interval."""

    anchor_at: datetime
    interval: int
    start_at: datetime | None
    end_at: datetime | None

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Those in (after, until]."""
        at = self.start_at if self.start_at is not None else self.anchor_at + self.interval * SECOND
        last = until if self.end_at is None else min(until, self.end_at)
        found = []
        while at <= last:
            if at > after:
                found.append(at)
            at += self.interval * SECOND
        return found


class ScheduleMachine(RuleBasedStateMachine):
    @initialize(
        interval=st.sampled_from([7, 30, 60]),
        start=st.sampled_from([None, -100, -60, 0, 45]),
        end=st.sampled_from([None, None, 900]),
        policy=st.sampled_from(["skip", "fire_once", "fire_all"]),
        max_count=st.sampled_from([None, None, 2, 5]),
        max_age=st.sampled_from([None, None, 15, 90]),
    )
    def create(
        self,
        interval: int,
        start: int | None,
        end: int | None,
        policy: str,
        max_count: int | None,
        max_age: int | None,
    ) -> None:
        self.job = a_job(enabled_at=later(-1000))
        self.rule = Rule(NOW, interval, later(start) if start is not None else None, later(end) if end else None)
        self.policy = policy
        self.max_count = max_count
        self.max_age = max_age
        self.at: Given = given(SCHEDULE)
        self.events: list[Any] = []
        self.covered: list[datetime] = []
        self.fired: list[datetime] = []
        self.owed_from = NOW
        """Nominal times after this are this schedule's to cover, while it is enabled."""
        self.do(
            a_minutely(
                interval_secs=interval,
                start_time=self.rule.start_at,
                end_time=self.rule.end_at,
                misfire_policy=policy,
                misfire_grace_seconds=GRACE_SECONDS,
                max_count=max_count,
                max_age_seconds=max_age,
            )
        )

    def do(self, command: Any) -> Outcome:
        outcome = self.at.when(command)
        assert outcome.rejected is None
        for event in outcome.decision.events:
            self.sees(event, outcome)
        self.events += outcome.decision.events
        self.at = outcome.next()
        return outcome

    def sees(self, event: Any, outcome: Outcome) -> None:
        now = self.at.now
        match event:
            case ScheduleFired():
                self.covers([event.nominal_at], 1)
                assert self.owed_from < event.nominal_at <= now, "F2: fired at or before creation, edit or resume"
                assert self.job.status == 100 and event.nominal_at > self.job.enabled_at
                assert self.max_age is None or now - event.nominal_at <= self.max_age * SECOND, "F5: too old"
                self.fired.append(event.nominal_at)
                assert event.fire_count == len(self.fired)
                assert self.max_count is None or len(self.fired) <= self.max_count
                tasks = [e for events in outcome.decision.opened.values() for e in events if type(e) is TaskCreated]
                assert [t.nominal_at for t in tasks if t.task_id == event.task_id] == [event.nominal_at]
            case ScheduleSkipped():
                first, last = event.first_nominal_at, event.last_nominal_at
                self.covers(self.rule.between(first - SECOND / 1000, last), event.count)
                assert last <= now
                if event.reason == "misfire":
                    assert now - last > timedelta(seconds=GRACE_SECONDS), "F5: skipped although on time"
                if event.reason == "max_age":
                    assert self.max_age and now - last > self.max_age * SECOND, "F5: skipped although young enough"
            case ScheduleUpdated(changed=("name",)):
                pass  # says nothing of times
            case ScheduleCreated() | ScheduleUpdated() | ScheduleEnabled():
                self.owed_from = max([self.owed_from, now, *self.covered[-1:]])

    def covers(self, nominal: list[datetime], count: int) -> None:
        assert nominal and len(nominal) == count, f"covers {count}, there are {len(nominal)}"
        assert nominal == self.rule.between(nominal[0] - SECOND / 1000, nominal[-1]), "not nominal times"
        assert not self.covered or nominal[0] > self.covered[-1], "F3: covered twice, or not increasing"
        self.covered += nominal

    @property
    def status(self) -> ScheduleStatus:
        status: ScheduleStatus = self.at.state.status
        return status

    @property
    def is_deleted(self) -> bool:
        return bool(self.at.state.is_deleted)

    # --- what happens ---

    @rule(seconds=st.sampled_from([0, 1, 6.5, 7, 29, 60, 61, 180, 400]))
    def time_passes(self, seconds: float) -> None:
        self.at = self.at.after(seconds)

    @rule(seconds=st.sampled_from([1, 30, 100]))
    def the_clock_steps_back(self, seconds: float) -> None:
        fired = len(self.fired)
        self.at = self.at.after(-seconds)
        self.do(a_fire(self.job))
        assert all(at <= self.at.now for at in self.fired[fired:])

    @rule()
    def fire(self) -> None:
        before = len(self.fired)
        self.do(a_fire(self.job))
        late = [at for at in self.fired[before:] if self.at.now - at > timedelta(seconds=GRACE_SECONDS)]
        if self.policy != "fire_all":
            assert len(late) <= (1 if self.policy == "fire_once" else 0), "F5: an old nominal time fired"

    @rule()
    def settle_and_compare(self) -> None:
        """F1: once it is not due any more, all that was owed is covered."""
        for _ in range(10):
            due = [intent.at for intent in SCHEDULE.intents(self.at.state) if type(intent) is Due]
            if not due or due[0] > self.at.now:
                break
            self.do(a_fire(self.job))
        if self.status is ScheduleStatus.ENABLED and not self.is_deleted:
            owed = self.rule.between(self.owed_from, self.at.now)
            assert [at for at in self.covered if at > self.owed_from][: len(owed)] == owed, "F1: not covered"

    @rule()
    def disable(self) -> None:
        if not self.is_deleted:
            self.expect_all_covered(DisableSchedule())

    @rule()
    def enable(self) -> None:
        if not self.is_deleted:
            self.do(EnableSchedule())

    @rule(interval=st.sampled_from([7, 30, 60]))
    def edit_the_interval(self, interval: int) -> None:
        if not self.is_deleted and interval != self.rule.interval:
            old, self.rule = self.rule, evolve(self.rule, anchor_at=self.at.now, interval=interval)
            new, self.rule = self.rule, old
            self.expect_all_covered(UpdateSchedule(changes={"interval_secs": interval}), new)
            self.rule = new

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def rename(self, name: str) -> None:
        if not self.is_deleted:
            due = SCHEDULE.intents(self.at.state)
            outcome = self.do(UpdateSchedule(changes={"name": name}))
            assert all(type(event) is ScheduleUpdated for event in outcome.decision.events)
            assert outcome.intents == due, "an edit of the name touched what is due"

    @precondition(lambda self: len(self.events) > 6)
    @rule()
    def delete(self) -> None:
        if not self.is_deleted:
            self.expect_all_covered(DeleteSchedule())

    def expect_all_covered(self, command: Any, rule: Rule | None = None) -> None:
        """F1: what ends a stretch leaves nothing uncovered behind."""
        owed_from, was_enabled = self.owed_from, self.status is ScheduleStatus.ENABLED
        outcome = self.do(command)
        if outcome.decision and was_enabled:
            owed = self.rule.between(owed_from, self.at.now)
            assert [at for at in self.covered if at > owed_from][: len(owed)] == owed, "F1: lost by an edit or an end"

    @rule()
    def switch_the_job_off(self) -> None:
        if self.job.status == 100:
            self.job = evolve(self.job, status=99, version=self.job.version + 1)

    @rule()
    def switch_the_job_on(self) -> None:
        if self.job.status == 99:
            self.job = evolve(self.job, status=100, version=self.job.version + 1, enabled_at=self.at.now)

    # --- what always holds ---

    @invariant()
    def only_an_enabled_schedule_is_due(self) -> None:
        due = [intent.at for intent in SCHEDULE.intents(self.at.state)]
        enabled = self.status is ScheduleStatus.ENABLED and not self.is_deleted
        assert len(due) == (1 if enabled else 0)
        if due and self.covered:
            assert due[0] > self.covered[-1], "F3: due again"

    @invariant()
    def an_expired_schedule_has_nothing_left(self) -> None:
        if self.events and type(self.events[-1]) is ScheduleExpired:
            assert self.max_count == len(self.fired) or self.rule.end_at is not None

    def teardown(self) -> None:
        if self.events:
            assert given(SCHEDULE, *stored(self.events)).state == self.at.state


@property_of(
    interval=st.sampled_from([1, 7, 60]),
    grace=st.sampled_from([0, 1, 7, 60]),
    policy=st.sampled_from(["skip", "fire_once", "fire_all"]),
    count_left=st.sampled_from([None, 0, 1, 2]),
    max_age=st.sampled_from([None, 1, 30, 100]),
    cursor=st.integers(0, 130),
    now=st.integers(-10, 260),
)
def test_the_short_way_to_a_plan_gives_the_same_plan(
    interval: int, grace: int, policy: str, count_left: int | None, max_age: int | None, cursor: int, now: int
) -> None:
    command = a_minutely(
        interval_secs=interval, misfire_policy=policy, misfire_grace_seconds=grace, max_age_seconds=max_age
    )
    state = evolve(a_schedule(command).state, cursor_at=later(cursor / 2), fire_count=5)
    if count_left is not None:
        state = evolve(state, max_count=5 + count_left)
    at, trigger = later(now / 2), trigger_of(state, state.anchor_at)
    assert plan_of(state, at) == decide_fires(
        trigger, state.cursor_at, at, policy, grace, max_age_seconds=max_age, fires_left=state.fires_left
    )


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
