"""What is appended and what is read back.

The write type and the read type differ: a `NewEvent` has no place in the log yet, a `RecordedEvent` is a fact.
`data` and `metadata` are JSON text: the store never interprets them, so they are encoded and decoded at most once, by
the codec. PostgreSQL keeps them as jsonb, which may reorder members and spaces: compare the values, not the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from attrs import field, frozen

EVENT_BYTES_MAX = 256 * 1024
"""Largest `data` + `metadata` of one event, in bytes of UTF-8: output belongs in its own store, a job config is small."""

STREAM_ID_LENGTH_MAX = 300
"""Longest stream id, in characters."""


@frozen(slots=True, kw_only=True)
class NewEvent:
    """An event to append. `event_id` is given before the first try and never changes on a retry."""

    event_id: UUID
    type: str
    schema: int = 1
    data: str
    metadata: str = "{}"
    checked_bytes: int = field(default=0, eq=False, repr=False)
    """Of `data` and `metadata` in UTF-8, said by the codec that made and checked both; 0: they are still to be checked."""


@frozen(slots=True, kw_only=True)
class RecordedEvent:
    """An event as stored: immutable, with its place in the log (`position`) and in its stream (`version`, from 1)."""

    position: int
    recorded_at: datetime
    version: int
    schema: int
    event_id: UUID
    stream_id: str
    type: str
    data: str
    metadata: str

    @property
    def category(self) -> str:
        """The kind of stream: what stands before the first hyphen of the stream id."""
        return self.stream_id.partition("-")[0]


@frozen(slots=True)
class Claim:
    """A stream and the version its owner believes it has (0 = the stream does not exist yet).

    With events it is a write of that stream; without events it is a **guard**: the append is refused unless the stream
    still has that version. There is no "any version".
    """

    stream_id: str
    expected_version: int
    events: Sequence[NewEvent] = ()


@frozen(slots=True)
class Appended:
    """The verdict on an append that was committed.

    `positions` has, per claim with events, in the order of the claims, the global position of its first event;
    within a claim the positions are contiguous. `position` is that of the append's last event; for an append of guards
    only, the head of the log it was checked at.
    """

    position: int
    recorded_at: datetime
    positions: Sequence[int] = ()


@frozen(slots=True, kw_only=True)
class Snapshot:
    """A cached fold of a stream up to `version`; `schema` is the number of the state's shape. Discardable."""

    stream_id: str
    schema: int
    version: int
    state: str
