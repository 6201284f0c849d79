"""Moments as people write them: `2h`, `yesterday 22:00`, `02:15`, `2027-01-31 08:00`, RFC 3339. Pure: `now` is an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

ALLOWED = "2h or 1d12h (ago), now, 02:15, yesterday 22:00, 2027-01-31 08:00, or RFC 3339"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+[smhdw])+")
_CLOCK = re.compile(r"(?:(today|yesterday)\s*)?(\d{1,2}):(\d{2})(?::(\d{2}))?")


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


def moment(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The instant that the text names, in UTC.

    Args:
      now: aware; durations go back from it, and a time of day without a date is the last one before it.
      zone: of times without an offset; None = the reader's own.
    Raises:
      ValueError: the text names no moment; the message lists what is allowed.
    """
    plain = " ".join(text.strip().split())
    lower = plain.lower()
    if lower == "now":
        return now.astimezone(UTC)
    if _DURATION.fullmatch(lower):
        return (now - timedelta(seconds=duration_seconds(lower))).astimezone(UTC)
    here = now.astimezone(zone)
    if lower in ("today", "yesterday"):
        lower += " 00:00"
    if match := _CLOCK.fullmatch(lower):
        return _of_day(match, here, zone, text)
    try:
        found = datetime.fromisoformat(plain.upper() if plain[-1:] in "zZ" else plain)
    except ValueError:
        raise ValueError(f"{text!r} is not a moment; write {ALLOWED}") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone) if zone is not None else found.astimezone()
    return found.astimezone(UTC)


def _of_day(match: re.Match[str], here: datetime, zone: tzinfo | None, text: str) -> datetime:
    day, hour, minute, second = match[1], int(match[2]), int(match[3]), int(match[4] or 0)
    try:
        naive = here.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None)
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day; write {ALLOWED}") from None
    if day == "yesterday":
        naive -= timedelta(days=1)
    found = naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
    if day is None and found > here:
        naive -= timedelta(days=1)
        found = naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
    return found.astimezone(UTC)


def rfc3339(instant: datetime) -> str:
    """As the API reads it."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
