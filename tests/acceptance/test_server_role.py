"""A running server can append to the log and cannot change it, and does all of its work as such."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hetuflow.cli.cluster import start_agent, start_server
from tests.acceptance.test_server_process import a_layout, a_running_task, until_status
from tests.acceptance.test_start_errors import a_cluster
from tests.support.postgres import query

pytestmark = pytest.mark.postgres

ROLE = "hetuflow_server"


async def test_it_follows_rebuilds_and_keeps_output_as_the_servers_role(fresh_database: str, tmp_path: Path) -> None:
    for table in ("streams", "task_output"):
        await query(fresh_database, f"alter table {table} add column made_by text default current_user")
    layout = a_layout(tmp_path)
    async with a_cluster(layout, fresh_database) as (cluster, nursery):
        server = await start_server(cluster, nursery)
        await server.stop()
        await query(
            fresh_database, "update projection_tables set fingerprint = 'older' where name in ('tasks', 'jobs')"
        )
        await start_server(cluster, nursery)
        assert f"as role {ROLE}" in layout.log("server").read_text()
        await start_agent(cluster, nursery, 1)
        task_id = await a_running_task(cluster, f"echo told; until test -e {tmp_path}/go-on; do sleep 0.05; done")
        (tmp_path / "go-on").touch()
        await until_status(cluster, task_id, 100)
        while not await query(fresh_database, "select data from task_output"):  # noqa: ASYNC110 - sent by the agent
            await trio.sleep(0.05)
    assert await query(fresh_database, "select convert_from(data, 'utf8') from task_output") == [("told\n",)]
    for table in ("streams", "task_output"):
        assert await query(fresh_database, f"select distinct made_by from {table}") == [(ROLE,)]
    owners = await query(
        fresh_database,
        "select distinct relowner::regrole::text from pg_class where relname in ('sched_task', 'sched_job')",
    )
    assert owners == [(ROLE,)]
    stale = await query(fresh_database, "select count(*) from projection_tables where fingerprint = 'older'")
    assert stale == [(0,)]


async def test_without_that_role_it_runs_as_its_login_role(fresh_database: str, tmp_path: Path) -> None:
    await query(fresh_database, "alter table open_work owner to postgres")
    layout = a_layout(tmp_path)
    async with a_cluster(layout, fresh_database) as (cluster, nursery):
        await start_server(cluster, nursery)
        assert "runs as its login role" in layout.log("server").read_text()
