"""The kinds of settings: what a value of each may look like in a file, in the environment and on the command line.

A file has types, so that `http_port = "8080"` is a mistake there; a variable or a flag is text and is read as the kind
says. Durations are seconds (float): a number, or text with a unit.
"""

from __future__ import annotations

import math
import re
from enum import Enum, auto
from pathlib import Path
from typing import Any


class Kind(Enum):
    TEXT = auto()
    URL = auto()
    """Text that may hold a password: hidden wherever a value is shown."""
    PATH = auto()
    """A path; `~` is the home directory."""
    IDENTITY = auto()
    """The id of a server or an agent."""
    CHOICE = auto()
    """One of a few words, whatever the case."""
    BOOLEAN = auto()
    INTEGER = auto()
    NUMBER = auto()
    """A number that may have a fraction."""
    DURATION = auto()
    """Seconds: a number, or a number and one of ms, s, m, h, d."""
    TEXTS = auto()
    """A list of texts; outside of files separated by commas."""


class NotAllowed(ValueError):
    """The value is not allowed; `allowed` completes the sentence "use ..."."""

    def __init__(self, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(allowed)


_IDENTITY = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?")
_DURATION = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,9})?)\s*(?P<unit>ms|s|m|h|d)?")
_UNIT_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_PASSWORD = re.compile(r"(://[^:@/?]*:).*@")
_PASSWORD_OPTION = re.compile(r"((?:password|passfile|sslkey)=)[^&\s]*", re.IGNORECASE)


def parse(
    kind: Kind, given: object, low: float | None, high: float | None, choices: tuple[str, ...], *, is_text: bool
) -> Any:
    """Return the value of the kind.

    Raises:
      NotAllowed: it is none; says what is allowed.
    """
    match kind:
        case Kind.BOOLEAN:
            return _boolean(given, is_text)
        case Kind.INTEGER:
            return _integer(given, low, high, is_text)
        case Kind.NUMBER:
            return _number(given, low, high, is_text)
        case Kind.DURATION:
            return _duration(given, low, high)
        case Kind.TEXTS:
            return _texts(given, is_text)
    if not isinstance(given, str) or not given or "\0" in given:
        raise NotAllowed("one of " + ", ".join(choices) if choices else "a text that is not empty")
    if kind is Kind.CHOICE:
        if given.casefold() not in choices:
            raise NotAllowed("one of " + ", ".join(choices))
        return given.casefold()
    if kind is Kind.IDENTITY and not _IDENTITY.fullmatch(given):
        raise NotAllowed("1-64 characters of A-Z a-z 0-9 . _ -, not '.' or '..'")
    if kind is Kind.PATH:
        return _path(given)
    return given


def shown(kind: Kind, value: object) -> str:
    """Return a value as people read it, without passwords."""
    if value is None:
        return "none"
    match kind:
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.DURATION:
            return f"{value:g} s"
        case Kind.NUMBER:
            return f"{value:g}"
        case Kind.URL:
            return without_password(str(value))
        case Kind.TEXTS:
            assert isinstance(value, tuple)
            return ", ".join(value) if value else "none"
    return str(value)


def redacted(kind: Kind, given: object) -> str:
    """Return the value given, for an error message: quoted, without a password."""
    if kind is Kind.URL:
        if not isinstance(given, str) or "://" not in given:
            return "the value (not shown, it may hold a password)"
        given = without_password(given)
    text = repr(given)
    return text if len(text) <= 200 else text[:200] + "…"


def without_password(url: str) -> str:
    """Return the URL with its password replaced by `***`."""
    return _PASSWORD_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", url))


def _boolean(given: object, is_text: bool) -> bool:
    if isinstance(given, bool):
        return given
    if is_text and isinstance(given, str) and given.casefold() in (*_TRUE, *_FALSE):
        return given.casefold() in _TRUE
    raise NotAllowed("true or false")


def _integer(given: object, low: float | None, high: float | None, is_text: bool) -> int:
    allowed = "a whole number" + _bounds(low, high)
    if is_text and isinstance(given, str) and _WHOLE.fullmatch(given.strip()):
        given = int(given)
    if not isinstance(given, int) or isinstance(given, bool) or not _is_within(given, low, high):
        raise NotAllowed(allowed)
    return given


def _number(given: object, low: float | None, high: float | None, is_text: bool) -> float:
    if is_text and isinstance(given, str) and _NUMBER.fullmatch(given.strip()):
        given = float(given)
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if not is_number or not _is_within(float(given), low, high):  # type: ignore[arg-type]
        raise NotAllowed("a number" + _bounds(low, high))
    return float(given)  # type: ignore[arg-type]


def _duration(given: object, low: float | None, high: float | None) -> float:
    allowed = 'a number of seconds or a text like "30s", "5m", "1h"' + _bounds(low, high, " s")
    seconds: float | None = None
    if isinstance(given, str):
        if parsed := _DURATION.fullmatch(given.strip().lower()):
            seconds = float(parsed["number"]) * _UNIT_SECONDS[parsed["unit"]]
    elif isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given):
        seconds = float(given)
    if seconds is None or not _is_within(seconds, low, high):
        raise NotAllowed(allowed)
    return seconds


def _texts(given: object, is_text: bool) -> tuple[str, ...]:
    if is_text and isinstance(given, str):
        return tuple(part for part in map(str.strip, given.split(",")) if part)
    if isinstance(given, list | tuple) and all(isinstance(part, str) and part for part in given):
        return tuple(given)
    raise NotAllowed("texts separated by commas" if is_text else 'an array of texts, as in ["a", "b"]')


def _path(given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # ~name of a user that does not exist
        raise NotAllowed("a path; the home directory in this one is not known") from error


def _is_within(number: float, low: float | None, high: float | None) -> bool:
    return (low is None or number >= low) and (high is None or number <= high)


def _bounds(low: float | None, high: float | None, unit: str = "") -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" of at least {low:g}{unit}"
    return f", {_plain_number(low or 0)} to {_plain_number(high)}{unit}"


def _plain_number(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:g}"
