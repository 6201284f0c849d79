"""Whole days of output and artifacts are dropped, the oldest first, and what is gone is remembered; the rest stays."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from eventstore.errors import SqlError, StoreTimeout
from eventstore.postgres import PostgresStore, open_postgres_store
from hetuflow.pruning import Pruning
from projections.artifacts import PostgresArtifacts
from projections.output import PostgresOutput
from projections.retention import HORIZON_SECONDS, OldDay, Retention
from tests.projections import test_artifacts, test_output
from tests.projections.builders import an_id
from tests.support.postgres import Server


@pytest.fixture(params=["embedded", "15"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[PostgresStore]:
    server: Server = request.getfixturevalue("postgres_server" if request.param == "embedded" else "postgres15_server")
    url = await trio.to_thread.run_sync(server.fresh_database)
    async with open_postgres_store(url) as store:
        yield store


async def today_of(opened: PostgresStore) -> date:
    (row,) = await opened.database.fetch("SELECT (now() AT TIME ZONE 'UTC')::date")
    found: date = row[0]
    return found


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


async def fill(opened: PostgresStore, ages: Sequence[int]) -> date:
    """An instance per age in days, with a line of output and a file, in partitions of their days."""
    today = await today_of(opened)
    output, artifacts = PostgresOutput(opened.database), PostgresArtifacts(opened.database)
    for age in ages:
        day = today - timedelta(days=age)
        for table in ("task_output", "task_artifact"):
            bounds = f"FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
            with contextlib.suppress(SqlError):  # that of today is there
                await opened.database.fetch(
                    f"CREATE TABLE {table}_{day:%Y%m%d} PARTITION OF {table} FOR VALUES {bounds}"
                )
        piece = test_output.piece(f"{age} days\n", instance=an_id(age + 1))
        await output.store([attrs.evolve(piece, at=noon(day).isoformat())])
        await artifacts.store(test_artifacts.parts(b"x" * 20, instance=an_id(age + 1), at=noon(day)))
    return today


async def kept(opened: PostgresStore, ages: Sequence[int]) -> tuple[list[int], list[int]]:
    """The ages of what is left, of output and artifacts."""
    output, artifacts = PostgresOutput(opened.database), PostgresArtifacts(opened.database)
    printed = [age for age in ages if await output.totals(an_id(age + 1))]
    return printed, [age for age in ages if await artifacts.of(an_id(age + 1))]


async def drop_all(retention: Retention, what: str, days: int) -> list[OldDay]:
    dropped = []
    while (day := await retention.drop_oldest(what, days)) is not None:
        dropped.append(day)
    return dropped


AGES = (0, 1, 2, 3, 10)


async def test_days_that_ended_before_so_many_days_go_the_oldest_first(opened: PostgresStore) -> None:
    today = await fill(opened, AGES)
    retention = Retention(opened.database)
    assert [each.day for each in await retention.old_days("output", 2)] == [today - timedelta(days=d) for d in (10, 3)]
    assert await kept(opened, AGES) == (list(AGES), list(AGES))  # looking drops nothing
    dropped = await drop_all(retention, "output", 2)
    assert [each.day for each in dropped] == [today - timedelta(days=d) for d in (10, 3)]
    assert all(each.bytes > 0 and each.table.startswith("task_output_") for each in dropped)
    assert await kept(opened, AGES) == ([0, 1, 2], list(AGES))
    assert await retention.old_days("output", 2) == []
    await drop_all(retention, "artifacts", 1)
    assert await kept(opened, AGES) == ([0, 1, 2], [0, 1])


async def test_what_lies_in_the_default_partition_goes_too(opened: PostgresStore) -> None:
    today = await today_of(opened)
    output, artifacts = PostgresOutput(opened.database), PostgresArtifacts(opened.database)
    for number, age in enumerate((400, 1)):
        at = noon(today - timedelta(days=age))
        await output.store([attrs.evolve(test_output.piece("x", instance=an_id(number + 1)), at=at.isoformat())])
        await artifacts.store(test_artifacts.parts(b"x", instance=an_id(number + 1), at=at))
    retention = Retention(opened.database)
    for what in ("output", "artifacts"):
        (dropped,) = await drop_all(retention, what, 30)
        assert dropped.day is None and dropped.table.endswith("_default")
    assert [bool(await output.totals(an_id(n))) for n in (1, 2)] == [False, True]
    assert [bool(await artifacts.of(an_id(n))) for n in (1, 2)] == [False, True]


async def test_what_was_dropped_is_remembered_and_never_taken_back(opened: PostgresStore) -> None:
    today = await fill(opened, AGES)
    retention = Retention(opened.database)
    output = PostgresOutput(opened.database)
    assert await output.dropped_before() is None
    await drop_all(retention, "output", 2)
    before = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=2)
    assert await PostgresOutput(opened.database).dropped_before() == before
    assert await PostgresArtifacts(opened.database).dropped_before() is None
    assert await output.dropped_before() is None and HORIZON_SECONDS > 1  # believed for a while
    await fill(opened, (50,))
    await drop_all(retention, "output", 40)
    assert await PostgresOutput(opened.database).dropped_before() == before


async def test_a_table_that_is_read_all_the_time_is_left_for_later(opened: PostgresStore) -> None:
    await fill(opened, AGES)
    retention = Retention(opened.database)

    session = await opened.database.open_session("a reader", timeout_seconds=30)
    try:
        await session.fetch("BEGIN")
        await session.fetch("SELECT count(*) FROM task_output")
        with pytest.raises(StoreTimeout):
            await retention.drop_oldest("output", 2)
        await session.fetch("COMMIT")
    finally:
        await session.close()
    assert await kept(opened, AGES) == (list(AGES), list(AGES))
    assert await PostgresOutput(opened.database).dropped_before() is None  # nothing is said of what did not happen
    assert len(await drop_all(retention, "output", 2)) == 2


async def test_several_who_drop_at_once_drop_each_day_once(opened: PostgresStore) -> None:
    await fill(opened, AGES)
    dropped: list[OldDay] = []

    async def drop() -> None:
        dropped.extend(await drop_all(Retention(opened.database), "output", 1))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(drop)
    assert sorted(str(each.day) for each in dropped) == sorted({str(each.day) for each in dropped})
    await drop_all(Retention(opened.database), "output", 1)
    assert (await kept(opened, AGES))[0] == [0, 1]


@pytest.mark.parametrize(("what", "days"), [("output", 0), ("output", -1), ("artifacts", 40_000)])
async def test_no_number_of_days_drops_today(opened: PostgresStore, what: str, days: int) -> None:
    await fill(opened, (0,))
    for ask in (Retention(opened.database).old_days, Retention(opened.database).drop_oldest):
        with pytest.raises(SqlError):
            await ask(what, days)
    assert await kept(opened, (0,)) == ([0], [0])


async def test_the_role_of_a_server_may_drop_what_is_old_and_nothing_else(opened: PostgresStore) -> None:
    await fill(opened, AGES)

    async def as_server(connection: Any) -> None:
        await connection.execute("SET ROLE hetuflow_server")
        assert await connection.fetchval("SELECT name FROM drop_oldest_day('task_output', 5)") is not None
        assert await connection.fetchval("SELECT count(*) FROM retention") == 1
        for right in ("INSERT", "UPDATE", "DELETE"):
            assert await connection.fetchval(f"SELECT has_table_privilege('retention', '{right}')") is False
        assert await connection.fetchval("SELECT has_table_privilege('task_output', 'DELETE')") is False

    await opened.database.run(as_server)


# --- in a server -----------------------------------------------------------------------------------------------------


async def test_only_the_server_that_decides_drops(opened: PostgresStore) -> None:
    await fill(opened, AGES)
    retention, leads = Retention(opened.database), False

    async def look(days: dict[str, int]) -> None:
        with trio.move_on_after(3):
            await Pruning(retention, days, lambda: leads).run()

    await look({"output": 2, "artifacts": 0})
    assert await kept(opened, AGES) == (list(AGES), list(AGES))
    leads = True
    await look({"output": 2, "artifacts": 0})
    assert await kept(opened, AGES) == ([0, 1, 2], list(AGES))


async def test_with_nothing_to_keep_away_it_ends_at_once(opened: PostgresStore) -> None:
    with trio.fail_after(3):
        await Pruning(Retention(opened.database), {"output": 0, "artifacts": 0}, lambda: True).run()
