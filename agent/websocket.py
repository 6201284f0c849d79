"""The network port over WebSocket, dialling side. Everything that trio-websocket leaves open is set here.

Its limits are explicit (frames as the protocol bounds them), closing is bounded, and its many errors become our two.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast
from urllib.parse import urlsplit

import trio
import trio_websocket
from trio_websocket import ConnectionClosed, ConnectionRejected, DisconnectionTimeout

from hetuflow.ports.network import ConnectionLost, DialError
from hetuflow.protocol.codec import FRAME_BYTES_MAX

CLOSE_SECONDS_MAX: Final = 1.0
"""For the other side's goodbye. A connection that is left because it went silent is closed too, and its lease runs
meanwhile: with 5 s an agent with the shortest lease was lost before it dialled again."""
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


class Reader:
    """Runs a connection's reading task in the nursery, and keeps what ended it.

    The library waits for the answer to its handshake also when the connection has ended: a server that died in that
    moment would cost an agent its whole deadline for dialling. And it raises what an HTTP server answers instead of a
    handshake in the reading task, where it would end the agent.
    """

    def __init__(self, nursery: trio.Nursery, ended: Callable[[], object]) -> None:
        self._nursery, self._ended = nursery, ended
        self.problem: Exception | None = None

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        async def read() -> None:
            try:
                await task(*arguments)
            except Exception as exc:
                self.problem = exc
            finally:
                self._ended()

        self._nursery.start_soon(read)


class WebSocketDialer:
    """See `Dialer`. Use `open_dialer`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def dial(self, url: str) -> WebSocketStream:
        stream = await _connected(url)
        try:
            with trio.CancelScope() as handshake:
                reader = Reader(self._nursery, handshake.cancel)
                return await _greeted(url, stream, reader)
            raise DialError(f"{url}: {_refused(reader.problem)}") from reader.problem
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise


async def _greeted(url: str, stream: trio.SocketStream, reader: Reader) -> WebSocketStream:
    """The connection after its handshake; waits for ever when that ends the reader."""
    parts = urlsplit(url)
    connection = await trio_websocket.wrap_client_stream(
        cast(trio.Nursery, reader),
        stream,
        parts.netloc.rpartition("@")[2],
        f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
        message_queue_size=QUEUED_MESSAGES_MAX,
        max_message_size=FRAME_BYTES_MAX,
        receive_buffer_size=RECEIVE_BYTES,
    )
    return WebSocketStream(connection)


def _refused(problem: Exception | None) -> str:
    if problem is None:
        return "the connection ended in its handshake"
    if isinstance(problem, ConnectionRejected):
        body = (problem.body or b"").decode(errors="replace").strip()[:200]
        return f"the server answered {problem.status_code} {body}".rstrip()
    return f"no WebSocket there ({problem!r})"


async def _connected(url: str) -> Any:
    """A TCP connection, with TLS for `wss:`. Raises `DialError`."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or parts.hostname is None:
            raise DialError(f"{url}: not a WebSocket address")
        if parts.scheme == "ws":
            return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
        return await trio.open_ssl_over_tcp_stream(
            parts.hostname, parts.port or 443, https_compatible=True, ssl_context=ssl.create_default_context()
        )
    except ValueError as exc:  # a port that is no number, a broken IPv6 address
        raise DialError(f"{url}: not a WebSocket address ({exc})") from exc
    except (OSError, trio.BrokenResourceError) as exc:
        raise DialError(f"{url}: {_reason(exc)}") from exc


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
