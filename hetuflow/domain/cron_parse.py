"""Text to `CronExpression`: two dialects, told apart by the number of fields.

- Five fields (minute first): Vixie cron. Weekdays 0-7, 0 and 7 are Sunday; a day matches the day of month OR the day of
  week when neither field begins with `*`, else both; `@hourly` and its relatives.
- Six or seven fields (second first, year last): Quartz. Weekdays 1-7, 1 is Sunday; `?`, `L`, `L-3`, `LW`, `15W`, `6L`,
  `6#3`; ranges may wrap around (`22-4`, `FRI-MON`). Both day fields restricted: both must match.

Beyond both: names ignore case, and `a/n` means "from a, every n" in either dialect (as in cronie). Refused although an
old cron might take it: a step larger than its field, because `*/90` in minutes does not mean ninety minutes. Every error
names the 0-based column of the mistake and what is allowed there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from attrs import evolve, frozen

from hetuflow.domain.cron_fields import YEAR_MAX, YEAR_MIN, CronExpression, DayRule, can_fire

_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTHS = {name: n for n, name in enumerate(_MONTH_NAMES, start=1)}
_WEEKDAYS = {name: n for n, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_QUARTZ_WEEKDAYS = {name: n + 1 for name, n in _WEEKDAYS.items()}

_ALIASES = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}

_WORD = re.compile(r"[^ \t]+")
_FOREIGN = re.compile(r"[^ -~\t]")
_DAYS_FROM_END_MAX = 30
_EVERY_MONTH_DAY = (2 << 31) - 2
_EVERY_WEEKDAY = 0b1111111


class CronError(ValueError):
    """The text is not a cron expression. `message` says what is allowed at `position` (0-based column of the mistake)."""

    def __init__(self, message: str, position: int) -> None:
        self.message, self.position = message, position
        super().__init__(f"{message} (at column {position})")


@frozen(slots=True)
class _Field:
    """What one field may hold. `is_quartz` allows ranges that wrap around."""

    noun: str
    low: int
    high: int
    names: Mapping[str, int] = {}
    is_quartz: bool = False

    @property
    def allowed(self) -> str:
        names = list(self.names)
        return f"{self.low}-{self.high}" + (f" or {names[0]}-{names[-1]}" if names else "")


_VIXIE = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_QUARTZ = (
    _Field("second", 0, 59, is_quartz=True),
    _Field("minute", 0, 59, is_quartz=True),
    _Field("hour", 0, 23, is_quartz=True),
    _Field("day of month", 1, 31, is_quartz=True),
    _Field("month", 1, 12, _MONTHS, is_quartz=True),
    _Field("day of week", 1, 7, _QUARTZ_WEEKDAYS, is_quartz=True),
    _Field("year", YEAR_MIN, YEAR_MAX),  # a backward range of years is a mistake in Quartz too
)


@frozen(slots=True)
class _Word:
    """A piece of the text (in capitals) and the column it begins at."""

    text: str
    column: int

    def split(self, separator: str) -> list[_Word]:
        pieces, column = [], self.column
        for piece in self.text.split(separator):
            pieces.append(_Word(piece, column))
            column += len(piece) + len(separator)
        return pieces


def parse(text: str, zone: str) -> CronExpression:
    """Return the expression; the zone is taken as it is.

    Raises:
      CronError: the text is malformed, or no day of the calendar ever matches.
    """
    if foreign := _FOREIGN.search(text):
        raise CronError(f"character {foreign.group()!r} is not allowed in a cron expression", foreign.start())
    words = [_Word(match.group().upper(), match.start()) for match in _WORD.finditer(text)]
    if words and words[0].text.startswith("@"):
        words = _expand_alias(words)
    if len(words) == 5:
        expression = _vixie(text, zone, words)
    elif len(words) in (6, 7):
        expression = _quartz(text, zone, words)
    else:
        raise _wrong_field_count(text, words)
    if not can_fire(expression):
        day_of_month = words[2] if len(words) == 5 else words[3]
        raise CronError("this never fires: no month it allows has such a day", day_of_month.column)
    return expression


def _expand_alias(words: list[_Word]) -> list[_Word]:
    alias, column = words[0].text, words[0].column
    if alias not in _ALIASES:
        near = get_close_matches(alias, _ALIASES, n=1)
        hint = f", did you mean {near[0].lower()}?" if near else ""
        allowed = " ".join(name.lower() for name in _ALIASES)
        raise CronError(f"{alias.lower()!r} is not known{hint or f', use {allowed}'}", column)
    if len(words) > 1:
        raise CronError(f"nothing may follow {alias.lower()}", words[1].column)
    return [_Word(part, column) for part in _ALIASES[alias].split()]


def _wrong_field_count(text: str, words: list[_Word]) -> CronError:
    allowed = "five fields (minute hour day month weekday), or six or seven (second first, year last)"
    column = words[7].column if len(words) > 7 else len(text.rstrip(" \t"))
    return CronError(f"{len(words)} field{'s' * (len(words) != 1)} given, use {allowed}", column)


def _vixie(text: str, zone: str, words: list[_Word]) -> CronExpression:
    minutes, hours, month_days, months, weekdays = (
        _mask(field, word) for field, word in zip(_VIXIE, words, strict=True)
    )
    both_restricted = not (words[2].text.startswith("*") or words[4].text.startswith("*"))
    weekdays = (weekdays | weekdays >> 7) & _EVERY_WEEKDAY
    return CronExpression(
        text=text,
        zone=zone,
        seconds=1,
        minutes=minutes,
        hours=hours,
        months=months,
        years=None,
        day_rule=DayRule(month_days, weekdays, is_either=both_restricted),
        is_fixed=_is_fixed(words[:2]),
    )


def _quartz(text: str, zone: str, words: list[_Word]) -> CronExpression:
    seconds, minutes, hours, months = (_mask(_QUARTZ[index], words[index]) for index in (0, 1, 2, 4))
    years = None
    if len(words) == 7 and words[6].text != "*":
        years = _mask(_QUARTZ[6], words[6]) >> YEAR_MIN
    if words[3].text == words[5].text == "?":
        raise CronError("'?' may stand for the day of month or the day of week, not for both", words[5].column)
    return CronExpression(
        text=text,
        zone=zone,
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        months=months,
        years=years,
        day_rule=_quartz_weekdays(_quartz_month_days(DayRule(0, 0), words[3]), words[5]),
        is_fixed=_is_fixed(words[:3]),
    )


def _is_fixed(times: list[_Word]) -> bool:
    """Vixie's rule across a change of clocks: an expression that begins a time field with `*` follows real time."""
    return not any(word.text.startswith("*") for word in times)


def _quartz_month_days(rule: DayRule, word: _Word) -> DayRule:
    if word.text in ("?", "*"):
        return evolve(rule, month_days=_EVERY_MONTH_DAY)
    for item in word.split(","):
        text = item.text
        if text.startswith("L"):
            rule = _from_month_end(rule, item)
        elif text.endswith("W"):
            day = _value(_QUARTZ[3], _Word(text[:-1], item.column))
            rule = evolve(rule, near=(*rule.near, day))
        else:
            rule = evolve(rule, month_days=rule.month_days | _item(_QUARTZ[3], item))
    return rule


def _from_month_end(rule: DayRule, item: _Word) -> DayRule:
    """`L`, `L-3`, `LW`, `L-3W`."""
    rest, is_near = item.text[1:], item.text.endswith("W")
    if is_near:
        rest = rest[:-1]
    days_back = 0
    if rest:
        number = rest[1:]
        if not (rest.startswith("-") and number.isdigit() and len(number) <= 2 and int(number) <= _DAYS_FROM_END_MAX):
            raise CronError("day of month: use L, LW, L-3 or L-3W (0-30 days before the last)", item.column + 1)
        days_back = int(number)
    if is_near:
        return evolve(rule, near_from_end=(*rule.near_from_end, days_back))
    return evolve(rule, from_end=(*rule.from_end, days_back))


def _quartz_weekdays(rule: DayRule, word: _Word) -> DayRule:
    field = _QUARTZ[5]
    if word.text in ("?", "*"):
        return evolve(rule, week_days=_EVERY_WEEKDAY)
    for item in word.split(","):
        text = item.text
        if text == "L":  # Quartz: the last day of the week
            rule = evolve(rule, week_days=rule.week_days | 1 << 6)
        elif "#" in text:
            day, number = item.split("#")[:2]
            weekday = _value(field, day)
            if text.count("#") > 1 or number.text not in ("1", "2", "3", "4", "5"):
                raise CronError("day of week: after '#' use 1-5, as in 6#3 for the third Friday", number.column)
            rule = evolve(rule, nth=(*rule.nth, (weekday - 1, int(number.text))))
        elif text.endswith("L") and not text.startswith("L"):
            weekday = _value(field, _Word(text[:-1], item.column))
            rule = evolve(rule, last=(*rule.last, weekday - 1))
        else:
            rule = evolve(rule, week_days=rule.week_days | _item(field, item) >> 1)
    return rule


def _mask(field: _Field, word: _Word) -> int:
    if word.text == "*":
        return (2 << field.high) - (1 << field.low)
    mask = 0
    for item in word.split(","):
        mask |= _item(field, item)
    return mask


def _item(field: _Field, item: _Word) -> int:
    """The mask of one element of a list: `*`, `a`, `a-b`, and each of them with `/n`."""
    if item.text.isdigit() and len(item.text) <= 4 and field.low <= int(item.text) <= field.high:
        return 1 << int(item.text)
    head, *steps = item.split("/")
    step = _step(field, steps) if steps else 1
    if head.text == "*":
        start, stop = field.low, field.high
    else:
        first, *lasts = head.split("-")
        start = _value(field, first)
        stop = _range_end(field, start, lasts) if lasts else field.high if steps else start
    if stop >= start:
        return _every(start, stop, step)
    size = field.high - field.low + 1
    wrapped = _every(start - field.low, stop - field.low + size, step)
    return ((wrapped | wrapped >> size) & (1 << size) - 1) << field.low


def _range_end(field: _Field, start: int, lasts: list[_Word]) -> int:
    if len(lasts) > 1:
        raise CronError(f"{field.noun}: a range has two ends, as in 1-5", lasts[1].column - 1)
    stop = _value(field, lasts[0])
    if stop < start and not field.is_quartz:
        if lasts[0].text == "SUN":
            return 7
        raise CronError(f"{field.noun}: the range runs backwards, write it as two ranges", lasts[0].column)
    return stop


def _step(field: _Field, steps: list[_Word]) -> int:
    size = field.high - field.low + 1
    if field is _VIXIE[4]:
        size = 7
    text = steps[0].text
    if len(steps) > 1 or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= size:
        raise CronError(f"{field.noun}: after '/' use a number 1-{size}", steps[0].column)
    return int(text)


def _value(field: _Field, word: _Word) -> int:
    text = word.text
    if text in field.names:
        return field.names[text]
    if text.isdigit() and len(text) <= 4 and field.low <= int(text) <= field.high:
        return int(text)
    raise CronError(f"{field.noun}: {_complaint(field, text)}, use {field.allowed}", word.column)


def _complaint(field: _Field, text: str) -> str:
    if not text:
        return "a value is missing"
    if not field.is_quartz and field.low < YEAR_MIN and re.search(r"[?LW#]", text) and not text.isalpha():
        return f"{text!r} belongs to expressions of six or seven fields"
    if text == "?":
        return "'?' is only for the day of month or the day of week of six or seven fields"
    near = get_close_matches(text, field.names, n=1, cutoff=0.5)
    return f"{text!r} is not allowed" + (f" (did you mean {near[0]}?)" if near else "")


def _every(start: int, stop: int, step: int) -> int:
    if step == 1:
        return (2 << stop) - (1 << start)
    return sum(1 << value for value in range(start, stop + 1, step))
