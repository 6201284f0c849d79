"""HTTP connections: how many, and how long each may hold its place without asking anything.

Hypercorn accepts for ever. Here connections are bounded: when all places are taken, the one that has been idle longest makes
room for a new one; when none is idle, the new one is closed. A connection whose first request does not come is closed
early, one that has been served may stay idle for as long as proxies expect.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 2000
FIRST_REQUEST_SECONDS_MAX = 20.0
"""From the connection to the whole head of its first request."""

REFUSAL_SECONDS_MAX = 1.0
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def room_for_connections() -> int:
    """At most `CONNECTIONS_MAX`, and at most half of the descriptors that this process may open: the database, agents
    and state files need theirs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else max(16, min(CONNECTIONS_MAX, soft // 2))


@define(slots=True, eq=False)
class Connections:
    """The connections of one listener. `most`: open at once; `first_seconds`: for the head of the first request."""

    most: int = field(factory=room_for_connections)
    first_seconds: float = FIRST_REQUEST_SECONDS_MAX
    refused: int = 0
    evicted: int = 0
    _open: set[_Connection] = field(factory=set, init=False)
    _idle: dict[_Connection, trio.CancelScope] = field(factory=dict, init=False)
    """Longest idle first."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def serve(
        self,
        app: AppWrapper,
        config: Config,
        listener: trio.SocketListener,
        until: Callable[[], Any],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until `until` returns; then finish what is under way, at most `config.graceful_timeout`."""
        context = WorkerContext(None)
        async with trio.open_nursery() as handlers:

            async def handle(stream: trio.SocketStream) -> None:
                await self._handle(_Connection(self, app, config, context, stream))

            async with trio.open_nursery() as accepting:
                accepting.start_soon(_accept, handle, listener, handlers)
                task_status.started()
                await until()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            handlers.cancel_scope.deadline = trio.current_time() + config.graceful_timeout

    async def _handle(self, connection: _Connection) -> None:
        if len(self._open) >= self.most and not await self._make_room():
            self.refused += 1
            with trio.move_on_after(REFUSAL_SECONDS_MAX):
                async with connection.socket_stream as stream:
                    await stream.send_all(REFUSAL)
            return
        self._open.add(connection)
        try:
            await connection
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # gone while it was being answered
        finally:
            self._open.discard(connection)
            self._idle.pop(connection, None)

    async def _make_room(self) -> bool:
        """End the connection that has been idle longest."""
        if not self._idle:
            return False
        connection = next(iter(self._idle))
        self._idle.pop(connection).cancel()
        self._open.discard(connection)
        self.evicted += 1
        await trio.lowlevel.checkpoint()
        return True

    def became_idle(self, connection: _Connection, scope: trio.CancelScope) -> None:
        self._idle[connection] = scope

    def became_busy(self, connection: _Connection, scope: trio.CancelScope) -> None:
        if self._idle.get(connection) is scope:
            del self._idle[connection]


async def _accept(handle: Callable[[trio.SocketStream], Any], listener: trio.SocketListener, handlers: Any) -> None:
    await trio.serve_listeners(handle, [listener], handler_nursery=handlers)


class _Connection(TCPServer):
    """Hypercorn's connection, that says when it is idle. Its wait for a next request can be ended."""

    def __init__(
        self,
        connections: Connections,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self.socket_stream = stream
        self._connections = connections
        self._seconds = connections.first_seconds

    async def _read_data(self) -> None:
        if isinstance(inner := self.protocol.protocol, H11Protocol):
            inner._check_protocol = _stay_with_http_1  # type: ignore[method-assign, assignment]
        await super()._read_data()
        await self.idle_task.stop()  # nobody is left whose next request could be waited for

    async def _idle_timeout(self) -> None:
        with trio.move_on_after(self._seconds) as scope:
            self._seconds = self.config.keep_alive_timeout
            self._connections.became_idle(self, scope)
            try:
                await self.context.terminated.wait()
            finally:
                self._connections.became_busy(self, scope)
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


async def _stay_with_http_1(request: object) -> None:
    """In place of hypercorn's change to HTTP/2 on request: that has no deadlines, and nothing here needs it."""
