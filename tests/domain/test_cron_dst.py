"""Changes of clocks: the written rule, and a scan of every second around them.

The scan knows nothing of masks or segments: it converts every instant with `zoneinfo`, compares sets, and applies the
rule literally.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain import cron_zone
from hetuflow.domain.cron import count_between, first_between, next_after, note, occurrences, parse_cron

BERLIN = "Europe/Berlin"
SECOND = timedelta(seconds=1)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def local_fires(text: str, zone: str, after: str, until: str) -> list[str]:
    found = occurrences(parse_cron(text, zone), instant(after), instant(until))
    return [at.astimezone(ZoneInfo(zone)).isoformat() for at in found]


RULE = [
    # a fixed time in a gap fires once, at the first instant after it
    ("30 2 * * *", BERLIN, "2026-03-28T12:00+01:00", "2026-03-30T12:00+02:00",
     ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
    ("0,15,30 2 * * *", BERLIN, "2026-03-28T12:00+01:00", "2026-03-29T12:00+02:00", ["2026-03-29T03:00:00+02:00"]),
    ("0 2,3 * * *", BERLIN, "2026-03-28T12:00+01:00", "2026-03-29T12:00+02:00", ["2026-03-29T03:00:00+02:00"]),
    # a fixed time in a repeated hour fires on the first pass
    ("30 2 * * *", BERLIN, "2026-10-24T12:00+02:00", "2026-10-26T12:00+01:00",
     ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
    ("30 2 * * *", BERLIN, "2026-10-25T02:30+02:00", "2026-10-25T12:00+01:00", []),
    ("30 2 * * *", BERLIN, "2026-10-25T02:10+01:00", "2026-10-25T12:00+01:00", []),  # begun in the second pass
    ("0 3 * * *", BERLIN, "2026-10-25T02:10+01:00", "2026-10-25T12:00+01:00", ["2026-10-25T03:00:00+01:00"]),
    # * follows real time
    ("30 * * * *", BERLIN, "2026-03-29T00:45+01:00", "2026-03-29T04:00+02:00",
     ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]),
    ("30 * * * *", BERLIN, "2026-10-25T01:45+02:00", "2026-10-25T04:00+01:00",
     ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]),
    ("*/30 2 * * *", BERLIN, "2026-03-28T12:00+01:00", "2026-03-30T02:15+02:00", ["2026-03-30T02:00:00+02:00"]),
    ("* 30 2 * * ?", BERLIN, "2026-10-25T02:30:58+02:00", "2026-10-25T02:30:00+01:00",
     ["2026-10-25T02:30:59+02:00", "2026-10-25T02:30:00+01:00"]),
    # the fixed fire lost in a gap is found when the search begins at the last second before it
    ("30 2 * * *", BERLIN, "2026-03-29T01:59:59+01:00", "2026-03-29T12:00+02:00", ["2026-03-29T03:00:00+02:00"]),
    ("30 2 * * *", BERLIN, "2026-03-29T03:00:00+02:00", "2026-03-29T12:00+02:00", []),
    # half an hour: Lord Howe
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30", "2026-10-04T12:00+11:00",
     ["2026-10-04T02:30:00+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00+11:00", "2026-04-05T12:00+10:30",
     ["2026-04-05T01:45:00+11:00"]),
    # a gap at midnight: Cairo
    ("0 0 * * *", "Africa/Cairo", "2024-04-25T12:00+02:00", "2024-04-27T12:00+03:00",
     ["2024-04-26T01:00:00+03:00", "2024-04-27T00:00:00+03:00"]),
    # a whole day is missing: Samoa
    ("0 12 30 * *", "Pacific/Apia", "2011-12-29T10:00-10:00", "2012-01-30T12:00+14:00",
     ["2011-12-31T00:00:00+14:00", "2012-01-30T12:00:00+14:00"]),
    ("0 * * * *", "Pacific/Apia", "2011-12-29T22:30-10:00", "2011-12-31T01:00+14:00",
     ["2011-12-29T23:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T01:00:00+14:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "zone", "after", "until", "expected"), RULE)
def test_rule_across_a_change(text: str, zone: str, after: str, until: str, expected: list[str]) -> None:
    assert local_fires(text, zone, after, until) == expected
    assert count_between(parse_cron(text, zone), instant(after), instant(until)) == len(expected)


def test_search_that_ends_one_second_before_the_gap_closes_finds_nothing() -> None:
    expression, before = parse_cron("30 2 * * *", BERLIN), instant("2026-03-29T00:30+01:00")
    assert first_between(expression, before, instant("2026-03-29T01:59:59+01:00")) is None
    assert first_between(expression, before, instant("2026-03-29T03:00+02:00")) == instant("2026-03-29T03:00+02:00")


def test_note_tells_gap_and_repeated_times() -> None:
    fixed, hourly = parse_cron("30 2 * * *", BERLIN), parse_cron("30 * * * *", BERLIN)
    assert note(fixed, instant("2026-03-29T03:00+02:00")) == "gap"
    assert note(fixed, instant("2026-03-30T02:30+02:00")) is None
    assert note(hourly, instant("2026-10-25T02:30+02:00")) == "repeated"
    assert note(hourly, instant("2026-10-25T02:30+01:00")) == "repeated"
    assert note(hourly, instant("2026-10-25T01:30+02:00")) is None
    assert note(hourly, instant("2026-10-25T03:30+01:00")) is None


# --- the scan ------------------------------------------------------------------------------------------------------


@frozen
class Fields:
    """An expression as sets. None = `*`. Only what is needed to tell the rule: no days of week."""

    seconds: frozenset[int] | None
    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None

    @property
    def text(self) -> str:
        parts = [
            "*" if values is None else ",".join(map(str, sorted(values)))
            for values in (self.seconds, self.minutes, self.hours, self.days)
        ]
        return " ".join([*parts, "*", "?"])

    @property
    def is_fixed(self) -> bool:
        return None not in (self.seconds, self.minutes, self.hours)

    def matches(self, local: datetime) -> bool:
        pairs = (
            (self.seconds, local.second),
            (self.minutes, local.minute),
            (self.hours, local.hour),
            (self.days, local.day),
        )
        return all(values is None or value in values for values, value in pairs)


def scan(fields: Fields, locals_: list[datetime], step: timedelta = SECOND) -> Iterator[datetime]:
    """The fires among consecutive seconds, given as local times; the first only gives the context.

    With a step of a minute, for expressions that fire at second 0 only.
    """
    for previous, local in pairwise(locals_):
        if not fields.is_fixed:
            if fields.matches(local):
                yield local.astimezone(UTC)
            continue
        naive, before = local.replace(tzinfo=None), previous.replace(tzinfo=None) + step
        skipped = range((naive - before) // step)
        if (fields.matches(local) and local.fold == 0) or any(fields.matches(before + n * step) for n in skipped):
            yield local.astimezone(UTC)


CHANGES = [
    (BERLIN, "2026-03-29T01:00+00:00"),
    (BERLIN, "2026-10-25T01:00+00:00"),
    ("America/New_York", "2026-03-08T07:00+00:00"),
    ("America/St_Johns", "2006-04-02T03:31+00:00"),  # at 00:01
    ("Australia/Lord_Howe", "2026-10-03T15:30+00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00+00:00"),
    ("Africa/Cairo", "2024-04-25T22:00+00:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00+00:00"),
    ("America/Sao_Paulo", "2018-02-18T02:00+00:00"),  # 24:00 -> 23:00: the day before is repeated
    ("Pacific/Apia", "2011-12-30T10:00+00:00"),
    ("Antarctica/Troll", "2026-03-29T01:00+00:00"),  # two hours
    ("Asia/Pyongyang", "2015-08-14T15:00+00:00"),
    ("Africa/Casablanca", "2026-02-15T02:00+00:00"),
]
HALF_SPAN = timedelta(minutes=100)

_local_cache: dict[tuple[str, str], list[datetime]] = {}


def locals_around(zone: str, change: str) -> list[datetime]:
    key = (zone, change)
    if key not in _local_cache:
        start, info = instant(change) - HALF_SPAN, ZoneInfo(zone)
        span = int(HALF_SPAN.total_seconds() * 2)
        _local_cache[key] = [(start + timedelta(seconds=second)).astimezone(info) for second in range(span)]
    return _local_cache[key]


def field(values: st.SearchStrategy[int]) -> st.SearchStrategy[frozenset[int] | None]:
    return st.one_of(st.none(), st.frozensets(values, min_size=1, max_size=3))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, Fields]:
    """Fields drawn from the local times around the change, so that most of them have something to do there."""
    zone, change = draw(st.sampled_from(CHANGES))
    around = locals_around(zone, change)
    near = sorted({moment.hour for moment in around} | {0, 2})
    days = sorted({moment.day for moment in around})
    return (
        zone,
        change,
        Fields(
            seconds=draw(st.one_of(st.just(frozenset({0})), field(st.integers(0, 59)))),
            minutes=draw(field(st.sampled_from([0, 1, 15, 29, 30, 31, 45, 59]))),
            hours=draw(field(st.sampled_from(near))),
            days=draw(st.one_of(st.none(), st.frozensets(st.sampled_from(days), min_size=1))),
        ),
    )


@settings(deadline=None)
@given(case=cases(), begin=st.integers(0, 11_000))
def test_every_second_around_a_change_agrees(case: tuple[str, str, Fields], begin: int) -> None:
    zone, change, fields = case
    around = locals_around(zone, change)[begin:]
    expression = parse_cron(fields.text, zone)
    after, until = around[0].astimezone(UTC), around[-1].astimezone(UTC)
    expected = list(scan(fields, around))
    assert expression.is_fixed == fields.is_fixed
    assert list(occurrences(expression, after, until)) == expected
    assert count_between(expression, after, until) == len(expected)


def test_scan_itself_sees_the_changes() -> None:
    """The oracle must not be blind: at every change in the list the offset does change, in the middle of the scan."""
    for zone, change in CHANGES:
        around = locals_around(zone, change)
        offsets = [moment.utcoffset() for moment in around]
        assert offsets[len(offsets) // 2 - 1] != offsets[len(offsets) // 2], zone


def test_next_after_a_fraction_of_a_second_is_the_next_whole_one() -> None:
    expression = parse_cron("* * * * * ?")
    assert next_after(expression, instant("2026-01-01T00:00:00.999999+00:00")) == instant("2026-01-01T00:00:01+00:00")
    assert next_after(expression, instant("2026-01-01T00:00:01+00:00")) == instant("2026-01-01T00:00:02+00:00")


def test_second_pass_that_begins_before_the_edge_of_the_cached_year(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transitions are cached in chunks; put the edge of one into the middle of a repeated hour."""
    change = int(instant("2026-10-25T01:00+00:00").timestamp())
    monkeypatch.setattr(cron_zone, "_CHUNK_SECONDS", (change + 1800) // 100)
    cron_zone._chunk.cache_clear()
    try:
        assert local_fires("45 2 * * *", BERLIN, "2026-10-25T02:35+01:00", "2026-10-25T12:00+01:00") == []
        expected = ["2026-10-25T02:45:00+02:00", "2026-10-26T02:45:00+01:00"]
        assert local_fires("45 2 * * *", BERLIN, "2026-10-25T02:35+02:00", "2026-10-26T12:00+01:00") == expected
    finally:
        cron_zone._chunk.cache_clear()
