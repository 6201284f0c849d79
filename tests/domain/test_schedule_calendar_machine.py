"""Random lives of an interval schedule under a calendar that is edited, against an outside model.

The model knows the calendar's members and when each edit was made, looks every nominal time up by the reference of
test_calendar_rules.py, and reads events only: F1 (each nominal time once), and each for the reason that is true.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hetuflow.domain.calendar import CALENDAR, snapshot
from hetuflow.domain.commands import (
    CalendarSnapshot,
    CreateCalendar,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    ReplanSchedule,
    UpdateCalendar,
    UpdateSchedule,
)
from hetuflow.domain.decider import Due
from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    CalendarUpdated,
    ScheduleCreated,
    ScheduleEnabled,
    ScheduleFired,
    ScheduleReplanned,
    ScheduleSkipped,
    ScheduleUpdated,
)
from hetuflow.domain.schedule import SCHEDULE
from tests.domain.test_calendar_rules import is_excluded
from tests.domain.test_schedule_machine import SECOND, Rule
from tests.support.given import NOW, Given, Outcome, given, later
from tests.support.schedules import a_fire, a_minutely
from tests.support.stored import stored
from tests.support.tasks import a_job

GRACE_SECONDS = 20
CALENDARS: list[dict[str, Any]] = [
    {},
    {"times": [{"from": "12:00:30", "to": "12:02:10"}]},
    {"times": [{"from": "12:01", "to": "12:01:30"}, {"from": "12:03", "to": "12:09"}]},
    {"times": [{"from": "12:00", "to": "13:30"}]},
    {"periods": [{"from": "2026-03-01T12:04:00Z", "to": "2026-03-01T12:04:01Z"}], "weekdays": [{"days": ["mon"]}]},
]
RULES = ("times", "periods", "weekdays")


class CalendarMachine(RuleBasedStateMachine):
    @initialize(
        interval=st.sampled_from([7, 30, 60]),
        end=st.sampled_from([None, None, 400]),
        policy=st.sampled_from(["skip", "fire_once", "fire_all"]),
        max_count=st.sampled_from([None, None, 3]),
        max_age=st.sampled_from([None, None, 90]),
        members=st.sampled_from(CALENDARS[:3]),
    )
    def create(
        self, interval: int, end: int | None, policy: str, max_count: int | None, max_age: int | None, members: Any
    ) -> None:
        self.job = a_job(enabled_at=later(-1000))
        self.rule = Rule(NOW, interval, None, later(end) if end else None)
        self.policy, self.max_age = policy, max_age
        self.calendar: Given = given(CALENDAR).at(later(-500))
        self.calendar = self.calendar.when(CreateCalendar(calendar_id="c", **members)).next(500)
        self.calendar_version = 1
        self.editions: list[tuple[datetime, dict[str, Any]]] = [(later(-500), members)]
        self.at: Given = given(SCHEDULE)
        self.covered: list[datetime] = []
        self.fired: list[datetime] = []
        self.owed_from = NOW
        self.do(
            a_minutely(
                interval_secs=interval,
                end_time=self.rule.end_at,
                misfire_policy=policy,
                misfire_grace_seconds=GRACE_SECONDS,
                max_count=max_count,
                max_age_seconds=max_age,
                exclude_calendars=("c",),
                calendars=self.told,
            )
        )

    @property
    def told(self) -> tuple[CalendarSnapshot, ...]:
        return (snapshot("c", self.calendar.state, self.calendar_version),)

    def excluded(self, at: datetime) -> bool:
        members = [each for since, each in self.editions if since < at][-1]
        return is_excluded("UTC", members, at)

    def do(self, command: Any) -> Outcome:
        outcome = self.at.when(command)
        assert outcome.rejected is None, outcome.rejected
        for event in outcome.decision.events:
            self.sees(event)
            if type(event) in (ScheduleFired, ScheduleEnabled, ScheduleReplanned):
                assert self.told[0].guard in outcome.decision.guards
                assert event.calendars == {"c": self.calendar_version}
        self.at = outcome.next()
        return outcome

    def sees(self, event: Any) -> None:
        now = self.at.now
        match event:
            case ScheduleFired():
                assert not self.excluded(event.nominal_at), "fired in an excluded time"
                assert self.owed_from < event.nominal_at <= now
                self.covers([event.nominal_at], 1)
                self.fired.append(event.nominal_at)
            case ScheduleSkipped():
                first, last = event.first_nominal_at, event.last_nominal_at
                times = self.rule.between(first - SECOND / 1000, last)
                self.covers(times, event.count)
                assert last <= now
                excluded = [self.excluded(at) for at in times]
                if event.reason == "calendar":
                    assert all(excluded), "skipped for a calendar that does not exclude it"
                elif event.reason in ("misfire", "max_age"):
                    assert not any(excluded), f"skipped as {event.reason} in an excluded time"
                    least = GRACE_SECONDS if event.reason == "misfire" else self.max_age
                    assert now - last > timedelta(seconds=least or 0)
            case ScheduleUpdated(changed=("priority",)):
                pass  # says nothing of times
            case ScheduleCreated() | ScheduleUpdated() | ScheduleEnabled():
                self.owed_from = max([self.owed_from, now, *self.covered[-1:]])

    def covers(self, nominal: list[datetime], count: int) -> None:
        assert nominal and len(nominal) == count, f"covers {count}, there are {len(nominal)}"
        assert not self.covered or nominal[0] > self.covered[-1], "F3: covered twice, or not increasing"
        after = max([self.owed_from, *self.covered[-1:]])
        assert nominal == self.rule.between(after, nominal[-1]), "F1: left one out"
        self.covered += nominal

    @property
    def is_enabled(self) -> bool:
        return bool(self.at.state.is_enabled)

    @rule(seconds=st.sampled_from([0, 1, 6.5, 29, 60, 61, 180, 400]))
    def time_passes(self, seconds: float) -> None:
        self.at = self.at.after(seconds)
        self.calendar = self.calendar.at(self.at.now)

    @rule()
    def fire(self) -> None:
        before = len(self.fired)
        self.do(a_fire(self.job, calendars=self.told))
        late = [at for at in self.fired[before:] if self.at.now - at > timedelta(seconds=GRACE_SECONDS)]
        if self.policy != "fire_all":
            assert len(late) <= (1 if self.policy == "fire_once" else 0)
        if self.policy == "fire_once" and late:
            newer = self.rule.between(late[-1], self.at.now - timedelta(seconds=GRACE_SECONDS, microseconds=1))
            assert all(self.excluded(at) for at in newer), "not the newest that is not excluded"

    @rule()
    def settle(self) -> None:
        """Once it is not due any more, what is left undecided is excluded."""
        self.hear()
        for _ in range(20):
            due = [intent.at for intent in SCHEDULE.intents(self.at.state) if type(intent) is Due]
            if not due or due[0] > self.at.now:
                break
            self.do(a_fire(self.job, calendars=self.told))
        if self.is_enabled:
            left = self.rule.between(max([self.owed_from, *self.covered[-1:]]), self.at.now)
            assert all(self.excluded(at) for at in left), "F1: not covered"

    @rule(members=st.sampled_from(CALENDARS), is_heard=st.booleans())
    def edit_the_calendar(self, members: Any, is_heard: bool) -> None:
        changes = {name: members.get(name, ()) for name in RULES}
        outcome = self.calendar.when(UpdateCalendar(changes=changes))
        if not outcome.decision:
            return
        edited_at = outcome.event(CalendarUpdated).updated_at
        self.editions.append((edited_at, members))
        self.calendar, self.calendar_version = outcome.next(), self.calendar_version + 1
        if is_heard and not self.at.state.is_deleted:
            self.hear()

    @rule()
    def hear(self) -> None:
        if not self.at.state.is_deleted:
            self.do(ReplanSchedule(calendars=self.told))
            assert self.at.when(ReplanSchedule(calendars=self.told)).decision.events == ()
            if self.is_enabled:
                after = max([self.owed_from, *self.covered[-1:]])
                free = next((at for at in self.rule.between(after, later(6000)) if not self.excluded(at)), None)
                following = self.at.state.next_run_at
                assert following == free if free is not None else following > after

    @rule()
    def disable(self) -> None:
        if not self.at.state.is_deleted:
            self.ends(DisableSchedule())

    @rule()
    def enable(self) -> None:
        if not self.at.state.is_deleted:
            self.do(EnableSchedule(calendars=self.told))

    @rule(priority=st.integers(0, 3))
    def edit_the_priority(self, priority: int) -> None:
        if not self.at.state.is_deleted:
            self.do(UpdateSchedule(changes={"priority": priority}))

    @rule()
    def delete(self) -> None:
        if len(self.covered) > 8 and not self.at.state.is_deleted:
            self.ends(DeleteSchedule())

    def ends(self, command: Any) -> None:
        self.hear()  # what covers them goes by what the schedule knows of its calendars
        owed_from, was_enabled = self.owed_from, self.is_enabled
        outcome = self.do(command)
        if outcome.decision and was_enabled:
            owed = self.rule.between(owed_from, self.at.now)
            assert [at for at in self.covered if at > owed_from][: len(owed)] == owed, "F1: lost by an end"

    @rule()
    def switch_the_job(self) -> None:
        is_on = self.job.status == 100
        self.job = evolve(
            self.job,
            status=99 if is_on else 100,
            version=self.job.version + 1,
            enabled_at=self.job.enabled_at if is_on else self.at.now,
        )

    @invariant()
    def only_an_enabled_schedule_is_due(self) -> None:
        due = [intent.at for intent in SCHEDULE.intents(self.at.state)]
        assert len(due) == (1 if self.is_enabled else 0)
        if due and self.covered:
            assert due[0] > self.covered[-1]

    @invariant()
    def an_expired_schedule_has_nothing_left(self) -> None:
        if self.at.state.status is ScheduleStatus.EXPIRED and self.at.state.max_count != len(self.fired):
            assert self.rule.end_at is not None
            after = max([self.owed_from, *self.covered[-1:]])
            assert self.rule.between(after, self.rule.end_at) == []


CalendarMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestCalendars = CalendarMachine.TestCase


def test_what_the_calendar_remembers_is_bounded_and_folds() -> None:
    at = given(CALENDAR).when(CreateCalendar(calendar_id="c"))
    for number in range(1, 40):
        at = (
            at.next(60).when(UpdateCalendar(changes={"dates": [f"2027-01-{1 + number % 28:02}"]})).then(CalendarUpdated)
        )
    assert len(at.state.editions) == 16
    assert stored(at.decision.events) == list(at.decision.events)
