"""The port: what the rest of hetuflow may ask of an event store, and what it promises.

* An append is all or nothing over all its claims, durable when it returns, and refused as a whole when any claim lost.
* Positions are contiguous from 1, in commit order, and `recorded_at` never falls: a reader is
  `position > p ORDER BY position`, without gaps and without cleverness.
* The same append again (same event ids at the same expected versions) is a success with the stored positions.
* Subscriptions deliver history, then live events, each once, in order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from attrs import frozen

from eventstore.errors import EventStoreError
from eventstore.event import Appended, Claim, RecordedEvent, Snapshot
from eventstore.pulse import Pulse


@frozen(slots=True, kw_only=True)
class EventFilter:
    """Conditions on events, ANDed; `None` or empty = no condition.

    `stream_id` is exact; `category` is a stream's kind; `types` any of these; `event_type` the member `type` of an
    external event's data, `external_id` the id that one is recorded under (looked up by an index); `rated_job_id` the job
    of a `TaskDispatched` that has a `rate` (also by an index); times are `recorded_at`, both included.
    """

    stream_id: str | None = None
    category: str | None = None
    types: Sequence[str] = ()
    event_type: str | None = None
    external_id: UUID | None = None
    rated_job_id: str | None = None
    correlation_id: str | None = None
    recorded_from: datetime | None = None
    recorded_until: datetime | None = None


class EventStore(Protocol):
    """An event store. Every method may raise `StoreUnavailable`, `StoreTimeout` or `StoreClosed`."""

    @property
    def origin(self) -> str:
        """Names this process in wake-up hints."""
        ...

    async def append(self, claims: Sequence[Claim]) -> Appended:
        """Append all events of all claims, or nothing. Returns after the commit.

        Raises:
          WrongExpectedVersion: a claim lost (and the append had not already happened).
          InvalidEvent: an event cannot be stored.
        A cancelled caller abandons the answer, never an append that was queued.
        """
        ...

    async def append_each(self, appends: Sequence[Sequence[Claim]]) -> Sequence[Appended | EventStoreError]:
        """Several appends at once, each all or nothing by itself: for each its verdict, or what `append` would raise.

        One that loses fails no other. They cost one task and one waiting instead of one each.
        """
        ...

    async def head(self) -> int:
        """Position of the last event; 0 when the log is empty."""
        ...

    async def read_stream(
        self, stream_id: str, *, after_version: int = 0, until_position: int | None = None
    ) -> Sequence[RecordedEvent]:
        """The events of one stream with a greater version, in order; empty when it does not exist."""
        ...

    async def read_streams(self, stream_ids: Sequence[str]) -> Mapping[str, Sequence[RecordedEvent]]:
        """Several whole streams with one read; a stream that does not exist is absent from the answer."""
        ...

    async def read_all(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        descending: bool = False,
        where: EventFilter | None = None,
    ) -> Sequence[RecordedEvent]:
        """Events by position, bounds exclusive, at most `limit`."""
        ...

    async def position_at(self, moment: datetime) -> int | None:
        """The last event recorded at or before `moment` (aware), 0 when there is none; None: by the store's clock the
        moment has not come yet. The answer never changes: nothing is recorded at or before `moment` afterwards."""
        ...

    def subscribe(
        self, *, after: int, buffer_events: int = 10_000
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[RecordedEvent]]]:
        """Every event with a greater position, once, in order: history, then live, in non-empty batches.

        Survives the loss of the database connection. A slow consumer never grows memory past `buffer_events`: the
        subscription falls back to reading history.
        """
        ...

    async def load_snapshot(self, stream_id: str, schema: int) -> Snapshot | None:
        """The snapshot of that stream and state schema, or None."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; an older one of the stream is replaced, a newer one kept."""
        ...

    async def beat(self, name: str, stream_id: str, *, count: bool, ended: Sequence[str] = ()) -> Pulse:
        """Look at everybody's signs of life and at the version of a stream, and leave a sign of one's own if `count`.

        The counters of `ended` names are forgotten. Answers within few seconds or raises: a late answer is worthless.
        """
        ...

    @property
    def identity(self) -> str:
        """Which store this is and which restoration of it: `<id>/<generation>`."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why appends do not get through at present; None = they do, as far as known."""
        ...
