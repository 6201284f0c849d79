"""A closed vocabulary of attrs classes on the wire or on disk: `[number, body]` in msgpack, and back.

msgspec reads and writes attrs classes directly (measured: 0.3 us to encode, 0.45 us to decode a six-field message; cattrs
with msgpack 1.4 and 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError

T = TypeVar("T")

BROKEN: Final = (
    msgspec.DecodeError,
    msgspec.ValidationError,
    UnicodeDecodeError,
    RecursionError,
    ValueError,
    OverflowError,
)
"""What msgspec raises for bytes that are not what they should be."""

_ENVELOPE = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_ENCODE = msgspec.msgpack.Encoder().encode


class Tagged(Generic[T]):
    """A closed vocabulary of attrs classes, each with a number: `[tag, body]` and back."""

    def __init__(self, tags: Mapping[int, type[T]]) -> None:
        self._tag_of: dict[type, int] = {cls: tag for tag, cls in tags.items()}
        self._decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
            tag: msgspec.msgpack.Decoder(cls) for tag, cls in tags.items()
        }
        self._names = {tag: cls.__name__ for tag, cls in tags.items()}

    def encode(self, value: T) -> bytes:
        """Raises `LocalProtocolError` for a value that the wire cannot carry."""
        try:
            return _ENCODE((self._tag_of[type(value)], value))
        except (KeyError, TypeError, OverflowError, UnicodeEncodeError, RecursionError) as exc:
            raise LocalProtocolError(CloseCode.MALFORMED, f"{type(value).__name__} cannot be encoded: {exc!r}") from exc

    def decode(self, data: bytes) -> T | None:
        """One value; None for a tag that is not in the vocabulary. Raises `RemoteProtocolError`."""
        try:
            tag, body = _ENVELOPE.decode(data)
        except BROKEN as exc:
            raise RemoteProtocolError(CloseCode.MALFORMED, f"not a [tag, body] pair: {exc}") from exc
        return self.decode_body(tag, body)

    def decode_body(self, tag: int, body: msgspec.Raw) -> T | None:
        decoder = self._decoders.get(tag)
        if decoder is None:
            return None
        try:
            return cast(T, decoder.decode(body))
        except BROKEN as exc:
            raise RemoteProtocolError(CloseCode.MALFORMED, f"{self._names[tag]}: {exc}") from exc
