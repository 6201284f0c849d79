"""Schedules that refer to exclusion calendars, by example."""

from __future__ import annotations

from typing import Any

import pytest

from hetuflow.domain.calendar import CALENDAR, snapshot
from hetuflow.domain.commands import (
    CalendarSnapshot,
    CreateCalendar,
    DeleteCalendar,
    EnableSchedule,
    ReplanSchedule,
    SealCalendar,
    UnsealCalendar,
    UpdateCalendar,
    UpdateSchedule,
)
from hetuflow.domain.decider import Due, Guard
from hetuflow.domain.events import (
    CalendarCreated,
    CalendarDeleted,
    CalendarSealed,
    CalendarUnsealed,
    CalendarUpdated,
    ScheduleCreated,
    ScheduleExpired,
    ScheduleFired,
    ScheduleReplanned,
    ScheduleSkipped,
    ScheduleUpdated,
    TaskCreated,
)
from hetuflow.domain.schedule import SCHEDULE
from tests.domain.test_calendar_rules import instant
from tests.support.given import NOW, Outcome, given, later
from tests.support.schedules import a_cron, a_fire, a_minutely, a_schedule
from tests.support.tasks import a_job

# NOW is 2026-03-01T12:00:00Z
NOON = {"times": [{"from": "12:00", "to": "12:05"}]}


def a_calendar(**members: Any) -> Outcome:
    return given(CALENDAR).at(later(-86_400)).when(CreateCalendar(calendar_id="holidays", **members))


def told(outcome: Outcome, version: int = 1) -> tuple[CalendarSnapshot, ...]:
    return (snapshot("holidays", outcome.state, version),)


def under(calendar: Outcome, **members: Any) -> Outcome:
    return a_schedule(a_minutely(exclude_calendars=("holidays",), calendars=told(calendar), **members))


def test_what_is_excluded_is_one_skip_together_with_the_next_fire() -> None:
    calendar = a_calendar(**NOON)
    created = under(calendar)
    event = created.then(ScheduleCreated).event(ScheduleCreated)
    assert event.next_run_at == later(300) and event.calendars == {"holidays": 1}
    assert created.decision.guards == (Guard("calendar-holidays", 1),)
    assert created.intent(Due).at == later(300)
    created.next(240).when(a_fire(calendars=told(calendar))).then_nothing()
    fired = created.next(300).when(a_fire(calendars=told(calendar))).then(ScheduleSkipped, ScheduleFired)
    skipped = fired.event(ScheduleSkipped)
    assert (skipped.first_nominal_at, skipped.last_nominal_at) == (later(60), later(240))
    assert (skipped.count, skipped.reason, skipped.calendars) == (4, "calendar", {"holidays": 1})
    assert fired.event(ScheduleFired).fire_count == 1
    assert fired.event(ScheduleFired).calendars == {"holidays": 1}
    assert Guard("calendar-holidays", 1) in fired.decision.guards


def test_what_is_not_told_is_asked_for() -> None:
    command = a_minutely(exclude_calendars=("holidays",))
    a_schedule(command).then_rejected("calendars_unknown", calendar_ids=["holidays"])
    calendar = a_calendar()
    created = under(calendar)
    created.next(60).when(a_fire()).then_rejected("calendars_unknown", calendar_ids=["holidays"])
    created.when(UpdateSchedule(changes={"interval_secs": 5})).then_rejected("calendars_unknown")
    created.when(UpdateSchedule(changes={"name": "n"})).then(ScheduleUpdated)
    created.next(30).when(a_fire()).then_nothing()


def test_a_calendar_that_does_not_exist_or_is_about_to_go_is_refused() -> None:
    nothing = given(CALENDAR).when(CreateCalendar(calendar_id="holidays"))
    gone = (snapshot("holidays", CALENDAR.initial, 0),)
    command = a_minutely(exclude_calendars=("holidays",), calendars=gone)
    a_schedule(command).then_rejected("not_found", kind="calendar", id="holidays", path="exclude_calendars")
    sealed = nothing.when(SealCalendar()).then(CalendarSealed)
    under(sealed).then_rejected("version_conflict")
    assert under(sealed.when(UnsealCalendar()).then(CalendarUnsealed)).rejected is None


@pytest.mark.parametrize(
    ("members", "calendar"),
    [
        ({"end_time": later(200)}, NOON),
        ({}, {"times": [{"from": "00:00", "to": "24:00"}]}),
        ({"interval_secs": None, "max_count": 1, "start_time": later(30)}, NOON),
        ({"interval_secs": None, "max_count": 1, "start_time": later(-86_400 + 60)}, NOON),
    ],
)
def test_a_schedule_that_would_never_fire_is_refused(members: dict[str, Any], calendar: dict[str, Any]) -> None:
    under(a_calendar(**calendar), **members).then_rejected("invalid", path="exclude_calendars")
    created = a_schedule(a_minutely(**members))
    changes = {"exclude_calendars": ["holidays"]}
    edited = created.when(UpdateSchedule(changes=changes, calendars=told(a_calendar(**calendar))))
    if created.state.next_run_at > NOW:
        edited.then_rejected("invalid", path="exclude_calendars")


def test_the_count_of_fires_does_not_count_what_is_excluded() -> None:
    calendar = a_calendar(**NOON)
    created = under(calendar, max_count=2)
    first = created.next(300).when(a_fire(calendars=told(calendar))).then(ScheduleSkipped, ScheduleFired)
    first.next(60).when(a_fire(calendars=told(calendar))).then(ScheduleFired, ScheduleExpired)


def test_an_excluded_end_is_decided_and_is_the_end() -> None:
    calendar = a_calendar(times=[{"from": "12:02", "to": "12:30"}])
    created = under(calendar, end_time=later(250))
    fired = created.next(60).when(a_fire(calendars=told(calendar))).then(ScheduleFired)
    assert fired.intent(Due).at == later(240), "the last nominal time, for it has to be decided"
    over = fired.next(180).when(a_fire(calendars=told(calendar))).then(ScheduleSkipped, ScheduleExpired)
    assert over.event(ScheduleSkipped).count == 3 and over.event(ScheduleExpired).reason == "end_time"


def test_a_misfire_is_the_newest_that_is_not_excluded() -> None:
    calendar = a_calendar(times=[{"from": "12:05", "to": "12:30"}])
    created = under(calendar, misfire_grace_seconds=0)
    fired = created.next(20 * 60).when(a_fire(calendars=told(calendar)))
    fired.then(ScheduleSkipped, ScheduleFired, ScheduleSkipped)
    misfires, fire, excluded = fired.decision.events
    assert (misfires.reason, misfires.count) == ("misfire", 3)
    assert fire.nominal_at == later(240)
    assert (excluded.reason, excluded.count, excluded.next_run_at) == ("calendar", 16, later(30 * 60))


def test_an_edit_of_the_calendar_moves_the_next_fire_and_touches_nothing_before_it() -> None:
    calendar = a_calendar(**NOON)
    created = under(calendar)
    edited = calendar.at_now(later(150)).when(UpdateCalendar(changes={"times": []})).then(CalendarUpdated)
    replanned = created.next(150.5).when(ReplanSchedule(calendars=told(edited, 2))).then(ScheduleReplanned)
    assert replanned.event(ScheduleReplanned).next_run_at == later(180)
    assert replanned.decision.guards == (Guard("calendar-holidays", 2),)
    replanned.when(ReplanSchedule(calendars=told(edited, 2))).then_nothing()
    fired = replanned.next(29.5).when(a_fire(calendars=told(edited, 2))).then(ScheduleSkipped, ScheduleFired)
    assert fired.event(ScheduleSkipped).last_nominal_at == later(120)
    assert fired.event(ScheduleFired).nominal_at == later(180)


def test_what_was_due_before_an_edit_fires_although_the_edit_excludes_it() -> None:
    calendar = a_calendar()
    created = under(calendar)
    edited = calendar.at_now(later(60.5)).when(UpdateCalendar(changes=NOON)).then(CalendarUpdated)
    late = created.next(61).when(ReplanSchedule(calendars=told(edited, 2))).then_nothing()
    fired = late.next(0).when(a_fire(calendars=told(edited, 2))).then(ScheduleFired)
    assert fired.event(ScheduleFired).nominal_at == later(60)
    assert fired.event(ScheduleFired).next_run_at == later(300)


def test_an_edit_of_the_schedule_covers_what_was_excluded_so_far() -> None:
    created = under(a_calendar(**NOON))
    edited = created.next(130).when(UpdateSchedule(changes={"exclude_calendars": []}))
    edited.then(ScheduleSkipped, ScheduleUpdated)
    assert (edited.event(ScheduleSkipped).reason, edited.event(ScheduleSkipped).count) == ("calendar", 2)
    assert edited.event(ScheduleUpdated).next_run_at == later(180)
    assert edited.decision.guards == ()
    late = created.next(310).when(UpdateSchedule(changes={"exclude_calendars": []}))
    assert [(each.reason, each.count) for each in late.decision.events[:2]] == [("calendar", 4), ("edited", 1)]


def test_while_the_job_is_off_what_is_excluded_is_told_apart() -> None:
    calendar = a_calendar(times=[{"from": "12:00", "to": "12:05"}, {"from": "12:08", "to": "12:20"}])
    created = under(calendar)
    off = created.next(7 * 60).when(a_fire(a_job(status=99), calendars=told(calendar)))
    off.then(ScheduleSkipped, ScheduleSkipped)
    assert [(each.reason, each.count) for each in off.decision.events] == [("calendar", 4), ("job_disabled", 3)]
    assert off.intent(Due).at == later(20 * 60)


def test_a_deleted_calendar_excludes_nothing_any_more() -> None:
    calendar = a_calendar(**NOON)
    created = under(calendar)
    sealed = calendar.at_now(later(70)).when(SealCalendar()).then(CalendarSealed)
    sealed.when(DeleteCalendar(sealed_at=later(69))).then_rejected("version_conflict")
    sealed.next(11).when(DeleteCalendar(sealed_at=later(70))).then_rejected("version_conflict")
    deleted = sealed.when(DeleteCalendar(sealed_at=later(70))).then(CalendarDeleted)
    replanned = created.next(71).when(ReplanSchedule(calendars=told(deleted, 3))).then(ScheduleReplanned)
    assert replanned.event(ScheduleReplanned).next_run_at == later(120)
    again = deleted.next(600).when(CreateCalendar(calendar_id="holidays", **NOON)).then(CalendarCreated)
    assert [edition.since_at for edition in again.state.editions] == [None, later(70), later(670)]


def test_a_minutely_schedule_under_a_year_of_exclusion_is_one_skip() -> None:
    calendar = a_calendar(timezone="Europe/Berlin", ranges=[{"from": "2026-03-02", "to": "2027-03-01"}])
    created = a_schedule(a_cron("* * * * *", exclude_calendars=("holidays",), calendars=told(calendar)))
    at_night = created.next(11 * 3600 - 60).when(a_fire(calendars=told(calendar)))
    assert at_night.intent(Due).at == instant("2027-03-02T00:00+01:00")
    fired = at_night.at_now(instant("2027-03-02T00:00+01:00")).when(a_fire(calendars=told(calendar)))
    fired.then(ScheduleSkipped, ScheduleFired)
    assert fired.event(ScheduleSkipped).count == 365 * 1440
    assert fired.event(TaskCreated).nominal_at == instant("2027-03-02T00:00+01:00")


def test_enabling_looks_at_the_calendars_as_they_are() -> None:
    calendar = a_calendar(**NOON)
    created = under(calendar, status=99)
    assert created.state.next_run_at is None
    enabled = created.next(100).when(EnableSchedule(calendars=told(calendar)))
    assert enabled.state.next_run_at == later(300)
    assert SCHEDULE.intents(enabled.state) == {Due(later(300))}


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"timezone": "Europe/Berlim"}, "timezone"),
        ({"dates": ["2026-02-30"]}, "dates[0]"),
        ({"dates": ["24.12."]}, "dates[0]"),
        ({"dates": "2026-12-24"}, "dates"),
        ({"ranges": [{"from": "2026-12-24"}]}, "ranges[0].to"),
        ({"ranges": [{"from": "2026-12-24", "to": "2026-12-23"}]}, "ranges[0].to"),
        ({"ranges": [{"from": "2026-12-24", "to": "2026-12-25", "by": 1}]}, "ranges[0].by"),
        ({"yearly": ["12-25", "13-01"]}, "yearly[1]"),
        ({"weekdays": [{"days": ["sun", "frei"]}]}, "weekdays[0].days[1]"),
        ({"weekdays": [{"days": []}]}, "weekdays[0].days"),
        ({"weekdays": [{"from": "12:00"}]}, "weekdays[0].days"),
        ({"weekdays": [7]}, "weekdays[0]"),
        ({"times": [{}]}, "times[0]"),
        ({"times": [{"from": "25:00"}]}, "times[0].from"),
        ({"times": [{"from": "08:00", "to": "08:00"}]}, "times[0].to"),
        ({"times": [{"from": "24:00", "to": "08:00"}]}, "times[0].from"),
        ({"periods": [{"from": "2026-12-24T12:00:00", "to": "2026-12-24T13:00:00Z"}]}, "periods[0].from"),
        ({"periods": [{"from": "2026-12-24T12:00:00Z", "to": "2026-12-24T12:00:00Z"}]}, "periods[0].to"),
        ({"dates": ["2026-12-24"] * 5001}, "dates"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(members: dict[str, Any], path: str) -> None:
    a_calendar(**members).then_rejected("invalid", path=path)


def test_what_is_stored_is_in_order_and_of_one_form() -> None:
    created = a_calendar(
        dates=["2027-01-01", "2026-12-25", "2027-01-01"],
        weekdays=["Sunday", {"days": ["fri", "Thursday"], "to": "06:30:00"}],
        periods=[{"from": "2026-12-24T13:00:00+01:00", "to": "2026-12-24T18:00:00Z"}],
        yearly=["02-29"],
    ).event(CalendarCreated)
    assert created.dates == ("2026-12-25", "2027-01-01")
    assert created.weekdays == ({"days": ["thu", "fri"], "to": "06:30"}, {"days": ["sun"]})
    assert created.periods == ({"from": "2026-12-24T12:00:00Z", "to": "2026-12-24T18:00:00Z"},)


def test_an_edit_that_changes_nothing_is_nothing() -> None:
    calendar = a_calendar(**NOON)
    calendar.when(UpdateCalendar(changes={"times": [{"to": "12:05:00", "from": "12:00"}]})).then_nothing()
    calendar.when(CreateCalendar(calendar_id="holidays")).then_rejected("already_exists")
    given(CALENDAR).when(UpdateCalendar(changes={})).then_rejected("not_found")
