"""iCalendar files (RFC 5545) as the rules of an exclusion calendar: each event excludes its time.

A file is read with `icalendar`, its recurrences are expanded with `dateutil`. Events of whole days become `dates` and
`ranges` in the calendar's own zone, events with times become `periods`. Recurring ones are expanded from `BACK` before
the import to `AHEAD` after it. What a calendar cannot represent is told with its line and UID, and then nothing of the
file is taken: no event is left out in silence. `TRANSP` is not asked: who imports a calendar means its events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from attrs import Factory, define, frozen

from hetuflow.domain.calendar_members import ENTRIES_MAX
from hetuflow.domain.cron_zone import UnknownTimeZone, zone

BACK = timedelta(days=366)
AHEAD = timedelta(days=10 * 366)
EVENTS_MAX = 2000
RECURRENCES_MAX = 20_000
"""Of one rule, from its beginning: half a century of days."""

_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_FOREIGN = ("VTODO", "VJOURNAL", "VFREEBUSY")
_DAY = timedelta(days=1)


@frozen(slots=True)
class Fault:
    """What cannot be represented, and where it begins in the file."""

    line: int
    uid: str | None
    message: str

    def __str__(self) -> str:
        return f"line {self.line}{f' (UID {self.uid})' if self.uid else ''}: {self.message}"


@frozen(slots=True)
class Imported:
    """`rules` are members of a calendar. `until_at`: how far endless events were expanded; None = none is endless."""

    rules: Mapping[str, list[Any]]
    until_at: datetime | None
    faults: Sequence[Fault]
    cancelled: int = 0
    """Events with STATUS:CANCELLED, which do not take place."""


class _Refused(Exception):
    """An event cannot be represented; the message says why."""


@define
class _Collected:
    dates: set[str] = Factory(set)
    ranges: set[tuple[str, str]] = Factory(set)
    periods: set[tuple[str, str]] = Factory(set)
    is_endless: bool = False

    def add(self, start: Any, length: timedelta, own: tzinfo) -> None:
        if not isinstance(start, datetime):
            last = start + length - _DAY
            if last <= start:
                self.dates.add(start.isoformat())
            else:
                self.ranges.add((start.isoformat(), last.isoformat()))
            return
        begin = _instant(start, own)
        self.periods.add((_text(begin), _text(begin + length)))

    def rules(self) -> dict[str, list[Any]]:
        return {
            "dates": sorted(self.dates),
            "ranges": [{"from": first, "to": last} for first, last in sorted(self.ranges)],
            "periods": [{"from": first, "to": last} for first, last in sorted(self.periods)],
        }


def read_ical(text: str, timezone: str, now: datetime) -> Imported:
    """Return what the events of the file exclude.

    Args:
      timezone: of the calendar; times without a zone are of it.
      now: of the import, around which recurring events are expanded.
    """
    from icalendar import Calendar

    faults = list(_foreign(text))
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _is_begin(line, "VEVENT")]
    if len(lines) > EVENTS_MAX:
        faults.append(Fault(lines[EVENTS_MAX], None, f"more than {EVENTS_MAX} events"))
    if faults:
        return Imported({}, None, faults)
    try:
        events = [event for found in Calendar.from_ical(text, multiple=True) for event in found.walk("VEVENT")]
    except (ValueError, IndexError, KeyError, AttributeError, TypeError) as wrong:
        return Imported({}, None, [Fault(1, None, f"is not an iCalendar file: {wrong}")])
    if not events:
        return Imported({}, None, [Fault(1, None, "has no event (VEVENT)")])
    found, cancelled = _Collected(), 0
    moved = _moved(events)
    for line, event in zip(lines, events, strict=False):
        uid = str(event.get("UID")) if event.get("UID") is not None else None
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            cancelled += 1
            continue
        try:
            _collect(event, zone(timezone), now, moved.get(uid, set()), found)
        except _Refused as no:
            faults.append(Fault(line, uid, str(no)))
    for name in ("dates", "ranges", "periods"):
        if len(getattr(found, name)) > ENTRIES_MAX:
            faults.append(Fault(1, None, f"its events amount to more than {ENTRIES_MAX} {name}"))
    until_at = now + AHEAD if found.is_endless else None
    return Imported({} if faults else found.rules(), until_at, faults, cancelled)


def _is_begin(line: str, name: str) -> bool:
    return line.strip().upper() == f"BEGIN:{name}"


def _foreign(text: str) -> Iterator[Fault]:
    for number, line in enumerate(text.splitlines(), 1):
        for name in _FOREIGN:
            if _is_begin(line, name):
                yield Fault(number, None, f"{name} cannot be represented: only events (VEVENT) exclude")


def _moved(events: Sequence[Any]) -> Mapping[str | None, set[Any]]:
    """By UID, the recurrences that an event of their own stands for (or that are cancelled alone)."""
    found: dict[str | None, set[Any]] = defaultdict(set)
    for event in events:
        if "RECURRENCE-ID" in event and not event.errors:
            found[str(event.get("UID"))].add(_comparable(event["RECURRENCE-ID"].dt))
    return found


def _collect(event: Any, own: tzinfo, now: datetime, moved: set[Any], found: _Collected) -> None:
    _check(event)
    start, wall_zone = _start(event)
    length = _length(event, start, wall_zone or own)
    is_override = "RECURRENCE-ID" in event
    for name in ("EXDATE", "RDATE"):
        if any(_is_timed(each.dt) is not isinstance(start, datetime) for each in _lists(event, name)):
            raise _Refused(f"{name} must be a time where DTSTART is one, and a date where that is one")
    starts: dict[Any, timedelta] = (
        {} if not is_override and _comparable(event["DTSTART"].dt) in moved else {start: length}
    )
    excluded = {_comparable(each.dt) for each in _lists(event, "EXDATE")}
    if not is_override:
        excluded |= moved
        for each in _expanded(event, start, wall_zone or own, now, found):
            starts.setdefault(each, length)
        for each in _lists(event, "RDATE"):
            value, own_length = _rdate(each.dt, length)
            starts.setdefault(_wall(value, wall_zone), own_length)
    earliest = _earliest(now, start, wall_zone or own) if "RRULE" in event else None
    for each, lasting in starts.items():
        if earliest is not None and each < earliest:
            continue
        if _comparable(_zoned(each, wall_zone)) not in excluded:
            found.add(_zoned(each, wall_zone), lasting, own)


def _check(event: Any) -> None:
    if event.errors:
        name, message = event.errors[0]
        raise _Refused(f"{name}: {message}")
    if "DTSTART" not in event:
        raise _Refused("has no DTSTART")
    for name in ("EXRULE", "RANGE"):
        if name in event:
            raise _Refused(f"{name} cannot be represented")
    if "RECURRENCE-ID" in event and "RANGE" in event["RECURRENCE-ID"].params:
        raise _Refused("RECURRENCE-ID with RANGE cannot be represented")
    for name in ("DTSTART", "DTEND", "RDATE", "EXDATE", "RECURRENCE-ID"):
        for each in _as_list(event.get(name)):
            if (tzid := each.params.get("TZID")) is not None:
                _known_zone(tzid)


def _known_zone(tzid: str) -> tzinfo:
    """Of an IANA name, or of one that Windows has for it."""
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    try:
        return zone(WINDOWS_TO_OLSON.get(tzid, tzid))
    except UnknownTimeZone as unknown:
        raise _Refused(f"TZID {unknown}") from None


def _start(event: Any) -> tuple[Any, tzinfo | None]:
    """The first start by the clocks of its zone, and that zone: None for whole days and for times of no zone."""
    prop = event["DTSTART"]
    value = prop.dt
    if not isinstance(value, date):
        raise _Refused(f"DTSTART is {value}, which is no date")
    if not isinstance(value, datetime):
        return value, None
    if (tzid := prop.params.get("TZID")) is not None:
        return value.replace(tzinfo=None), _known_zone(tzid)
    return value.replace(tzinfo=None), None if value.tzinfo is None else UTC


def _length(event: Any, start: Any, wall_zone: tzinfo) -> timedelta:
    if "DTEND" in event:
        end = event["DTEND"].dt
        if isinstance(end, datetime) is not isinstance(start, datetime):
            raise _Refused("DTSTART and DTEND are not both dates or both times")
        if isinstance(start, datetime):
            length = _instant(end, wall_zone) - _instant(start.replace(tzinfo=wall_zone), wall_zone)
        else:
            length = end - start
    elif "DURATION" in event:
        length = event["DURATION"].dt
    else:
        length = timedelta(0) if isinstance(start, datetime) else _DAY
    if not isinstance(start, datetime) and length % _DAY:
        raise _Refused(f"lasts {length}, which is not whole days")
    if length <= timedelta(0):
        raise _Refused("has no length: it needs DTEND or DURATION after its start")
    return timedelta(seconds=int(length.total_seconds()))


def _rdate(value: Any, length: timedelta) -> tuple[Any, timedelta]:
    if not isinstance(value, tuple):
        return value, length
    begin, end = value
    return begin, end if isinstance(end, timedelta) else end - begin


# --- recurrences ---------------------------------------------------------------------------------------------------


def _expanded(event: Any, start: Any, clocks: tzinfo, now: datetime, found: _Collected) -> Iterator[Any]:
    """The starts that the rules name, by these clocks, as `start` is."""
    from dateutil.rrule import rrulestr

    is_timed = isinstance(start, datetime)
    first = start if is_timed else datetime.combine(start, time.min)
    horizon = (now + AHEAD).astimezone(clocks).replace(tzinfo=None)
    for rule in _as_list(event.get("RRULE")):
        parts, until = _parts(rule, is_timed, clocks)
        if "COUNT" not in rule and (until is None or until > horizon):
            found.is_endless, until = True, horizon
        text = parts if until is None else f"{parts};UNTIL={until:%Y%m%dT%H%M%S}"
        try:
            times: Any = rrulestr(text, dtstart=first)
        except (ValueError, TypeError, KeyError) as wrong:
            raise _Refused(f"RRULE: {wrong}") from None
        for number, at in enumerate(times):
            if at > horizon:
                found.is_endless = True
                break
            if number >= RECURRENCES_MAX:
                raise _Refused(f"RRULE names more than {RECURRENCES_MAX} times before {horizon:%Y-%m-%d}")
            yield at if is_timed else at.date()


def _earliest(now: datetime, start: Any, clocks: tzinfo) -> Any:
    """The first recurrence that is taken, as `start` is."""
    at = (now - BACK).astimezone(clocks).replace(tzinfo=None)
    return at if isinstance(start, datetime) else at.date()


def _parts(rule: Any, is_timed: bool, clocks: tzinfo) -> tuple[str, datetime | None]:
    """The rule without its end, and the end by these clocks."""
    frequency = str((rule.get("FREQ") or ["none"])[0]).upper()
    if frequency not in _FREQUENCIES:
        raise _Refused(f"RRULE of FREQ={frequency} cannot be represented, only {', '.join(_FREQUENCIES)}; use `times`")
    if frequency == "DAILY" and "BYSETPOS" in rule:
        raise _Refused("RRULE of FREQ=DAILY with BYSETPOS cannot be represented")
    _check_ever(rule)
    text = ";".join(part for part in rule.to_ical().decode().split(";") if not part.startswith("UNTIL="))
    values = rule.get("UNTIL")
    if values is None:
        return text, None
    until = values[0] if isinstance(values, list) else values
    if isinstance(until, datetime) is not is_timed:
        raise _Refused("RRULE: UNTIL must be a date where DTSTART is one, and a time where that is one")
    if not isinstance(until, datetime):
        return text, datetime.combine(until, time.min)
    if until.tzinfo is not None:
        until = until.astimezone(clocks).replace(tzinfo=None)
    return text, until


def _check_ever(rule: Any) -> None:
    """Refuse a day that no month of the rule has: it would be looked for up to the year 9999."""
    days, months = rule.get("BYMONTHDAY"), rule.get("BYMONTH")
    if days and months:
        longest = max(29 if int(month) == 2 else 30 if int(month) in (4, 6, 9, 11) else 31 for month in months)
        if all(abs(int(day)) > longest for day in days):
            raise _Refused("RRULE names a day that its months do not have")


# --- values --------------------------------------------------------------------------------------------------------


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _lists(event: Any, name: str) -> list[Any]:
    return [each for prop in _as_list(event.get(name)) for each in prop.dts]


def _is_timed(value: Any) -> bool:
    return isinstance(value, datetime | tuple)


def _wall(value: Any, wall_zone: tzinfo | None) -> Any:
    """By the clocks of the event's zone."""
    if not isinstance(value, datetime) or value.tzinfo is None or wall_zone is None:
        return value.replace(tzinfo=None) if isinstance(value, datetime) else value
    return value.astimezone(wall_zone).replace(tzinfo=None)


def _zoned(value: Any, wall_zone: tzinfo | None) -> Any:
    return value.replace(tzinfo=wall_zone) if isinstance(value, datetime) else value


def _comparable(value: Any) -> Any:
    """Equal for equal instants; a time of no zone equals only another one."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo is not None else value
    return value


def _instant(value: datetime, own: tzinfo) -> datetime:
    return (value if value.tzinfo is not None else value.replace(tzinfo=own)).astimezone(UTC)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
