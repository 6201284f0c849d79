"""A network in memory, in virtual time: ordered connections with latency, cut hard, or silent and healed.

A connection keeps the order of its frames and loses none while it lives, as TCP does. A *cut* ends all connections of a
host at once: what was on the way is lost, both sides hear of it, nobody can dial. A *silent* link delivers nothing and
says nothing, as when a cable is pulled: what was sent meanwhile arrives when it is healed, if both ends still stand.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import trio
from attrs import define, field

from hetuflow.ports.network import ConnectionLost, DialError, MessageStream

FRAMES_MAX = 64
"""Frames on the way in one direction; more make the sender wait, as a full socket buffer does."""


@define(slots=True, eq=False)
class Link:
    """One host's way to the world."""

    host: str
    is_cut: bool = False
    is_silent: bool = False
    healed: trio.Event = field(factory=trio.Event)
    connections: list[Connection] = field(factory=list)


class Pipe:
    """One direction of a connection."""

    def __init__(self, link: Link, latency: Callable[[], float]) -> None:
        self._link, self._latency = link, latency
        self._items: deque[tuple[float, bytes | ConnectionLost]] = deque()
        self._last_ready = 0.0
        self._changed = trio.Event()
        self.is_broken = False
        self.is_closed = False

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def break_(self) -> None:
        self.is_broken = True
        self._items.clear()
        self.wake()

    def close(self, end: ConnectionLost) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._put(end)

    async def send(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while not self.is_broken and not self.is_closed and len(self._items) >= FRAMES_MAX:
            await self._changed.wait()
        if self.is_broken or self.is_closed:
            raise ConnectionLost
        self._put(frame)

    def _put(self, item: bytes | ConnectionLost) -> None:
        self._last_ready = max(self._last_ready, trio.current_time() + self._latency())
        self._items.append((self._last_ready, item))
        self.wake()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_broken:
                raise ConnectionLost
            ready = self._items[0][0] if self._items and not self._link.is_silent else float("inf")
            if ready <= trio.current_time():
                break
            with trio.move_on_at(ready):
                await self._changed.wait()
        item = self._items[0][1]
        if isinstance(item, ConnectionLost):
            raise ConnectionLost(item.code, item.reason)
        self._items.popleft()
        self.wake()
        return item


@define(slots=True, eq=False)
class Connection:
    """Two pipes between a dialing host and a listener."""

    link: Link
    out: Pipe
    back: Pipe

    def break_(self) -> None:
        self.out.break_()
        self.back.break_()

    def wake(self) -> None:
        self.out.wake()
        self.back.wake()

    @property
    def is_over(self) -> bool:
        return self.out.is_broken or (self.out.is_closed and self.back.is_closed)


class End:
    """One side of a connection: a `MessageStream`."""

    def __init__(self, connection: Connection, peer: str, query: str, *, is_dialer: bool) -> None:
        self.peer, self.query, self._connection = peer, query, connection
        self._mine = connection.out if is_dialer else connection.back
        self._theirs = connection.back if is_dialer else connection.out

    async def send(self, frame: bytes) -> None:
        await self._mine.send(frame)

    async def receive(self) -> bytes:
        if self._mine.is_closed:
            raise ConnectionLost
        return await self._theirs.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self._mine.close(ConnectionLost(code, reason))
        self._theirs.is_closed = True
        self._theirs.wake()
        await trio.lowlevel.checkpoint()


class MemoryNetwork:
    """Hosts, listeners and what is wrong between them. `rng` draws the latencies."""

    def __init__(self, rng: random.Random, *, latency_seconds: tuple[float, float] = (0.0005, 0.02)) -> None:
        self._random, self._latency_seconds = rng, latency_seconds
        self._links: dict[str, Link] = {}
        self._handlers: dict[str, Callable[[MessageStream], Awaitable[None]]] = {}
        self._arrivals: dict[str, trio.MemorySendChannel[End]] = {}
        self._ports = 40_000
        self.handler_errors: list[BaseException] = []
        """Exceptions that a handler let out: the listener's promise is that they end one connection, ours that there are none."""

    def latency(self) -> float:
        return self._random.uniform(*self._latency_seconds)

    def link(self, host: str) -> Link:
        return self._links.setdefault(host, Link(host))

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self, host: str) -> None:
        """End all connections of the host; it cannot dial until `heal`."""
        link = self.link(host)
        link.is_cut = True
        self.drop(host)

    def drop(self, host: str) -> None:
        """End all connections of the host once; it may dial again at once."""
        link = self.link(host)
        for connection in link.connections:
            connection.break_()
        link.connections.clear()

    def silence(self, host: str) -> None:
        """Deliver nothing from and to the host, and say nothing, until `heal`."""
        self.link(host).is_silent = True

    def heal(self, host: str) -> None:
        link = self.link(host)
        link.is_cut = link.is_silent = False
        link.healed.set()
        link.healed = trio.Event()
        for connection in link.connections:
            connection.wake()

    # --- ports ------------------------------------------------------------------------------------------------------

    def dialer(self, host: str) -> MemoryDialer:
        return MemoryDialer(self, host)

    def listener(self, address: str) -> MemoryListener:
        return MemoryListener(self, address)

    async def connect(self, host: str, url: str) -> MessageStream:
        parts = urlsplit(url)
        link = self.link(host)
        await trio.sleep(self.latency())
        while link.is_silent:
            await link.healed.wait()
        arrivals = self._arrivals.get(parts.netloc)
        if link.is_cut or arrivals is None:
            raise DialError(f"cannot connect to {parts.netloc}")
        self._ports += 1
        connection = Connection(link, Pipe(link, self.latency), Pipe(link, self.latency))
        link.connections = [each for each in link.connections if not each.is_over]
        link.connections.append(connection)
        here = End(connection, parts.netloc, "", is_dialer=True)
        there = End(connection, f"{host}:{self._ports}", parts.query, is_dialer=False)
        try:
            arrivals.send_nowait(there)
        except (trio.WouldBlock, trio.BrokenResourceError) as exc:
            raise DialError(f"{parts.netloc} does not accept") from exc
        return here


class MemoryDialer:
    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network, self._host = network, host

    async def dial(self, url: str) -> MessageStream:
        return await self._network.connect(self._host, url)


class MemoryListener:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network, self._address = network, address

    async def serve(
        self,
        handler: Callable[[MessageStream], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; the connections that are left then are broken."""
        arrivals, queue = trio.open_memory_channel[End](128)
        served: list[End] = []
        self._network._arrivals[self._address] = arrivals
        try:
            async with trio.open_nursery() as nursery, queue:
                task_status.started(0)
                async for end in queue:
                    served.append(end)
                    nursery.start_soon(self._handle, handler, end)
        finally:
            if self._network._arrivals.get(self._address) is arrivals:
                del self._network._arrivals[self._address]
            for end in served:
                end._connection.break_()

    async def _handle(self, handler: Callable[[MessageStream], Awaitable[None]], end: End) -> None:
        try:
            await handler(end)
        except Exception as exc:
            self._failed(end, exc)
        except BaseExceptionGroup as group:
            cancelled, error = group.split(trio.Cancelled)
            if error is not None:
                self._failed(end, error)
            if cancelled is not None:
                raise cancelled from None

    def _failed(self, end: End, exc: BaseException) -> None:
        self._network.handler_errors.append(exc)
        end._connection.break_()
