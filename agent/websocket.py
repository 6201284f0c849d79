"""The network port over WebSocket, dialling side. Everything that trio-websocket leaves open is set here.

Its limits are explicit (frames as the protocol bounds them), closing is bounded, and its many errors become our two.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import trio
import trio_websocket
from trio_websocket import ConnectionClosed, ConnectionRejected, DisconnectionTimeout, HandshakeError

from hetuflow.ports.network import ConnectionLost, DialError
from hetuflow.protocol.codec import FRAME_BYTES_MAX

CLOSE_SECONDS_MAX: Final = 5.0
RECEIVE_BYTES: Final = 64 * 1024
QUEUED_MESSAGES_MAX: Final = 16
"""Beyond it trio-websocket stops reading, and answers no ping: our own queue must be the one that fills first."""


class WebSocketStream:
    """See `MessageStream`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, query: str = "") -> None:
        self._connection = connection
        self._query = query

    @property
    def peer(self) -> str:
        remote = self._connection.remote
        return remote if isinstance(remote, str) else f"{remote.address}:{remote.port}"

    @property
    def query(self) -> str:
        return self._query

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send_message(frame)
        except ConnectionClosed as exc:
            raise _lost(exc) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionLost(None, repr(exc)) from exc

    async def receive(self) -> bytes:
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as exc:
            raise _lost(exc) from None
        return message if isinstance(message, bytes) else message.encode()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        gone = contextlib.suppress(ConnectionClosed, DisconnectionTimeout, trio.BrokenResourceError, OSError)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS_MAX), gone:
            await self._connection.aclose(code, reason.encode()[:120].decode(errors="ignore"))


class WebSocketDialer:
    """See `Dialer`. Use `open_dialer`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def dial(self, url: str) -> WebSocketStream:
        try:
            connection = await trio_websocket.connect_websocket_url(
                self._nursery,
                url,
                message_queue_size=QUEUED_MESSAGES_MAX,
                max_message_size=FRAME_BYTES_MAX,
                receive_buffer_size=RECEIVE_BYTES,
            )
        except ConnectionRejected as exc:
            body = (exc.body or b"").decode(errors="replace").strip()[:200]
            raise DialError(f"{url}: the server answered {exc.status_code} {body}".rstrip()) from exc
        except HandshakeError as exc:
            raise DialError(f"{url}: no WebSocket there ({exc!r})") from exc
        except (OSError, trio.BrokenResourceError, ConnectionClosed) as exc:
            raise DialError(f"{url}: {_reason(exc)}") from exc
        except ValueError as exc:
            raise DialError(f"{url}: not a WebSocket address ({exc})") from exc
        return WebSocketStream(connection)


@contextlib.asynccontextmanager
async def open_dialer() -> AsyncIterator[WebSocketDialer]:
    """A dialer for the length of the block; its connections end with it."""
    async with trio.open_nursery() as nursery:
        yield WebSocketDialer(nursery)
        nursery.cancel_scope.cancel()


def _lost(exc: ConnectionClosed) -> ConnectionLost:
    if exc.reason is None:
        return ConnectionLost()
    return ConnectionLost(int(exc.reason.code), exc.reason.reason or exc.reason.name)


def _reason(exc: BaseException) -> str:
    """The innermost sentence: connecting tries several addresses and wraps what each said."""
    cause = exc.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(str(part) for part in cause.exceptions))
    if isinstance(cause, OSError):
        return str(cause)
    return str(exc) or repr(exc)
