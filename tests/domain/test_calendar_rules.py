"""What calendars exclude, against a reference that looks at the local clock of every minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.calendar_rules import WEEKDAYS, CalendarRules, rules_of, spans
from hetuflow.domain.exclusion import NO_RULES, Calendar, Edition, Exclusion

MINUTE = timedelta(minutes=1)
MIDNIGHT = time(0)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def exclusion(timezone: str, **members: Any) -> Exclusion:
    return Exclusion((Calendar("c", 1, (Edition(None, rules_of(timezone, members)),)),))


# --- the reference ---------------------------------------------------------------------------------------------------


def is_excluded(timezone: str, members: Mapping[str, Any], at: datetime) -> bool:
    """As the documentation says it, for one instant."""
    local = at.astimezone(ZoneInfo(timezone))
    today = local.date()
    if today.isoformat() in members.get("dates", ()):
        return True
    if any(each["from"] <= today.isoformat() <= each["to"] for each in members.get("ranges", ())):
        return True
    if f"{today:%m-%d}" in members.get("yearly", ()):
        return True
    if any(instant(each["from"]) <= at < instant(each["to"]) for each in members.get("periods", ())):
        return True
    windows = [*members.get("weekdays", ()), *({"days": WEEKDAYS, **each} for each in members.get("times", ()))]
    return any(in_window(each, local) for each in windows)


def in_window(window: Mapping[str, Any], local: datetime) -> bool:
    clock, begin = local.time(), time.fromisoformat(window.get("from", "00:00"))
    end = window.get("to", "24:00")
    last = time.max if end == "24:00" else time.fromisoformat(end)
    today = WEEKDAYS[local.weekday()] in window["days"]
    yesterday = WEEKDAYS[(local.weekday() - 1) % 7] in window["days"]
    if end == "24:00" or begin < last:
        return today and begin <= clock and (end == "24:00" or clock < last)
    return (today and begin <= clock) or (yesterday and clock < last)


# --- what is drawn ---------------------------------------------------------------------------------------------------

# a day around which the clocks of each zone change: forward, back, half an hour, at midnight, a day left out, none
ZONES = {
    "Europe/Berlin": [date(2026, 3, 29), date(2026, 10, 25)],
    "America/New_York": [date(2026, 3, 8), date(2026, 11, 1)],
    "Australia/Lord_Howe": [date(2026, 4, 5), date(2026, 10, 4)],
    "America/Havana": [date(2026, 3, 8), date(2026, 11, 1)],
    "America/St_Johns": [date(2006, 4, 2), date(2006, 10, 29)],
    "Pacific/Apia": [date(2011, 12, 30)],
    "Asia/Kathmandu": [date(2026, 6, 1)],
    "UTC": [date(2028, 2, 29)],
}
CLOCKS = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.sampled_from([0, 1, 30, 59]))


@st.composite
def windows(draw: st.DrawFn) -> dict[str, str]:
    begin = draw(CLOCKS)
    end = draw(st.one_of(st.just("24:00"), CLOCKS.filter(lambda text: text != begin)))
    return {"from": begin, "to": end}


@st.composite
def calendars(draw: st.DrawFn) -> tuple[str, date, dict[str, Any]]:
    timezone = draw(st.sampled_from(sorted(ZONES)))
    middle = draw(st.sampled_from(ZONES[timezone]))
    days = st.integers(-3, 3).map(lambda number: middle + timedelta(days=number))
    members: dict[str, Any] = {}
    if draw(st.booleans()):
        members["dates"] = [day.isoformat() for day in draw(st.lists(days, max_size=3))]
    if draw(st.booleans()):
        first, last = sorted([draw(days), draw(days)])
        members["ranges"] = [{"from": first.isoformat(), "to": last.isoformat()}]
    if draw(st.booleans()):
        members["yearly"] = [f"{draw(days):%m-%d}"]
    if draw(st.booleans()):
        on = draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=3))
        members["weekdays"] = [{"days": on, **draw(st.one_of(st.just({}), windows()))}]
    if draw(st.booleans()):
        members["times"] = [draw(windows())]
    if draw(st.booleans()):
        begin = datetime.combine(draw(days), MIDNIGHT, UTC) + draw(st.integers(0, 1439)) * MINUTE
        members["periods"] = [
            {"from": begin.isoformat(), "to": (begin + draw(st.integers(1, 3000)) * MINUTE).isoformat()}
        ]
    return timezone, middle, members


@settings(max_examples=40, deadline=None)  # each looks at four days of minutes
@given(calendars(), st.integers(0, 1439))
def test_every_minute_around_a_change_of_clocks_is_as_the_local_clock_says(
    drawn: tuple[str, date, dict[str, Any]], begin: int
) -> None:
    timezone, middle, members = drawn
    low = datetime.combine(middle - timedelta(days=2), MIDNIGHT, UTC) + begin * MINUTE
    high = low + timedelta(days=4)
    found = list(spans(rules_of(timezone, members), seconds(low), seconds(high)))
    assert all(first < last for first, last in found)
    assert all(before[1] < after[0] for before, after in pairwise(found)), "spans that touch"
    excluded = {each for first, last in found for each in range(first, last, 60)}
    at = low
    while at < high:
        assert (seconds(at) in excluded) is is_excluded(timezone, members, at), at.astimezone(ZoneInfo(timezone))
        at += MINUTE


@settings(max_examples=30, deadline=None)  # each looks at up to three days of minutes, in both directions
@given(calendars(), calendars(), st.integers(0, 5 * 1440), st.integers(0, 59))
def test_ends_and_beginnings_of_several_calendars_together(
    one: tuple[str, date, dict[str, Any]], two: tuple[str, date, dict[str, Any]], minute: int, second: int
) -> None:
    low = datetime.combine(one[1] - timedelta(days=3), MIDNIGHT, UTC)
    at = low + minute * MINUTE + timedelta(seconds=second)
    limit = at + timedelta(days=3)
    both = Exclusion(
        tuple(
            Calendar(name, 1, (Edition(None, rules_of(each[0], each[2])),))
            for name, each in (("one", one), ("two", two))
        )
    )

    def says(moment: datetime) -> bool:
        return any(is_excluded(each[0], each[2], moment) for each in (one, two))

    assert both.excludes(at) is says(at)
    assert both.excluded_by(at) == [n for n, each in (("one", one), ("two", two)) if is_excluded(each[0], each[2], at)]
    step = at.replace(second=0) + MINUTE
    while step < limit and says(step) is says(at):
        step += MINUTE
    if says(at):
        assert both.next_start(at, limit) == at
        assert both.end_of(at, limit) == min(step, limit)
        back = at.replace(second=0)
        while back > low and says(back - MINUTE):
            back -= MINUTE
        assert both.start_of(at, low) == max(back, low)
    else:
        assert both.end_of(at, limit) is None and both.start_of(at, low) is None
        assert both.next_start(at, limit) == (step if step < limit else None)


# --- by example ------------------------------------------------------------------------------------------------------


def test_both_passes_of_a_repeated_hour_are_excluded() -> None:
    night = exclusion("Europe/Berlin", times=[{"from": "02:00", "to": "03:00"}])
    assert night.end_of(instant("2026-10-25T02:00+02:00"), instant("2027-01-01T00:00Z")) == instant(
        "2026-10-25T03:00+01:00"
    )


def test_a_rule_for_a_skipped_hour_excludes_nothing() -> None:
    night = exclusion("Europe/Berlin", times=[{"from": "02:00", "to": "03:00"}])
    day = instant("2026-03-29T00:00+01:00")
    assert not night.excludes(instant("2026-03-29T03:00+02:00"))
    assert night.next_start(day, day + timedelta(hours=20)) is None


def test_friday_night_reaches_into_saturday() -> None:
    weekend = exclusion("UTC", weekdays=[{"days": ["fri"], "from": "22:00", "to": "06:00"}])
    assert weekend.end_of(instant("2026-11-27T22:00Z"), instant("2026-12-31T00:00Z")) == instant("2026-11-28T06:00Z")
    assert not weekend.excludes(instant("2026-11-29T05:00Z"))


def test_the_leap_day_comes_every_fourth_year() -> None:
    leap = exclusion("UTC", yearly=["02-29"])
    assert leap.next_start(instant("2026-01-01T00:00Z"), instant("2032-01-01T00:00Z")) == instant("2028-02-29T00:00Z")


def test_an_edit_changes_what_lies_after_it_and_nothing_before() -> None:
    edited_at = instant("2026-12-25T12:00:00.5Z")
    holiday = rules_of("UTC", {"dates": ["2026-12-25"]})
    both = Exclusion((Calendar("c", 2, (Edition(None, holiday), Edition(edited_at, NO_RULES))),))
    assert both.excludes(edited_at)
    assert not both.excludes(edited_at + timedelta(microseconds=1))
    assert both.end_of(instant("2026-12-25T00:00Z"), instant("2027-01-01T00:00Z")) == edited_at + timedelta(
        microseconds=1
    )
    other = Exclusion((Calendar("c", 2, (Edition(None, NO_RULES), Edition(edited_at, holiday))),))
    assert not other.excludes(edited_at)
    assert other.start_of(instant("2026-12-25T23:00Z"), instant("2026-01-01T00:00Z")) == edited_at + timedelta(
        microseconds=1
    )


@pytest.mark.parametrize("members", [{"weekdays": [{"days": list(WEEKDAYS)}]}, {"times": [{"from": "00:00"}]}])
def test_what_excludes_everything_ends_at_the_limit(members: dict[str, Any]) -> None:
    always = exclusion("Europe/Berlin", **members)
    low = instant("2026-01-01T00:00Z")
    assert always.end_of(low, low + timedelta(days=3660)) == low + timedelta(days=3660)
    assert rules_of("UTC", {}) == CalendarRules("UTC")
