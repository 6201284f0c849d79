"""Against croniter and cronsim, for the subset where they mean the same; and laws that need no oracle."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.cron import (
    CronError,
    CronExpression,
    count_between,
    first_between,
    next_after,
    occurrences,
    parse_cron,
)

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Cairo",
    "Asia/Kolkata",
]

instants = st.datetimes(datetime(1971, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def items(draw: st.DrawFn, low: int, high: int, names: list[str]) -> str:
    """One list element. Ranges have two different ends: cronsim and croniter read `9-9` in ways of their own."""
    value = st.integers(low, high)
    kind = draw(st.sampled_from(["one", "range", "range step", "from step", "name", "name range"]))
    if kind.startswith("name") and names:
        first, last = sorted(draw(st.lists(st.integers(0, len(names) - 1), min_size=2, max_size=2, unique=True)))
        return names[first] if kind == "name" else f"{names[first]}-{names[last]}"
    first, last = sorted(draw(st.lists(value, min_size=2, max_size=2, unique=True)))
    step = draw(st.integers(1, min(high - low, 7)))
    if kind in ("one", "name", "name range"):
        return str(first)
    return {"range": f"{first}-{last}", "range step": f"{first}-{last}/{step}", "from step": f"{first}/{step}"}[kind]


def fields(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    lists = st.lists(items(low, high, names or []), min_size=1, max_size=3).map(",".join)
    step = st.integers(1, min(high - low, 31)).map(lambda n: f"*/{n}")
    return st.one_of(st.just("*"), step, lists)


vixie = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12, MONTHS), fields(0, 7, WEEKDAYS)).map(
    " ".join
)


@st.composite
def quartz(draw: st.DrawFn) -> str:
    days, weekdays = draw(
        st.one_of(
            st.tuples(fields(1, 31) | st.sampled_from(["L", "LW", "L-3", "15W", "1W", "31W", "1,L-5W"]), st.just("?")),
            st.tuples(st.just("?"), fields(1, 7, WEEKDAYS) | st.sampled_from(["L", "6L", "MON#2", "1#5", "FRIL,2#1"])),
            st.tuples(fields(1, 31), fields(1, 7)),
        )
    )
    times = [draw(fields(0, 59)), draw(fields(0, 59)), draw(fields(0, 23))]
    return " ".join([*times, days, draw(fields(1, 12, MONTHS)), weekdays])


@st.composite
def expressions(draw: st.DrawFn) -> CronExpression:
    text = draw(st.one_of(vixie, quartz()))
    try:
        return parse_cron(text, draw(st.sampled_from(ZONES)))
    except CronError as error:
        assert "never fires" in error.message
        return parse_cron("0 0 * * *")


def five_after(expression: CronExpression, start: datetime) -> list[datetime]:
    return list(islice(occurrences(expression, start, start + timedelta(days=50 * 366)), 5))


def refused_as_never(text: str) -> bool:
    try:
        parse_cron(text)
    except CronError as error:
        assert "never fires" in error.message, text
        return True
    return False


@settings(deadline=None)
@given(text=vixie, start=instants)
def test_five_fields_agree_with_cronsim(text: str, start: datetime) -> None:
    if refused_as_never(text):
        assert next(CronSim(text, start), None) is None
        return
    assert five_after(parse_cron(text), start) == list(islice(CronSim(text, start), 5))


@settings(deadline=None)
@given(text=vixie, start=instants)
def test_five_fields_agree_with_croniter(text: str, start: datetime) -> None:
    """Where at most one day field is restricted: croniter joins `*/2` and a weekday by OR, Vixie by AND.

    And where the weekday has no step: in croniter `1/2` ends on Saturday, in Vixie (0-7) and cronsim on Sunday.
    """
    minute, hour, day, month, weekday = text.split()
    if "/" in weekday:
        weekday = "*"
    if weekday != "*":
        day = "*"
    text = " ".join([minute, hour, day, month, weekday])
    if refused_as_never(text):
        return
    oracle = croniter(text, start, max_years_between_matches=60)
    assert five_after(parse_cron(text), start) == [oracle.get_next(datetime) for _ in range(5)]


@settings(deadline=None)
@given(seconds=fields(0, 59), text=vixie, start=instants)
def test_seconds_agree_with_croniter(seconds: str, text: str, start: datetime) -> None:
    minute, hour, day, month, _ = text.split()
    text = f"{seconds} {minute} {hour} {day} {month} ?"
    if refused_as_never(text):
        return
    oracle = croniter(
        f"{seconds} {minute} {hour} {day} {month} *", start, second_at_beginning=True, max_years_between_matches=60
    )
    assert five_after(parse_cron(text), start) == [oracle.get_next(datetime) for _ in range(5)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Europe/Dublin"])
@settings(deadline=None)
@given(text=vixie, start=instants)
def test_zones_agree_with_cronsim(zone: str, text: str, start: datetime) -> None:
    """Whole-hour shifts only: cronsim is not right with Lord Howe's half hour."""
    if refused_as_never(text):
        return
    expression = parse_cron(text, zone)
    oracle = CronSim(text, start.astimezone(ZoneInfo(zone)))
    assert five_after(expression, start) == [at.astimezone(UTC) for at in islice(oracle, 5)]


# --- laws ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(expression=expressions(), start=instants)
def test_fires_strictly_increase_and_no_search_in_between_sees_another(
    expression: CronExpression, start: datetime
) -> None:
    first = next_after(expression, start)
    if first is None:
        return
    assert first > start
    assert first.utcoffset() == timedelta(0) and first.microsecond == 0
    middle = start + (first - start) / 2
    assert next_after(expression, middle) == first
    assert next_after(expression, first - timedelta(microseconds=1)) == first
    assert first_between(expression, start, first) == first
    assert first_between(expression, start, first - timedelta(microseconds=1)) is None
    second = next_after(expression, first)
    assert second is None or second > first


@settings(deadline=None)
@given(expression=expressions(), start=instants, days=st.integers(0, 800))
def test_count_is_the_number_of_occurrences(expression: CronExpression, start: datetime, days: int) -> None:
    ends = list(islice(occurrences(expression, start, start + timedelta(days=days)), 200))
    until = start + timedelta(days=days) if len(ends) < 200 else ends[-1]
    assert count_between(expression, start, until) == len(ends)


@settings(deadline=None)
@given(expression=expressions(), start=instants, days=st.integers(0, 20_000), split=st.floats(0, 1))
def test_counts_of_adjacent_spans_add_up(expression: CronExpression, start: datetime, days: int, split: float) -> None:
    until = start + timedelta(days=days)
    middle = start + (until - start) * split
    parts = count_between(expression, start, middle) + count_between(expression, middle, until)
    assert count_between(expression, start, until) == parts


def test_counting_fifty_years_of_seconds_is_exact() -> None:
    expression = parse_cron("* * * * * ?", "Europe/Berlin")
    start, until = datetime(1980, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    assert count_between(expression, start, until) == (until - start).total_seconds()
