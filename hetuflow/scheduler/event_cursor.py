"""How far the log has been decided about for event schedules, and the index as of then: kept in the store as snapshots.

Losing them costs reading, not correctness: the index is a fold of the log, and a cursor that lies too far back meets
schedules that know what they have decided. One that belongs to another state of the store (a backup was restored) is not
used.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from eventstore.event import Snapshot
from eventstore.store import EventFilter, EventStore
from hetuflow.scheduler.event_index import DEFINING, EventIndex

log = logging.getLogger(__name__)

CURSOR: Final = "event_reader"
INDEX: Final = "event_reader-index"
SCHEMA: Final = 1

PAGE: Final = 1000
INDEX_BEHIND_MAX: Final = 100_000
"""Positions after which the index is kept again: so many are looked through at a start."""
CHANGES_MIN: Final = 100
CHANGED_SHARE: Final = 0.1
"""Changes after which it is kept again: it is written whole, so that each change costs a bounded share of that."""


class Cursor:
    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._saved = 0
        self._saved_changes = 0
        self._saved_index_at = 0

    async def load(self) -> tuple[EventIndex, int]:
        """The index as of some position, and the position up to which everything is decided.

        Raises what the store's reads raise.
        """
        head = await self._store.head()
        index = await self._load_index(head)
        found = await self._load(CURSOR, head)
        position = None if found is None else int(found["position"])
        self._saved_index_at = index.position
        await self._catch_up(index, head if position is None else position)
        if position is None:
            position = min((each.since for each in index if each.is_enabled), default=head)
        self._saved, self._saved_changes = position, 0
        return index, position

    async def save(self, position: int, index: EventIndex) -> None:
        """Keep both, as far as they have changed. Raises what the store's writes raise."""
        changed = index.changes - self._saved_changes
        is_behind = index.position > self._saved_index_at + INDEX_BEHIND_MAX
        if is_behind or changed >= max(CHANGES_MIN, CHANGED_SHARE * len(index)):
            changes, at = index.changes, index.position
            await self._keep(INDEX, at, {"index": index.as_json()})
            self._saved_changes, self._saved_index_at = changes, at
        if position > self._saved:
            await self._keep(CURSOR, position, {"position": position})
            self._saved = position

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _load_index(self, head: int) -> EventIndex:
        found = await self._load(INDEX, head)
        return EventIndex() if found is None else EventIndex.of_json(found["index"])

    async def _catch_up(self, index: EventIndex, until: int) -> None:
        """Apply what defines schedules, up to that position."""
        where = EventFilter(types=DEFINING)
        while index.position < until:
            events = await self._store.read_all(after=index.position, before=until + 1, limit=PAGE, where=where)
            for event in events:
                index.apply(event)
            if len(events) < PAGE:
                index.position = until

    async def _load(self, name: str, head: int) -> dict[str, Any] | None:
        snapshot = await self._store.load_snapshot(name, SCHEMA)
        if snapshot is None:
            return None
        found: dict[str, Any] = json.loads(snapshot.state)
        if found.get("store") != self._store.identity or snapshot.version > head:
            log.warning("what is kept of event schedules is of another state of this store: it is found out anew")
            return None
        return found

    async def _keep(self, name: str, position: int, state: dict[str, Any]) -> None:
        text = json.dumps({"store": self._store.identity, **state})
        await self._store.save_snapshot(Snapshot(stream_id=name, schema=SCHEMA, version=position, state=text))
