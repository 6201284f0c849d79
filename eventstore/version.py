"""Pure checks of an append: is it well formed, and does every claim hold?

Everything that PostgreSQL would refuse is refused here, before the append is queued: a bad row would fail the whole
batch it travels in, and the innocent with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from eventstore.errors import InvalidEvent
from eventstore.event import EVENT_BYTES_MAX, STREAM_ID_LENGTH_MAX, Claim, NewEvent

APPEND_EVENTS_MAX = 10_000
"""Most events of one append: it is one transaction that holds the append lock, so that it delays every other writer."""

APPEND_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of `data` + `metadata` of one append."""

TYPE_LENGTH_MAX = 100
"""Longest event type, in characters."""

_VERSION_MAX = 2**31 - 1
_SCHEMA_MAX = 2**15 - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[^u])")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def check_append(claims: Sequence[Claim]) -> int:
    """Return the size of the append in bytes of UTF-8.

    Raises:
      InvalidEvent: PostgreSQL could not hold it; the message names the stream and what is wrong.
    """
    if not claims:
        raise InvalidEvent("an append without claims says nothing")
    if len({claim.stream_id for claim in claims}) != len(claims):
        raise InvalidEvent("an append names each stream once")
    size = count = 0
    for claim in claims:
        _check_stream(claim)
        count += len(claim.events)
        for event in claim.events:
            size += check_event(event)
    if count > APPEND_EVENTS_MAX or size > APPEND_BYTES_MAX:
        raise InvalidEvent(
            f"an append holds at most {APPEND_EVENTS_MAX} events and {APPEND_BYTES_MAX} bytes, not {count} and {size}"
        )
    return size


def check_event(event: NewEvent) -> int:
    """Return the bytes of `data` + `metadata`; raise `InvalidEvent` when the event cannot be stored as jsonb."""
    if event.checked_bytes:
        return event.checked_bytes
    kind = event.type
    if not kind or len(kind) > TYPE_LENGTH_MAX or not kind.isprintable():
        raise InvalidEvent(f"event type {kind!r} must be 1 to {TYPE_LENGTH_MAX} printable characters")
    if not 1 <= event.schema <= _SCHEMA_MAX:
        raise InvalidEvent(f"schema {event.schema} of event {kind} must be 1 to {_SCHEMA_MAX}")
    size = _check_json(kind, event.data) + _check_json(kind, event.metadata)
    if size > EVENT_BYTES_MAX:
        raise InvalidEvent(f"event {kind} has {size} bytes, allowed are {EVENT_BYTES_MAX}")
    return size


def first_loser(claims: Sequence[Claim], version_of: Callable[[str], int]) -> tuple[Claim, int] | None:
    """Return the first claim that does not hold and the version its stream really has; None when all hold."""
    for claim in claims:
        actual = version_of(claim.stream_id)
        if actual != claim.expected_version:
            return claim, actual
    return None


def _check_stream(claim: Claim) -> None:
    name = claim.stream_id
    if not name or len(name) > STREAM_ID_LENGTH_MAX or _CONTROL.search(name):
        raise InvalidEvent(f"stream id {name!r} must be 1 to {STREAM_ID_LENGTH_MAX} characters, none of them control")
    _utf8_length(f"stream id {name!r}", name)
    if not 0 <= claim.expected_version <= _VERSION_MAX - APPEND_EVENTS_MAX:
        raise InvalidEvent(f"expected version {claim.expected_version} of stream {name!r} is out of range")


def _check_json(kind: str, text: str) -> int:
    try:
        raw = text.encode()
        _decode(raw)  # whole, as readers will: also surrogates, and numbers that no double can hold
    except UnicodeEncodeError:
        raise InvalidEvent(f"event {kind} holds a lone surrogate") from None
    except msgspec.MsgspecError as exc:
        raise InvalidEvent(f"event {kind} is not a JSON object that can be read back: {exc}") from None
    if "\\u0000" in text:
        check_escapes(kind, text)
    return len(raw)


def check_escapes(kind: str, text: str) -> None:
    """Refuse NUL, which JSON allows and jsonb does not; an escaped backslash before "u0000" is no NUL."""
    if any(match[1] == "0000" for match in _ESCAPE.finditer(text)):
        raise InvalidEvent(f"event {kind} holds a NUL character")


def _utf8_length(what: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"{what} holds a lone surrogate") from None
