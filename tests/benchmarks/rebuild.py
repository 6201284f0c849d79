"""How fast are tables folded from the log? Anew, and range by range behind a running log; beside one SQL GROUP BY."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import projections
from eventstore.postgres import EVENTSTORE, Connection, Database, PostgresStore, migrate, open_postgres_store
from projections.follower import Follower
from projections.rebuild import rebuild
from projections.tables import LIVE, LIVE_TABLES

SOURCES = (EVENTSTORE, ("projections", Path(projections.__file__).with_name("migrations")))
HISTORY = Path(__file__).with_name("history.sql").read_text(encoding="utf-8")

EVENTS_PER_TASK = 6.5
"""Of `history.sql`: one task in ten fails once and is retried."""


async def measure(url: str, *, events: int = 500_000) -> dict[str, float]:
    """Measure on an empty database of its own; fills it with a realistic log of about `events` events.

    Returns (events/s unless named otherwise):
      events_per_second: `sched_task` and `sched_task_instance` together, with indexes and the swap.
      all_tables_per_second: the six tables and `open_work`.
      baseline_events_per_second: `SELECT stream_id, max(version) FROM events GROUP BY 1`.
      catch_up_events_per_second: the six tables range by range, as behind a log that is far ahead.
      tick_1_ms, tick_500_ms: a transaction that folds 1 or 500 events into the six tables, the commit included.
      events: how many there are.
    """
    await migrate(url, SOURCES)
    async with open_postgres_store(url, sources=SOURCES) as store:
        database = store.database
        await database.run(lambda connection: _fill(connection, round(events / EVENTS_PER_TASK)))
        head = await store.head()
        baseline = head / await database.run(_baseline)
        # As if the tables had followed the log all along: the two are rebuilt beside the others.
        await database.fetch("UPDATE checkpoints SET position = $1 WHERE name = $2", head, LIVE)
        (two,) = await rebuild(database, ["tasks", "task_instances"])
        started = perf_counter()
        await rebuild(database)
        whole = head / (perf_counter() - started)
        await _empty(database)
        follower = Follower(database, LIVE, LIVE_TABLES)
        behind = await _catch_up(follower, head, head // 5)
        return {
            "events": head,
            "baseline_events_per_second": baseline,
            "events_per_second": two.events_per_second,
            "all_tables_per_second": whole,
            "catch_up_events_per_second": behind,
            "tick_1_ms": await _tick(store, 1, 300),
            "tick_500_ms": await _tick(store, 500, 40),
        }


async def _fill(connection: Connection, tasks: int) -> None:
    await connection.execute(HISTORY.replace(":tasks", str(tasks)))
    await connection.execute("VACUUM ANALYZE events")


async def _baseline(connection: Connection) -> float:
    sql = "SELECT count(*) FROM (SELECT stream_id, max(version) FROM events GROUP BY 1) AS streams"
    await connection.fetchval(sql)  # warm, as the rebuild will find it
    started = perf_counter()
    await connection.fetchval(sql)
    return perf_counter() - started


async def _empty(database: Database) -> None:
    await database.fetch(f"TRUNCATE {', '.join(table.name for table in LIVE_TABLES.values())}")
    await database.fetch("UPDATE checkpoints SET position = 0 WHERE name = $1", LIVE)


async def _catch_up(follower: Follower, head: int, until: int) -> float:
    follower.expect(head)
    started = perf_counter()
    while follower.position < until:
        assert await follower.step(), follower
    return follower.position / (perf_counter() - started)


async def _tick(store: PostgresStore, size: int, ticks: int) -> float:
    """Milliseconds per transaction. The types in the range are known, as they are in a running server."""
    follower = Follower(store.database, LIVE, LIVE_TABLES)
    start = await follower.load()
    follower.watch_from(start)
    events = await store.read_all(after=start, limit=(ticks + 10) * size)
    batches = [events[at : at + size] for at in range(0, len(events), size)]
    for batch in batches[:10]:  # statements are prepared once per connection
        follower.notice(batch, 0.0)
        assert await follower.step(), follower
    started = perf_counter()
    for batch in batches[10:]:
        follower.notice(batch, 0.0)
        assert await follower.step(), follower
    return (perf_counter() - started) / (len(batches) - 10) * 1000


if __name__ == "__main__":
    import sys

    import trio

    for name, value in trio.run(measure, sys.argv[1]).items():
        print(f"{name:30} {value:,.1f}")
