"""Filling an empty log with recorded events, as they were: the same positions, times and ids.

The one place besides `append_events` that inserts events. In one transaction, under the appends' own lock: either the
whole log is there afterwards, or the database is as empty as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from eventstore.postgres.database import Connection, Database

BATCH_EVENTS = 5_000
PARTITION_POSITIONS = 10_000_000
RESTORE_SECONDS_MAX = 6 * 3600.0

_INSERT = """
insert into events (position, recorded_at, version, schema, event_id, stream_id, type, data, metadata)
select * from unnest($1::bigint[], $2::timestamptz[], $3::int[], $4::smallint[], $5::uuid[], $6::text[], $7::text[],
                     $8::jsonb[], $9::jsonb[])
"""

_STREAMS = """
insert into streams (stream_id, version, first_position, last_position)
select stream_id, max(version), min(position), max(position) from events group by stream_id
"""


class NotEmpty(EventStoreError):
    """The database has events already: a log is only restored into an empty one."""


async def restore(
    database: Database, events: Iterable[RecordedEvent], *, on_progress: Callable[[int], None] = lambda _: None
) -> int:
    """Insert the events, which begin at position 1 and have no gaps; return how many there were.

    `on_progress` is called in the database thread with the events so far.

    Raises:
      NotEmpty: nothing was done. What `events` raises: nothing was done. SqlError, StoreUnavailable.
    """

    async def work(connection: Connection) -> int:
        await connection.execute("begin")
        await connection.execute("select pg_advisory_xact_lock(7403011)")
        if await connection.fetchval("select exists (select from events) or exists (select from streams)"):
            raise NotEmpty
        count, rest = 0, iter(events)
        while batch := list(islice(rest, BATCH_EVENTS)):
            await connection.fetchval("select extend_events($1, $2)", BATCH_EVENTS + 1, PARTITION_POSITIONS)
            await connection.execute(_INSERT, *_columns(batch))
            count += len(batch)
            on_progress(count)
        await connection.execute(_STREAMS)
        await connection.execute("commit")
        return count

    return await database.run(work, timeout_seconds=RESTORE_SECONDS_MAX)


def _columns(batch: Sequence[RecordedEvent]) -> Sequence[Sequence[object]]:
    return [
        [event.position for event in batch],
        [event.recorded_at for event in batch],
        [event.version for event in batch],
        [event.schema for event in batch],
        [event.event_id for event in batch],
        [event.stream_id for event in batch],
        [event.type for event in batch],
        [event.data for event in batch],
        [event.metadata for event in batch],
    ]
