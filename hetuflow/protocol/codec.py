"""Frames: one msgpack array of messages, each `[tag, body]`, body a map of field names.

Decoding is in two steps: the envelope first, bodies left raw, so that an unknown tag is skipped and counted and its body
never parsed; then each body by its type (`tagged`). Sizes are checked before anything is parsed. msgspec is known here
and there only.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import TAGS, Message
from hetuflow.protocol.tagged import BROKEN, Tagged

FRAME_BYTES_MAX = 256 * 1024
"""Every WebSocket library takes this by default (trio-websocket: 1 MiB) and no frame blocks a link for long."""

_ARRAY_HEADER_BYTES = 5
MESSAGE_BYTES_MAX = FRAME_BYTES_MAX - _ARRAY_HEADER_BYTES

_ENVELOPES = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]])


MESSAGES: Tagged[Message] = Tagged(TAGS)


def encode_frames(messages: Iterable[Message]) -> list[bytes]:
    """Pack messages, in order, into as few frames as hold them.

    Raises `LocalProtocolError` when one message alone is larger than a frame; nothing is packed then.
    """
    frames: list[bytes] = []
    bodies: list[bytes] = []
    size = _ARRAY_HEADER_BYTES
    for message in messages:
        body = MESSAGES.encode(message)
        if len(body) > MESSAGE_BYTES_MAX:
            raise LocalProtocolError(
                CloseCode.FRAME_TOO_LARGE,
                f"{type(message).__name__} takes {len(body)} bytes; at most {MESSAGE_BYTES_MAX} are allowed",
            )
        if size + len(body) > FRAME_BYTES_MAX:
            frames.append(_join(bodies))
            bodies, size = [], _ARRAY_HEADER_BYTES
        bodies.append(body)
        size += len(body)
    if bodies:
        frames.append(_join(bodies))
    return frames


def decode_frame(frame: bytes) -> tuple[list[Message], int]:
    """The messages of a frame, and how many of unknown types were skipped. Raises `RemoteProtocolError`."""
    if len(frame) > FRAME_BYTES_MAX:
        raise RemoteProtocolError(
            CloseCode.FRAME_TOO_LARGE, f"a frame of {len(frame)} bytes; at most {FRAME_BYTES_MAX} are allowed"
        )
    try:
        envelopes = _ENVELOPES.decode(frame)
    except BROKEN as exc:
        raise RemoteProtocolError(CloseCode.MALFORMED, f"not an array of messages: {exc}") from exc
    messages = [MESSAGES.decode_body(tag, body) for tag, body in envelopes]
    known = [message for message in messages if message is not None]
    return known, len(messages) - len(known)


def _join(bodies: list[bytes]) -> bytes:
    count = len(bodies)
    if count < 16:
        header = bytes([0x90 | count])
    elif count < 0x10000:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return header + b"".join(bodies)
