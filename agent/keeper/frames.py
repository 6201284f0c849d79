"""Bytes on the keeper's socket: u32 length (big-endian), then one message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.keeper.messages import KEEPER_MESSAGES, KeeperMessage
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError

FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
"""A launch carries arguments and environment, of which Linux takes 2 MiB, and its standard input."""


def framed(message: KeeperMessage) -> bytes:
    """Raises `LocalProtocolError` for what cannot be encoded, or that nobody would read."""
    body = KEEPER_MESSAGES.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise LocalProtocolError(
            CloseCode.FRAME_TOO_LARGE,
            f"{type(message).__name__} takes {len(body)} bytes; at most {FRAME_BYTES_MAX} are allowed",
        )
    return len(body).to_bytes(4, "big") + body


class Unframer:
    """Bytes in, messages out. Messages of a kind that is not known are skipped."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def messages(self) -> Iterator[KeeperMessage]:
        """Those that are whole. Raises `RemoteProtocolError`: the connection is of no use any more."""
        at = 0
        try:
            while len(self._bytes) >= at + 4:
                length = int.from_bytes(self._bytes[at : at + 4], "big")
                if length > FRAME_BYTES_MAX:
                    raise RemoteProtocolError(
                        CloseCode.FRAME_TOO_LARGE, f"a frame of {length} bytes; at most {FRAME_BYTES_MAX} are allowed"
                    )
                if len(self._bytes) < at + 4 + length:
                    return
                body = bytes(self._bytes[at + 4 : at + 4 + length])
                at += 4 + length
                message = KEEPER_MESSAGES.decode(body)
                if message is not None:
                    yield message
        finally:
            del self._bytes[:at]
