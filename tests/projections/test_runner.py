"""Live tables: at the position that was asked for, consistent with each other, never skipping an event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio

from eventstore.errors import StoreUnavailable
from eventstore.event import Claim, NewEvent
from eventstore.postgres import Connection, PostgresSettings, PostgresStore, open_postgres_store
from hetuflow.domain import events as e
from projections.errors import ProjectionStalled
from projections.runner import Runner, RunnerSettings, open_runner
from projections.tables import ALL_TABLES, LIVE_TABLES
from tests.projections.builders import Log, an_event, an_id
from tests.projections.live import a_history, a_task, append, assert_tables_are_the_fold_of_the_log

SOON = 30.0
"""Seconds: a limit for a hanging test, never a measurement."""


async def test_what_was_appended_is_shown_once_its_position_is_reached(any_store: PostgresStore) -> None:
    history = a_history(20)
    async with open_runner(any_store) as runner:
        for event in history.events:
            position = await append(any_store, [event])
            if position % 10 == 0:
                assert await runner.reached(position, SOON) >= position
        await runner.open_work_reached(position)
        assert await runner.reached(position, SOON) == position
        await assert_tables_are_the_fold_of_the_log(any_store)
        assert [status.status for status in runner.status()] == ["live"] * len(ALL_TABLES)
        assert {status.lag_events for status in runner.status()} == {0}


async def test_a_start_catches_up_with_what_happened_meanwhile(store: PostgresStore) -> None:
    await append(store, a_history(30).events)
    async with open_runner(store, settings=RunnerSettings(catch_up_positions=7)) as runner:
        assert runner.position == await store.head()
        await assert_tables_are_the_fold_of_the_log(store)


async def test_waiting_for_a_position_ends_in_time_and_says_what_is_shown(store: PostgresStore) -> None:
    async with open_runner(store) as runner:
        assert await runner.reached(1, 0.01) == 0
        position = await append(store, a_history(1).events)
        assert await runner.reached(position, SOON) == position
        assert await runner.reached(3, 0.0) == position


async def test_events_of_another_process_are_shown_too(store: PostgresStore, fresh_database: str) -> None:
    async with open_runner(store) as runner, open_postgres_store(fresh_database) as other:
        position = await append(other, a_history(3).events)
        assert await runner.reached(position, SOON) == position
        await runner.open_work_reached(position)
        await assert_tables_are_the_fold_of_the_log(store)


async def test_two_servers_apply_each_event_once(store: PostgresStore, fresh_database: str) -> None:
    history = a_history(40)
    async with open_postgres_store(fresh_database) as other:
        async with open_runner(store) as first, open_runner(other) as second:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append, store, history.events)
            head = await store.head()
            assert await first.reached(head, SOON) == head
            assert await second.reached(head, SOON) == head
        await assert_tables_are_the_fold_of_the_log(store, list(LIVE_TABLES))


async def test_the_six_tables_move_together(store: PostgresStore) -> None:
    """A reader between any two ticks sees all of an append or nothing of it, in every table."""
    torn = []
    done = trio.Event()

    async def watch() -> None:
        while not done.is_set():
            row = await store.database.fetch(
                "SELECT (SELECT count(*) FROM sched_task), (SELECT count(*) FROM sched_task_instance),"
                " (SELECT coalesce(sum((statistics ->> 'total_tasks')::int), 0) FROM sched_agent),"
                " (SELECT count(*) FROM sched_task WHERE status >= 10)"
            )
            if row[0][0] != row[0][1] or row[0][2] != row[0][3]:
                torn.append(tuple(row[0]))

    history = Log()
    history.add(an_event(e.AgentRegistered))
    for number in range(40):
        a_task(history, number)
    async with open_runner(store) as runner, trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        position = await append(store, history.events)
        await runner.reached(position, SOON)
        done.set()
    assert torn == []


@asynccontextmanager
async def a_poisoned_store(url: str) -> AsyncIterator[PostgresStore]:
    """A log whose 12th event no definition can fold: the id of its task is no id."""
    async with open_postgres_store(url) as store:
        await append(store, a_history(1).events[:11])
        poison = NewEvent(event_id=UUID(an_id(77)), type="TaskCreated", data='{"task_id": "not-an-id"}')
        await store.append([Claim("task-not-an-id", 0, [poison])])
        yield store


async def test_an_event_that_cannot_be_folded_stalls_and_nothing_is_skipped(fresh_database: str) -> None:
    async with (
        a_poisoned_store(fresh_database) as store,
        open_runner(store, settings=RunnerSettings(stalled_seconds=0.01)) as runner,
    ):
        await append(store, a_history(1).events[11:])
        assert await runner.reached(12, 0.1) == 11
        jobs = runner.status()[0]
        assert (jobs.status, jobs.position, jobs.lag_events > 0) == ("stalled", 11, True)
        assert jobs.error is not None and "after position 11" in jobs.error and "not-an-id" in jobs.error
        # open_work does not read that member: it goes on.
        head = await store.head()
        assert await runner.open_work_reached(head) == head


async def test_whose_checkpoint_another_server_holds_waits_and_is_not_stalled(fresh_database: str) -> None:
    """Neither at a start nor later; it goes on as soon as it can."""
    impatient = PostgresSettings(lock_seconds_max=0.05)
    held, free = trio.Event(), trio.Event()
    async with (
        open_postgres_store(fresh_database) as other,
        open_postgres_store(fresh_database, settings=impatient) as store,
        trio.open_nursery() as nursery,
    ):
        await append(store, a_history(1).events[:11])

        async def hold(connection: Connection) -> None:
            await connection.execute("SELECT FROM checkpoints WHERE name = 'live' FOR UPDATE")
            trio.from_thread.run_sync(held.set, trio_token=token)
            trio.from_thread.run(free.wait, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        nursery.start_soon(other.database.transact, hold)
        await held.wait()
        try:
            async with open_runner(store, settings=RunnerSettings(stalled_seconds=SOON)) as runner:
                head = await append(store, a_history(1).events[11:])
                assert await runner.open_work_reached(head) == head
                assert await runner.reached(head, 0.2) == 0
                assert {status.status for status in runner.status()} == {"live"}
                free.set()
                assert await runner.reached(head, SOON / 2) == head
        finally:
            free.set()


async def test_waiting_for_stalled_open_work_says_why(store: PostgresStore) -> None:
    await store.database.fetch("ALTER TABLE open_work ADD CONSTRAINT no_tasks CHECK (category <> 'task')")
    async with open_runner(store) as runner:
        position = await append(store, a_history(1).events)
        with pytest.raises(ProjectionStalled, match="no_tasks"):
            await runner.open_work_reached(position)
        await store.database.fetch("ALTER TABLE open_work DROP CONSTRAINT no_tasks")


async def test_a_follower_that_can_fold_again_goes_on(store: PostgresStore) -> None:
    await store.database.fetch("ALTER TABLE sched_task ADD CONSTRAINT never CHECK (status <> 100)")
    async with open_runner(store, settings=RunnerSettings(stalled_seconds=0.01)) as runner:
        position = await append(store, a_history(3).events)
        await runner.reached(position, 0.05)
        await store.database.fetch("ALTER TABLE sched_task DROP CONSTRAINT never")
        assert await runner.reached(position, SOON) == position
        await assert_tables_are_the_fold_of_the_log(store, list(LIVE_TABLES))


async def test_the_guides_sql_works_on_the_tables(store: PostgresStore) -> None:
    for statement in (
        "CREATE INDEX idx_sched_task_status ON sched_task(status)",
        "CREATE INDEX idx_sched_task_job_id ON sched_task(job_id)",
        "CREATE INDEX idx_sched_task_scheduled_at ON sched_task(scheduled_at)",
        "CREATE INDEX idx_sched_task_instance_task_id ON sched_task_instance(task_id)",
        "CREATE TABLE sched_task_instance_2024_01 PARTITION OF sched_task_instance"
        " FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    ):
        await store.database.fetch(statement)
    async with open_runner(store) as runner:
        position = await append(store, a_history(2).events)
        await runner.reached(position, SOON)
        for table in ALL_TABLES.values():
            assert await store.database.fetch(f"SELECT * FROM {table.name} LIMIT 10") is not None
        await assert_tables_are_the_fold_of_the_log(store, list(LIVE_TABLES))


async def test_a_runner_ends_quietly_with_its_store(fresh_database: str) -> None:
    async with trio.open_nursery() as nursery, open_postgres_store(fresh_database) as store:
        runner = Runner(store.database, store)
        await nursery.start(runner.run)
        position = await append(store, a_history(1).events)
        assert await runner.reached(position, SOON) == position


async def test_a_lost_connection_delays_the_tables_and_nothing_else(store: PostgresStore) -> None:
    history = a_history(6)
    async with open_runner(store) as runner:
        position = await append(store, history.events[:20])
        assert await runner.reached(position, SOON) == position
        with pytest.raises(StoreUnavailable):
            await store.database.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE '%pool'"
            )
        position = await append(store, history.events[20:])
        assert await runner.reached(position, SOON) == position
        await runner.open_work_reached(position)
        await assert_tables_are_the_fold_of_the_log(store)
