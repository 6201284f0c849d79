"""Nobody changes the log: triggers refuse it on the parent and on each partition, and the server's role may not even try."""

from __future__ import annotations

import pytest

from eventstore.errors import SqlError
from eventstore.postgres import Connection, PostgresSettings, PostgresStore, open_postgres_store
from tests.eventstore.builders import a_claim
from tests.support.postgres import query

CHANGES = [
    "update {} set type = 'Forged'",
    "delete from {}",
    "truncate {}",
    "update {} set type = type where false",
]
INSUFFICIENT_PRIVILEGE = "42501"


@pytest.mark.parametrize("table", ["events", "events_1"])
@pytest.mark.parametrize("change", CHANGES)
async def test_even_a_superuser_cannot_change_events(postgres_store: PostgresStore, table: str, change: str) -> None:
    await postgres_store.append([a_claim("a", 0, 3)])
    with pytest.raises(SqlError, match="append-only"):
        await postgres_store.database.fetch(change.format(table))

    async def as_replica(connection: Connection) -> None:
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(change.format(table))

    with pytest.raises(SqlError, match="append-only"):
        await postgres_store.database.transact(as_replica)
    assert [event.type for event in await postgres_store.read_all()] == ["Happened"] * 3


@pytest.mark.parametrize("table", ["events", "events_1"])
@pytest.mark.parametrize("change", [*CHANGES, "drop table {}", "alter table {} disable trigger append_only"])
async def test_the_servers_role_cannot_change_events(fresh_database: str, table: str, change: str) -> None:
    async with open_postgres_store(fresh_database, settings=PostgresSettings(role="hetuflow_server")) as store:
        await store.append([a_claim("a", 0, 3)])
        with pytest.raises(SqlError) as refused:
            await store.database.fetch(change.format(table))
        assert refused.value.sqlstate == INSUFFICIENT_PRIVILEGE
        assert await store.head() == 3


async def test_the_servers_role_owns_nothing_and_can_do_its_work(fresh_database: str) -> None:
    settings = PostgresSettings(role="hetuflow_server", partition_positions=10_000_000)
    async with open_postgres_store(fresh_database, settings=settings) as store:
        await store.append([a_claim("a", 0, 3)])
        assert len(await store.read_stream("a")) == 3
        owned = await store.database.fetch(
            "select relname from pg_class where relowner = 'hetuflow_server'::regrole"
            " union all select proname from pg_proc where proowner = 'hetuflow_server'::regrole"
        )
        assert list(owned) == []
        await store.database.fetch("select extend_events(1, 10000000)")
        with pytest.raises(SqlError) as refused:
            await store.database.fetch("select add_partition(20000001, 30000001)")
        assert refused.value.sqlstate == INSUFFICIENT_PRIVILEGE


async def test_the_trigger_stays_on_a_detached_partition(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store:
        await store.append([a_claim("a")])
    await query(fresh_database, "alter table events detach partition events_1")
    with pytest.raises(Exception, match="append-only"):
        await query(fresh_database, "delete from events_1")
