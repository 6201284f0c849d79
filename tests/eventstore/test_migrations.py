"""Forward-only migrations: the chain, several sources, several processes, and every reason to refuse a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from eventstore.errors import (
    DatabaseNotMigrated,
    DatabaseTooNew,
    DatabaseTooOld,
    DatabaseUnreachable,
    SqlError,
    StartError,
    WrongCredentials,
)
from eventstore.postgres import EVENTSTORE, connection, migrate, migrations, open_postgres_store
from tests.eventstore.builders import a_claim
from tests.support.postgres import Server, query, run_sql


@pytest.fixture
def empty_database(postgres_server: Server) -> Iterator[str]:
    url = postgres_server.empty_database()
    yield url
    postgres_server.drop(url)


def a_source(directory: Path, name: str = "rooms", **files: str) -> tuple[str, Path]:
    folder = directory / name
    folder.mkdir(exist_ok=True)
    for stem, sql in files.items():
        (folder / f"{stem.lstrip('_')}.sql").write_text(sql)
    return name, folder


async def test_the_chain_applies_once_and_the_store_opens(empty_database: str) -> None:
    applied = await migrate(empty_database)
    assert applied == migrations(EVENTSTORE) and len(applied) >= 3
    assert await migrate(empty_database) == []
    async with open_postgres_store(empty_database) as store:
        assert (await store.append([a_claim("a")])).position == 1


async def test_the_chain_can_stop_at_every_step_and_go_on(empty_database: str, tmp_path: Path) -> None:
    released = migrations(EVENTSTORE)
    for migration in released:
        (tmp_path / f"{migration.number:04d}_{migration.name}.sql").write_text(migration.sql)
        assert await migrate(empty_database, [("eventstore", tmp_path)]) == [migration]
    async with open_postgres_store(empty_database) as store:
        assert await store.head() == 0


async def test_several_processes_migrate_at_once(empty_database: str) -> None:
    applied: list[int] = []

    async def one() -> None:
        applied.append(len(await migrate(empty_database)))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert sorted(applied) == [0, 0, 0, len(migrations(EVENTSTORE))] or sum(applied) == len(migrations(EVENTSTORE))


async def test_sources_are_numbered_on_their_own_and_applied_in_order(empty_database: str, tmp_path: Path) -> None:
    rooms = a_source(tmp_path, _0001_first="create table room (id int references streams_of_nobody)")
    with pytest.raises(SqlError, match="streams_of_nobody"):
        await migrate(empty_database, [EVENTSTORE, rooms])
    async with open_postgres_store(empty_database):  # what came before the failure stays, and it left nothing
        pass
    a_source(tmp_path, _0001_first="create table room (id text references streams)", _0002_second="select 1")
    applied = await migrate(empty_database, [EVENTSTORE, rooms])
    assert [str(one) for one in applied] == ["rooms 0001 first", "rooms 0002 second"]
    async with open_postgres_store(empty_database, sources=[EVENTSTORE, rooms]):
        pass


async def test_a_database_without_the_schema_is_refused(empty_database: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotMigrated, match="hetuflow migrate"):
        async with open_postgres_store(empty_database):
            pass
    await migrate(empty_database)
    rooms = a_source(tmp_path, _0001_first="select 1")
    with pytest.raises(DatabaseNotMigrated, match="rooms 0001 first"):
        async with open_postgres_store(empty_database, sources=[EVENTSTORE, rooms]):
            pass


async def test_a_database_newer_than_the_program_is_refused(fresh_database: str) -> None:
    await query(
        fresh_database,
        "insert into schema_migrations (source, number, name, checksum) values ('eventstore', 99, 'future', 'x')",
    )
    with pytest.raises(DatabaseTooNew, match="99"):
        async with open_postgres_store(fresh_database):
            pass
    with pytest.raises(DatabaseTooNew, match="99"):
        await migrate(fresh_database)


async def test_a_released_migration_that_was_changed_is_refused(empty_database: str, tmp_path: Path) -> None:
    rooms = a_source(tmp_path, _0001_first="select 1")
    await migrate(empty_database, [rooms])
    a_source(tmp_path, _0001_first="select 2")
    with pytest.raises(StartError, match="another content"):
        await migrate(empty_database, [rooms])


@pytest.mark.parametrize("names", [["0001_a", "0003_c"], ["0002_b"], ["0001_a", "0001_b"], ["1_a"], ["0001-a"]])
def test_files_that_are_not_numbered_from_one_are_refused(tmp_path: Path, names: list[str]) -> None:
    source = a_source(tmp_path, **{f"_{name}": "select 1" for name in names})
    with pytest.raises(StartError, match="rooms"):
        migrations(source)


async def test_an_old_server_is_refused(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "VERSION_MIN", 99)
    with pytest.raises(DatabaseTooOld, match="99 or later"):
        async with open_postgres_store(fresh_database):
            pass
    with pytest.raises(DatabaseTooOld):
        await migrate(fresh_database)


async def test_an_address_where_nobody_answers_is_named(unused_port: int) -> None:
    url = f"postgresql://postgres:secret@127.0.0.1:{unused_port}/hetuflow"
    for attempt in (open_postgres_store(url).__aenter__, lambda: migrate(url)):
        with pytest.raises(DatabaseUnreachable, match=f"127.0.0.1:{unused_port}/hetuflow") as refused:
            await attempt()
        assert "secret" not in str(refused.value)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_database_that_does_not_exist_is_named(postgres_server: Server) -> None:
    with pytest.raises(DatabaseUnreachable, match="no_such_database"):
        await migrate(postgres_server.url_of("no_such_database"))


async def test_a_user_that_is_refused_is_said_so(fresh_database: str) -> None:
    with pytest.raises(WrongCredentials, match="nobody_knows"):
        async with open_postgres_store(fresh_database.replace("postgres@", "nobody_knows@")):
            pass


@pytest.fixture
def database_of_a_plain_user(postgres_server: Server) -> str:
    """A database owned by somebody who may not create roles."""
    url = postgres_server.empty_database()
    run_sql(
        url,
        "do $$ begin create role plain_user login; exception when duplicate_object then null; end $$",
    )
    name = url.rpartition("/")[2]
    run_sql(url, f"alter database {name} owner to plain_user")
    run_sql(url, "grant all on schema public to plain_user")
    return url.replace("postgres@", "plain_user@")


async def test_a_user_who_may_not_create_roles_migrates_and_works(database_of_a_plain_user: str) -> None:
    await migrate(database_of_a_plain_user)
    async with open_postgres_store(database_of_a_plain_user) as store:
        assert (await store.append([a_claim("a", 0, 2)])).position == 2
        with pytest.raises(SqlError, match="append-only"):
            await store.database.fetch("delete from events")
