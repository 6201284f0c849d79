"""iCalendar files as rules of a calendar: what is taken, and that nothing is left out in silence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.calendar_rules import rules_of
from hetuflow.domain.exclusion import Calendar, Edition, Exclusion
from hetuflow.rfc5545 import Imported, read_ical

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def an_event(*lines: str, uid: str = "e1") -> str:
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"])


def a_file(*events: str) -> str:
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//t//t//EN", *events, "END:VCALENDAR", ""])


def imported(*events: str, timezone: str = "Europe/Berlin") -> Imported:
    found = read_ical(a_file(*events), timezone, NOW)
    assert not found.faults, found.faults
    return found


def refused(*events: str) -> list[str]:
    found = read_ical(a_file(*events), "Europe/Berlin", NOW)
    assert found.rules == {} and found.faults
    return [str(fault) for fault in found.faults]


def test_whole_days_are_dates_and_ranges() -> None:
    found = imported(
        an_event("DTSTART;VALUE=DATE:20261225"),
        an_event("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261225", uid="e2"),
        an_event("DTSTART;VALUE=DATE:20261227", "DTEND;VALUE=DATE:20270103", uid="e3"),
        an_event("DTSTART;VALUE=DATE:20270501", "DURATION:P2D", uid="e4"),
    )
    assert found.rules == {
        "dates": ["2026-12-24", "2026-12-25"],
        "ranges": [{"from": "2026-12-27", "to": "2027-01-02"}, {"from": "2027-05-01", "to": "2027-05-02"}],
        "periods": [],
    }
    assert found.until_at is None


@pytest.mark.parametrize(
    ("lines", "period"),
    [
        (["DTSTART:20261224T120000Z", "DTEND:20261224T180000Z"], ("2026-12-24T12:00:00Z", "2026-12-24T18:00:00Z")),
        (
            ["DTSTART;TZID=America/New_York:20261224T120000", "DURATION:PT90M"],
            ("2026-12-24T17:00:00Z", "2026-12-24T18:30:00Z"),
        ),
        (["DTSTART:20261224T120000", "DTEND:20261224T130000"], ("2026-12-24T11:00:00Z", "2026-12-24T12:00:00Z")),
        (
            ["DTSTART;TZID=W. Europe Standard Time:20260701T120000", "DTEND;TZID=Europe/London:20260701T120000"],
            ("2026-07-01T10:00:00Z", "2026-07-01T11:00:00Z"),
        ),
    ],
)
def test_times_are_periods_of_their_zone(lines: list[str], period: tuple[str, str]) -> None:
    assert imported(an_event(*lines)).rules["periods"] == [{"from": period[0], "to": period[1]}]


def test_a_rule_is_expanded_up_to_ten_years_ahead_and_that_is_told() -> None:
    found = imported(an_event("DTSTART;VALUE=DATE:19991225", "RRULE:FREQ=YEARLY"))
    assert found.rules["dates"] == [f"{year}-12-25" for year in range(2025, 2036)]
    assert found.until_at == NOW + timedelta(days=3660)
    ends = imported(an_event("DTSTART;VALUE=DATE:20261225", "RRULE:FREQ=YEARLY;COUNT=3"))
    assert (ends.rules["dates"], ends.until_at) == (["2026-12-25", "2027-12-25", "2028-12-25"], None)
    until = imported(an_event("DTSTART;VALUE=DATE:20261225", "RRULE:FREQ=YEARLY;UNTIL=20271225"))
    assert (until.rules["dates"], until.until_at) == (["2026-12-25", "2027-12-25"], None)


def test_the_clock_of_the_events_zone_is_kept_over_daylight_saving() -> None:
    rule = ["DTSTART;TZID=Europe/Berlin:20270326T120000", "DURATION:PT1H", "RRULE:FREQ=DAILY;UNTIL=20270329T100000Z"]
    assert [each["from"] for each in imported(an_event(*rule), timezone="UTC").rules["periods"]] == [
        "2027-03-26T11:00:00Z",
        "2027-03-27T11:00:00Z",
        "2027-03-28T10:00:00Z",
        "2027-03-29T10:00:00Z",
    ]


def test_exceptions_additions_and_moved_recurrences() -> None:
    found = imported(
        an_event(
            "DTSTART;VALUE=DATE:20261201",
            "RRULE:FREQ=DAILY;COUNT=5",
            "EXDATE;VALUE=DATE:20261202,20261203",
            "RDATE;VALUE=DATE:20261224",
        ),
        an_event("RECURRENCE-ID;VALUE=DATE:20261204", "DTSTART;VALUE=DATE:20261210"),
        an_event("RECURRENCE-ID;VALUE=DATE:20261205", "DTSTART;VALUE=DATE:20261205", "STATUS:CANCELLED"),
    )
    assert found.rules["dates"] == ["2026-12-01", "2026-12-10", "2026-12-24"]
    assert found.cancelled == 1
    timed = imported(
        an_event(
            "DTSTART;TZID=Europe/Berlin:20261201T080000",
            "DURATION:PT1H",
            "RRULE:FREQ=DAILY;COUNT=2",
            "EXDATE:20261202T070000Z",
            "RDATE;VALUE=PERIOD:20261224T120000Z/PT2H",
        )
    )
    assert [(each["from"], each["to"]) for each in timed.rules["periods"]] == [
        ("2026-12-01T07:00:00Z", "2026-12-01T08:00:00Z"),
        ("2026-12-24T12:00:00Z", "2026-12-24T14:00:00Z"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["DTSTART;TZID=Mars/Base:20261224T120000", "DURATION:PT1H"], "TZID 'Mars/Base' is not a known IANA time zone"),
        (["DTSTART:20261224T120000Z"], "has no length"),
        (["DTSTART:20261224T120000Z", "DTEND:20261224T110000Z"], "has no length"),
        (["DTSTART:20261224T120000Z", "DTEND;VALUE=DATE:20261225"], "not both dates or both times"),
        (["DTSTART;VALUE=DATE:20261224", "DURATION:PT5H"], "which is not whole days"),
        (["DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=HOURLY"], "FREQ=HOURLY cannot be represented"),
        (["DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=SOMETIMES"], "RRULE: "),
        (["DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"], "a day that its months do not"),
        (["DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=YEARLY;UNTIL=20301224T000000Z"], "UNTIL must be a date"),
        (["DTSTART;VALUE=DATE:19700101", "RRULE:FREQ=DAILY"], "more than 20000 times"),
        (["DTSTART;VALUE=DATE:20261224", "EXRULE:FREQ=YEARLY"], "EXRULE cannot be represented"),
        (["DTSTART;VALUE=DATE:20261224", "RECURRENCE-ID;RANGE=THISANDFUTURE:20261224"], "RANGE cannot be"),
        (["DTSTART:20261224T080000Z", "DURATION:PT1H", "EXDATE;VALUE=DATE:20261224"], "EXDATE must be a time"),
        (["SUMMARY:nothing"], "has no DTSTART"),
        (["DTSTART:2026"], "DTSTART: "),
    ],
)
def test_what_cannot_be_represented_is_refused_with_line_and_uid(lines: list[str], message: str) -> None:
    [fault] = refused(an_event("DTSTART;VALUE=DATE:20261225", uid="fine"), an_event(*lines, uid="bad@example.org"))
    assert fault.startswith("line 9 (UID bad@example.org): ") and message in fault


def test_other_components_and_other_files_are_refused() -> None:
    assert refused("BEGIN:VTODO\r\nUID:t\r\nEND:VTODO") == [
        "line 4: VTODO cannot be represented: only events (VEVENT) exclude"
    ]
    assert "has no event" in refused()[0]
    assert "is not an iCalendar file" in str(read_ical("hello", "UTC", NOW).faults[0])
    many = [an_event("DTSTART;VALUE=DATE:20261225", uid=str(n)) for n in range(2001)]
    assert "more than 2000 events" in refused(*many)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.dates(date(2026, 6, 1), date(2027, 6, 1)),
    st.sampled_from(["DAILY", "WEEKLY", "WEEKLY;BYDAY=MO,FR", "MONTHLY;BYDAY=-1SU", "MONTHLY;BYMONTHDAY=15", "YEARLY"]),
    st.integers(1, 3),
    st.integers(0, 23),
    st.integers(30, 900),
)
def test_a_timed_rule_excludes_what_the_local_clock_says(
    day: date, rule: str, interval: int, hour: int, minutes: int
) -> None:
    """Every start is at that hour of its zone, each lasts as long, and the days between have none of their own."""
    found = imported(
        an_event(
            f"DTSTART;TZID=America/New_York:{day:%Y%m%d}T{hour:02}1500",
            f"DURATION:PT{minutes}M",
            f"RRULE:FREQ={rule.partition(';')[0]};INTERVAL={interval};COUNT=6{(';' + rule.partition(';')[2]).rstrip(';')}",
        )
    )
    zone = ZoneInfo("America/New_York")
    members: Any = found.rules
    exclusion = Exclusion((Calendar("c", 1, (Edition(None, rules_of("UTC", members)),)),))
    starts = [datetime.fromisoformat(each["from"]) for each in found.rules["periods"]]
    assert (2 if rule == "YEARLY" else 6) <= len(starts) <= 7 and starts[0].astimezone(zone).date() == day
    for start in starts:
        local = start.astimezone(zone)
        is_in_gap = local.replace(tzinfo=None).hour != hour
        assert (local.hour, local.minute) == (hour, 15) or is_in_gap
        assert exclusion.excludes(start) and exclusion.excludes(start + timedelta(minutes=minutes, seconds=-1))
        assert not exclusion.excludes(start - timedelta(seconds=1)) or len(starts) > 1
