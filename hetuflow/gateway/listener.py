"""The network port over WebSocket, listening side. Everything that trio-websocket leaves open is set here.

Each connection has a nursery of its own, and nothing that happens in it reaches the accepting loop: with the library's
own server, one handler's exception ends all. Requests that are not for agents are answered in HTTP and closed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    DisconnectionTimeout,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)

from hetuflow.gateway.gateway import NAMELESS, agent_id_of
from hetuflow.ports.admission import Admission, Foreign
from hetuflow.ports.network import ConnectionLost, MessageStream
from hetuflow.ports.real import SystemIds
from hetuflow.protocol.codec import FRAME_BYTES_MAX

log = logging.getLogger(__name__)

PATH = "/api/v1/gateway/ws"
HANDSHAKE_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 2.0
RECEIVE_BYTES = 64 * 1024
"""The library's 4 KiB would wake us sixty times for one full frame."""
QUEUED_MESSAGES_MAX = 16
"""Beyond it the library stops reading, and answers no ping: our own queues must be the ones that fill first."""
BACKLOG = 1024
HEAD_BYTES_MAX = 16 * 1024

Handler = Callable[[MessageStream], Awaitable[None]]


class ListenError(Exception):
    """The port cannot be listened on; the message says what to do."""


class Wire(trio.abc.Stream):
    """The socket under a WebSocket. Its library and we both write to it: whole pieces, one after the other.

    The library's own way out takes two turns of the run loop before a byte is written; an order that starts a process
    has no time for that (0.2 to 0.9 ms beside the answer to an HTTP request, measured).
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._writing = trio.Lock()
        self._rest = b""
        self._ahead = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            rest, self._rest = self._rest, b""
            await self._stream.send_all(rest + data if rest else data)
        finally:
            self._writing.release()

    def send_nowait(self, data: bytes) -> bool:
        """Write now if nobody is writing and the socket takes it, at least in part; False: nothing was written."""
        if self._rest or self._writing.locked():
            return False
        try:
            written = os.write(self._stream.socket.fileno(), data)
        except OSError:  # full or broken: whoever waits for the socket finds out
            return False
        self._rest = data[written:]
        return True

    @property
    def has_rest(self) -> bool:
        """Whether part of what `send_nowait` took is still to be written: by the next `send_all`."""
        return bool(self._rest)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        return await self._stream.receive_some(max_bytes)

    async def look_at_head(self) -> bytes:
        """The head of the request as far as it comes, at most `HEAD_BYTES_MAX`; all of it is received again afterwards."""
        while b"\r\n\r\n" not in self._ahead and len(self._ahead) < HEAD_BYTES_MAX:
            piece = await self._stream.receive_some(RECEIVE_BYTES)
            if not piece:
                break
            self._ahead += piece
        return self._ahead.partition(b"\r\n\r\n")[0]

    async def aclose(self) -> None:
        await self._stream.aclose()


class WebSocketStream:
    """See `MessageStream`; `send_nowait` is more than that."""

    def __init__(self, connection: WebSocketConnection, wire: Wire, peer: str, query: str) -> None:
        self._connection = connection
        self._wire = wire
        self._peer = peer
        self._query = query

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def query(self) -> str:
        return self._query

    async def send(self, frame: bytes) -> None:
        self._check_open()
        try:
            await self._wire.send_all(binary_message(frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionLost(None, repr(exc)) from exc

    def send_nowait(self, frame: bytes) -> bool:
        """Send the frame at once if that is possible without waiting; False: it was not sent."""
        return self._connection.closed is None and self._wire.send_nowait(binary_message(frame))

    @property
    def has_rest(self) -> bool:
        """Whether part of what `send_nowait` took is still to be written."""
        return self._wire.has_rest

    async def flush(self) -> None:
        """Write what `send_nowait` took and the socket did not. Raises `ConnectionLost`."""
        if self._wire.has_rest:
            try:
                await self._wire.send_all(b"")
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise ConnectionLost(None, repr(exc)) from exc

    async def receive(self) -> bytes:
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as exc:
            raise _lost(exc.reason) from None
        return message if isinstance(message, bytes) else message.encode()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        gone = contextlib.suppress(ConnectionClosed, DisconnectionTimeout, trio.BrokenResourceError, OSError)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS_MAX), gone:
            await self._connection.aclose(code, reason.encode()[:120].decode(errors="ignore"))

    def _check_open(self) -> None:
        closed = self._connection.closed
        if closed is not None:
            raise _lost(closed)


def binary_message(frame: bytes) -> bytes:
    """A server's binary message in one WebSocket frame: final, not masked (RFC 6455, section 5.2)."""
    size = len(frame)
    if size < 126:
        return bytes((0x82, size)) + frame
    if size < 65536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + frame
    return b"\x82\x7f" + size.to_bytes(8, "big") + frame


class WebSocketListener:
    """Listens on one address. See `Listener`; `port` 0 = any free one; `admission` as on the HTTP port."""

    def __init__(self, host: str, port: int, admission: Admission) -> None:
        self._host, self._port = host, port
        self._admission = admission
        self._listeners: list[trio.SocketListener] = []

    async def open(self) -> int:
        """Bind and listen; return the port. Raises `ListenError`."""
        try:
            self._listeners = await trio.open_tcp_listeners(self._port, host=self._host, backlog=BACKLOG)
        except OSError as exc:
            raise ListenError(_problem(exc, self._host, self._port)) from exc
        self._port = int(self._listeners[0].socket.getsockname()[1])
        return self._port

    async def serve(self, handler: Handler, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        if not self._listeners:
            await self.open()

        async def accepted(stream: trio.SocketStream) -> None:
            await _serve_one(stream, handler, self._admission)

        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, accepted, self._listeners)
            task_status.started(self._port)


async def _serve_one(stream: trio.SocketStream, handler: Handler, admission: Admission) -> None:
    """One connection, from its first byte to its last. Raises nothing but cancellation."""
    try:
        async with trio.open_nursery() as nursery:
            await _answer(nursery, stream, handler, admission)
            nursery.cancel_scope.cancel()
    except Exception as exc:
        log.warning("a connection failed: %r", exc)
    finally:
        await trio.aclose_forcefully(stream)


async def _answer(nursery: trio.Nursery, stream: trio.SocketStream, handler: Handler, admission: Admission) -> None:
    address, port, *_ = stream.socket.getpeername()
    wire = Wire(stream)
    with trio.move_on_after(HANDSHAKE_SECONDS_MAX) as scope:
        head = await wire.look_at_head()
        if (status := plain_status(head)) is not None:
            return await stream.send_all(plain_answer(status, head))
        request = await wrap_server_stream(
            nursery,
            wire,
            message_queue_size=QUEUED_MESSAGES_MAX,
            max_message_size=FRAME_BYTES_MAX,
            receive_buffer_size=RECEIVE_BYTES,
        )
        try:
            admission.check(request._event.host, _origin(request), "ws")  # the library tells the host nowhere else
        except Foreign as exc:
            return await _reject(request, 403, str(exc))
        target = urlsplit(request.path)
        if target.path != PATH:
            return await _reject(request, 404, f"agents connect to {PATH}")
        if agent_id_of(target.query) is None:
            return await _reject(request, 400, NAMELESS)
        connection = await request.accept()
    if scope.cancelled_caught:
        return None
    websocket = WebSocketStream(connection, wire, f"{address}:{port}", target.query)
    try:
        await handler(websocket)
    finally:
        await websocket.aclose()
    return None


def plain_status(head: bytes) -> int | None:
    """How a request that asks for no WebSocket is answered; None: it asks for one, or is none that can be read.

    Nothing but agents' connections is on this port (REST contract, "Listeners"): 404, and 426 at their address.
    """
    first, *fields = head.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return None
    for name, _, value in (line.partition(b":") for line in fields):
        if name.strip().lower() == b"upgrade" and value.strip().lower() == b"websocket":
            return None
    return 426 if parts[1].partition(b"?")[0] == PATH.encode() else 404


def plain_answer(status: int, head: bytes) -> bytes:
    """The whole answer, in the contract's shape of errors; `request_id` is the client's, or new."""
    kept = _REQUEST_ID.search(head)
    request_id = kept[1].decode() if kept else str(SystemIds().uuid7())
    phrase, code, message = _PLAIN[status]
    body = json.dumps(
        {
            "err_code": status,
            "err_msg": message,
            "message": message,
            "code": code,
            "detail": None,
            "details": None,
            "request_id": request_id,
        }
    ).encode()
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        *(("Upgrade: websocket",) if status == 426 else ()),
        "Connection: close",
    ]
    answer = "\r\n".join([*lines, "", ""]).encode()
    return answer if head.startswith(b"HEAD ") else answer + body


_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([A-Za-z0-9._-]{1,64})[ \t]*(?:\r\n|\Z)", re.IGNORECASE)

_PLAIN = {
    404: ("Not Found", "NOT_FOUND", f"nothing is here: agents connect to {PATH}, the REST API has a port of its own"),
    426: ("Upgrade Required", "UPGRADE_REQUIRED", "this address speaks WebSocket: it is for agents"),
}


def _origin(request: WebSocketRequest) -> str | None:
    """None: no browser asks. Of several values none is let in."""
    found = [value.decode("latin-1") for name, value in request.headers if name.lower() == b"origin"]
    return ", ".join(found) if found else None


async def _reject(request: WebSocketRequest, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await request.reject(status, extra_headers=headers, body=f"{why}\n".encode())


def _lost(reason: CloseReason | None) -> ConnectionLost:
    if reason is None:
        return ConnectionLost()
    return ConnectionLost(int(reason.code), reason.reason or reason.name)


def _problem(exc: OSError, host: str, port: int) -> str:
    """One line that says what to do. Binding several addresses wraps what each of them said."""
    errors = [exc, *(each for each in getattr(exc.__cause__, "exceptions", ()) if isinstance(each, OSError))]
    numbers = {each.errno for each in errors}
    if errno.EADDRINUSE in numbers:
        return f"port {port} on {host} is in use: stop the program that has it, or choose another server.websocket_port"
    if errno.EACCES in numbers:
        return f"port {port} on {host} needs root: choose a server.websocket_port above 1023"
    return f"cannot listen on {host}:{port}: {exc}"
