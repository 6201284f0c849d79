"""Cursors of pages: the sort keys of the last row shown, and a fingerprint of the query that they belong to.

base64url of `{"q": fingerprint, "k": [keys]}`: opaque to clients, but not secret and not signed. A forged one can only
name another place in the same list; every key is checked for its type before it is bound.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from projections.query_fields import Field, FieldType


class CursorError(ValueError):
    """The cursor is malformed, or of another filter or order."""


def fingerprint(*parts: Any) -> str:
    """Of what a cursor must not outlive; times and ids are taken as text."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def encode(query: str, values: Sequence[Any]) -> str:
    """The cursor after a row with these key values; `query` is the query's fingerprint."""
    keys = [_written(value) for value in values]
    text = json.dumps({"q": query, "k": keys}, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, query: str, fields: Sequence[Field]) -> Sequence[Any]:
    """The key values of a cursor of the query with this fingerprint, whose keys are these fields.

    Raises:
      CursorError.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise CursorError("is not a cursor") from None
    if not isinstance(document, dict) or document.keys() != {"q", "k"} or not isinstance(document["k"], list):
        raise CursorError("is not a cursor")
    if document["q"] != query:
        raise CursorError("is a cursor of another filter or order")
    if len(document["k"]) != len(fields):
        raise CursorError("is not a cursor")
    return [_read(value, known) for value, known in zip(document["k"], fields, strict=True)]


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, UUID) else value


def _read(value: Any, known: Field) -> Any:
    if value is None:
        if not known.nullable:
            raise CursorError("is not a cursor")
        return None
    try:
        return _READERS[known.type](value)
    except (ValueError, TypeError, OverflowError, AttributeError):
        raise CursorError("is not a cursor") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    value.encode()  # half of a surrogate pair is a ValueError
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _time(value: Any) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError
    return at.astimezone(UTC)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _uuid(value: Any) -> str:
    return str(UUID(value))


_READERS: Final[Mapping[FieldType, Callable[[Any], Any]]] = {
    FieldType.STRING: _text,
    FieldType.INTEGER: _integer,
    FieldType.TIME: _time,
    FieldType.UUID: _uuid,
    FieldType.BOOLEAN: _boolean,
}
