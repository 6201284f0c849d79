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
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, DisconnectionTimeout

from agent.wire import RECEIVE_BYTES, NotOurs, Wire
from hetuflow.ports.network import ConnectionLost, DialError
from hetuflow.protocol.codec import FRAME_BYTES_MAX

CLOSE_SECONDS_MAX: Final = 1.0
"""For the other side's goodbye. A connection that is left because it went silent is closed too, and its lease runs
meanwhile: with 5 s an agent with the shortest lease was lost before it dialled again."""
QUEUED_MESSAGES_MAX: Final = 16
"""Beyond it trio-websocket stops reading, and answers no ping: our own queue must be the one that fills first."""


class WebSocketStream:
    """See `MessageStream`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, wire: Wire, peer: str) -> None:
        self._connection, self._wire, self._peer = connection, wire, peer

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def query(self) -> str:
        return ""

    async def send(self, frame: bytes) -> None:
        closed = self._connection.closed
        if closed is not None:
            raise _lost(closed)
        try:
            await self._wire.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionLost(None, repr(exc)) from exc

    async def receive(self) -> bytes:
        try:
            return await self._wire.receive()
        except NotOurs:
            pass
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as exc:
            raise _lost(exc.reason) from None
        return message if isinstance(message, bytes) else message.encode()

    def take(self) -> list[bytes]:
        """Messages that came together with the one that was received last; they are not received any more."""
        return self._wire.take()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self._wire.give_up()
        gone = contextlib.suppress(ConnectionClosed, DisconnectionTimeout, trio.BrokenResourceError, OSError)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS_MAX), gone:
            await self._connection.aclose(code, reason.encode()[:120].decode(errors="ignore"))
        await trio.aclose_forcefully(self._wire)  # the library leaves that to a server which has closed first


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


async def _greeted(url: str, stream: Any, reader: Reader) -> WebSocketStream:
    """The connection after its handshake; waits for ever when that ends the reader."""
    parts = urlsplit(url)
    wire = Wire(stream)
    connection = await trio_websocket.wrap_client_stream(
        cast(trio.Nursery, reader),
        cast(trio.SocketStream, wire),
        parts.netloc.rpartition("@")[2],
        f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
        message_queue_size=QUEUED_MESSAGES_MAX,
        max_message_size=FRAME_BYTES_MAX,
        receive_buffer_size=RECEIVE_BYTES,
    )
    return WebSocketStream(connection, wire, _peer_of(stream))


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


def _peer_of(stream: Any) -> str:
    """Of a plain socket, or of one with TLS."""
    socket = stream.socket if isinstance(stream, trio.SocketStream) else stream.transport_stream.socket
    address, port, *_ = socket.getpeername()
    return f"{address}:{port}"


def _lost(reason: CloseReason | None) -> ConnectionLost:
    if reason is None:
        return ConnectionLost()
    return ConnectionLost(int(reason.code), reason.reason or reason.name)


def _reason(exc: BaseException) -> str:
    """The innermost sentence: connecting tries several addresses and wraps what each said."""
    cause = exc.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(str(part) for part in cause.exceptions))
    if isinstance(cause, OSError):
        return str(cause)
    return str(exc) or repr(exc)
