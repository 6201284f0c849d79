"""One checkpoint and the tables that move with it, range by range, each range in one transaction.

Exactly once, also with several servers on the same tables: the checkpoint's row is locked first, and whoever comes
second finds that there is nothing left to do. Nothing is ever skipped: a range that fails is halved until the event is
found that cannot be folded, and there the follower stays, stalled, until the definition or the table is mended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import define, frozen

from eventstore.errors import SqlError, StoreTimeout
from eventstore.event import RecordedEvent
from eventstore.postgres.database import Connection, Database
from projections.compile_sql import CompiledTable, compile_table
from projections.definition import Table
from projections.errors import CheckpointHeld

LIVE_POSITIONS_MAX = 5_000
"""A range while following the log: about 100 ms on one core."""

CATCH_UP_POSITIONS_MAX = 50_000
"""A range while far behind: fewer commits; the hash tables still fit into work_mem."""

SEGMENTS_MAX = 256
"""Remembered batches; beyond that they are merged. They only serve to leave out tables that a range does not concern."""

_LOCK = (
    # A plan for unknown ranges, made once per connection: planning each range anew costs more than folding it. Such a
    # plan expects half a percent of the log, and would rather read whole tables: it may not.
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),"
    " position FROM checkpoints WHERE name = $1 FOR UPDATE"
)
_MOVE = "UPDATE checkpoints SET position = $2 WHERE name = $1"


@frozen(slots=True)
class Stall:
    """The event after `position` cannot be folded."""

    position: int
    error: str

    def __str__(self) -> str:
        return f"the event after position {self.position} cannot be folded: {self.error}"


@frozen(slots=True)
class _Segment:
    """A batch of the log that is known to exist: its last position, its event types, and when it came in."""

    last: int
    types: frozenset[str]
    recorded_at: datetime
    seen_at: float


@define(slots=True)
class _Attempt:
    """One range: what is known before, and where it really began."""

    low: int
    target: int
    count: int
    types: frozenset[str] | None


class Follower:
    """Applies the log to the tables of one checkpoint. One task at a time calls `load` and `step`."""

    def __init__(self, database: Database, checkpoint: str, tables: Mapping[str, Table]) -> None:
        self.checkpoint = checkpoint
        self.position = 0
        """The tables show the log up to here."""
        self.known = 0
        """The log reaches at least to here."""
        self.updated_at: datetime | None = None
        """When the newest event that the tables show was recorded; None when it came before this process."""
        self.stall: Stall | None = None
        self._database = database
        self._tables = [compile_table(table) for table in tables.values()]
        self._limit: int | None = None
        """Positions per range after a failure; doubles until it no longer matters."""
        self._segments: deque[_Segment] = deque()
        self._seen_from = 0
        """Every event after this position is in a segment, so that its type is known without asking."""

    def __repr__(self) -> str:
        state = f"stalled: {self.stall.error}" if self.stall else f"{self.known - self.position} behind"
        return f"<Follower {self.checkpoint} at {self.position}, {state}>"

    @property
    def is_behind(self) -> bool:
        return self.position < self.known

    def pending_since(self) -> float | None:
        """Monotonic time at which the oldest event that is not shown came in; None when all are shown."""
        return self._segments[0].seen_at if self._segments and self.is_behind else None

    async def load(self) -> int:
        """Read the checkpoint. Raises `StoreUnavailable`, `StoreTimeout`."""
        rows = await self._database.fetch("SELECT position FROM checkpoints WHERE name = $1", self.checkpoint)
        self._advance(rows[0][0] if rows else 0)
        return self.position

    def expect(self, head: int) -> None:
        """The log reaches `head`; what its events are is not known."""
        self.known = max(self.known, head)

    def watch_from(self, position: int) -> None:
        """From here on every event after `position` comes through `notice`."""
        self._seen_from = position

    def notice(self, batch: Sequence[RecordedEvent], now: float) -> None:
        """Take note of committed events, each once, in order. `now` is monotonic."""
        last = batch[-1]
        self.known = max(self.known, last.position)
        segment = _Segment(last.position, frozenset(event.type for event in batch), last.recorded_at, now)
        if len(self._segments) >= SEGMENTS_MAX:
            merged = [*self._segments, segment]
            types = frozenset[str]().union(*(each.types for each in merged))
            self._segments = deque([_Segment(segment.last, types, segment.recorded_at, merged[0].seen_at)])
        else:
            self._segments.append(segment)

    async def step(self, positions_max: int = LIVE_POSITIONS_MAX) -> bool:
        """Apply one range; say whether it went well. If not, the next one is smaller, or the follower is stalled.

        Raises:
          StoreUnavailable: nothing happened; try again later.
          CheckpointHeld: nothing happened, and it was long waited for.
        """
        count = positions_max if self._limit is None else min(self._limit, positions_max)
        attempt = _Attempt(self.position, self.known, count, self._pending_types())
        try:
            reached = await self._database.transact(lambda connection: self._apply(connection, attempt))
        except (SqlError, StoreTimeout) as exc:
            tried = min(count, attempt.target - attempt.low)
            if tried > 1:
                self._limit = tried // 2
            else:
                self._limit, self.stall = 1, Stall(attempt.low, str(exc))
            return False
        self._limit = None if self._limit is None or 2 * count >= positions_max else 2 * count
        self.stall = None
        self._advance(reached)
        return True

    async def _apply(self, connection: Connection, attempt: _Attempt) -> int:
        """In the database thread, in a transaction: fold one range, return the new checkpoint."""
        try:
            rows = await connection.fetch(_LOCK, self.checkpoint)
        except StoreTimeout as exc:
            raise CheckpointHeld from exc
        if not rows:
            raise SqlError("P0002", f"checkpoint {self.checkpoint!r} is missing: run `hetuflow migrate`")
        low: int = rows[0]["position"]
        attempt.low = low
        if low >= attempt.target:
            return low  # another server was faster
        high = min(attempt.target, low + attempt.count)
        for table in self._tables:
            await apply_range(connection, table, low, high, attempt.types)
        await connection.execute(_MOVE, self.checkpoint, high)
        return high

    def _pending_types(self) -> frozenset[str] | None:
        """The types of all events that are known and not shown; None when they are not known."""
        if self.position < self._seen_from or not self._segments or self._segments[-1].last < self.known:
            return None
        return frozenset[str]().union(*(segment.types for segment in self._segments))

    def _advance(self, position: int) -> None:
        self.position = max(self.position, position)
        self.known = max(self.known, self.position)
        while self._segments and self._segments[0].last <= self.position:
            self.updated_at = self._segments.popleft().recorded_at


async def apply_range(
    connection: Connection, table: CompiledTable, low: int, high: int, types: frozenset[str] | None = None
) -> None:
    """Fold (low, high] into a table, in the caller's transaction. `types`: those in the range; None: not known."""
    if types is None or not types.isdisjoint(table.removing_types):
        await connection.execute(table.remove, low, high)
    if types is None or not types.isdisjoint(table.event_types):
        await connection.execute(table.apply, low, high)
