"""Which waiting appends travel together, as pure data.

A batch is a prefix of the queue as far as possible. Two rules keep its appends independent: at most one append writes
a stream, and none guards a stream that an earlier one of the batch writes (the statement judges all claims by the state
before the batch). Who breaks a rule waits for the next batch, and so does everyone behind it who touches its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import trio
from attrs import field, frozen

from eventstore.errors import EventStoreError
from eventstore.event import Appended, Claim, RecordedEvent
from eventstore.version import check_append

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 1024 * 1024


class PendingAppend:
    """An append on its way: its claims and events as columns, and the answer its caller waits for."""

    __slots__ = ("_answer", "_done", "bytes", "claims", "count", "deadline", "guards", "maybe_written", "written")

    def __init__(self, claims: Sequence[Claim], deadline: float) -> None:
        """Raises `InvalidEvent` when the store could not hold it."""
        self.claims = claims
        self.bytes = check_append(claims)
        self.deadline = deadline
        self.written = [claim.stream_id for claim in claims if claim.events]
        self.guards = [claim.stream_id for claim in claims if not claim.events]
        self.count = sum(len(claim.events) for claim in claims)
        self.maybe_written = False  # it was sent and no answer came
        self._done = trio.Event()
        self._answer: Appended | EventStoreError | None = None

    def __repr__(self) -> str:
        return f"<PendingAppend of {self.count} events to {', '.join(self.written) or 'nothing'}>"

    @property
    def settled(self) -> bool:
        return self._done.is_set()

    def settle(self, answer: Appended | EventStoreError) -> None:
        """The first answer holds."""
        if not self._done.is_set():
            self._answer = answer
            self._done.set()

    async def verdict(self) -> Appended | EventStoreError:
        """The answer, once there is one."""
        if self._answer is None:
            await self._done.wait()
        assert self._answer is not None
        return self._answer

    async def answer(self) -> Appended:
        """The same; an error is raised."""
        await self._done.wait()
        verdict = await self.verdict()
        if isinstance(verdict, Appended):
            return verdict
        raise verdict

    def positions(self, head: int) -> Sequence[int]:
        """The position of each write's first event when the append follows `head`."""
        positions = []
        for claim in self.claims:
            if claim.events:
                positions.append(head + 1)
                head += len(claim.events)
        return tuple(positions)


def take_batch(waiting: Iterable[PendingAppend]) -> tuple[list[PendingAppend], list[PendingAppend]]:
    """Split the queue into the next batch and what stays, both in order. The batch is empty only if the queue is."""
    batch: list[PendingAppend] = []
    rest: list[PendingAppend] = []
    busy: set[str] = set()  # written by the batch, or touched by somebody who stays
    events = size = 0
    full = False
    for pending in waiting:
        full = full or bool(
            batch and (events + pending.count > BATCH_EVENTS_MAX or size + pending.bytes > BATCH_BYTES_MAX)
        )
        if full:
            rest.append(pending)
        elif busy.isdisjoint(pending.written) and busy.isdisjoint(pending.guards):
            batch.append(pending)
            events += pending.count
            size += pending.bytes
            busy.update(pending.written)
        else:
            rest.append(pending)
            busy.update(pending.written, pending.guards)
    return batch, rest


@frozen(slots=True)
class Columns:
    """A batch as the arguments of append.sql, without the origin."""

    claim_append: list[int] = field(factory=list)
    claim_stream: list[str] = field(factory=list)
    claim_expected: list[int] = field(factory=list)
    append: list[int] = field(factory=list)
    stream: list[str] = field(factory=list)
    version: list[int] = field(factory=list)
    schema: list[int] = field(factory=list)
    event_id: list[UUID] = field(factory=list)
    type: list[str] = field(factory=list)
    data: list[str] = field(factory=list)
    metadata: list[str] = field(factory=list)

    @classmethod
    def of(cls, batch: Sequence[PendingAppend]) -> Columns:
        columns = cls()
        for number, pending in enumerate(batch):
            for claim in pending.claims:
                columns.claim_append.append(number)
                columns.claim_stream.append(claim.stream_id)
                columns.claim_expected.append(claim.expected_version)
                if claim.events:
                    columns._add(number, claim)
        return columns

    def _add(self, number: int, claim: Claim) -> None:
        events, first = claim.events, claim.expected_version + 1
        self.append.extend([number] * len(events))
        self.stream.extend([claim.stream_id] * len(events))
        self.version.extend(range(first, first + len(events)))
        self.schema.extend([event.schema for event in events])
        self.event_id.extend([event.event_id for event in events])
        self.type.extend([event.type for event in events])
        self.data.extend([event.data for event in events])
        self.metadata.extend([event.metadata for event in events])

    def arguments(self) -> tuple[list[Any], ...]:
        return (
            self.claim_append,
            self.claim_stream,
            self.claim_expected,
            self.append,
            self.stream,
            self.version,
            self.schema,
            self.event_id,
            self.type,
            self.data,
            self.metadata,
        )


@frozen(slots=True)
class Verdict:
    """What append.sql answered; `lost` maps a claim's place (from 1) to the version its stream really has."""

    head: int
    appended: int
    recorded_at: datetime
    lost: dict[int, int]


def recorded(claims: Sequence[Claim], head: int, at: datetime) -> list[RecordedEvent]:
    """The events of a won append as they are stored from `head` + 1 on."""
    events = []
    for claim in claims:
        version = claim.expected_version
        for event in claim.events:
            head += 1
            version += 1
            events.append(
                RecordedEvent(
                    position=head,
                    recorded_at=at,
                    version=version,
                    schema=event.schema,
                    event_id=event.event_id,
                    stream_id=claim.stream_id,
                    type=event.type,
                    data=event.data,
                    metadata=event.metadata,
                )
            )
    return events


Publish = Callable[[Sequence[RecordedEvent]], None]
