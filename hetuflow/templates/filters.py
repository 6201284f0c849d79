"""What can be done with a value in an expression. Each filter is bounded: none makes much out of little."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Undefined

VALUE_LENGTH_MAX = 100_000
"""Characters of any value on the way; in the end, bytes: below what Linux takes as one argument or variable (131 071)."""

_DIRECTIVE = re.compile(r"%[YymdHIMSjaAbBpuVGz%]")
_ONLY_DIRECTIVES = re.compile(r"(?:[^%]|%[YymdHIMSjaAbBpuVGz%])*")


class FilterError(ValueError):
    """The filter has no value for what it was given."""


def as_text(value: Any) -> str:
    """A value as a program reads it: strings as they are, booleans `true`/`false`, the rest as JSON.

    Raises:
      FilterError: there is no value, or it is too long.
    """
    if isinstance(value, Undefined):
        raise FilterError(_missing(value))
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and not math.isfinite(value):
        raise FilterError("is no finite number")
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if len(text) > VALUE_LENGTH_MAX:
        raise FilterError(f"has more than {VALUE_LENGTH_MAX} characters")
    return text


def _missing(value: Undefined) -> str:
    name = value._undefined_name
    return f"{name} has no value; {{{{ … | default('…') }}}} gives one" if name else "has no value"


def _default(value: Any, otherwise: Any = "") -> Any:
    return otherwise if isinstance(value, Undefined) or value is None else value


def _replace(value: Any, old: Any, new: Any) -> str:
    text, before, after = as_text(value), as_text(old), as_text(new)
    if not before:
        raise FilterError("replace: the text to replace is empty")
    if len(text) + text.count(before) * (len(after) - len(before)) > VALUE_LENGTH_MAX:
        raise FilterError(f"has more than {VALUE_LENGTH_MAX} characters")
    return text.replace(before, after)


def _join(value: Any, between: Any = "") -> str:
    if not isinstance(value, list):
        raise FilterError("join: is not an array")
    separator, texts = as_text(between), [as_text(each) for each in value]
    if sum(map(len, texts)) + len(separator) * len(texts) > VALUE_LENGTH_MAX:
        raise FilterError(f"has more than {VALUE_LENGTH_MAX} characters")
    return separator.join(texts)


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise FilterError("length: has none")
    return len(value)


def _date(value: Any, pattern: Any = "%Y-%m-%d", zone: Any = "UTC") -> str:
    pattern, at = as_text(pattern), _moment(value)
    if len(pattern) > 100 or not _ONLY_DIRECTIVES.fullmatch(pattern):
        raise FilterError(f"date: the pattern has something else than {_DIRECTIVE.pattern} after a %")
    if isinstance(at, datetime):
        try:
            at = at.astimezone(ZoneInfo(as_text(zone)))
        except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError):
            raise FilterError(f"date: {as_text(zone)!r} is not a time zone") from None
    return at.strftime(pattern)


def _days(value: Any, count: Any) -> str:
    if not isinstance(count, int) or isinstance(count, bool):
        raise FilterError("days: the number of days is not an integer")
    at = _moment(value)
    try:
        moved = at + timedelta(days=count)
    except OverflowError:
        raise FilterError("days: is beyond the calendar") from None
    return moved.isoformat().removesuffix("+00:00") + "Z" if isinstance(moved, datetime) else moved.isoformat()


def _moment(value: Any) -> date | datetime:
    text = as_text(value)
    at: datetime | None
    try:
        if len(text) == 10:
            return date.fromisoformat(text)
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise FilterError(f"{text[:40]!r} is neither a date nor a time with an offset")
    return at.astimezone(UTC)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "date": _date,
    "days": _days,
    "default": _default,
    "join": _join,
    "json": lambda value: as_text(value) if not isinstance(value, str) else json.dumps(value, ensure_ascii=False),
    "length": _length,
    "lower": lambda value: as_text(value).lower(),
    "replace": _replace,
    "trim": lambda value: as_text(value).strip(),
    "upper": lambda value: as_text(value).upper(),
}
