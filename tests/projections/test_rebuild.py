"""A rebuilt table is the fold of the log, while traffic goes on, and keeps what people put on the old one."""

from __future__ import annotations

import threading

import pytest
import trio

from eventstore.errors import SqlError
from eventstore.postgres import PostgresSettings, PostgresStore, open_postgres_store
from eventstore.postgres.database import Connection
from projections.errors import RebuildRefused, RebuildRunning
from projections.follower import Follower
from projections.rebuild import Progress, prepare, rebuild
from projections.rebuild_table import catch_up_table, fill_table, has_shape
from projections.runner import open_runner
from projections.status import read_status
from projections.tables import ALL_TABLES, LIVE, LIVE_TABLES
from tests.projections.builders import Log
from tests.projections.live import a_history, append, assert_tables_are_the_fold_of_the_log, rows

SOON = 30.0


async def damage(store: PostgresStore) -> None:
    """Make every table wrong, so that only a rebuild puts it right."""
    for table in ALL_TABLES.values():
        await store.database.fetch(f"DELETE FROM {table.name}")


async def names(store: PostgresStore, sql: str) -> list[str]:
    return [row[0] for row in await store.database.fetch(sql)]


async def test_every_table_is_rebuilt_to_the_head_of_the_log(any_store: PostgresStore) -> None:
    await append(any_store, a_history(25).events)
    done = await rebuild(any_store.database)
    assert [result.names for result in done] == [tuple(LIVE_TABLES), ("open_work",)]
    assert {result.position for result in done} == {await any_store.head()}
    await assert_tables_are_the_fold_of_the_log(any_store)
    async with open_runner(any_store) as runner:
        assert runner.position == await any_store.head()


async def test_the_columns_of_a_rebuilt_table_are_those_of_a_migrated_one(store: PostgresStore) -> None:
    shape = (
        "SELECT table_name, column_name, ordinal_position, data_type, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name ~ '^(sched_|open_work)' ORDER BY 1, 3"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename ~ '^(sched_|open_work)' ORDER BY 1"
    migrated = [tuple(row) for sql in (shape, indexes) for row in await store.database.fetch(sql)]
    await rebuild(store.database)
    assert [tuple(row) for sql in (shape, indexes) for row in await store.database.fetch(sql)] == migrated
    for table in ALL_TABLES.values():
        assert await has_shape(store.database, table)
    assert await names(store, "SELECT tablename FROM pg_tables WHERE schemaname = 'hetuflow_rebuild'") == []


async def test_named_tables_stay_with_the_checkpoint_of_the_others(store: PostgresStore) -> None:
    history = a_history(10)
    await append(store, history.events[:30])
    async with open_runner(store):
        pass
    await append(store, history.events[30:])
    await store.database.fetch("DELETE FROM sched_task")
    (done,) = await rebuild(store.database, ["tasks"])
    assert done.position == 30
    async with open_runner(store) as runner:
        assert runner.position == await store.head()
        await assert_tables_are_the_fold_of_the_log(store, list(LIVE_TABLES))


async def test_a_rebuild_under_traffic_loses_nothing_and_disturbs_no_reader(store: PostgresStore) -> None:
    history = a_history(120)
    stop = trio.Event()
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not stop.is_set():
            await store.database.fetch("SELECT count(*) FROM sched_task")
            await store.database.fetch("SELECT count(*) FROM sched_task_instance")
            reads += 1

    await append(store, history.events[:200])
    async with open_runner(store) as runner:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)

            async def write() -> None:
                await append(store, history.events[200:])
                stop.set()

            nursery.start_soon(write)
            rebuilt = 0
            while not stop.is_set():
                await rebuild(store.database, ["tasks", "task_instances"] if rebuilt % 2 else tuple(ALL_TABLES))
                rebuilt += 1
        head = await store.head()
        assert await runner.reached(head, SOON) == head
        await runner.open_work_reached(head)
        assert rebuilt >= 1
        assert reads >= 1
        await assert_tables_are_the_fold_of_the_log(store)


async def test_peoples_indexes_partitions_grants_and_views_survive(store: PostgresStore) -> None:
    await append(store, a_history(5).events)
    for statement in (
        "CREATE INDEX idx_sched_task_status ON sched_task(status)",
        'CREATE UNIQUE INDEX "Odd Name" ON sched_task (id, lower(name)) WHERE status > 1',
        "CREATE INDEX idx_sched_task_instance_agent ON sched_task_instance(agent_id)",
        "CREATE TABLE sched_task_instance_2026_03 PARTITION OF sched_task_instance"
        " FOR VALUES FROM ('2020-03-01') TO ('2040-04-01')",
        "CREATE INDEX only_here ON sched_task_instance_default (reason)",
        "CREATE ROLE reader_of_hetuflow",
        "GRANT SELECT ON sched_task TO reader_of_hetuflow",
        "CREATE VIEW open_tasks AS SELECT id, name FROM sched_task WHERE status < 90",
        "CREATE VIEW named_tasks AS SELECT name FROM open_tasks",
        "GRANT SELECT ON named_tasks TO PUBLIC",
    ):
        await store.database.fetch(statement)
    kept = (
        "SELECT indexname || indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        "SELECT table_name || grantee || privilege_type FROM information_schema.role_table_grants"
        " WHERE table_schema = 'public' ORDER BY 1",
        "SELECT viewname || definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
        "SELECT c.relname || pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE relispartition AND relkind = 'r' ORDER BY 1",
    )
    before = [await names(store, sql) for sql in kept]
    try:
        await rebuild(store.database)
        assert [await names(store, sql) for sql in kept] == before
        await assert_tables_are_the_fold_of_the_log(store)
        assert await names(store, "SELECT count(*)::text FROM sched_task_instance_2026_03") == ["6"]
        assert len(await names(store, "SELECT name FROM named_tasks")) == 1
    finally:
        for statement in ("DROP OWNED BY reader_of_hetuflow", "DROP ROLE reader_of_hetuflow"):
            await store.database.fetch(statement)


async def test_what_cannot_be_carried_over_is_refused_by_name_and_nothing_is_done(store: PostgresStore) -> None:
    await append(store, a_history(5).events)
    async with open_runner(store):
        pass
    await store.database.fetch("CREATE MATERIALIZED VIEW report AS SELECT count(*) FROM sched_task")
    with pytest.raises(RebuildRefused, match="materialized view report"):
        await rebuild(store.database, ["tasks"])
    await store.database.fetch("DROP MATERIALIZED VIEW report")
    await store.database.fetch("CREATE TABLE notes (task uuid REFERENCES sched_task)")
    with pytest.raises(RebuildRefused, match="foreign key notes_task_fkey on notes"):
        await rebuild(store.database, ["tasks"])
    await assert_tables_are_the_fold_of_the_log(store, list(LIVE_TABLES))


async def test_a_changed_definition_is_rebuilt_at_the_next_start(store: PostgresStore) -> None:
    await append(store, a_history(6).events)
    async with open_runner(store):
        pass
    assert await prepare(store.database) == []
    await damage(store)
    await store.database.fetch("UPDATE projection_tables SET fingerprint = 'older' WHERE name IN ('tasks', 'agents')")
    await store.database.fetch("ALTER TABLE sched_agent DROP COLUMN draining")
    assert await prepare(store.database) == ["tasks", "agents"]
    await assert_tables_are_the_fold_of_the_log(store, ["tasks", "agents"])
    assert await rows(store.database, ALL_TABLES["jobs"]) == {}
    assert await prepare(store.database) == []


async def test_a_first_start_on_an_empty_log_rebuilds_nothing(store: PostgresStore) -> None:
    assert await prepare(store.database) == []
    assert sorted(await names(store, "SELECT name FROM projection_tables")) == sorted(ALL_TABLES)


async def test_a_table_is_rebuilt_by_one_at_a_time(store: PostgresStore, fresh_database: str) -> None:
    await append(store, a_history(3).events)
    refused = False

    async def hold(connection: Connection) -> None:
        """In the other store's thread: keep a half-finished rebuild until ours was refused."""
        await fill_table(connection, ALL_TABLES["tasks"], 1)
        held.set()
        while not refused:
            await connection.fetchval("SELECT pg_sleep(0.01)")

    held = threading.Event()
    async with open_postgres_store(fresh_database) as other, trio.open_nursery() as nursery:
        nursery.start_soon(other.database.transact, hold)
        await trio.to_thread.run_sync(held.wait)
        with pytest.raises(RebuildRunning, match="sched_task"):
            await rebuild(store.database, ["tasks"])
        refused = True
    await rebuild(store.database)
    await assert_tables_are_the_fold_of_the_log(store)


async def test_a_rebuild_whose_fresh_table_was_taken_away_gives_up(store: PostgresStore) -> None:
    await append(store, a_history(3).events)
    table = ALL_TABLES["tasks"]
    first = await store.database.transact(lambda connection: fill_table(connection, table, 5))
    await store.database.transact(lambda connection: fill_table(connection, table, 5))
    with pytest.raises(RebuildRunning):
        await store.database.transact(lambda connection: catch_up_table(connection, first, 6))


async def test_progress_is_reported_up_to_the_target(store: PostgresStore) -> None:
    await append(store, a_history(5).events)
    seen: list[Progress] = []
    await rebuild(store.database, on_progress=seen.append)
    live = [progress for progress in seen if progress.target == await store.head()]
    assert seen[0].position == 0
    assert live[-1].position == live[-1].target == await store.head()
    positions = [progress.position for progress in seen[: len(LIVE_TABLES) + 1]]
    assert positions == sorted(positions)


async def test_an_event_that_cannot_be_folded_ends_the_rebuild_and_leaves_the_tables(store: PostgresStore) -> None:
    history = a_history(2)
    await append(store, history.events)
    async with open_runner(store):
        pass
    before = await rows(store.database, ALL_TABLES["tasks"])
    poison = Log()
    poison.add_raw("task-x", "TaskCreated", '{"task_id": "not-an-id"}')
    await append(store, poison.events)
    with pytest.raises(SqlError, match="not-an-id"):
        await rebuild(store.database)
    assert await rows(store.database, ALL_TABLES["tasks"]) == before


async def test_a_rebuild_puts_a_damaged_table_right_without_a_running_server(store: PostgresStore) -> None:
    await append(store, a_history(8).events)
    async with open_runner(store):
        pass
    await damage(store)
    await rebuild(store.database)
    await assert_tables_are_the_fold_of_the_log(store)
    follower = Follower(store.database, LIVE, LIVE_TABLES)
    assert await follower.load() == await store.head()


async def test_the_status_without_a_server_tells_what_is_behind_and_what_is_stale(store: PostgresStore) -> None:
    history = a_history(3)
    await append(store, history.events[:20])
    async with open_runner(store):
        pass
    head = await append(store, history.events[20:])
    await store.database.fetch("UPDATE projection_tables SET fingerprint = 'older' WHERE name = 'tasks'")
    status = {each.name: each for each in await read_status(store.database)}
    assert list(status) == list(ALL_TABLES)
    assert (status["jobs"].status, status["tasks"].status) == ("live", "stale")
    assert (status["jobs"].position, status["jobs"].head, status["jobs"].lag_events) == (20, head, head - 20)
    assert status["jobs"].updated_at is not None
    assert status["jobs"].lag_seconds >= 0


async def test_a_server_that_owns_nothing_else_follows_the_log_and_rebuilds(fresh_database: str) -> None:
    """Where `migrate` may make roles, a server runs as one that may only append to the log."""
    async with open_postgres_store(fresh_database, settings=PostgresSettings(role="hetuflow_server")) as store:
        assert await names(store, "SELECT current_user::text") == ["hetuflow_server"]
        async with open_runner(store) as runner:
            head = await append(store, a_history(4).events)
            assert await runner.reached(head, SOON) == head
            await rebuild(store.database)
        await assert_tables_are_the_fold_of_the_log(store)


async def test_a_rebuild_that_was_cut_off_in_the_middle_leaves_nothing_in_the_way(store: PostgresStore) -> None:
    """As by Ctrl-C, or by the death of its process: the tables are as before, and it can be begun again."""
    await append(store, a_history(20).events)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def begin() -> None:
            with scope:
                await rebuild(store.database, on_progress=lambda step: scope.cancel() if step.done else None)

        nursery.start_soon(begin)
    assert scope.cancelled_caught
    [live, work] = await rebuild(store.database)
    assert live.position == work.position == await store.head()
    await assert_tables_are_the_fold_of_the_log(store)
