"""The HTTP listener: hypercorn's connections, with every setting that matters said here.

Hypercorn shields each write without a deadline: a client that stops reading could hold a graceful stop for ever. So the
stop has a deadline of its own around it.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.utils import wrap_app

from hetuflow.api.app import HetuflowApp
from hetuflow.api.connections import Connections

GRACEFUL_SECONDS = 3.0
KEEP_ALIVE_SECONDS = 75.0
"""Longer than the idle timeout of common clients and proxies (60 s), so that they close first and never write into a
connection that is being closed."""

HEAD_BYTES_MAX = 64 * 1024
"""Larger than what the application allows, so that it can answer 431 itself, as JSON."""

DRAIN_SECONDS_MAX = 30.0
"""A client that takes no byte of what is sent to it for so long is disconnected, by the kernel: hypercorn shields each
write, so nothing in this process could end it. Accepted connections inherit it; where the system has no such option
(macOS), a stalled client keeps its connection until the server stops."""

_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)

BACKLOG = 1024
WEBSOCKET_BYTES_MAX = 256 * 1024


class ListenError(Exception):
    """The port cannot be listened on; the message says what to do."""


class HttpListener:
    """Listens on one address; `port` 0 = any free one. A client that takes nothing for `drain_seconds` is cut off."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        drain_seconds: float = DRAIN_SECONDS_MAX,
        connections: Connections | None = None,
    ) -> None:
        self._host, self._port = host, port
        self.connections = Connections() if connections is None else connections
        self._drain_seconds = drain_seconds
        self._sockets: list[socket.socket] = []

    def open(self) -> int:
        """Bind and listen; return the port.

        Raises:
          ListenError.
        """
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
            )
            family, kind, protocol, _, address = found[0]
            listening = socket.socket(family, kind, protocol)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            if _USER_TIMEOUT is not None:
                listening.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(self._drain_seconds * 1000))
            try:
                listening.bind(address)
                listening.listen(BACKLOG)
            except OSError:
                listening.close()
                raise
        except OSError as exc:
            raise ListenError(_problem(exc, self._host, self._port)) from exc
        self._sockets.append(listening)
        self._port = int(listening.getsockname()[1])
        return self._port

    def close(self) -> None:
        """For a listener that was opened and never served."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def serve(self, app: HetuflowApp, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer requests until cancelled; then finish those under way, at most `GRACEFUL_SECONDS`."""
        if not self._sockets:
            self.open()
        stop = trio.Event()
        shield = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
                [listening] = self._sockets
                with shield:
                    await self.connections.serve(
                        wrap_app(app, 0, "asgi"),
                        _config(),
                        trio.SocketListener(trio.socket.from_stdlib_socket(listening)),
                        stop.wait,
                        task_status=task_status,
                    )

            try:
                await nursery.start(serve)
                task_status.started(self._port)
                await trio.sleep_forever()
            finally:
                app.api.memory.streams.close()
                stop.set()
                shield.deadline = trio.current_time() + GRACEFUL_SECONDS + 2
                shield.shield = True


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.graceful_timeout = GRACEFUL_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.max_app_queue_size = 16
    config.websocket_max_message_size = WEBSOCKET_BYTES_MAX
    config.backlog = BACKLOG
    return config


def _problem(exc: OSError, host: str, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop the program that has it, or choose another server.http_port"
    if exc.errno == errno.EACCES:
        return f"port {port} on {host} needs root: choose a server.http_port above 1023"
    return f"cannot listen on {host}:{port}: {exc}"
