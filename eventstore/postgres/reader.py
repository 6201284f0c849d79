"""Reads of the log and of snapshots. Rows become our objects in the database thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eventstore.event import RecordedEvent, Snapshot
from eventstore.postgres.pool import PooledDatabase
from eventstore.postgres.statements import statement
from eventstore.store import EventFilter

_RECORDED_BY = "select recorded_at <= $2::timestamptz from events where position = $1::bigint"
_POSITION_MAX = 2**63 - 1
_VERSION_MAX = 2**31 - 1


class Reader:
    """Each method is one crossing of the bridge; a read that loses its connection is tried once more on another."""

    def __init__(self, database: PooledDatabase) -> None:
        self._database = database

    async def head(self) -> int:
        async def work(connection: Any) -> int:
            return await connection.fetchval(statement("head")) or 0

        return await self._database.read(work)

    async def read_stream(self, stream_id: str, after_version: int, until: int | None) -> Sequence[RecordedEvent]:
        version = min(after_version, _VERSION_MAX)
        return await self._events("read_stream", stream_id, version, _POSITION_MAX if until is None else until)

    async def read_streams(self, stream_ids: Sequence[str]) -> Mapping[str, Sequence[RecordedEvent]]:
        streams: dict[str, list[RecordedEvent]] = {}
        for event in await self._events("read_streams", list(stream_ids)):
            streams.setdefault(event.stream_id, []).append(event)
        return {name: streams[name] for name in stream_ids if name in streams}  # in the order asked for

    async def history(self, after: int, limit: int) -> Sequence[RecordedEvent]:
        return await self._events("read_all", after, limit)

    async def read_all(
        self, after: int, before: int | None, limit: int, descending: bool, where: EventFilter | None
    ) -> Sequence[RecordedEvent]:
        sql, args = page_query(after, before, limit, descending, where or EventFilter())
        return await self._rows(sql, args)

    async def position_at(self, moment: datetime) -> int | None:
        """A search by halves over positions: times never fall, and an index on them would cost every append."""

        async def work(connection: Any) -> int | None:
            async with connection.transaction():
                # With the appends' own lock: one that is under way may have taken its time before `moment`.
                await connection.execute("select pg_advisory_xact_lock_shared(7403011)")
                if not await connection.fetchval("select $1::timestamptz < clock_timestamp()", moment):
                    return None
            first = await connection.fetchval("select position from events order by position limit 1")
            low, high = (first or 1) - 1, await connection.fetchval(statement("head")) or 0
            while low < high:
                middle = (low + high + 1) // 2
                if await connection.fetchval(_RECORDED_BY, middle, moment):
                    low = middle
                else:
                    high = middle - 1
            return low

        return await self._database.read(work)

    async def load_snapshot(self, stream_id: str, schema: int) -> Snapshot | None:
        async def work(connection: Any) -> Any:
            return await connection.fetchrow(statement("load_snapshot"), stream_id, schema)

        row = await self._database.read(work)
        if row is None:
            return None
        return Snapshot(stream_id=stream_id, schema=schema, version=row["version"], state=row["state"])

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        async def work(connection: Any) -> None:
            await connection.execute(
                statement("save_snapshot"), snapshot.stream_id, snapshot.schema, snapshot.version, snapshot.state
            )

        await self._database.read(work)  # writing it twice changes nothing

    async def _events(self, name: str, *args: Any) -> Sequence[RecordedEvent]:
        return await self._rows(statement(name), args)

    async def _rows(self, sql: str, args: Sequence[Any]) -> Sequence[RecordedEvent]:
        async def work(connection: Any) -> Sequence[RecordedEvent]:
            return [event_of(row) for row in await connection.fetch(sql, *args)]

        return await self._database.read(work)


def event_of(row: Any) -> RecordedEvent:
    """A row of the columns of `events`, in the order of read_all.sql."""
    position, recorded_at, version, schema, event_id, stream_id, kind, data, metadata = row
    return RecordedEvent(
        position=position,
        recorded_at=recorded_at,
        version=version,
        schema=schema,
        event_id=UUID(bytes=event_id.bytes),  # asyncpg's own class is equal, but not the same for encoders
        stream_id=stream_id,
        type=kind,
        data=data,
        metadata=metadata,
    )


def page_query(
    after: int, before: int | None, limit: int, descending: bool, where: EventFilter
) -> tuple[str, Sequence[Any]]:
    """SQL and arguments of a filtered page. Pure; every value is an argument."""
    conditions: list[str] = []
    args: list[Any] = []

    def add(condition: str, value: Any) -> None:
        args.append(value)
        conditions.append(condition.format(f"${len(args)}"))

    add("position > {}::bigint", after)
    if before is not None:
        add("position < {}::bigint", before)
    if where.stream_id is not None:
        add("stream_id = {}::text", where.stream_id)
        range_of = "coalesce((select {} from streams where stream_id = ${}), 0)"
        place = len(args)
        conditions.append(f"position >= {range_of.format('first_position', place)}")
        conditions.append(f"position <= {range_of.format('last_position', place)}")
    if where.category is not None:
        add("split_part(stream_id, '-', 1) = {}::text", where.category)
    if where.types:
        add("type = any ({}::text[])", list(where.types))
    if where.event_type is not None:
        add("split_part(stream_id, '-', 1) = 'external' and data->>'type' = {}::text", where.event_type)
    if where.external_id is not None:  # said so that the index `events_external` serves it
        add("type = 'ExternalEventReceived' and event_id = {}::uuid", where.external_id)
    if where.rated_job_id is not None:  # as the index `events_rated` has it
        add("type = 'TaskDispatched' and data->>'rate' is not null and data->>'job_id' = {}::text", where.rated_job_id)
    if where.correlation_id is not None:
        add("metadata->>'correlation_id' = {}::text", where.correlation_id)
    if where.recorded_from is not None:
        add("recorded_at >= {}::timestamptz", where.recorded_from)
    if where.recorded_until is not None:
        add("recorded_at <= {}::timestamptz", where.recorded_until)
    args.append(limit)
    columns = statement("read_all").partition("\n  from")[0]
    order = " desc" if descending else ""
    return f"{columns} from events where {' and '.join(conditions)} order by position{order} limit ${len(args)}", args
