"""The kinds of values that members have: each parses one JSON value, and describes itself as a JSON Schema.

`parse` returns the typed value, or `INVALID` after adding the problem; it never raises on input. A kind is frozen and
knows no request: parser and OpenAPI document are generated from the same instances.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

from attrs import frozen

from hetuflow.api.jsontext import INTEGER_MAX, shown
from hetuflow.api.problems import Problems

Schema = dict[str, Any]


class _Invalid:
    __slots__ = ()

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()
"""Stands for a value whose problem has been added."""

INT32_MAX = 2**31 - 1
NOT_SUPPORTED = "not supported by this version"


class Kind(Protocol):
    """A kind of value."""

    @property
    def phrase(self) -> str:
        """What is allowed, as it follows "must be"."""
        ...

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        """The typed value, or `INVALID` after adding a problem."""
        ...

    def schema(self) -> Schema: ...


def refuse(kind: Kind, value: Any, path: str, problems: Problems) -> _Invalid:
    problems.add(path, f"must be {kind.phrase}, got {shown(value)}")
    return INVALID


def text_fault(text: str) -> str | None:
    """Why the text cannot be stored, or None."""
    if "\0" in text:
        return "must not contain a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "must not contain half of a surrogate pair"
    return None


@frozen(slots=True)
class Text:
    """A string of `low` to `high` code points, matching `pattern` as a whole. `format` only describes."""

    high: int | None = None
    low: int = 0
    pattern: str | None = None
    meaning: str | None = None
    format: str | None = None

    @property
    def phrase(self) -> str:
        if self.meaning:
            return self.meaning
        if self.high is None:
            return "a string" if not self.low else f"a string of at least {self.low} characters"
        return f"a string of {self.low} to {self.high} characters" if self.low else f"a string ≤ {self.high} characters"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, str):
            return refuse(self, value, path, problems)
        if fault := text_fault(value):
            problems.add(path, fault)
            return INVALID
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            return refuse(self, value, path, problems)
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return refuse(self, value, path, problems)
        return value

    def schema(self) -> Schema:
        schema: Schema = {"type": "string"}
        if self.low:
            schema["minLength"] = self.low
        if self.high is not None:
            schema["maxLength"] = self.high
        if self.pattern is not None:
            schema["pattern"] = f"^(?:{self.pattern})$"
        if self.format is not None:
            schema["format"] = self.format
        return schema


@frozen(slots=True)
class Integer:
    """A whole number. `5.0` is one, as in JSON Schema; `true` is not."""

    low: int | None = 0
    high: int | None = INTEGER_MAX

    @property
    def phrase(self) -> str:
        low, high = self.low, self.high
        if high is None or high == INTEGER_MAX:
            return "an integer" if low is None else f"an integer ≥ {low}"
        if low == -INT32_MAX - 1 and high == INT32_MAX:
            return "an integer of 32 bits"
        return f"an integer from {low} to {high}"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return refuse(self, value, path, problems)
        if abs(value) > INTEGER_MAX:
            problems.add(path, f"must be an integer within ±{INTEGER_MAX}")
            return INVALID
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            return refuse(self, value, path, problems)
        return value

    def schema(self) -> Schema:
        schema: Schema = {"type": "integer"}
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        return schema


INT32: Final = Integer(-INT32_MAX - 1, INT32_MAX)


@frozen(slots=True)
class Number:
    """A finite number; with `above`, greater than that; with `low` and `high`, between them."""

    above: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def phrase(self) -> str:
        if self.low is not None and self.high is not None:
            return f"a number from {self.low:g} to {self.high:g}"
        return "a number" if self.above is None else f"a number > {self.above:g}"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            return refuse(self, value, path, problems)
        if self.above is not None and value <= self.above:
            return refuse(self, value, path, problems)
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            return refuse(self, value, path, problems)
        return value

    def schema(self) -> Schema:
        bounds = {"exclusiveMinimum": self.above, "minimum": self.low, "maximum": self.high}
        return {"type": "number", **{name: bound for name, bound in bounds.items() if bound is not None}}


@frozen(slots=True)
class Boolean:
    phrase: str = "true or false"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return value if isinstance(value, bool) else refuse(self, value, path, problems)

    def schema(self) -> Schema:
        return {"type": "boolean"}


_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def parse_time(text: str) -> datetime | None:
    """The instant an RFC 3339 time stamp names, in UTC, or None. Digits beyond microseconds are cut."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    micro = int((match[7] or "0")[:6].ljust(6, "0"))
    leap = second == 60
    zone = UTC
    try:
        if match[9]:
            hours, minutes = int(match[10]), int(match[11])
            if hours > 23 or minutes > 59:
                return None
            offset = timedelta(hours=hours, minutes=minutes)
            zone = timezone(-offset if match[9] == "-" else offset)
        at = datetime(year, month, day, hour, minute, 59 if leap else second, micro, zone)
        return (at + timedelta(seconds=leap)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@frozen(slots=True)
class Time:
    phrase: str = "an RFC 3339 time with offset, such as 2026-01-31T08:00:00Z"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        at = parse_time(value) if isinstance(value, str) else None
        return refuse(self, value, path, problems) if at is None else at

    def schema(self) -> Schema:
        return {"type": "string", "format": "date-time"}


@frozen(slots=True)
class AsOf:
    """A moment of the log: a position, or a time."""

    phrase: str = "a position (up to 18 digits), or an RFC 3339 time with offset"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
        at = parse_time(value) if isinstance(value, str) else None
        return refuse(self, value, path, problems) if at is None else at

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^[0-9]{1,18}$"}]}


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_RESERVED_UUIDS = frozenset({str(UUID(int=0)), str(UUID(int=2**128 - 1))})


def parse_uuid(text: str) -> str | None:
    """The UUID in lower case, or None."""
    return text.lower() if _UUID.fullmatch(text) else None


@frozen(slots=True)
class Uuid:
    """A UUID as text. `chosen`: a client's own new id, which may be neither nil nor max."""

    chosen: bool = False

    @property
    def phrase(self) -> str:
        return "a UUID other than nil and max" if self.chosen else "a UUID"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        text = parse_uuid(value) if isinstance(value, str) else None
        if text is None or (self.chosen and text in _RESERVED_UUIDS):
            return refuse(self, value, path, problems)
        return text

    def schema(self) -> Schema:
        return {"type": "string", "format": "uuid"}


NAME_ID_PATTERN = r"(?!\.\.?$)[A-Za-z0-9._-]{1,64}"
_NAME_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def is_name_id(text: str) -> bool:
    """Whether it can be the id of an agent or server."""
    return _NAME_ID.fullmatch(text) is not None and text not in (".", "..")


@frozen(slots=True)
class NameId:
    """An agent's or server's id. `empty`: the empty string is accepted too."""

    empty: bool = False

    @property
    def phrase(self) -> str:
        return 'an id of 1-64 characters of A-Z a-z 0-9 . _ -, not "." or ".."' + (', or ""' if self.empty else "")

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, str) and (is_name_id(value) or (self.empty and value == "")):
            return value
        return refuse(self, value, path, problems)

    def schema(self) -> Schema:
        pattern = NAME_ID_PATTERN
        return {"type": "string", "pattern": f"^(?:{pattern})?$" if self.empty else f"^{pattern}$"}


@runtime_checkable
class Restrictable(Protocol):
    """A kind that can describe only some of its values."""

    def schema_of(self, values: Sequence[Any]) -> Schema: ...


@frozen(slots=True)
class Supported:
    """A kind of which only some values are built yet: the others are named, and refused."""

    kind: Kind
    values: Sequence[Any]
    names: Callable[[Any], str] = shown

    @property
    def phrase(self) -> str:
        return self.kind.phrase

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        parsed = self.kind.parse(value, path, problems)
        if parsed is INVALID or parsed in self.values:
            return parsed
        problems.add(path, f"{shown(value)} is {NOT_SUPPORTED}; supported: {', '.join(map(self.names, self.values))}")
        return INVALID

    def schema(self) -> Schema:
        if isinstance(self.kind, Restrictable):
            return self.kind.schema_of(self.values)
        return {**self.kind.schema(), "enum": list(self.values)}


@frozen(slots=True)
class Mapped:
    """A kind whose values stand for others, as `enabled` stands for a status."""

    kind: Kind
    meaning: Callable[[Any], Any]

    @property
    def phrase(self) -> str:
        return self.kind.phrase

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        parsed = self.kind.parse(value, path, problems)
        return INVALID if parsed is INVALID else self.meaning(parsed)

    def schema(self) -> Schema:
        return self.kind.schema()


@frozen(slots=True)
class Refined:
    """A kind with rules between its parts: `refine` gives the value that is meant, or `INVALID` after adding a problem."""

    kind: Kind
    refine: Callable[[Any, str, Problems], Any]

    @property
    def phrase(self) -> str:
        return self.kind.phrase

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        parsed = self.kind.parse(value, path, problems)
        return INVALID if parsed is INVALID else self.refine(parsed, path, problems)

    def schema(self) -> Schema:
        return self.kind.schema()


@frozen(slots=True)
class Described:
    """A kind that a handler checks further, described as that check has it."""

    kind: Kind
    further: Schema

    @property
    def phrase(self) -> str:
        return self.kind.phrase

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return self.kind.parse(value, path, problems)

    def schema(self) -> Schema:
        return {**self.kind.schema(), **self.further}


@frozen(slots=True)
class NotBuilt:
    """A member whose name is reserved: any value is refused until it is built."""

    phrase: str = "absent"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        problems.add(path, NOT_SUPPORTED)
        return INVALID

    def schema(self) -> Schema:
        return {"type": "null", "description": f"Reserved: {NOT_SUPPORTED}."}


@frozen(slots=True)
class ScalarOrObject:
    """A value in one of two forms, told apart by whether it is an object."""

    scalar: Kind
    whole: Kind

    @property
    def phrase(self) -> str:
        return f"{self.scalar.phrase}, or {self.whole.phrase}"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return (self.whole if isinstance(value, dict) else self.scalar).parse(value, path, problems)

    def schema(self) -> Schema:
        return {"anyOf": [self.scalar.schema(), self.whole.schema()]}


@frozen(slots=True)
class Array:
    """A list of `low` to `high` elements of one kind."""

    of: Kind
    high: int = 10_000
    low: int = 0

    @property
    def phrase(self) -> str:
        return "an array"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, list):
            return refuse(self, value, path, problems)
        if not self.low <= len(value) <= self.high:
            problems.add(path, f"must have {self.low} to {self.high} elements, has {len(value)}")
            return INVALID
        parsed = [self.of.parse(element, f"{path}[{index}]", problems) for index, element in enumerate(value)]
        return INVALID if any(element is INVALID for element in parsed) else parsed

    def schema(self) -> Schema:
        least = {"minItems": self.low} if self.low else {}
        return {"type": "array", "items": self.of.schema(), **least, "maxItems": self.high}
