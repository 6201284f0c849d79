"""What instances use, kept: few points of each, in order, whatever is sent; old days go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import attrs
import pytest
import trio

from agent import usage as agents_rule
from eventstore.postgres import PostgresStore, open_postgres_store
from projections import usage
from projections.usage import (
    POINTS_MAX,
    SLOT_SECONDS,
    AgentPoint,
    InstancePoint,
    MemoryUsage,
    PostgresUsage,
    UsageStore,
)
from tests.projections.builders import an_id
from tests.support.postgres import Server

NOW = datetime.now(UTC).replace(microsecond=0)
ONE, TWO = an_id(1), an_id(2)


def point(slot: int, instance: str = ONE, began: datetime = NOW) -> InstancePoint:
    elapsed = slot * SLOT_SECONDS + 1.5
    return InstancePoint(
        instance_id=instance,
        at=began + timedelta(seconds=elapsed),
        elapsed_seconds=elapsed,
        cpu_seconds=elapsed / 2,
        memory_bytes=2**40 + slot,
        memory_peak_bytes=2**41,
        disk_read_bytes=3,
        disk_write_bytes=2**50,
        processes=5,
        cpu_pressure_seconds=0.25,
        memory_pressure_seconds=0.5,
    )


def minute(number: int, agent_id: str = "agent-1") -> AgentPoint:
    return AgentPoint(
        agent_id=agent_id,
        at=NOW + timedelta(minutes=number),
        cpu_usage=12.5,
        memory_usage=50.0,
        disk_usage=75.0,
        load=0.25,
        active_tasks=number,
        slots=8,
    )


@pytest.fixture(params=["memory", "embedded", "15"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[UsageStore]:
    if request.param == "memory":
        yield MemoryUsage()
        return
    server: Server = request.getfixturevalue("postgres_server" if request.param == "embedded" else "postgres15_server")
    url = await trio.to_thread.run_sync(server.fresh_database)
    async with open_postgres_store(url) as opened:
        yield PostgresUsage(opened.database)


def test_agents_and_tables_thin_by_one_rule() -> None:
    assert (agents_rule.SLOT_SECONDS, agents_rule.POINTS_MAX) == (SLOT_SECONDS, POINTS_MAX)
    assert all(agents_rule.stride_of(slot) == usage.stride_of(slot) for slot in [*range(2000), 10**6, 10**9])


async def test_points_come_back_as_they_were_in_order_and_once(store: UsageStore) -> None:
    await store.store([point(2), point(0), point(1, TWO)], [])
    await store.store([point(1), point(2)], [])
    await store.store([], [])
    assert await store.of_instance(ONE) == [point(0), point(1), point(2)]
    assert await store.of_instance(TWO) == [point(1, TWO)]
    assert await store.of_instance(an_id(3)) == []


async def test_of_a_slot_one_point_is_told_whatever_came_twice(store: UsageStore) -> None:
    again = attrs.evolve(point(1), at=point(1).at + timedelta(seconds=3))
    await store.store([point(0), point(1)], [])
    await store.store([again], [])
    assert await store.of_instance(ONE) == [point(0), point(1)]


async def test_a_long_run_has_no_more_points_than_a_short_one(store: UsageStore) -> None:
    for begin in range(0, 5 * POINTS_MAX, 100):
        await store.store([point(slot) for slot in range(begin, begin + 100)], [])
        found = await store.of_instance(ONE)
        assert len(found) <= POINTS_MAX and found[0] == point(0)
        gaps = {later.slot - earlier.slot for earlier, later in pairwise(found)}
        assert gaps == {usage.stride_of(begin + 99)}


async def test_of_an_agent_the_last_day_is_told(store: UsageStore) -> None:
    await store.store([], [minute(0), minute(1), minute(0, "agent-2"), minute(0)])
    await store.store([], [minute(2), minute(1)])
    assert await store.of_agent("agent-1", NOW) == [minute(0), minute(1), minute(2)]
    assert await store.of_agent("agent-1", NOW + timedelta(minutes=1)) == [minute(1), minute(2)]
    assert await store.of_agent("agent-2", NOW) == [minute(0, "agent-2")]


async def test_what_became_too_dense_is_removed_and_not_only_hidden(any_store: PostgresStore) -> None:
    kept = PostgresUsage(any_store.database)
    await kept.store([point(slot) for slot in range(2 * POINTS_MAX + 1)], [])
    [[count]] = await any_store.database.fetch("select count(*) from task_instance_usage")
    assert count <= POINTS_MAX


async def test_whole_days_are_dropped_when_they_are_old(any_store: PostgresStore) -> None:
    kept, database = PostgresUsage(any_store.database), any_store.database
    old = NOW - timedelta(days=9)
    await database.fetch(f"create table task_instance_usage_{old:%Y%m%d} (like task_instance_usage including all)")
    await database.fetch(
        f"alter table task_instance_usage attach partition task_instance_usage_{old:%Y%m%d}"
        f" for values from ('{old:%Y-%m-%d} 00:00:00+00') to ('{old + timedelta(days=1):%Y-%m-%d} 00:00:00+00')"
    )
    older = NOW - timedelta(days=20)
    await database.fetch("select turn_usage(2, 100, 100)")
    await kept.store([point(0, began=old.replace(hour=12)), point(0, TWO, older), point(0, an_id(4))], [minute(0)])
    for instance in (ONE, TWO, an_id(4)):
        assert len(await kept.of_instance(instance)) == 1, instance
    await database.fetch("select turn_usage(2, 7, 1)")
    assert await kept.of_instance(ONE) == [] and await kept.of_instance(TWO) == []
    assert len(await kept.of_instance(an_id(4))) == 1 and len(await kept.of_agent("agent-1", NOW)) == 1
    rows = await database.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'task_instance_usage'::regclass order by 1"
    )
    assert f"task_instance_usage_{old:%Y%m%d}" not in [row[0] for row in rows] and len(rows) == 4
