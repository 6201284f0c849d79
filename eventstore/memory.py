"""The event store in memory: a verified fake. The contract suite holds it and PostgreSQL to the same promises.

Deterministic: the clock is an argument, nothing is random, and it needs no thread, so that it runs in virtual time.
A `MemoryLog` outlives the stores on it, as a database outlives servers: several stores may share one log.
Faults enter through `Hooks`: an error before the commit, or after it (the lost answer), a delay anywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

import msgspec
import trio

from eventstore.errors import EventStoreError, StoreClosed, WrongExpectedVersion
from eventstore.event import Appended, Claim, RecordedEvent, Snapshot
from eventstore.pulse import Pulse
from eventstore.store import EventFilter
from eventstore.subscription import Feed
from eventstore.version import check_append, first_loser


class Hooks(Protocol):
    """Where faults enter. Each may sleep or raise an error of `eventstore.errors`."""

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        """The append is not written yet: raise `StoreUnavailable` to lose it."""
        ...

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        """The append is written: raise `StoreTimeout` to lose the answer."""
        ...

    async def before_read(self, what: str) -> None:
        """A read named by its method (`read_stream`, `read_all`, `head`, ...) begins."""
        ...


class NoFaults:
    """The hooks of a healthy store."""

    async def before_commit(self, claims: Sequence[Claim]) -> None: ...

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None: ...

    async def before_read(self, what: str) -> None: ...


class MemoryLog:
    """What the database holds: events, the streams over them, snapshots; and who wants to hear of more."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.streams: dict[str, list[RecordedEvent]] = {}
        self.snapshots: dict[tuple[str, int], Snapshot] = {}
        self.feeds: list[Feed] = []
        self.beats: dict[str, int] = {}
        self.identity = "memory/0"

    def version(self, stream_id: str) -> int:
        return len(self.streams.get(stream_id, ()))

    def commit(self, claims: Sequence[Claim], now: datetime) -> Appended:
        """Append or refuse, in one step without a checkpoint."""
        loser = first_loser(claims, self.version)
        if loser is not None:
            return self._already(claims) or _refuse(*loser)
        stamp = max(now, self.events[-1].recorded_at) if self.events else now
        head = len(self.events)
        positions = []
        for claim in claims:
            if claim.events:
                positions.append(len(self.events) + 1)
                self._write(claim, stamp)
        if positions:
            batch = self.events[head:]
            for feed in self.feeds:
                feed.publish(batch)
        return Appended(len(self.events), stamp, tuple(positions))

    def _write(self, claim: Claim, stamp: datetime) -> None:
        stream = self.streams.setdefault(claim.stream_id, [])
        for event in claim.events:
            recorded = RecordedEvent(
                position=len(self.events) + 1,
                recorded_at=stamp,
                version=len(stream) + 1,
                schema=event.schema,
                event_id=event.event_id,
                stream_id=claim.stream_id,
                type=event.type,
                data=event.data,
                metadata=event.metadata,
            )
            stream.append(recorded)
            self.events.append(recorded)

    def _already(self, claims: Sequence[Claim]) -> Appended | None:
        """The verdict of the first time, when exactly these events stand where the append wanted them."""
        positions = []
        last = None
        for claim in claims:
            if not claim.events:
                continue
            stored = self.streams.get(claim.stream_id, [])[claim.expected_version :][: len(claim.events)]
            if [event.event_id for event in stored] != [event.event_id for event in claim.events]:
                return None
            positions.append(stored[0].position)
            last = stored[-1]
        return Appended(last.position, last.recorded_at, tuple(positions)) if last is not None else None


class MemoryStore:
    """`EventStore` over a `MemoryLog`. `now` returns the wall clock as an aware datetime."""

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        log: MemoryLog | None = None,
        origin: str = "memory",
        hooks: Hooks | None = None,
    ) -> None:
        self.log = MemoryLog() if log is None else log
        self.hooks: Hooks = NoFaults() if hooks is None else hooks
        self._now = now
        self._origin = origin
        self._feed = Feed()
        self._closed = False
        self.log.feeds.append(self._feed)

    def __repr__(self) -> str:
        return f"<MemoryStore {self._origin}: {len(self.log.events)} events, {len(self._feed)} subscriptions>"

    @property
    def origin(self) -> str:
        return self._origin

    async def append(self, claims: Sequence[Claim]) -> Appended:
        self._check_open()
        check_append(claims)
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.hooks.before_commit(claims)
        self._check_open()  # a store that was closed while it waited is dead: it must not say goodbye
        try:
            appended = self.log.commit(claims, self._now())
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
        await self.hooks.after_commit(claims, appended)
        return appended

    async def append_each(self, appends: Sequence[Sequence[Claim]]) -> Sequence[Appended | EventStoreError]:
        answers: list[Appended | EventStoreError] = [StoreClosed()] * len(appends)

        async def one(number: int, claims: Sequence[Claim]) -> None:
            try:
                answers[number] = await self.append(claims)
            except EventStoreError as no:
                answers[number] = no

        if type(self.hooks) is NoFaults:  # nothing can come between them
            await trio.lowlevel.checkpoint_if_cancelled()
            for number, claims in enumerate(appends):
                answers[number] = self._commit(claims)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return answers
        async with trio.open_nursery() as nursery:
            for number, claims in enumerate(appends):
                nursery.start_soon(one, number, claims)
        return answers

    def _commit(self, claims: Sequence[Claim]) -> Appended | EventStoreError:
        try:
            self._check_open()
            check_append(claims)
            return self.log.commit(claims, self._now())
        except EventStoreError as no:
            return no

    async def head(self) -> int:
        await self._reading("head")
        return len(self.log.events)

    async def read_stream(
        self, stream_id: str, *, after_version: int = 0, until_position: int | None = None
    ) -> Sequence[RecordedEvent]:
        await self._reading("read_stream")
        events = self.log.streams.get(stream_id, [])[max(0, after_version) :]
        if until_position is not None:
            events = [event for event in events if event.position <= until_position]
        return events

    async def read_streams(self, stream_ids: Sequence[str]) -> Mapping[str, Sequence[RecordedEvent]]:
        await self._reading("read_streams")
        return {name: list(self.log.streams[name]) for name in stream_ids if name in self.log.streams}

    async def read_all(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        descending: bool = False,
        where: EventFilter | None = None,
    ) -> Sequence[RecordedEvent]:
        await self._reading("read_all")
        last = len(self.log.events) if before is None else min(before - 1, len(self.log.events))
        places = range(max(0, after), max(0, last))
        events = (self.log.events[i] for i in (reversed(places) if descending else places))
        if where is not None:
            events = (event for event in events if matches(where, event))
        return list(islice(events, limit))

    async def position_at(self, moment: datetime) -> int | None:
        await self._reading("position_at")
        if moment >= self._now():  # not yet: something may still be recorded in this very microsecond
            return None
        return bisect_right(self.log.events, moment, key=lambda event: event.recorded_at)

    @asynccontextmanager
    async def subscribe(
        self, *, after: int, buffer_events: int = 10_000
    ) -> AsyncIterator[AsyncIterator[Sequence[RecordedEvent]]]:
        async with self._feed.subscribe(
            self._history, self.head, after=after, buffer_events=buffer_events
        ) as subscription:
            yield subscription

    async def load_snapshot(self, stream_id: str, schema: int) -> Snapshot | None:
        await self._reading("load_snapshot")
        return self.log.snapshots.get((stream_id, schema))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._reading("save_snapshot")
        key = (snapshot.stream_id, snapshot.schema)
        kept = self.log.snapshots.get(key)
        if kept is None or kept.version < snapshot.version:
            self.log.snapshots[key] = snapshot

    async def beat(self, name: str, stream_id: str, *, count: bool, ended: Sequence[str] = ()) -> Pulse:
        await self._reading("beat")
        beats = self.log.beats
        pulse = Pulse(counters=dict(beats), version=self.log.version(stream_id), at=self._now())
        for each in ended:
            if each != name:
                beats.pop(each, None)
        if count:
            beats[name] = beats.get(name, 0) + 1
        return pulse

    @property
    def identity(self) -> str:
        return self.log.identity

    @property
    def trouble(self) -> str | None:
        return None

    def close(self) -> None:
        """Every later call and every subscription ends with `StoreClosed`; the log stays."""
        if not self._closed:
            self._closed = True
            self.log.feeds.remove(self._feed)
            self._feed.close()

    async def _history(self, after: int, limit: int) -> Sequence[RecordedEvent]:
        return await self.read_all(after=after, limit=limit)

    async def _reading(self, what: str) -> None:
        self._check_open()
        await self.hooks.before_read(what)
        await trio.lowlevel.checkpoint()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed


def matches(where: EventFilter, event: RecordedEvent) -> bool:
    """Does the event fulfil every condition? The reference for the store's SQL."""
    if where.stream_id is not None and event.stream_id != where.stream_id:
        return False
    if where.category is not None and event.category != where.category:
        return False
    if where.types and event.type not in where.types:
        return False
    if where.recorded_from is not None and event.recorded_at < where.recorded_from:
        return False
    if where.recorded_until is not None and event.recorded_at > where.recorded_until:
        return False
    if where.external_id is not None and (event.type != "ExternalEventReceived" or event.event_id != where.external_id):
        return False
    if where.rated_job_id is not None and (
        event.type != "TaskDispatched"
        or _member(event.data, "rate") is None
        or _member(event.data, "job_id") != where.rated_job_id
    ):
        return False
    if where.event_type is not None and (
        event.category != "external" or _member(event.data, "type") != where.event_type
    ):
        return False
    return where.correlation_id is None or _member(event.metadata, "correlation_id") == where.correlation_id


def _member(text: str, name: str) -> Any:
    return msgspec.json.decode(text).get(name)


def _refuse(claim: Claim, actual: int) -> Appended:
    raise WrongExpectedVersion(claim.stream_id, claim.expected_version, actual)
