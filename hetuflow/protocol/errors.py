"""Errors of the conversation. Whose fault it is is in the type (as in h11)."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why a connection is closed: WebSocket close codes, ours in the private range. A code never changes its meaning."""

    NORMAL = 1000
    GOING_AWAY = 1001
    FRAME_TOO_LARGE = 1009
    MALFORMED = 4000
    """The frame is not a msgpack array of messages, or a message's body has a wrong shape."""
    UNEXPECTED = 4001
    """The message exists but may not be said now."""
    INCOMPATIBLE = 4002
    """The protocol versions have nothing in common."""
    SUPERSEDED = 4003
    """Another connection of the same agent took over."""
    REFUSED = 4004
    """The server does not want this agent (removed, not allowed)."""
    SILENT = 4005
    """Nothing was heard within the lease, or a send did not finish in time."""
    OVERLOADED = 4006
    """Too many connections, or the peer's queue is full."""


class ProtocolError(Exception):
    """Base: the conversation is broken. `code` and `reason` go into the close frame (reason: at most 123 bytes)."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code.name.lower()}: {reason}")

    @property
    def close_reason(self) -> str:
        """The reason, cut to what a WebSocket close frame can carry."""
        return self.reason.encode()[:120].decode(errors="ignore")


class LocalProtocolError(ProtocolError):
    """We tried to say something that may not be said, or is too large to be said: a bug, or a value to refuse."""


class RemoteProtocolError(ProtocolError):
    """The peer said something malformed or out of turn: close with `code` and `reason`."""
