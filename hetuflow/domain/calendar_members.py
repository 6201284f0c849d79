"""What the members of an exclusion calendar may be: read alike by the server, by files and by a preview without server.

Each reader takes what was written and a function to tell of faults, and returns the member as it is stored: sorted, each
once, dates and times as text of one form. Nothing is corrected in silence, and every fault has its path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any, TypeAlias

from hetuflow.domain.calendar_rules import DAY, RULES, WEEKDAYS, time_of_day

JSON = Mapping[str, Any]
Fault: TypeAlias = Callable[[str, str], None]
"""(path, what is wrong and what is allowed)"""

ENTRIES_MAX = 5000
"""Of one member: a century of holidays, and a calendar that is read in a few milliseconds."""

FORMS: Mapping[str, str] = {
    "dates": "dates: 2026-12-24",
    "ranges": "ranges of dates, both included: {from: 2026-12-24, to: 2027-01-02}",
    "yearly": "days of every year: 12-25",
    "weekdays": "days of the week (mon-sun), or a part of them: {days: [fri], from: 18:00, to: 24:00}",
    "times": "times of every day: {from: 22:00, to: 06:00}; over midnight where the end is not later",
    "periods": "periods: {from: 2026-12-24T12:00:00Z, to: 2026-12-24T18:00:00Z}, the end not included",
}

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)


def read_rules(members: JSON, fault: Fault, prefix: str = "") -> dict[str, Any]:
    """Return the rules among these members, as they are stored; a member with a fault is left out."""
    found = {}
    for name in RULES:
        if members.get(name) is not None:
            value = read_rule(name, members[name], f"{prefix}{name}", fault)
            if value is not None:
                found[name] = value
    return found


def read_rule(name: str, value: Any, path: str, fault: Fault) -> list[Any] | None:
    """One member by its name; None after telling a fault."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        fault(path, f"must be a list of {FORMS[name]}")
        return None
    if len(value) > ENTRIES_MAX:
        fault(path, f"must have at most {ENTRIES_MAX} entries, has {len(value)}")
        return None
    faults = 0

    def count(where: str, what: str) -> None:
        nonlocal faults
        faults += 1
        fault(where, what)

    found = [_READ[name](entry, f"{path}[{index}]", count) for index, entry in enumerate(value)]
    return None if faults else _in_order(found)


def _in_order(entries: Sequence[Any]) -> list[Any]:
    unique = {repr(entry): entry for entry in entries}
    return sorted(unique.values(), key=lambda entry: entry if isinstance(entry, str) else _place(entry))


def _place(entry: JSON) -> str:
    days = "".join(str(WEEKDAYS.index(day)) for day in entry.get("days", ()))
    return f"{days}{entry.get('from', '')} {entry.get('to', '')}"


# --- entries -------------------------------------------------------------------------------------------------------


def _date(value: Any, path: str, fault: Fault) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            if 1970 <= date.fromisoformat(value).year <= 9998:
                return value
        except ValueError:
            pass
    return fault(path, f"must be a date such as 2026-12-24, from 1970 on, got {value!r}")


def _day_of_year(value: Any, path: str, fault: Fault) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(f"2000-{value}"):
        try:
            date.fromisoformat(f"2000-{value}")
            return value
        except ValueError:
            pass
    return fault(path, f"must be a day of the year as MM-DD, such as 12-25, got {value!r}")


def _range(value: Any, path: str, fault: Fault) -> Any:
    if (found := _object(value, path, fault, ("from", "to"), required=("from", "to"))) is None:
        return None
    first, last = (_date(found[name], f"{path}.{name}", fault) for name in ("from", "to"))
    if first and last and last < first:
        fault(f"{path}.to", f"must not be before from, which is {first}")
    return {"from": first, "to": last}


def _window(value: Any, path: str, fault: Fault) -> Any:
    found = _object(value, path, fault, ("from", "to"))
    if found is not None and not found:
        fault(path, "needs from or to")
    return None if found is None else _times(found, path, fault)


def _weekday(value: Any, path: str, fault: Fault) -> Any:
    if isinstance(value, str):
        value = {"days": [value]}
    if (found := _object(value, path, fault, ("days", "from", "to"), required=("days",))) is None:
        return None
    days = found.pop("days")
    days = [days] if isinstance(days, str) else days
    if not isinstance(days, Sequence) or not days:
        return fault(f"{path}.days", "must be a list of days of the week, such as [sat, sun]")
    names = {_day_name(day, f"{path}.days[{index}]", fault) for index, day in enumerate(days)}
    return {"days": [day for day in WEEKDAYS if day in names], **_times(found, path, fault)}


def _day_name(value: Any, path: str, fault: Fault) -> Any:
    short = value.strip().lower() if isinstance(value, str) else ""
    for name in WEEKDAYS:
        if short == name or (len(short) > 3 and f"{_LONG[name]}day" == short):
            return name
    near = get_close_matches(short, WEEKDAYS, n=1, cutoff=0.5)
    hint = f"; the nearest is {near[0]}" if near else ""
    return fault(path, f"must be one of {', '.join(WEEKDAYS)}, got {value!r}{hint}")


def _times(found: JSON, path: str, fault: Fault) -> dict[str, str]:
    """`from` and `to`, those that are given."""
    clocks = {name: _clock(value, f"{path}.{name}", fault) for name, value in found.items()}
    if None not in clocks.values():
        low, high = time_of_day(clocks.get("from", "00:00")), time_of_day(clocks.get("to", "24:00"))
        if low == high:
            fault(f"{path}.to", "must differ from from; leave both out for the whole day")
        if low == DAY:
            fault(f"{path}.from", "must be before 24:00")
    return clocks


def _clock(value: Any, path: str, fault: Fault) -> Any:
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        if (hours < 24 and minutes < 60 and seconds < 60) or (hours, minutes, seconds) == (24, 0, 0):
            return f"{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")
    return fault(path, f"must be a time of day as HH:MM or HH:MM:SS, 24:00 at most, got {value!r}")


def _period(value: Any, path: str, fault: Fault) -> Any:
    if (found := _object(value, path, fault, ("from", "to"), required=("from", "to"))) is None:
        return None
    begin, end = (_instant(found[name], f"{path}.{name}", fault) for name in ("from", "to"))
    if begin is not None and end is not None and end <= begin:
        fault(f"{path}.to", "must be after from")
    return {"from": _text(begin), "to": _text(end)} if begin is not None and end is not None else None


def _instant(value: Any, path: str, fault: Fault) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is not None and at.microsecond == 0 and 1970 <= at.year <= 9998:
            return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    fault(path, f"must be an RFC 3339 time with offset, in whole seconds, such as 2026-12-24T12:00:00Z, got {value!r}")
    return None


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _object(
    value: Any, path: str, fault: Fault, known: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        fault(path, f"must be an object with {' and '.join(known)}, got {value!r}")
        return None
    good = True
    for name in value:
        if name not in known:
            fault(f"{path}.{name}", f"unknown member; there are: {', '.join(known)}")
            good = False
    for name in required:
        if value.get(name) is None:
            fault(f"{path}.{name}", "is required")
            good = False
    return {name: value[name] for name in known if name in value} if good else None


_LONG: Mapping[str, str] = dict(zip(WEEKDAYS, ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun"), strict=True))

_READ: Mapping[str, Callable[[Any, str, Fault], Any]] = {
    "dates": _date,
    "ranges": _range,
    "yearly": _day_of_year,
    "weekdays": _weekday,
    "times": _window,
    "periods": _period,
}
