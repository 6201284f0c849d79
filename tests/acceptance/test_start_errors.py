"""What goes wrong while a server starts is one line and exit status 2, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import trio

from eventstore.postgres.bridge import Bridge
from hetuflow.cli.cluster import Cluster, Layout, start_server, stop_children
from tests.acceptance.test_server_process import (
    DEADLINE_SECONDS,
    a_layout,
    arguments,
    is_one_line,
    refused,
)
from tests.support.postgres import Server, query

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def a_lock(database: str, table: str) -> AsyncIterator[None]:
    """Nobody else gets at the table."""
    async with Bridge() as bridge:

        async def lock() -> asyncpg.Connection:
            connection = await asyncpg.connect(database)
            await connection.execute(f"begin; lock table {table} in access exclusive mode")
            return connection

        connection = await bridge.call(lock)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await bridge.call(connection.close)


@asynccontextmanager
async def a_cluster(layout: Layout, database: str) -> AsyncIterator[tuple[Cluster, trio.Nursery]]:
    """Whatever is started in it is stopped at the end."""
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            cluster = Cluster(layout, database)
            try:
                yield cluster, nursery
            finally:
                with trio.CancelScope(shield=True):
                    await stop_children(cluster)
                nursery.cancel_scope.cancel()


@contextmanager
def a_guarded_role(server: Server) -> Iterator[str]:
    """A role that must give its password; PostgreSQL is told to ask for it."""
    if server.process is None:
        pytest.skip("the server is somebody else's")
    rules = server.process.data_dir / "pg_hba.conf"
    kept = rules.read_text()
    role = f"guarded_{os.getpid()}"
    server.execute(f"create role {role} login password 'right'")
    rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{kept}")
    server.execute("select pg_reload_conf()")
    try:
        yield role
    finally:
        rules.write_text(kept)
        server.execute("select pg_reload_conf()")
        server.execute(f"drop role {role}")


def ends_with_one_line(said: str) -> bool:
    """Log lines may come before it."""
    lines = [line for line in said.splitlines() if "[warning" not in line and "[info" not in line]
    return is_one_line("\n".join(lines) + "\n")


async def test_wrong_credentials(postgres_server: Server, fresh_database: str, tmp_path: Path) -> None:
    parts = urlsplit(fresh_database)
    guard = a_guarded_role(postgres_server)
    role = await trio.to_thread.run_sync(guard.__enter__)
    try:
        wrong = f"postgresql://{role}:wrong@{parts.hostname}:{parts.port}{parts.path}"
        said = await refused(a_layout(tmp_path), wrong)
    finally:
        await trio.to_thread.run_sync(guard.__exit__, None, None, None)
    assert is_one_line(said) and "refused the user name or password" in said and "wrong@" not in said


async def test_a_role_without_rights(postgres_server: Server, fresh_database: str, tmp_path: Path) -> None:
    parts = urlsplit(fresh_database)
    role = f"powerless_{os.getpid()}"
    await trio.to_thread.run_sync(postgres_server.execute, f"create role {role} login")
    try:
        said = await refused(a_layout(tmp_path), f"postgresql://{role}@{parts.hostname}:{parts.port}{parts.path}")
    finally:
        await trio.to_thread.run_sync(postgres_server.execute, f"drop role {role}")
    assert ends_with_one_line(said) and "permission denied" in said


async def test_tables_that_cannot_be_rebuilt(fresh_database: str, tmp_path: Path) -> None:
    await query(fresh_database, "create materialized view of_people as select * from sched_job")
    await query(
        fresh_database,
        "insert into projection_tables (name, fingerprint) values ('jobs', 'older')"
        " on conflict (name) do update set fingerprint = 'older'",
    )
    said = await refused(a_layout(tmp_path), fresh_database)
    assert ends_with_one_line(said) and "of_people" in said


async def test_a_table_that_somebody_has_locked(fresh_database: str, tmp_path: Path) -> None:
    async with a_lock(fresh_database, "projection_tables"):
        said = await refused(a_layout(tmp_path), fresh_database)
    assert ends_with_one_line(said) and "cannot start" in said


async def test_two_servers_in_one_state_directory(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    async with a_cluster(layout, fresh_database) as (cluster, nursery):
        server = await start_server(cluster, nursery)
        other = a_layout(tmp_path / "other")
        other = Layout(data_dir=tmp_path, http_port=other.http_port, websocket_port=other.websocket_port)
        said = await refused(other, fresh_database)
        assert is_one_line(said) and f"(process {server.process.pid})" in said and "--state-dir" in said
        await server.stop()
        assert server.process.returncode == 0
        await start_server(cluster, nursery)


async def test_a_signal_while_it_starts_ends_it_and_the_next_start_is_fine(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    async with a_cluster(layout, fresh_database) as (cluster, nursery):
        async with a_lock(fresh_database, "projection_tables"):
            process = await trio.lowlevel.open_process(arguments(layout, fresh_database), stderr=-1)
            assert process.stderr is not None
            await until_waiting(fresh_database)
            process.send_signal(signal.SIGTERM)
            said = b"".join([chunk async for chunk in process.stderr])
            assert await process.wait() == 0, said
            assert b"Traceback" not in said
        await start_server(cluster, nursery)
    rows = await query(fresh_database, "select count(*) from events where type = 'ServerStarted'")
    assert rows[0][0] == 1


async def until_waiting(database: str) -> None:
    """Until a statement of the server waits for our lock."""
    sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while not (await query(database, sql))[0][0]:  # noqa: ASYNC110 - another process waits
        await trio.sleep(0.02)
