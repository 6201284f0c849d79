"""A network in memory, in virtual time: ordered connections with latency, and everything that a network does to them.

A connection keeps the order of its frames and loses none while it lives, as TCP does; so a frame is lost together with
all that follow it on its connection, and frames are reordered only across a reconnection (`tear`). Every node has one
*link*, and a connection crosses two: the dialer's and the listener's.

* *cut*: all connections of the node end at once, what was on the way is lost, both sides hear of it, nobody can dial.
* *silent*: nothing is delivered, in one direction or both, and nobody is told; what was sent arrives when it is healed.
* *torn*: the dialer has lost the connection and dials again; the listener does not know, and what was on the way to it
  arrives late, beside the new connection.
* *vanished*: the dialer is gone without a word; the listener's side stands and hears nothing.
* `FrameFaults`: frames by chance delayed, doubled, cut short, or lost with the rest of their connection.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import trio
from attrs import define, field

from hetuflow.ports.network import ConnectionLost, DialError, MessageStream

FRAMES_MAX = 64
"""Frames on the way in one direction; more make the sender wait, as a full socket buffer does."""

NEVER = float("inf")


@define(slots=True, eq=False)
class Link:
    """One node's way to the world."""

    host: str
    is_cut: bool = False
    is_silent_out: bool = False
    is_silent_in: bool = False
    healed: trio.Event = field(factory=trio.Event)
    connections: list[Connection] = field(factory=list)

    @property
    def is_silent(self) -> bool:
        return self.is_silent_out or self.is_silent_in


@define(slots=True)
class FrameFaults:
    """What happens to single frames, by chance (rates 0 to 1). `seen` counts it."""

    rng: random.Random
    delay_rate: float = 0.0
    delay_seconds_mean: float = 1.0
    double_rate: float = 0.0
    truncate_rate: float = 0.0
    lose_rate: float = 0.0
    seen: dict[str, int] = field(factory=dict)

    KINDS = ("frame delayed", "frame doubled", "frame truncated", "frame lost")

    def heal(self) -> None:
        self.delay_rate = self.double_rate = self.truncate_rate = self.lose_rate = 0.0

    @property
    def is_on(self) -> bool:
        return bool(self.delay_rate or self.double_rate or self.truncate_rate or self.lose_rate)

    def strikes(self, kind: str, rate: float) -> bool:
        if not rate or self.rng.random() >= rate:
            return False
        self.seen[kind] = self.seen.get(kind, 0) + 1
        return True


class Pipe:
    """One direction of a connection, `source` to `target`."""

    def __init__(self, network: MemoryNetwork, source: Link, target: Link) -> None:
        self._network, self._source, self._target = network, source, target
        self._items: deque[tuple[float, bytes | ConnectionLost]] = deque()
        self._last_ready = 0.0
        self._changed = trio.Event()
        self._swallowing_until = -NEVER
        self._ends_at = NEVER
        self.is_broken = False
        self.is_closed = False
        self.is_reader_gone = False
        self.is_writer_gone = False

    @property
    def is_blocked(self) -> bool:
        return self._source.is_silent_out or self._target.is_silent_in

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

    def swallow(self) -> None:
        """Lose what is on the way and all that is sent from now on; the reader is not told."""
        self._swallowing_until = NEVER
        self._items.clear()
        self.wake()

    def arrive_late(self, seconds: float) -> None:
        """What is on the way arrives so much later; nothing follows it, and then the reader is told of the end."""
        self.is_writer_gone = True
        items, self._items = self._items, deque()
        self._last_ready = trio.current_time() + seconds
        for _, item in items:
            self._put(item)
        self._put(ConnectionLost())

    async def send(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while not self._is_over_for_writer and len(self._items) >= FRAMES_MAX:
            await self._changed.wait()
        if self._is_over_for_writer:
            raise ConnectionLost
        if self._swallowing_until > trio.current_time():
            return
        faults = self._network.frame_faults
        if faults.is_on:
            self._send_with_faults(frame, faults)
        else:
            self._put(frame)

    @property
    def _is_over_for_writer(self) -> bool:
        return self.is_broken or self.is_closed or self.is_writer_gone

    def _send_with_faults(self, frame: bytes, faults: FrameFaults) -> None:
        draw = faults.rng
        if faults.strikes("frame delayed", faults.delay_rate):
            self._last_ready = trio.current_time() + draw.expovariate(1 / faults.delay_seconds_mean)
        if faults.strikes("frame lost", faults.lose_rate):
            self.swallow()
            self._ends_at = trio.current_time() + draw.choice([0.1, 5, 60, 300])
        elif faults.strikes("frame truncated", faults.truncate_rate):
            self._put(frame[: draw.randrange(len(frame))])
        else:
            self._put(frame)
            if faults.strikes("frame doubled", faults.double_rate):
                self._put(frame)

    def _put(self, item: bytes | ConnectionLost) -> None:
        self._last_ready = max(self._last_ready, trio.current_time() + self._network.latency())
        self._items.append((self._last_ready, item))
        self.wake()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_broken or self.is_reader_gone:
                raise ConnectionLost
            now = trio.current_time()
            if self._ends_at <= now:
                self.break_()
                continue
            ready = self._items[0][0] if self._items and not self.is_blocked else NEVER
            if ready <= now:
                break
            deadline = min(ready, self._ends_at)
            if deadline == NEVER:
                await self._changed.wait()
            else:
                with trio.move_on_at(deadline):
                    await self._changed.wait()
        item = self._items[0][1]
        if isinstance(item, ConnectionLost):
            raise ConnectionLost(item.code, item.reason)
        self._items.popleft()
        if len(self._items) == FRAMES_MAX - 1:
            self.wake()
        return item


@define(slots=True, eq=False)
class Connection:
    """Two pipes between a dialing node and a listener."""

    dialer: Link
    listener: Link
    out: Pipe
    back: Pipe

    def break_(self) -> None:
        self.out.break_()
        self.back.break_()

    def tear(self, seconds: float) -> None:
        self.out.arrive_late(seconds)
        self._leave()

    def vanish(self) -> None:
        self.out.swallow()
        self.out.is_writer_gone = True
        self._leave()

    def _leave(self) -> None:
        self.back.swallow()
        self.back.is_reader_gone = True
        self.wake()

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
        self.accepted = trio.Event()
        """Set when the listener's node has taken it, or will not."""

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
    """Nodes, listeners and what is wrong between them. `rng` draws the latencies."""

    def __init__(self, rng: random.Random, *, latency_seconds: tuple[float, float] = (0.0005, 0.02)) -> None:
        self._random, self._latency_seconds = rng, latency_seconds
        self._links: dict[str, Link] = {}
        self._listeners: dict[str, MemoryListener] = {}
        self._balancers: dict[str, Sequence[str]] = {}
        self._ports = 40_000
        self.frame_faults = FrameFaults(rng)
        self.handler_errors: list[BaseException] = []
        """Exceptions that a handler let out: the listener's promise is that they end one connection, ours that there are none."""

    def latency(self) -> float:
        low, high = self._latency_seconds
        return low + (high - low) * self._random.random()

    def link(self, host: str) -> Link:
        return self._links.setdefault(host, Link(host))

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self, host: str) -> None:
        """End all connections of the node; nothing can be dialed from or to it until `heal`."""
        self.link(host).is_cut = True
        self.drop(host)

    def drop(self, host: str) -> None:
        """End all connections of the node once; it may dial again at once."""
        for connection in self._taken(host):
            connection.break_()

    def tear(self, host: str, seconds: float) -> None:
        """End all connections for their dialers only; what is on the way to the listeners arrives `seconds` later."""
        for connection in self._taken(host):
            connection.tear(seconds)

    def vanish(self, host: str) -> None:
        """The node has lost power: its peers are told nothing. For nodes that dial."""
        for connection in self._taken(host):
            connection.vanish()

    def silence(self, host: str, *, out: bool = True, into: bool = True) -> None:
        """Deliver nothing from (`out`) or to (`into`) the node, and say nothing, until `heal`."""
        link = self.link(host)
        link.is_silent_out |= out
        link.is_silent_in |= into

    def heal(self, host: str) -> None:
        link = self.link(host)
        link.is_cut = link.is_silent_out = link.is_silent_in = False
        link.healed.set()
        link.healed = trio.Event()
        for connection in link.connections:
            connection.wake()

    def heal_all(self) -> None:
        self.frame_faults.heal()
        for host in sorted(self._links):
            self.heal(host)

    def _taken(self, host: str) -> list[Connection]:
        link = self.link(host)
        taken, link.connections = link.connections, []
        return taken

    # --- ports ------------------------------------------------------------------------------------------------------

    def dialer(self, host: str) -> MemoryDialer:
        return MemoryDialer(self, host)

    def listener(self, address: str, host: str | None = None) -> MemoryListener:
        """A listener on `address` behind the link of the node `host`."""
        return MemoryListener(self, address, self.link(host or address))

    def balance(self, address: str, over: Sequence[str]) -> None:
        """Whoever dials `address` is given one of these that listens at that moment, by chance."""
        self._balancers[address] = over

    def _listening(self, address: str) -> MemoryListener | None:
        alive = [each for each in self._balancers.get(address, (address,)) if each in self._listeners]
        return self._listeners[self._random.choice(alive)] if alive else None

    async def connect(self, host: str, url: str) -> MessageStream:
        parts = urlsplit(url)
        here = self.link(host)
        await trio.sleep(self.latency())
        while here.is_silent:
            await here.healed.wait()
        listener = self._listening(parts.netloc)
        if here.is_cut or listener is None or listener.link.is_cut:
            raise DialError(f"cannot connect to {parts.netloc}")
        while listener.link.is_silent:
            await listener.link.healed.wait()
        self._ports += 1
        there = listener.link
        connection = Connection(here, there, Pipe(self, here, there), Pipe(self, there, here))
        for link in (here, there):
            link.connections = [each for each in link.connections if not each.is_over]
            link.connections.append(connection)
        mine = End(connection, parts.netloc, "", is_dialer=True)
        theirs = End(connection, f"{host}:{self._ports}", parts.query, is_dialer=False)
        listener.offer(theirs)
        await theirs.accepted.wait()
        if connection.is_over:
            raise DialError(f"{parts.netloc} does not accept")
        return mine


class MemoryDialer:
    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network, self._host = network, host

    async def dial(self, url: str) -> MessageStream:
        return await self._network.connect(self._host, url)


class MemoryListener:
    def __init__(self, network: MemoryNetwork, address: str, link: Link) -> None:
        self._network, self._address, self.link = network, address, link
        self._arrivals, self._queue = trio.open_memory_channel[End](128)

    def offer(self, end: End) -> None:
        """Raises `DialError` when too many wait to be accepted, or nobody accepts any more."""
        try:
            self._arrivals.send_nowait(end)
        except (trio.WouldBlock, trio.BrokenResourceError) as exc:
            end._connection.break_()
            raise DialError(f"{self._address} does not accept") from exc

    async def serve(
        self,
        handler: Callable[[MessageStream], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; the connections that are left then are broken. A later listener takes the address over."""
        served: list[End] = []
        self._network._listeners[self._address] = self
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(0)
                async for end in self._queue:
                    served = [each for each in served if not each._connection.is_over]
                    served.append(end)
                    end.accepted.set()
                    nursery.start_soon(self._handle, handler, end)
        finally:
            if self._network._listeners.get(self._address) is self:
                del self._network._listeners[self._address]
            for end in [*served, *self._waiting()]:
                end._connection.break_()
                end.accepted.set()
            self._queue.close()

    def _waiting(self) -> list[End]:
        found = []
        while True:
            try:
                found.append(self._queue.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return found

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
