"""Moments as people write them: `2h`, `+2h`, `yesterday 22:00`, `02:15`, `2027-01-31 08:00`, RFC 3339. Pure: `now` is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

ALLOWED = "2h or 1d12h (ago), +2h (from now), now, 02:15, yesterday 22:00, 2027-01-31 08:00, or RFC 3339"
ALLOWED_AHEAD = "+2h (from now), now, 02:15 (the next), tomorrow 22:00, 2027-01-31 08:00, or RFC 3339"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+[smhdw])+")
_CLOCK = re.compile(r"(?:(today|yesterday|tomorrow)\s*)?(\d{1,2}):(\d{2})(?::(\d{2}))?")


def duration_seconds(text: str) -> int:
    """`90`, `90s`, `5m`, `1h30m`, `1d` as seconds.

    Raises:
      ValueError: the text is not a duration.
    """
    plain = text.strip().lower()
    if plain.isascii() and plain.isdigit():
        return int(plain)
    if not _DURATION.fullmatch(plain):
        raise ValueError(f"{text!r} is not a number of seconds, or one with s, m, h, d or w (90, 90s, 5m, 1h30m, 1d)")
    return sum(int(part[:-1]) * _SECONDS[part[-1]] for part in re.findall(r"\d+[smhdw]", plain))


def moment(text: str, now: datetime, zone: tzinfo | None = None, ahead: bool = False) -> datetime:
    """The instant that the text names, in UTC.

    Args:
      now: aware; durations go back from it, with `+` forward, and a time of day without a date is the last one before it.
      zone: of times without an offset; None = the reader's own.
      ahead: the moment is planned: a time of day is the next one, and a duration needs its `+`, since "ago" is hardly meant.
    Raises:
      ValueError: the text names no moment; the message lists what is allowed.
    """
    plain = " ".join(text.strip().split())
    lower = plain.lower()
    if lower == "now":
        return now.astimezone(UTC)
    allowed = ALLOWED_AHEAD if ahead else ALLOWED
    if _DURATION.fullmatch(lower.removeprefix("+")):
        return _from_now(lower, text, now, ahead)
    here = now.astimezone(zone)
    if lower in ("today", "yesterday", "tomorrow"):
        lower += " 00:00"
    if match := _CLOCK.fullmatch(lower):
        return _of_day(match, here, zone, text, ahead)
    try:
        found = datetime.fromisoformat(plain.upper() if plain[-1:] in "zZ" else plain)
    except ValueError:
        raise ValueError(f"{text!r} is not a moment; write {allowed}") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone) if zone is not None else found.astimezone()
    return found.astimezone(UTC)


def _from_now(lower: str, text: str, now: datetime, ahead: bool) -> datetime:
    if ahead and not lower.startswith("+"):
        raise ValueError(f"{text!r} would be in the past; write +{lower} for a moment to come")
    try:
        distance = timedelta(seconds=duration_seconds(lower.removeprefix("+")))
        return (now + distance if lower.startswith("+") else now - distance).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is further away than a date can be") from None


def _of_day(match: re.Match[str], here: datetime, zone: tzinfo | None, text: str, ahead: bool) -> datetime:
    day, hour, minute, second = match[1], int(match[2]), int(match[3]), int(match[4] or 0)
    try:
        naive = here.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None)
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day; write {ALLOWED_AHEAD if ahead else ALLOWED}") from None
    naive += timedelta(days={"yesterday": -1, "tomorrow": 1}.get(day, 0))
    found = naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
    if day is None and (found <= here if ahead else found > here):
        naive += timedelta(days=1 if ahead else -1)
        found = naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
    return found.astimezone(UTC)


def rfc3339(instant: datetime) -> str:
    """As the API reads it."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
