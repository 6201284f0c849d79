"""Two real servers on one PostgreSQL, one agent that knows both: one decides, either may be stopped, killed or continued.

Every nominal time is decided once and every task runs, whoever was there to decide it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import frozen

from hetuflow.cli.cluster import Child, Cluster, Layout, _spawn, free_port, start_server, stop_children
from tests.support.postgres import query

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

DEADLINE_SECONDS = 150.0
ENVIRON = {**os.environ, "HETUFLOW_SCHEDULER__SERVER_LOST_AFTER": "4s"}


@frozen
class Two:
    """`a` decides first; the agent is connected to `b` first."""

    database: str
    a: Cluster
    b: Cluster
    server_a: Child
    server_b: Child


@asynccontextmanager
async def two_servers(database: str, tmp_path: Path) -> AsyncIterator[Two]:
    clusters = []
    for name in ("a", "b"):
        layout = Layout(data_dir=tmp_path / name, http_port=free_port(), websocket_port=free_port(), slots=8)
        layout.log("x").parent.mkdir(parents=True)
        clusters.append(Cluster(layout, database))
    a, b = clusters
    async with trio.open_nursery() as nursery:
        try:
            server_a = await start_server(a, nursery, ENVIRON)
            server_b = await start_server(b, nursery, ENVIRON)
            urls = ",".join(f"ws://127.0.0.1:{each.layout.websocket_port}" for each in (b, a))
            arguments = ["-m", "agent", "--server-url", urls, "--id", "agent-01", "--slots", "8"]
            dirs = ["--state-dir", str(tmp_path / "agent"), "--work-dir", str(tmp_path / "work")]
            environ = {**ENVIRON, "HETUFLOW_AGENT__LOST_AFTER_SECONDS": "10"}
            environ["HETUFLOW_AGENT__HEARTBEAT_INTERVAL"] = "2"
            _spawn(b, nursery, "agent-01", [*arguments, *dirs], environ)
            yield Two(database, a, b, server_a, server_b)
        finally:
            with trio.CancelScope(shield=True):
                for child in (server_a, server_b):
                    if child.process.poll() is None:
                        child.process.send_signal(signal.SIGCONT)
                await stop_children(b)
                await stop_children(a)
            nursery.cancel_scope.cancel()


def client(cluster: Cluster) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=30)


async def health(cluster: Cluster) -> dict[str, Any]:
    async with client(cluster) as http:
        answer: dict[str, Any] = (await http.get("/system/health")).json()
        return answer


async def until_role(cluster: Cluster, role: str) -> None:
    while True:
        try:
            found = (await health(cluster))["checks"]["scheduler"]
        except httpx.TransportError:
            found = {}
        if found.get("role") == role and found.get("problem") is None:
            return
        await trio.sleep(0.1)


async def until_fires(two: Two, count: int) -> None:
    """Wait until so many more tasks of the schedule have succeeded."""
    before = await succeeded(two.database)
    while await succeeded(two.database) < before + count:  # noqa: ASYNC110 - what is awaited is other processes' doing
        await trio.sleep(0.1)


async def succeeded(database: str) -> int:
    [[count]] = await query(database, "select count(*) from events where type = 'TaskSucceeded'")
    return int(count)


async def test_either_of_two_servers_may_be_stopped_continued_or_killed(fresh_database: str, tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with two_servers(fresh_database, tmp_path) as two:
            await until_role(two.a, "active")
            await until_role(two.b, "standby")
            schedule = await a_schedule(two.b)  # written at the one, decided by the other, run at the first again
            await until_fires(two, 2)
            assert await servers_that_locked(two.database) == 1

            two.server_a.process.send_signal(signal.SIGSTOP)
            await until_role(two.b, "active")
            await until_fires(two, 3)
            two.server_a.process.send_signal(signal.SIGCONT)
            await until_role(two.a, "standby")
            assert (await health(two.a))["status"] == "healthy"
            assert await servers_that_locked(two.database) == 2

            two.server_b.stopping = True
            two.server_b.process.kill()
            await until_role(two.a, "active")
            await until_fires(two, 3)
            assert await sessions(two.database) >= 2, "the agent has moved"
        await check(two.database, schedule)


async def a_schedule(cluster: Cluster) -> str:
    async with client(cluster) as http:
        job = (await http.post("/jobs/item", json={"name": "beat", "config": {"cmd": "true", "max_retries": 3}})).json()
        body = {"job_id": job["id"], "schedule_kind": 2, "interval_secs": 1, "misfire_policy": "fire_all"}
        made = await http.post("/schedules/item", json=body)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])


async def servers_that_locked(database: str) -> int:
    [[count]] = await query(database, "select count(distinct data->>'server_id') from events where type = 'TaskLocked'")
    return int(count)


async def sessions(database: str) -> int:
    [[count]] = await query(database, "select count(*) from events where type = 'AgentConnected'")
    return int(count)


async def check(database: str, schedule: str) -> None:
    rows = await query(
        database,
        "select type, data::text from events where stream_id = $1 order by version",
        f"schedule-{schedule}",
    )
    times: list[datetime] = []
    for kind, text in rows:
        data = json.loads(text)
        if kind == "ScheduleFired":
            times.append(datetime.fromisoformat(data["nominal_at"]))
        elif kind == "ScheduleSkipped":
            first = datetime.fromisoformat(data["first_nominal_at"])
            times += [first + timedelta(seconds=n) for n in range(data["count"])]
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))], "each nominal time, once, in order"
    doubled = await query(
        database,
        "select stream_id, count(*) from events where type = 'InstanceStarted' group by 1 having count(*) > 1",
    )
    lost = await query(database, "select count(*) from events where type = 'AgentLost'")
    assert not doubled or lost[0][0], "a task ran again though its agent was there"
