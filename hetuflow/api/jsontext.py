"""JSON as the contract wants it: read strictly, with the place of a mistake, and written the one way clients see.

Refused with line and column: malformed text, comments, duplicate member names, NaN and Infinity, invalid UTF-8, nesting
deeper than `NESTING_MAX`. What is well-formed but cannot be kept (NUL, an integer beyond 2**53-1) is the parsers' affair.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any

import msgspec

NESTING_MAX = 64
INTEGER_MAX = 2**53 - 1
"""Largest integer that every client can hold: beyond it, JavaScript and many others round silently."""

_DIGITS_MAX = 40
"""An integer of more digits is out of every range; converting it would cost quadratic time (and Python refuses 4301)."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)


class MalformedJson(ValueError):
    """The text is not JSON. `line` and `column` count from 1, in characters."""

    def __init__(self, message: str, line: int, column: int) -> None:
        self.message, self.line, self.column = message, line, column
        super().__init__(f"{message} (line {line}, column {column})")


class _Duplicate(Exception):
    pass


class _Constant(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Duplicate
    return members


def _constant(text: str) -> Any:
    raise _Constant(text)


def _integer(text: str) -> int:
    return int(text) if len(text) <= _DIGITS_MAX else (-(10**_DIGITS_MAX) if text[0] == "-" else 10**_DIGITS_MAX)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
_encoder = msgspec.json.Encoder()


def read_json(body: bytes) -> Any:
    """The value of the text.

    Raises:
      MalformedJson: it has none; says where.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(body[: error.start].decode("utf-8"), error.start)
        raise MalformedJson("the body is not valid UTF-8", line, column) from None
    if text.count("{") + text.count("[") > NESTING_MAX:
        _refuse_deep(text)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"malformed JSON: {error.msg}", error.lineno, error.colno) from None
    except (_Duplicate, _Constant):
        raise _located(text) from None


def write_json(value: Any) -> bytes:
    """Compact JSON; aware UTC datetimes as RFC 3339 with `Z`, six fraction digits, none when the fraction is zero."""
    return _encoder.encode(value)


def json_digest(value: Any) -> str:
    """A hash that is equal for equal JSON values, however they were spaced and ordered."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shown(value: Any, length: int = 60) -> str:
    """The value as JSON, cut to `length` characters, for messages."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    text = text.replace("\0", "\\u0000").encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def _place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _refuse_deep(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        character = token.group()[0]
        if character in "{[":
            depth += 1
            if depth > NESTING_MAX:
                raise MalformedJson(f"nested deeper than {NESTING_MAX}", *_place(text, token.start()))
        elif character in "}]":
            depth -= 1


def _located(text: str) -> MalformedJson:
    """Where the duplicate name or the constant is; only called for a text known to have one."""
    names: list[set[str] | None] = []
    previous = ""
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word == "{":
            names.append(set())
        elif word == "[":
            names.append(None)
        elif word in ("}", "]"):
            names.pop()
        elif word[0] == '"':
            inside = names[-1] if names else None
            if inside is not None and previous in ("{", ","):
                name = json.loads(word, strict=False)
                if name in inside:
                    return MalformedJson(f"duplicate member name {shown(name)}", *_place(text, token.start()))
                inside.add(name)
        elif word in ("NaN", "Infinity", "-Infinity"):
            return MalformedJson(f"{word} is not JSON", *_place(text, token.start()))
        previous = word
    return MalformedJson("malformed JSON", 1, 1)
