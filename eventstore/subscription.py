"""History, then live, each event once and in order: the same code over every store.

A `Feed` tells its subscriptions what was committed: with the events (`publish`, by this process's writer, so that the
hot path makes no query) or only how far the log reaches (`hint`, for what other processes wrote). Neither is the truth:
a subscription delivers a published batch only when it continues exactly where it stands, and reads the log otherwise.
A gap between two local batches (another process appended there) is therefore read before what follows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from eventstore.errors import StoreClosed, StoreTimeout, StoreUnavailable
from eventstore.event import RecordedEvent

READ_EVENTS_MAX = 1_000
"""Events per read of history."""

BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.05, 2.0
"""Between two tries to read history while the database is away."""

Read = Callable[[int, int], Awaitable[Sequence[RecordedEvent]]]
"""(after, limit) -> events by position."""


class Subscription:
    """One consumer's place in the log. An async iterator of non-empty batches."""

    def __init__(self, read: Read, *, after: int, buffer_events: int) -> None:
        if buffer_events < 1:
            raise ValueError(f"buffer_events must be at least 1, not {buffer_events}")
        self.position = after
        self._read = read
        self._room = buffer_events
        self._buffer: deque[Sequence[RecordedEvent]] = deque()
        self._buffered = 0
        self._buffer_end = 0
        self._known = after
        self._changed = trio.Event()
        self._closed = False
        self.history_reads = 0

    def __repr__(self) -> str:
        return f"<Subscription at {self.position}, {self._buffered} buffered, log known to {self._known}>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Sequence[RecordedEvent]:
        backoff_seconds = BACKOFF_SECONDS_MIN
        while True:
            if self._closed:
                raise StoreClosed
            batch = self._take()
            if batch is not None:
                await trio.lowlevel.checkpoint()
                return self._delivered(batch)
            if self._known <= self.position:
                await self._wait()
                continue
            known = self._known
            try:
                batch = await self._read(self.position, min(READ_EVENTS_MAX, self._room))
                self.history_reads += 1
            except (StoreUnavailable, StoreTimeout):
                await trio.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)
                continue
            if batch:
                return self._delivered(batch)
            if self._known == known:  # the hint was ahead of what can be read; the next one wakes us again
                self._known = self.position

    def publish(self, batch: Sequence[RecordedEvent]) -> None:
        """Take a committed batch, or only remember that it exists when it does not continue the buffer."""
        first, last = batch[0].position, batch[-1].position
        self._known = max(self._known, last)
        if self._buffer and first != self._buffer_end + 1:
            self._drop()  # another process wrote in between: what lies before this batch must be read
        if self._buffered + len(batch) > self._room:
            self._drop()
        elif last > self.position:
            self._buffer.append(batch)
            self._buffered += len(batch)
            self._buffer_end = last
        self._changed.set()

    def hint(self, position: int) -> None:
        """The log reaches at least `position`."""
        if position > self._known:
            self._known = position
            self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._drop()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _take(self) -> Sequence[RecordedEvent] | None:
        """The buffered batch that continues `position` exactly, if there is one."""
        while self._buffer:
            batch = self._buffer[0]
            if batch[0].position > self.position + 1:
                return None  # kept: history will reach it
            self._buffer.popleft()
            self._buffered -= len(batch)
            if batch[-1].position > self.position:
                return batch[self.position + 1 - batch[0].position :]
        return None

    def _delivered(self, batch: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        self.position = batch[-1].position
        self._known = max(self._known, self.position)
        return batch

    def _drop(self) -> None:
        self._buffer.clear()
        self._buffered = 0


class Feed:
    """The subscriptions of one process, in the order they were opened."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def publish(self, batch: Sequence[RecordedEvent]) -> None:
        for subscription in self._subscriptions:
            subscription.publish(batch)

    def hint(self, position: int) -> None:
        for subscription in self._subscriptions:
            subscription.hint(position)

    def close(self) -> None:
        """Every subscription ends with `StoreClosed`."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

    @asynccontextmanager
    async def subscribe(
        self, read: Read, head: Callable[[], Awaitable[int]], *, after: int, buffer_events: int
    ) -> AsyncIterator[Subscription]:
        """Open a subscription: first listen, then look how far the log reaches, so that nothing falls in between."""
        if self._closed:
            raise StoreClosed
        subscription = Subscription(read, after=after, buffer_events=buffer_events)
        self._subscriptions.append(subscription)
        try:
            try:
                subscription.hint(await head())
            except (StoreUnavailable, StoreTimeout):
                subscription.hint(after + 1)  # the first read finds out, and tries again until it can
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
