"""PostgreSQL is stopped at once, as by a crash, and started again: server and agents go on by themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from hetuflow.cli.cluster import Cluster, start_agent, start_server
from hetuflow.embedded.postgres import EmbeddedPostgres
from tests.acceptance.test_server_process import a_layout, a_running_task, until_status
from tests.acceptance.test_start_errors import a_cluster
from tests.support.postgres import SETTINGS, Server, query, running_server

pytestmark = pytest.mark.postgres

RUNNING, SUCCEEDED = 10, 100


@asynccontextmanager
async def a_server_of_our_own() -> AsyncIterator[Server]:
    server = running_server()
    yielded = await trio.to_thread.run_sync(server.__enter__)
    try:
        yield yielded
    finally:
        with trio.CancelScope(shield=True):
            if yielded.process is not None:
                await trio.to_thread.run_sync(partial(stop_at_once, yielded.process))
            await trio.to_thread.run_sync(server.__exit__, None, None, None)


def stop_at_once(process: EmbeddedPostgres) -> None:
    os.kill(process.pid, signal.SIGQUIT)
    assert process._process is not None
    process._process.wait()
    process.stop()


def start_again(server: Server) -> None:
    old = server.process
    assert old is not None
    server.process = EmbeddedPostgres(old.data_dir, port=old.port, settings=SETTINGS)
    server.process.start()


async def a_run(cluster: Cluster, job_id: str) -> str | None:
    """The id of a new task; None while the server cannot take it."""
    async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=60) as http:
        answer = await http.post(f"/jobs/item/{job_id}/run")
    assert answer.status_code in (200, 503), answer.text
    return str(answer.json()["id"]) if answer.status_code == 200 else None


async def test_tasks_and_schedules_go_on(tmp_path: Path) -> None:
    async with a_server_of_our_own() as postgres:
        database = await trio.to_thread.run_sync(postgres.fresh_database)
        layout = a_layout(tmp_path)
        go_on = tmp_path / "go-on"
        async with a_cluster(layout, database) as (cluster, nursery):
            server = await start_server(cluster, nursery)
            await start_agent(cluster, nursery, 1)
            task_id = await a_running_task(cluster, f"until test -e {go_on}; do sleep 0.05; done")
            async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=30) as http:
                beat = {"name": "beat", "config": {"cmd": "true", "max_retries": 0}}
                job_id = (await http.post("/jobs/item", json=beat)).json()["id"]
                schedule = {"job_id": job_id, "schedule_kind": 2, "interval_secs": 1}
                assert (await http.post("/schedules/item", json=schedule)).status_code == 200

            assert postgres.process is not None
            await trio.to_thread.run_sync(partial(stop_at_once, postgres.process))
            async with trio.open_nursery() as asking:
                asked: list[str | None] = []

                async def ask() -> None:
                    asked.append(await a_run(cluster, job_id))

                asking.start_soon(ask)  # it waits for the database, and is answered after all
                go_on.touch()  # the task ends while its report cannot be kept
                await trio.to_thread.run_sync(partial(start_again, postgres))
            await until_status(cluster, task_id, SUCCEEDED)
            for each in asked:
                if each is not None:
                    await until_status(cluster, each, SUCCEEDED)
            restarted = await query(database, "select max(position) from events")
            again = None
            while again is None:
                again = await a_run(cluster, job_id)
            await until_status(cluster, again, SUCCEEDED)
            await until_fired(database, restarted[0][0])
            assert not server.ended.is_set() and not cluster.failed.is_set()
            failed = await query(database, "select type from events where type in ('InstanceFailed', 'AgentLost')")
            assert failed == []
            assert "Traceback" not in layout.log("server").read_text()


async def until_fired(database: str, position: int) -> None:
    sql = "select count(*) from events where type = 'ScheduleFired' and position > $1"
    while not (await query(database, sql, position))[0][0]:  # noqa: ASYNC110 - another process fires
        await trio.sleep(0.05)
