"""The log is partitioned by position: crossing a boundary, running past the last one, adding the next in time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import trio

from eventstore.event import Claim
from eventstore.postgres import EVENTSTORE, Connection, PostgresSettings, PostgresStore, open_postgres_store
from eventstore.postgres.statements import statement
from tests.eventstore.builders import a_claim, some_events
from tests.support.postgres import Server, run_sql

SMALL = PostgresSettings(partition_positions=10)


@pytest.fixture
def small_partitions(postgres_server: Server) -> Iterator[str]:
    """A database whose partitions hold ten positions."""
    url = postgres_server.fresh_database([EVENTSTORE])
    run_sql(url, "alter table events detach partition events_1")
    run_sql(url, "drop table events_1")
    yield url
    postgres_server.drop(url)


async def partitions(store: PostgresStore) -> list[str]:
    rows = await store.database.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'events'::regclass order by inhrelid"
    )
    return [row["name"] for row in rows]


async def test_a_batch_may_cross_boundaries_and_run_past_the_last_partition(small_partitions: str) -> None:
    async with open_postgres_store(small_partitions, settings=SMALL) as store:
        assert await partitions(store) == ["events_1"]
        await store.append([a_claim("a", 0, 8)])
        appended = await store.append([a_claim("b", 0, 35), Claim("a", 8, some_events(1))])
        assert list(appended.positions) == [9, 44]
        assert [event.position for event in await store.read_all(limit=100)] == list(range(1, 45))
        assert [event.version for event in await store.read_stream("b")] == list(range(1, 36))
        assert [event.position for event in await store.read_stream("a", after_version=7)] == [8, 44]
        assert "events_41" in await partitions(store)


async def test_the_next_partition_is_there_before_it_is_needed(small_partitions: str) -> None:
    async with open_postgres_store(small_partitions, settings=SMALL) as store:
        for version in range(4):
            await store.append([a_claim("a", version)])
        assert await partitions(store) == ["events_1"]
        for version in range(4, 7):
            await store.append([a_claim("a", version)])
        assert await partitions(store) == ["events_1", "events_11"]


async def test_a_partition_that_went_missing_is_made_again(small_partitions: str) -> None:
    async with open_postgres_store(small_partitions, settings=SMALL) as store:
        await store.append([a_claim("a", 0, 7)])
        await store.append([a_claim("a", 7)])  # answered after the writer has made room for the first

        async def drop(connection: Connection) -> None:
            await connection.execute("drop table events_11")

        await store.database.run(drop)
        assert (await store.append([a_claim("a", 8, 9)])).position == 17


async def test_every_partition_guards_versions_and_refuses_changes(small_partitions: str) -> None:
    async with open_postgres_store(small_partitions, settings=SMALL) as store:
        await store.append([a_claim("a", 0, 25)])
        for name in await partitions(store):
            rows = await store.database.fetch(
                "select (select count(*) from pg_trigger where tgrelid = $1::text::regclass and tgname = 'append_only'"
                "        and tgenabled = 'A') as triggers,"
                " (select count(*) from pg_index where indrelid = $1::text::regclass and indisunique and indnatts = 2)"
                " as indexes",
                name,
            )
            assert tuple(rows[0]) == (1, 1), name


async def test_two_stores_extend_the_log_at_once(small_partitions: str) -> None:
    async with (
        open_postgres_store(small_partitions, settings=SMALL) as one,
        open_postgres_store(small_partitions, settings=SMALL) as two,
    ):

        async def write(store: PostgresStore, name: str) -> None:
            for version in range(40):
                await store.append([a_claim(name, version)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, one, "one")
            nursery.start_soon(write, two, "two")
        assert [event.position for event in await one.read_all()] == list(range(1, 81))


async def test_reading_a_stream_touches_only_its_partitions(small_partitions: str) -> None:
    async with open_postgres_store(small_partitions, settings=SMALL) as store:
        for number in range(30):
            await store.append([a_claim(f"s-{number}", 0, 3)])
        sql = statement("read_stream").replace("$1", "'s-20'").replace("$2", "0").replace("$3", "1000000")
        rows = await store.database.fetch(f"explain (analyze, format json) {sql}")
        scanned: list[str] = []

        def visit(node: dict[str, object]) -> None:
            if str(node.get("Relation Name", "")).startswith("events_") and node["Actual Loops"]:
                scanned.append(str(node["Relation Name"]))
            for child in node.get("Plans", []):  # type: ignore[attr-defined]
                visit(child)

        visit(json.loads(rows[0][0])[0]["Plan"])
        assert scanned == ["events_61"]


async def test_an_old_snapshot_does_not_make_appends_slower(fresh_database: str) -> None:
    """The head is the last row of an insert-only index: no chain of dead versions, however old the oldest snapshot."""

    async def pages(connection: Connection) -> int:
        rows = await connection.fetch(f"explain (analyze, buffers, format json) {statement('head')}")
        return int(json.loads(rows[0][0])[0]["Plan"]["Shared Hit Blocks"])

    async with open_postgres_store(fresh_database) as store:
        await store.append([a_claim("a", 0, 500)])

        async def hold_a_snapshot(connection: Connection) -> tuple[int, int]:
            await connection.execute("begin isolation level repeatable read")
            seen = await connection.fetchval("select count(*) from events")
            done.set()
            while not finished.is_set():
                await connection.fetchval("select pg_sleep(0.01)")
            again = await connection.fetchval("select count(*) from events")
            await connection.execute("commit")
            return seen, again

        done, finished = threading.Event(), threading.Event()
        counts: list[tuple[int, int]] = []

        async def holder() -> None:
            counts.append(await store.database.run(hold_a_snapshot))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(holder)
            await trio.to_thread.run_sync(done.wait)
            before = await store.database.run(pages)
            for version in range(1000):
                await store.append([a_claim("b", version)])
            after = await store.database.run(pages)
            finished.set()
        assert counts == [(500, 500)]  # the snapshot was really held
        assert after <= before + 3
