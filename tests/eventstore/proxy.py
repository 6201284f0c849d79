"""A TCP proxy that can lose answers: what the client sent arrives, what the server answers does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import trio


class Proxy:
    """`lose_next_answer_to(text)`: the next answer after the client sent `text` is swallowed and the connection cut.

    The server answers a statement after it committed it, so what was lost is exactly the answer.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._parts = parts
        self._armed: bytes | None = None
        self._connections: list[trio.CancelScope] = []
        self._refusing = False
        self._silent: set[trio.CancelScope] = set()
        self.port = 0
        self.lost = 0

    @property
    def url(self) -> str:
        return urlunsplit(self._parts._replace(netloc=f"postgres@127.0.0.1:{self.port}"))

    def lose_next_answer_to(self, text: bytes) -> None:
        self._armed = text

    def cut(self) -> None:
        """End every connection."""
        for scope in self._connections:
            scope.cancel()

    def go_silent(self) -> None:
        """From now on nothing comes back on the present connections; new ones are served."""
        self._silent.update(self._connections)

    def refuse(self, refusing: bool) -> None:
        """Accept and close at once, as a proxy does whose database is away."""
        self._refusing = refusing

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._relay, listeners)

    async def _relay(self, client: trio.SocketStream) -> None:
        if self._refusing:
            return
        with trio.CancelScope() as scope:
            self._connections.append(scope)
            try:
                async with await trio.open_tcp_stream(*self._target) as server, trio.open_nursery() as nursery:
                    doomed = trio.Event()
                    nursery.start_soon(self._upstream, client, server, scope, doomed)
                    await self._downstream(server, client, scope, doomed)
            except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass
            finally:
                self._connections.remove(scope)

    async def _upstream(
        self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope, doomed: trio.Event
    ) -> None:
        async for data in client:
            if self._armed is not None and self._armed in data:
                self._armed = None
                doomed.set()
            await server.send_all(data)
        scope.cancel()

    async def _downstream(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope, doomed: trio.Event
    ) -> None:
        async for data in server:
            if scope in self._silent:
                continue
            if doomed.is_set():
                self.lost += 1
                break
            await client.send_all(data)
        scope.cancel()


@asynccontextmanager
async def open_proxy(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
