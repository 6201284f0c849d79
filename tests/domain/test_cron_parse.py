"""Text to expression: what the two dialects mean, and where and how a mistake is reported."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.cron import CronError, UnknownTimeZone, next_after, parse_cron

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def fires(text: str, count: int, start: datetime = START, zone: str = "UTC") -> list[str]:
    expression, found = parse_cron(text, zone), []
    instant: datetime | None = start
    for _ in range(count):
        assert instant is not None
        instant = next_after(expression, instant)
        if instant is None:
            break
        found.append(instant.strftime("%Y-%m-%d %H:%M:%S"))
    return found


VIXIE = [
    ("* * * * *", ["2026-01-01 00:01:00", "2026-01-01 00:02:00"]),
    ("*/20 * * * *", ["2026-01-01 00:20:00", "2026-01-01 00:40:00", "2026-01-01 01:00:00"]),
    ("5/20 3 * * *", ["2026-01-01 03:05:00", "2026-01-01 03:25:00", "2026-01-01 03:45:00"]),
    ("10-40/15 7 * * *", ["2026-01-01 07:10:00", "2026-01-01 07:25:00", "2026-01-01 07:40:00"]),
    ("0 0 * * 0", ["2026-01-04 00:00:00"]),
    ("0 0 * * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
    ("0 0 * * sun", ["2026-01-04 00:00:00"]),
    ("0 0 * * 5-7", ["2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00", "2026-01-09 00:00:00"]),
    ("0 0 * * SAT-SUN", ["2026-01-03 00:00:00", "2026-01-04 00:00:00", "2026-01-10 00:00:00"]),
    ("0 9 * feb,Nov *", ["2026-02-01 09:00:00"]),
    ("0 0 13 * FRI", ["2026-01-02 00:00:00", "2026-01-09 00:00:00", "2026-01-13 00:00:00"]),  # either
    ("0 0 */2 * FRI", ["2026-01-09 00:00:00", "2026-01-23 00:00:00", "2026-02-13 00:00:00"]),  # begins with *: both
    ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
    ("@hourly", ["2026-01-01 01:00:00"]),
    ("@Daily", ["2026-01-02 00:00:00"]),
    ("@midnight", ["2026-01-02 00:00:00"]),
    ("@weekly", ["2026-01-04 00:00:00"]),
    ("@monthly", ["2026-02-01 00:00:00"]),
    ("@yearly", ["2027-01-01 00:00:00"]),
    ("@annually", ["2027-01-01 00:00:00"]),
    ("  0\t12  * * *  ", ["2026-01-01 12:00:00"]),
]

QUARTZ = [
    ("0 0 12 * * ?", ["2026-01-01 12:00:00", "2026-01-02 12:00:00"]),
    ("*/15 * * * * *", ["2026-01-01 00:00:15", "2026-01-01 00:00:30"]),
    ("0 0/5 14 * * ?", ["2026-01-01 14:00:00", "2026-01-01 14:05:00"]),
    ("0 15 10 ? * MON-FRI", ["2026-01-01 10:15:00", "2026-01-02 10:15:00", "2026-01-05 10:15:00"]),
    ("0 0 0 ? * 1", ["2026-01-04 00:00:00"]),
    ("0 0 0 ? * 7", ["2026-01-03 00:00:00"]),
    ("0 0 0 ? * L", ["2026-01-03 00:00:00", "2026-01-10 00:00:00"]),
    ("0 15 10 L * ?", ["2026-01-31 10:15:00", "2026-02-28 10:15:00"]),
    ("0 15 10 L-2 * ?", ["2026-01-29 10:15:00", "2026-02-26 10:15:00"]),
    ("0 0 0 L-30 * ?", ["2026-03-01 00:00:00", "2026-05-01 00:00:00"]),  # only months of 31 days have it
    ("0 0 0 LW * ?", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-31 00:00:00"]),
    ("0 0 0 L-1W * ?", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-30 00:00:00"]),
    ("0 0 0 15W * ?", ["2026-01-15 00:00:00", "2026-02-16 00:00:00", "2026-03-16 00:00:00"]),
    ("0 0 0 1W 8 ?", ["2026-08-03 00:00:00"]),  # the 1st is a Saturday, and W stays in its month
    ("0 0 0 31W 5 ?", ["2026-05-29 00:00:00"]),  # a Sunday at the end
    ("0 0 0 31W * ?", ["2026-01-30 00:00:00", "2026-03-31 00:00:00"]),  # February has no 31st
    ("0 15 10 ? * 6L", ["2026-01-30 10:15:00", "2026-02-27 10:15:00"]),
    ("0 15 10 ? * FRIL", ["2026-01-30 10:15:00"]),
    ("0 15 10 ? * 6#3", ["2026-01-16 10:15:00", "2026-02-20 10:15:00"]),
    ("0 15 10 ? * mon#2", ["2026-01-12 10:15:00"]),
    ("0 0 0 ? * 5#5", ["2026-01-29 00:00:00", "2026-04-30 00:00:00"]),
    ("0 0 0 1,L,15W * ?", ["2026-01-15 00:00:00", "2026-01-31 00:00:00", "2026-02-01 00:00:00"]),
    ("0 0 0 ? * 2#1,6L", ["2026-01-05 00:00:00", "2026-01-30 00:00:00", "2026-02-02 00:00:00"]),
    ("0 0 22-1 * * ?", ["2026-01-01 01:00:00", "2026-01-01 22:00:00", "2026-01-01 23:00:00", "2026-01-02 00:00:00"]),
    ("0 0 0 ? * FRI-MON", ["2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00", "2026-01-05 00:00:00"]),
    ("0 0 20-3/3 * * ?", ["2026-01-01 02:00:00", "2026-01-01 20:00:00", "2026-01-01 23:00:00"]),
    ("0 0 0 1 NOV-FEB ?", ["2026-02-01 00:00:00", "2026-11-01 00:00:00", "2026-12-01 00:00:00"]),
    ("0 0 0 13 * FRI", ["2026-02-13 00:00:00", "2026-03-13 00:00:00"]),  # both must match
    ("0 0 0 1 1 ? 2027,2030-2031", ["2027-01-01 00:00:00", "2030-01-01 00:00:00", "2031-01-01 00:00:00"]),
    ("0 0 0 1 1 ? 2027/10", ["2027-01-01 00:00:00", "2037-01-01 00:00:00"]),
    ("0 0 0 1 1 ? *", ["2027-01-01 00:00:00"]),
    ("0 0 0 1 1 ? 2020-2027", ["2027-01-01 00:00:00"]),
]


@pytest.mark.parametrize(("text", "expected"), VIXIE + QUARTZ)
def test_expression_fires_at(text: str, expected: list[str]) -> None:
    assert fires(text, len(expected)) == expected


def test_exhausted_year_field_has_no_next_fire() -> None:
    assert fires("0 0 0 1 1 ? 2027", 5) == ["2027-01-01 00:00:00"]
    assert fires("0 0 0 1 1 ? 2020", 5) == []


MISTAKES = [
    ("60 * * * *", 0, "minute: '60' is not allowed, use 0-59"),
    ("* 24 * * *", 2, "hour: '24' is not allowed, use 0-23"),
    ("0 0 0 * *", 4, "day of month: '0' is not allowed, use 1-31"),
    ("0 0 * 13 *", 6, "month: '13' is not allowed, use 1-12 or JAN-DEC"),
    ("0 0 * * 8", 8, "day of week: '8' is not allowed, use 0-7 or SUN-SAT"),
    ("0 0 * * MOM", 8, "day of week: 'MOM' is not allowed (did you mean MON?), use 0-7 or SUN-SAT"),
    ("0 0 * JANU *", 6, "month: 'JANU' is not allowed (did you mean JAN?), use 1-12 or JAN-DEC"),
    ("1,2,,3 * * * *", 4, "minute: a value is missing, use 0-59"),
    ("1, * * * *", 2, "minute: a value is missing, use 0-59"),
    ("-5 * * * *", 0, "minute: a value is missing, use 0-59"),
    ("5- * * * *", 2, "minute: a value is missing, use 0-59"),
    ("1-2-3 * * * *", 3, "minute: a range has two ends, as in 1-5"),
    ("30-10 * * * *", 3, "minute: the range runs backwards, write it as two ranges"),
    ("0 22-2 * * *", 5, "hour: the range runs backwards, write it as two ranges"),
    ("*/0 * * * *", 2, "minute: after '/' use a number 1-60"),
    ("*/90 * * * *", 2, "minute: after '/' use a number 1-60"),
    ("*/ * * * *", 2, "minute: after '/' use a number 1-60"),
    ("*/2/3 * * * *", 2, "minute: after '/' use a number 1-60"),
    ("*/x * * * *", 2, "minute: after '/' use a number 1-60"),
    ("99999999999999999999 * * * *", 0, "minute: '99999999999999999999' is not allowed, use 0-59"),
    ("0 0 ? * *", 4, "day of month: '?' belongs to expressions of six or seven fields, use 1-31"),
    ("0 0 15W * *", 4, "day of month: '15W' belongs to expressions of six or seven fields, use 1-31"),
    ("0 0 * * 6#3", 8, "day of week: '6#3' belongs to expressions of six or seven fields, use 0-7 or SUN-SAT"),
    ("", 0, "0 fields given, use five fields"),
    ("*", 1, "1 field given, use five fields"),
    ("* * * *", 7, "4 fields given, use five fields"),
    ("0 0 0 1 1 ? 2026 x", 17, "8 fields given, use five fields"),
    ("@hurly", 0, "'@hurly' is not known, did you mean @hourly?"),
    ("@reboot", 0, "'@reboot' is not known, use @yearly"),
    ("@hourly 5", 8, "nothing may follow @hourly"),
    ("? 0 12 * * ?", 0, "second: '?' is only for the day of month or the day of week"),
    ("0 0 12 ? * ?", 11, "'?' may stand for the day of month or the day of week, not for both"),
    ("0 0 12 L-31 * ?", 8, "day of month: use L, LW, L-3 or L-3W"),
    ("0 0 12 LX * ?", 8, "day of month: use L, LW, L-3 or L-3W"),
    ("0 0 12 0W * ?", 7, "day of month: '0' is not allowed, use 1-31"),
    ("0 0 12 W * ?", 7, "day of month: a value is missing, use 1-31"),
    ("0 0 12 ? * 6#6", 13, "day of week: after '#' use 1-5"),
    ("0 0 12 ? * 6#", 13, "day of week: after '#' use 1-5"),
    ("0 0 12 ? * 1#2#3", 13, "day of week: after '#' use 1-5"),
    ("0 0 12 ? * 0", 11, "day of week: '0' is not allowed, use 1-7 or SUN-SAT"),
    ("0 0 12 ? * 2,MOX", 13, "day of week: 'MOX' is not allowed (did you mean MON?), use 1-7 or SUN-SAT"),
    ("0 0 0 1 1 ? 1969", 12, "year: '1969' is not allowed, use 1970-2099"),
    ("0 0 0 1 1 ? 2030-2027", 17, "year: the range runs backwards"),
    ("0 0 1 * \N{BULLET}", 8, "character '•' is not allowed in a cron expression"),
    ("0 0 1 *\n*", 7, "character '\\n' is not allowed in a cron expression"),
    ("0 \N{ARABIC-INDIC DIGIT THREE} * * *", 2, "character '٣' is not allowed"),
    # never
    ("0 0 30 2 *", 4, "this never fires: no month it allows has such a day"),
    ("0 0 31 4,6,9,11 *", 4, "this never fires"),
    ("0 0 0 29 2 ? 2026,2027", 6, "this never fires"),
    ("0 0 0 29 2 1#2", 6, "this never fires"),
]


@pytest.mark.parametrize(("text", "position", "message"), MISTAKES)
def test_mistake_is_named_with_its_column(text: str, position: int, message: str) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(text)
    assert (caught.value.position, caught.value.message[: len(message)]) == (position, message)


def test_local_time_that_the_only_year_skips_is_refused() -> None:
    """02:00-03:00 on 2026-03-29 does not exist in Berlin, and `*` minutes follow real time."""
    assert parse_cron("0 * 2 29 3 ? 2026", "Europe/London")
    with pytest.raises(CronError, match="never fires: Europe/Berlin has no such local time"):
        parse_cron("0 * 2 29 3 ? 2026", "Europe/Berlin")


def test_expression_always_in_the_gap_has_no_fire_within_fifty_years() -> None:
    assert next_after(parse_cron("0 * 2 ? 3 1L", "Europe/Berlin"), START) is None


@pytest.mark.parametrize(
    ("zone", "nearest"),
    [("europe/berlin", "Europe/Berlin"), ("Europe/Berln", "Europe/Berlin"), ("America", None), ("right/UTC", None),
     ("localtime", None), ("../../etc/passwd", None), ("/etc/passwd", None), ("", None), ("A\0B", None)],
)  # fmt: skip
def test_unknown_zone_names_the_nearest(zone: str, nearest: str | None) -> None:
    with pytest.raises(UnknownTimeZone) as caught:
        parse_cron("0 0 * * *", zone)
    if nearest:
        assert caught.value.nearest == nearest
        assert repr(nearest) in str(caught.value)


def test_expressions_are_equal_by_text_and_zone() -> None:
    assert parse_cron("0 0 * * *", "UTC") == parse_cron("0 0 * * *", "UTC")
    assert parse_cron("0 0 * * *", "UTC") != parse_cron("0 0 * * *", "Europe/Berlin")
    assert len({parse_cron("0 0 * * *"), parse_cron("@daily")}) == 2


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/-,?LW# \tSUNMOJAN@é", max_size=40))
def test_any_text_is_an_expression_or_a_cron_error_with_a_column_in_it(text: str) -> None:
    try:
        parse_cron(text)
    except CronError as error:
        assert 0 <= error.position <= len(text)
        assert error.message
