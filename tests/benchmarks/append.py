"""How fast are appends? In batches of 500 events with claims and metadata, and alone; beside a bare INSERT."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import count
from time import perf_counter
from typing import Any
from uuid import UUID

import msgspec
import trio

from eventstore.event import Claim, NewEvent
from eventstore.postgres import Connection, PostgresStore, migrate, open_postgres_store

STREAMS, EVENTS_PER_APPEND = 100, 5
BATCH = STREAMS * EVENTS_PER_APPEND

_BARE_TABLE = """
drop table if exists bench_bare;
create table bench_bare (
  position bigint primary key, recorded_at timestamptz not null, version int not null, schema smallint not null,
  event_id uuid not null, stream_id text collate "C" not null, type text collate "C" not null,
  data jsonb not null, metadata jsonb not null
)
"""
_BARE_INSERT = """
insert into bench_bare (position, recorded_at, version, schema, event_id, stream_id, type, data, metadata)
select * from unnest($1::bigint[], $2::timestamptz[], $3::int[], $4::smallint[], $5::uuid[], $6::text[], $7::text[],
                     $8::jsonb[], $9::jsonb[])
"""

_ids = count(1)


async def measure(url: str, *, rounds: int = 100, lone: int = 300) -> dict[str, float]:
    """Measure on a migrated (or empty) database of its own; it grows by some hundred thousand events.

    Returns (events/s, milliseconds, or a ratio):
      batch_events_per_second: 100 concurrent appends of 5 events each, as the writer groups them.
      single_events_per_second: one append after the other, each of 500 events over 100 streams.
      lone_p50_ms, lone_p95_ms: one append of one event after the other, nobody else.
      bare_events_per_second: INSERT … SELECT FROM unnest of the same 500 rows into a bare table, one after the other.
      bare_lone_p50_ms: the same with one row: one round trip and one flush.
      batch_ratio, single_ratio: to bare.
    """
    await migrate(url)
    async with open_postgres_store(url) as store:
        await store.append([Claim(f"warm-{next(_ids)}", 0, [_event(0)])])
        bare = await store.database.run(lambda connection: _bare(connection, rounds, lone))
        single = await _single(store, rounds)
        batch = await _concurrent(store, rounds)
        alone = await _lone(store, lone)
    return {
        "batch_events_per_second": batch,
        "single_events_per_second": single,
        "lone_p50_ms": statistics.median(alone) * 1e3,
        "lone_p95_ms": statistics.quantiles(alone, n=20)[18] * 1e3,
        **bare,
        "batch_ratio": batch / bare["bare_events_per_second"],
        "single_ratio": single / bare["bare_events_per_second"],
    }


async def _concurrent(store: PostgresStore, rounds: int) -> float:
    prepared = [_claims(rounds) for _ in range(STREAMS)]

    async def actor(appends: Sequence[Claim]) -> None:
        for claim in appends:
            await store.append([claim])

    begin = perf_counter()
    async with trio.open_nursery() as nursery:
        for appends in prepared:
            nursery.start_soon(actor, appends)
    return rounds * BATCH / (perf_counter() - begin)


async def _single(store: PostgresStore, rounds: int) -> float:
    appends = list(zip(*(_claims(rounds) for _ in range(STREAMS)), strict=True))
    begin = perf_counter()
    for claims in appends:
        await store.append(claims)
    return rounds * BATCH / (perf_counter() - begin)


async def _lone(store: PostgresStore, times: int) -> list[float]:
    taken = []
    for claim in _claims(times, 1):
        begin = perf_counter()
        await store.append([claim])
        taken.append(perf_counter() - begin)
    return taken


async def _bare(connection: Connection, rounds: int, lone: int) -> dict[str, float]:
    for sql in _BARE_TABLE.split(";"):
        await connection.execute(sql)
    now = await connection.fetchval("select now()")
    place = count(1)

    def columns(events: Sequence[NewEvent]) -> list[list[Any]]:
        rows = [
            (next(place), now, 1, event.schema, event.event_id, "task-x", event.type, event.data, event.metadata)
            for event in events
        ]
        return [list(column) for column in zip(*rows, strict=True)]

    batches = [columns([_event(n) for n in range(BATCH)]) for _ in range(rounds)]
    begin = perf_counter()
    for batch in batches:
        await connection.execute(_BARE_INSERT, *batch)
    rate = rounds * BATCH / (perf_counter() - begin)
    taken = []
    for n in range(lone):
        row = columns([_event(n)])
        begin = perf_counter()
        await connection.execute(_BARE_INSERT, *row)
        taken.append(perf_counter() - begin)
    return {"bare_events_per_second": rate, "bare_lone_p50_ms": statistics.median(taken) * 1e3}


def _claims(appends: int, events: int = EVENTS_PER_APPEND) -> Sequence[Claim]:
    """The appends of one stream, one after the other."""
    stream_id = f"task-{UUID(int=next(_ids))}"
    return [Claim(stream_id, n * events, [_event(n) for _ in range(events)]) for n in range(appends)]


def _event(n: int) -> NewEvent:
    event_id = UUID(int=next(_ids))
    data = {
        "task_id": str(event_id),
        "job_id": str(event_id),
        "epoch": n,
        "retry_count": 0,
        "at": "2026-03-01T12:00:00.000001Z",
    }
    metadata = {
        "correlation_id": str(event_id),
        "causation_id": str(event_id),
        "command_id": str(event_id),
        "principal": "system",
    }
    return NewEvent(
        event_id=event_id,
        type="TaskDispatched",
        data=msgspec.json.encode(data).decode(),
        metadata=msgspec.json.encode(metadata).decode(),
    )
