"""What a schedule did, or will do, at one moment, for every answer there is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from hetuflow.domain.calendar_rules import rules_of
from hetuflow.domain.commands import (
    CalendarSnapshot,
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    NoteTaskEnds,
    SuspendSchedule,
    TaskEnd,
    UpdateSchedule,
)
from hetuflow.domain.enums import JobStatus, TaskStatus
from hetuflow.domain.events import ScheduleFired, ScheduleSkipped
from hetuflow.domain.exclusion import Calendar, Edition, Exclusion
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.schedule_explanation import (
    LIFECYCLE,
    Asked,
    Decided,
    JobStanding,
    Lived,
    MomentExplanation,
    explain_moment,
)
from tests.support.given import Given, given, later
from tests.support.schedules import SCHEDULE_ID, a_cron, a_fire, a_minutely
from tests.support.tasks import a_job

ENABLED = JobStanding(status=JobStatus.ENABLED)


class Life:
    """A schedule's life, command by command, and questions about it."""

    def __init__(self, command: CreateSchedule | None = None) -> None:
        self.at: Given = given(SCHEDULE)
        self.lives: list[Lived] = []
        self.decisions: list[tuple[Any, Any]] = []
        self.exclusion: Exclusion | None = None
        self.do(command or a_minutely())

    def do(self, *commands: Any, after: float = 0) -> Life:
        self.at = self.at.after(after)
        for command in commands:
            outcome = self.at.when(command)
            assert outcome.rejected is None
            for event in outcome.decision.events:
                if isinstance(event, LIFECYCLE):
                    self.lives.append(Lived(event, self.at.now))
                elif isinstance(event, ScheduleFired | ScheduleSkipped):
                    self.decisions.append((event, self.at.now))
            self.at = outcome.next()
        return self

    def explain(self, seconds: float, job: JobStanding | None = ENABLED, **decided: Any) -> MomentExplanation:
        at = later(seconds)
        found = None
        for event, recorded_at in self.decisions:
            if isinstance(event, ScheduleFired) and at <= event.nominal_at < at + timedelta(seconds=1):
                found = Decided(event=event, recorded_at=recorded_at, **decided)
            if isinstance(event, ScheduleSkipped) and event.first_nominal_at <= at <= event.last_nominal_at:
                found = Decided(event=event, recorded_at=recorded_at, **decided)
        return explain_moment(
            Asked(
                at=at,
                asked_at=self.at.now,
                lives=self.lives,
                now=self.at.state,
                job=job,
                decided=found,
                exclusion=self.exclusion,
            )
        )


def told(found: MomentExplanation) -> tuple[str, str | None]:
    return found.outcome, found.code


def test_what_fired_names_its_task_and_what_became_of_it() -> None:
    life = Life().do(a_fire(), after=65)
    found = life.explain(60, task_status=TaskStatus.FAILED)
    assert told(found) == ("fired", None)
    assert found.summary == (
        f"It fired at 2026-03-01 12:01:05 UTC, 5 s late, and made task {task_id_of(SCHEDULE_ID, later(60))}, which failed."
    )
    assert found.before is None and found.nominal and found.after
    assert (found.nominal.at, found.after.at) == (later(60), later(120))
    assert life.explain(60).summary.endswith("which is deleted.")


def test_what_was_skipped_says_why_and_with_how_many() -> None:
    life = Life().do(a_fire(), after=600)
    found = life.explain(120, why="found too late, as the misfire policy says")
    assert told(found) == ("skipped", "misfire")
    assert found.summary == (
        "It was skipped at 2026-03-01 12:10:00 UTC, with 6 others: found too late, as the misfire policy says."
    )
    assert found.nominal and found.nominal.at == later(120)


def test_a_moment_between_is_told_its_neighbours() -> None:
    found = Life().do(a_fire(), after=60).explain(90)
    assert told(found) == ("no_nominal_time", "no_nominal_time")
    assert found.nominal is None and found.before and found.after
    assert (found.before.at, found.after.at) == (later(60), later(120))


def test_a_moment_means_the_second_that_it_begins() -> None:
    life = Life(a_minutely(start_time=later(60.25)))
    found = life.explain(60)
    assert found.nominal and found.nominal.at == later(60.25)


def test_daylight_saving_is_told() -> None:
    life = Life(a_cron("30 2 * * *", timezone="Europe/Berlin"))
    gap = later(0).replace(month=3, day=29, hour=1)
    found = explain_moment(Asked(at=gap, asked_at=life.at.now, lives=life.lives, now=life.at.state, job=ENABLED))
    assert found.nominal and (found.nominal.note, found.nominal.local.isoformat()) == (
        "gap",
        "2026-03-29T03:00:00+02:00",
    )


@pytest.mark.parametrize(
    ("members", "seconds", "job", "outcome"),
    [
        ({}, 120, ENABLED, ("will_fire", None)),
        ({"max_count": 2}, 120, ENABLED, ("will_fire", None)),
        ({"max_count": 2}, 180, ENABLED, ("will_not_fire", "max_count")),
        ({"start_time": later(90)}, 30, ENABLED, ("no_nominal_time", "before_start")),
        ({"end_time": later(90)}, 120, ENABLED, ("no_nominal_time", "after_end")),
        ({}, 120, JobStanding(status=JobStatus.DISABLED, note="broken"), ("will_not_fire", "job_disabled")),
        ({}, 120, JobStanding(status=JobStatus.ENABLED, is_deleted=True), ("will_not_fire", "job_deleted")),
        ({}, 120, None, ("will_not_fire", "job_deleted")),
    ],
)
def test_what_is_to_come(members: dict[str, Any], seconds: float, job: Any, outcome: tuple[str, str | None]) -> None:
    found = Life(a_minutely(**members)).explain(seconds, job)
    assert told(found) == outcome
    if outcome[1] == "job_disabled":
        assert found.summary == "It will be skipped unless its job is enabled before: that is Disabled (broken)."


def test_the_overlap_policy_and_the_jitter_of_what_will_fire() -> None:
    found = Life(a_minutely(overlap_policy="skip", jitter_seconds=30)).explain(60)
    assert "unless a task that it made before has not ended" in found.summary and "(jitter)" in found.summary
    assert found.due_at is not None and later(60) < found.due_at < later(90)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (
            DisableSchedule(note="holidays"),
            "schedule_disabled",
            "Disabled since 2026-03-01 12:00:30 UTC (holidays)",
        ),
        (SuspendSchedule(error="a defect"), "schedule_disabled", "was suspended at 2026-03-01 12:00:30 UTC"),
        (DeleteSchedule(), "deleted", "was deleted at 2026-03-01 12:00:30 UTC"),
    ],
)
def test_while_it_was_switched_off(command: Any, code: str, words: str) -> None:
    life = Life().do(command, after=30)
    for found in (life.explain(60), life.do(after=100).explain(60)):
        assert told(found) == ("will_not_fire", code)
        assert words in found.summary


def test_what_was_before_it_and_after_its_end() -> None:
    life = Life(a_minutely(max_count=1, start_time=None)).do(a_fire(), after=60).do(after=120)
    assert told(life.explain(-30)) == ("no_nominal_time", "not_created")
    found = life.explain(120)
    assert told(found) == ("will_not_fire", "expired")
    assert "over since 2026-03-01 12:01:00 UTC (max count)" in found.summary


def test_an_enable_ends_what_was_off_and_the_rule_is_that_of_the_moment() -> None:
    life = Life().do(DisableSchedule(), after=30).do(EnableSchedule(), after=60)
    assert told(life.explain(120)) == ("will_fire", None)
    life.do(after=400)
    assert told(life.explain(180)) == ("due", "undecided")  # a nominal time then, and nobody has come to it
    life.do(UpdateSchedule(changes={"interval_secs": 7}))
    assert told(life.explain(180)) == ("skipped", "edited")
    assert told(life.explain(181)) == ("no_nominal_time", "no_nominal_time")


def test_a_fixed_delay_knows_no_more_than_the_next() -> None:
    life = Life(a_minutely(interval_mode="fixed_delay", overlap_policy="skip"))
    assert told(life.explain(60)) == ("will_fire", None)
    found = life.explain(120)
    assert told(found) == ("no_nominal_time", "not_known")
    assert found.after is None and found.summary.startswith("The next nominal time is 2026-03-01 12:01:00 UTC")
    life.do(a_fire(), after=60)
    task_id = task_id_of(SCHEDULE_ID, later(60))
    assert life.explain(120).summary == f"The next nominal time is known when task {task_id} has ended: 60 s later."
    assert told(life.explain(60, task_status=TaskStatus.RUNNING)) == ("fired", None)
    life.do(NoteTaskEnds(ends=[TaskEnd(task_id=task_id, status=100, ended_at=later(70))]), after=10)
    found = life.explain(65)
    assert told(found) == ("no_nominal_time", "no_nominal_time") and found.after and found.after.at == later(130)


@property_of(
    seconds=st.integers(-100, 700),
    fires=st.lists(st.integers(1, 200), max_size=4),
    off=st.none() | st.integers(0, 3),
    members=st.sampled_from([{}, {"max_count": 2}, {"end_time": later(200)}, {"misfire_policy": "skip"}]),
)
def test_every_nominal_time_of_an_enabled_schedule_is_fired_skipped_due_or_to_come(
    seconds: int, fires: list[int], off: int | None, members: dict[str, Any]
) -> None:
    life = Life(a_minutely(**members))
    for number, wait in enumerate(fires):
        life.do(a_fire(a_job()), after=wait)
        if number == off:
            life.do(DisableSchedule())
    found = life.explain(seconds)
    assert found.summary.endswith(".")
    assert (found.nominal is not None) == (found.outcome != "no_nominal_time")
    if found.nominal is not None:
        assert (found.nominal.at - later(0)).total_seconds() % 60 == 0
    for neighbour, is_right in (
        (found.before, lambda at: at < later(seconds + 1)),
        (found.after, lambda at: at >= later(seconds)),
    ):
        assert neighbour is None or is_right(neighbour.at)
    if found.outcome in ("will_fire", "due"):
        assert off is None or off >= len(fires)


def test_what_a_calendar_excludes_is_said_before_and_after_it_was_decided() -> None:
    calendar = CalendarSnapshot(
        calendar=Calendar("noon", 1, (Edition(None, rules_of("UTC", {"times": [{"from": "12:02", "to": "12:05"}]})),))
    )
    told_of = (calendar,)
    life = Life(a_minutely(exclude_calendars=("noon",), calendars=told_of))
    life.exclusion = Exclusion((calendar.calendar,))
    found = life.explain(120)
    assert told(found) == ("will_not_fire", "calendar")
    assert found.summary == "It will not fire: it is excluded by calendar noon, unless that is changed before."
    life.do(a_fire(calendars=told_of), after=60).do(after=130)
    found = life.explain(120)
    assert told(found) == ("will_not_fire", "calendar")
    assert found.summary.endswith("recorded together with the next fire at 2026-03-01 12:05:00 UTC.")
    life.do(a_fire(calendars=told_of), after=110)
    assert told(life.explain(120)) == ("skipped", "calendar")
