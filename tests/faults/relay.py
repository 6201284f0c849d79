"""A TCP relay that can swallow, hold back and move connections, in the harness's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import trio
from attrs import define, field

CHUNK = 65536
FIRST_BYTES = 2048
"""By which a connection is known: PostgreSQL's clients ask for TLS first, and say who they are then."""
HELD_CHUNKS_MAX = 1024
"""On their way at once in one direction of a connection; beyond it the sender is not read."""


@define
class Relay:
    """Attributes:
    target: host and port of new connections; the old ones stay where they are until `cut`.
    delay_seconds: what each byte takes in each direction, order kept.
    """

    target: tuple[str, int]
    delay_seconds: float = 0.0
    port: int = 0
    swallowed: int = 0
    _links: list[_Link] = field(factory=list)

    def rewritten(self, url: str) -> str:
        """The URL with our address in the place of the target's."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """End every connection."""
        for link in self._links:
            link.scope.cancel()

    def swallow(self, is_meant: Callable[[bytes], bool] = lambda first: True) -> int:
        """From now on nothing passes the connections whose first bytes are meant, and nobody is told; how many."""
        count = 0
        for link in self._links:
            if not link.is_swallowed and is_meant(link.first):
                link.is_swallowed = True
                count += 1
        self.swallowed += count
        return count

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._relay, listeners)

    async def _relay(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            link = _Link(scope)
            self._links.append(link)
            try:
                async with client, await trio.open_tcp_stream(*self.target) as server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, link, client, server, True)
                    nursery.start_soon(self._pump, link, server, client, False)
            except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass
            finally:
                self._links.remove(link)

    async def _pump(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream, is_client: bool) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](HELD_CHUNKS_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, link, receive, sink)
            async with send:
                async for data in source:
                    if is_client and len(link.first) < FIRST_BYTES:
                        link.first += bytes(data)
                    if not link.is_swallowed:
                        await send.send((trio.current_time() + self.delay_seconds, bytes(data)))
        if link.is_swallowed:
            await trio.sleep_forever()  # not even the end of one side is told to the other
        link.scope.cancel()

    async def _deliver(
        self, link: _Link, receive: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream
    ) -> None:
        async for due, data in receive:
            if due > trio.current_time():
                await trio.sleep_until(due)
            if not link.is_swallowed:
                await sink.send_all(data)


@define(eq=False)
class _Link:
    scope: trio.CancelScope
    first: bytes = b""
    is_swallowed: bool = False


@asynccontextmanager
async def open_relay(host: str, port: int) -> AsyncIterator[Relay]:
    relay = Relay((host, port))
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.serve)
        yield relay
        nursery.cancel_scope.cancel()
