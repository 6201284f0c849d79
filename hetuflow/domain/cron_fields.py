"""A parsed cron expression: bit masks, and the arithmetic of naive local time on them.

A local time is an integer: seconds since 1970 on the wall clock, without a zone. Every field is a mask in which bit n
stands for the value n, so that "the next matching minute" is the lowest set bit of a shifted mask, never a search. Time
zones are not known here (see cron.py), nor is text (see cron_parse.py).
"""

from __future__ import annotations

from datetime import date

from attrs import field, frozen

SECONDS_PER_DAY = 86_400

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_ORDINAL_MAX = date(9999, 12, 31).toordinal()
_MONTH_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EVERY_SEVENTH_DAY = sum(1 << week * 7 for week in range(5))
_WORKING_WEEK = 0b0111110
"""Monday to Friday, with bit 0 = Sunday."""


@frozen(slots=True)
class DayRule:
    """Which days of a month match. Weekdays are 0 = Sunday ... 6 = Saturday.

    `month_days` is a mask of days 1-31; `from_end` counts back from the last day (`L` = 0, `L-3` = 3); `near` holds the
    days whose nearest Monday-to-Friday of the same month is meant (`15W`), `near_from_end` the same for `LW` and
    `L-3W`. `week_days` is a mask of weekdays; `nth` are pairs (weekday, 1-5), `last` weekdays (`6L`). With `is_either`
    a day matches one of the two groups (Vixie, both restricted), else both.
    """

    month_days: int
    week_days: int
    is_either: bool = False
    from_end: tuple[int, ...] = ()
    near: tuple[int, ...] = ()
    near_from_end: tuple[int, ...] = ()
    nth: tuple[tuple[int, int], ...] = ()
    last: tuple[int, ...] = ()

    def days(self, year: int, month: int) -> int:
        """Return the mask of matching days (bits 1-31) of that month."""
        length = month_length(year, month)
        first_weekday = date(year, month, 1).toordinal() % 7  # ordinal 1 is a Monday, so 0 = Sunday
        of_month = self.month_days
        if self.from_end or self.near or self.near_from_end:
            of_month |= self._special_month_days(first_weekday, length)
        of_week = _spread(self.week_days, first_weekday)
        if self.nth or self.last:
            of_week |= self._special_week_days(first_weekday, length)
        existing = (2 << length) - 2
        return (of_month | of_week if self.is_either else of_month & of_week) & existing

    def _special_month_days(self, first_weekday: int, length: int) -> int:
        mask = 0
        for days_back in self.from_end:
            mask |= 1 << max(length - days_back, 0)
        wanted = [*self.near, *(length - days_back for days_back in self.near_from_end)]
        for day in wanted:
            if 1 <= day <= length:  # a month without that day is left out, as for a plain number
                mask |= 1 << _nearest_working_day(day, first_weekday, length)
        return mask

    def _special_week_days(self, first_weekday: int, length: int) -> int:
        mask = 0
        for weekday, number in self.nth:
            mask |= 1 << 1 + (weekday - first_weekday) % 7 + (number - 1) * 7
        for weekday in self.last:
            mask |= 1 << length - (first_weekday + length - 1 - weekday) % 7
        return mask


@frozen(slots=True)
class CronExpression:
    """A valid cron expression with its zone. Made by `parse_cron`; equal when text and zone are.

    `years` is None when every year matches; else bit n stands for the year `YEAR_MIN` + n. `is_fixed` tells how the
    expression crosses a change of clocks: see cron.py.
    """

    text: str
    zone: str
    seconds: int = field(eq=False, repr=False)
    minutes: int = field(eq=False, repr=False)
    hours: int = field(eq=False, repr=False)
    months: int = field(eq=False, repr=False)
    years: int | None = field(eq=False, repr=False)
    day_rule: DayRule = field(eq=False, repr=False)
    is_fixed: bool = field(eq=False, repr=False)


YEAR_MIN, YEAR_MAX = 1970, 2099
"""Quartz' own range of the year field."""


def month_length(year: int, month: int) -> int:
    """Return the number of days of a month of the Gregorian calendar."""
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        return 29
    return _MONTH_LENGTHS[month]


def first_local(expression: CronExpression, start: int, end: int) -> int | None:
    """Return the first matching local time in [`start`, `end`), or None."""
    if start >= end:
        return None
    day, second = divmod(start, SECONDS_PER_DAY)
    last_day = min((end - 1) // SECONDS_PER_DAY, _ORDINAL_MAX - _EPOCH_ORDINAL)
    found = _first_day(expression, day, last_day)
    if found == day:
        in_day = _first_time(expression, second)
        if in_day is not None:
            return _if_before(day * SECONDS_PER_DAY + in_day, end)
        found = _first_day(expression, day + 1, last_day)
    if found is None:
        return None
    in_day = _first_time(expression, 0)
    assert in_day is not None, "no field of an expression is empty"
    return _if_before(found * SECONDS_PER_DAY + in_day, end)


def count_local(expression: CronExpression, start: int, end: int) -> int:
    """Return how many local times in [`start`, `end`) match; the work grows with the months in between, not the count."""
    if start >= end:
        return 0
    first_day, first_second = divmod(start, SECONDS_PER_DAY)
    last_day, last_second = divmod(end, SECONDS_PER_DAY)
    total = _count_days(expression, first_day, last_day) * _count_times(expression, SECONDS_PER_DAY)
    if _count_days(expression, first_day, first_day + 1):
        total -= _count_times(expression, first_second)
    if last_second and _count_days(expression, last_day, last_day + 1):
        total += _count_times(expression, last_second)
    return total


def can_fire(expression: CronExpression) -> bool:
    """Tell whether the calendar has a day for it at all. 28 years hold every kind of month there is."""
    years = (
        range(2000, 2028)
        if expression.years is None
        else (year for year in range(YEAR_MIN, YEAR_MAX + 1) if _has_year(expression, year))
    )
    days, months = expression.day_rule.days, expression.months
    return any(months >> month & 1 and days(year, month) for year in years for month in range(1, 13))


def _first_day(expression: CronExpression, day: int, last_day: int) -> int | None:
    """The first matching day (counted from 1970-01-01) in [day, last_day]."""
    if day > last_day:
        return None
    start = date.fromordinal(_EPOCH_ORDINAL + day)
    year, month, skip = start.year, start.month, start.day
    month_start = day - skip + 1
    while month_start <= last_day:
        if expression.months >> month & 1 and _has_year(expression, year):
            left = expression.day_rule.days(year, month) >> skip
            if left:
                found = month_start + skip - 1 + (left & -left).bit_length() - 1
                return found if found <= last_day else None
        month_start += month_length(year, month)
        skip = 1
        month += 1
        if month == 13:
            year, month = year + 1, 1
    return None


def _count_days(expression: CronExpression, day: int, end_day: int) -> int:
    """How many days in [day, end_day) match."""
    total = 0
    while day < end_day:
        start = date.fromordinal(_EPOCH_ORDINAL + day)
        next_month = day + month_length(start.year, start.month) - start.day + 1
        if expression.months >> start.month & 1 and _has_year(expression, start.year):
            mask = expression.day_rule.days(start.year, start.month) >> start.day
            if end_day < next_month:
                mask &= (1 << end_day - day) - 1
            total += mask.bit_count()
        day = next_month
    return total


def _first_time(expression: CronExpression, second_of_day: int) -> int | None:
    """The first matching second of a day at or after `second_of_day`."""
    hour, rest = divmod(second_of_day, 3600)
    minute, second = divmod(rest, 60)
    seconds, minutes, hours = expression.seconds, expression.minutes, expression.hours
    if hours >> hour & 1:
        if minutes >> minute & 1 and (left := seconds >> second):
            return second_of_day + (left & -left).bit_length() - 1
        if left := minutes >> minute + 1:
            return hour * 3600 + (minute + (left & -left).bit_length()) * 60 + _lowest(seconds)
    if left := hours >> hour + 1:
        return (hour + (left & -left).bit_length()) * 3600 + _lowest(minutes) * 60 + _lowest(seconds)
    return None


def _count_times(expression: CronExpression, second_of_day: int) -> int:
    """How many seconds of a day before `second_of_day` match."""
    hour, rest = divmod(second_of_day, 3600)
    minute, second = divmod(rest, 60)
    seconds, minutes, hours = expression.seconds, expression.minutes, expression.hours
    total = _count_below(hours, hour) * minutes.bit_count() * seconds.bit_count()
    if hours >> hour & 1:
        total += _count_below(minutes, minute) * seconds.bit_count()
        if minutes >> minute & 1:
            total += _count_below(seconds, second)
    return total


def _has_year(expression: CronExpression, year: int) -> bool:
    years = expression.years
    return years is None or (YEAR_MIN <= year <= YEAR_MAX and years >> year - YEAR_MIN & 1 == 1)


def _count_below(mask: int, value: int) -> int:
    return (mask & (1 << value) - 1).bit_count()


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _if_before(found: int, end: int) -> int | None:
    return found if found < end else None


def _spread(week_days: int, first_weekday: int) -> int:
    """A mask of weekdays laid over the days of a month whose first day is `first_weekday`."""
    rotated = week_days >> first_weekday | week_days << 7 - first_weekday & 0b1111111
    return rotated * _EVERY_SEVENTH_DAY << 1


def _nearest_working_day(day: int, first_weekday: int, length: int) -> int:
    """The Monday-to-Friday nearest to `day` that does not leave the month (Quartz `W`)."""
    weekday = (first_weekday + day - 1) % 7
    if _WORKING_WEEK >> weekday & 1:
        return day
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    return day + 1 if day < length else day - 2
