"""The database goes away in every way it can: nothing is lost, nothing doubled, and everything heals by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from eventstore.errors import (
    EventStoreError,
    SqlError,
    StoreTimeout,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.event import Claim
from eventstore.postgres import Connection, PostgresSettings, PostgresStore, migrate, open_postgres_store
from hetuflow.embedded.postgres import EmbeddedPostgres
from tests.eventstore.builders import a_claim, an_event, some_events
from tests.eventstore.proxy import Proxy, open_proxy
from tests.support.postgres import SETTINGS, Server, running_server

PATIENT = PostgresSettings(append_seconds_max=20, poll_seconds=0.2)


@pytest.fixture
async def proxy(fresh_database: str) -> AsyncIterator[Proxy]:
    async with open_proxy(fresh_database) as opened:
        yield opened


async def terminate_all(store: PostgresStore, *, purpose: str = "") -> None:
    """pg_terminate_backend on every connection of this database but the one that does it."""

    async def work(connection: Connection) -> None:
        await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and application_name like $1",
            f"%{purpose}",
        )

    await store.database.run(work)


async def test_an_append_whose_answer_was_lost_is_written_once_and_succeeds(proxy: Proxy) -> None:
    async with open_postgres_store(proxy.url, settings=PATIENT) as store:
        await store.append([a_claim("a", 0, 2)])
        proxy.lose_next_answer_to(b"TheOne")
        with trio.fail_after(20):
            appended = await store.append([Claim("a", 2, [an_event("TheOne")]), a_claim("b", 0, 2)])
        assert proxy.lost == 1
        assert (appended.position, list(appended.positions)) == (5, [3, 4])
        assert await store.head() == 5
        # … and the writer goes on as if nothing had been.
        assert (await store.append([a_claim("a", 3)])).position == 6


async def test_a_subscriber_sees_an_append_whose_answer_was_lost_once(proxy: Proxy) -> None:
    async with open_postgres_store(proxy.url, settings=PATIENT) as store, store.subscribe(after=0) as batches:
        proxy.lose_next_answer_to(b"TheOne")
        with trio.fail_after(20):
            await store.append([Claim("a", 0, [an_event("TheOne")])])
            await store.append([a_claim("a", 1)])
            seen: list[str] = []
            async for batch in batches:
                seen.extend(event.type for event in batch)
                if len(seen) == 2:
                    break
    assert seen == ["TheOne", "Happened"]


async def test_a_lost_answer_to_a_conflict_is_still_a_conflict(proxy: Proxy) -> None:
    async with open_postgres_store(proxy.url, settings=PATIENT) as store:
        await store.append([a_claim("a", 0, 2)])
        proxy.lose_next_answer_to(b"TheOne")
        with trio.fail_after(20), pytest.raises(WrongExpectedVersion) as refused:
            await store.append([Claim("a", 1, [an_event("TheOne")])])
        assert refused.value.actual == 2 and proxy.lost == 1


async def test_an_outage_longer_than_the_deadline_says_what_is_known(proxy: Proxy) -> None:
    settings = PostgresSettings(append_seconds_max=0.5, connect_seconds_max=0.5)
    async with open_postgres_store(proxy.url, settings=settings) as store:
        claims = [Claim("a", 0, [an_event("TheOne")])]
        proxy.lose_next_answer_to(b"TheOne")
        proxy.refuse(True)
        with pytest.raises(StoreTimeout):  # sent, no answer: perhaps written
            await store.append(claims)
        with pytest.raises(StoreUnavailable):  # never sent
            await store.append([a_claim("b")])
        with pytest.raises(StoreUnavailable):
            proxy.cut()
            await store.read_stream("a")
        proxy.refuse(False)
        assert (await store.append(claims)).position == 1
        assert await store.head() == 1


async def test_terminating_every_backend_again_and_again_loses_and_doubles_nothing(fresh_database: str) -> None:
    seen: list[int] = []
    async with open_postgres_store(fresh_database, settings=PATIENT) as store, trio.open_nursery() as nursery:

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            async with store.subscribe(after=0, buffer_events=50) as batches:
                task_status.started()
                async for batch in batches:
                    seen.extend(event.position for event in batch)
                    if len(seen) == 5 * 60 * 2:
                        return

        async def write(name: str) -> None:
            for n in range(60):
                await store.append([Claim(name, 2 * n, some_events(2))])

        with trio.fail_after(60):
            async with trio.open_nursery() as followed:
                await followed.start(follow)
                async with trio.open_nursery() as writers:
                    for name in "abcde":
                        writers.start_soon(write, name)
                    for _ in range(6):
                        before = await _head(store)
                        await terminate_all(store)
                        while len(writers.child_tasks) and await _head(store) < before + 10:
                            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert seen == list(range(1, 601))


async def _head(store: PostgresStore) -> int:
    """Reads may fail in this test, as any caller's may."""
    while True:
        try:
            return await store.head()
        except StoreUnavailable:
            await trio.lowlevel.checkpoint()


async def test_an_idle_store_heals_when_it_is_used_next(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database, settings=PATIENT) as store:
        await store.append([a_claim("a")])
        await store.head()
        await terminate_all(store)
        assert await store.head() == 1
        assert (await store.append([a_claim("a", 1)])).position == 2


async def test_idle_connections_that_died_are_not_given_out(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database, settings=PATIENT) as store:

        async def one() -> None:
            await store.database.fetch("select pg_sleep(0.05)")

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
        idle = [pooled.connection for pooled in store._database.pool._idle]
        assert len(idle) == 4
        await terminate_all(store)
        with trio.fail_after(20):
            while not all(connection.is_closed() for connection in idle):
                await trio.lowlevel.checkpoint()
        assert [row[0] for row in await store.database.fetch("select 1")] == [1]
        assert not any(pooled.connection in idle for pooled in store._database.pool._idle)


async def test_foreign_events_arrive_after_the_listening_connection_was_lost(fresh_database: str) -> None:
    async with (
        open_postgres_store(fresh_database, settings=PATIENT) as store,
        open_postgres_store(fresh_database) as other,
        store.subscribe(after=0) as batches,
    ):
        for number in range(5):
            await terminate_all(store, purpose="listen")
            await other.append([a_claim(f"s-{number}")])
            with trio.fail_after(20):
                (event,) = await anext(batches)
            assert event.position == number + 1


@pytest.fixture
def own_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


async def test_a_killed_server_comes_back_with_everything_that_was_acknowledged(own_server: Server) -> None:
    process, url = own_server.process, own_server.url
    assert process is not None
    await migrate(url)
    acknowledged: list[str] = []
    async with open_postgres_store(url, settings=PATIENT) as store, trio.open_nursery() as nursery:

        async def write(name: str) -> None:
            for version in range(40):
                await store.append([a_claim(name, version)])
                acknowledged.append(f"{name}@{version + 1}")

        for name in ("a", "b", "c"):
            nursery.start_soon(write, name)
        while len(acknowledged) < 20:
            await trio.lowlevel.checkpoint()
        os.kill(process.pid, signal.SIGQUIT)  # an immediate stop: as a crash
        await trio.to_thread.run_sync(process.stop)
        again = EmbeddedPostgres(process.data_dir, port=process.port, settings=SETTINGS)
        await trio.to_thread.run_sync(again.start)
    try:
        async with open_postgres_store(url) as store:
            events = await store.read_all(limit=1000)
    finally:
        again.stop()
    assert [event.position for event in events] == list(range(1, 121))
    assert {f"{event.stream_id}@{event.version}" for event in events} == set(acknowledged)


async def test_a_transaction_of_the_database_port_is_all_or_nothing(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store:
        database = store.database

        async def good(connection: Connection) -> str:
            await connection.execute("insert into checkpoints values ('p', $1)", 7)
            name: str = await connection.fetchval("select name from checkpoints")
            return name

        async def bad(connection: Connection) -> None:
            await connection.execute("update checkpoints set position = 8")
            raise KeyError("mine")

        async def swallowed(connection: Connection) -> None:
            await connection.execute("update checkpoints set position = 9")
            try:
                await connection.execute("select 1/0")
            except SqlError as exc:
                assert exc.sqlstate == "22012"

        assert await database.transact(good) == "p"
        with pytest.raises(KeyError):
            await database.transact(bad)
        with pytest.raises(SqlError, match="rolled back"):
            await database.transact(swallowed)
        (row,) = await database.fetch(
            "select name, position, '{\"a\": 1}'::jsonb as data, now() as at from checkpoints"
        )
        assert tuple(row)[:3] == ("p", 7, '{"a": 1}') and row["position"] == 7
        assert row["at"].utcoffset().total_seconds() == 0


@pytest.mark.parametrize("is_within_a_statement", [False, True])
async def test_a_transaction_that_stands_still_gives_its_locks_up(
    fresh_database: str, is_within_a_statement: bool
) -> None:
    """As that of a server that was stopped (SIGSTOP) in the middle of one: others wait for the same rows."""
    forgotten, others = PostgresSettings(idle_seconds_max=0.2), PostgresSettings(lock_seconds_max=2.0)
    async with (
        open_postgres_store(fresh_database, settings=others) as other,
        open_postgres_store(fresh_database, settings=forgotten) as stopped,
        trio.open_nursery() as nursery,
    ):
        locked = trio.Event()
        token = trio.lowlevel.current_trio_token()
        over: list[bool] = []

        async def stand_still(connection: Connection) -> None:
            await connection.execute("lock table checkpoints")
            if is_within_a_statement:  # its plan is there, and PostgreSQL waits for its values
                await connection._connection.prepare("select 1")  # type: ignore[attr-defined]
            token.run_sync_soon(locked.set)
            while not over:  # noqa: ASYNC110 - in another thread's loop
                await asyncio.sleep(0.01)

        async def be_stopped() -> None:
            with pytest.raises((StoreUnavailable, StoreTimeout)):
                await stopped.database.transact(stand_still, timeout_seconds=0.2)

        nursery.start_soon(be_stopped)
        await locked.wait()

        async def go_on(connection: Connection) -> None:
            await connection.execute("lock table checkpoints")

        try:
            await other.database.transact(go_on)
        finally:
            over.append(True)


async def test_a_connection_that_ends_between_a_plan_and_its_values_was_lost(postgres_store: PostgresStore) -> None:
    """As that of a server that goes on after a long stop: the plan has come meanwhile, and the time for it is over."""

    async def work(connection: Connection) -> None:
        asyncpgs = connection._connection  # type: ignore[attr-defined]
        query = connection.fetch("select 'new to this connection'")
        plan = query.send(None)  # type: ignore[attr-defined]
        plan._asyncio_future_blocking = False  # we wait in its place
        await plan
        asyncpgs.terminate()
        query.send(None)  # type: ignore[attr-defined]

    with pytest.raises(StoreUnavailable):
        await postgres_store.database.transact(work)


async def test_a_long_statement_is_planned_once_for_each_connection(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database, settings=PostgresSettings(pool_size=1)) as store:
        long = f"select count(*) from pg_prepared_statements where length(statement) > 20000 -- {'x' * 20000}"
        await store.database.fetch(long)
        assert [tuple(row) for row in await store.database.fetch(long)] == [(1,)]


async def test_the_database_port_reports_postgresqls_refusals(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database, settings=PostgresSettings(pool_size=1)) as store:
        database = store.database
        with pytest.raises(SqlError) as missing:
            await database.fetch("select * from nothing")
        assert (missing.value.sqlstate, "nothing" in missing.value.message) == ("42P01", True)
        with pytest.raises(SqlError):
            await database.fetch("select $1::int", "no number")
        with pytest.raises(StoreTimeout):
            await database.fetch("select pg_sleep(60)", timeout_seconds=0.05)

        async def slow(connection: Connection) -> None:
            await connection.execute("select pg_sleep(60)")

        with pytest.raises(StoreTimeout):
            await database.transact(slow, timeout_seconds=0.05)
        with pytest.raises(StoreTimeout):
            await database.run(slow, timeout_seconds=0.05)
        assert [tuple(row) for row in await database.fetch("select 1")] == [(1,)]
        assert (await database.fetch("show statement_timeout"))[0][0] == "10s"


async def test_a_cancelled_query_leaves_the_pool_whole(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database, settings=PostgresSettings(pool_size=1)) as store:
        for _ in range(5):
            with trio.move_on_after(0.02) as scope:
                await store.database.fetch("select pg_sleep(60)")
            assert scope.cancelled_caught
            assert [row[0] for row in await store.database.fetch("select 1")] == [1]


async def test_errors_of_the_block_leave_the_store_unwrapped(fresh_database: str) -> None:
    with pytest.raises(EventStoreError, match="mine"):
        async with open_postgres_store(fresh_database):
            raise EventStoreError("mine")
