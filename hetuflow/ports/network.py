"""Connections that carry whole messages (WebSocket binary frames; memory channels in simulation)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio


class ConnectionLost(Exception):
    """The connection ended or failed. `code` and `reason` as in the WebSocket close frame, where there was one."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        self.code, self.reason = code, reason
        super().__init__(f"connection lost (code {code}: {reason})" if code else f"connection lost {reason}".strip())


class DialError(Exception):
    """The peer cannot be reached, or refused the connection; the message says why."""


class MessageStream(Protocol):
    """One connection. One task may send while another receives; neither is used by two tasks at once."""

    @property
    def peer(self) -> str:
        """`ip:port` of the other side."""
        ...

    @property
    def query(self) -> str:
        """The query string of the request that opened the connection, without `?` (listening side)."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send one message. Raises `ConnectionLost`. The caller sets the deadline."""
        ...

    async def receive(self) -> bytes:
        """The next message. Raises `ConnectionLost` at the end."""
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close; bounded in time; never raises because the peer has gone."""
        ...


class Dialer(Protocol):
    async def dial(self, url: str) -> MessageStream:
        """Open a connection. Raises `DialError`. The caller sets the deadline."""
        ...


class Listener(Protocol):
    async def serve(
        self,
        handler: Callable[[MessageStream], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `handler` for each connection until cancelled; a handler's exception ends that connection only.

        `task_status.started` is called with the port once it listens.
        """
        ...
