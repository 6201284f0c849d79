"""kill -9 of the server in the middle of hundreds of running tasks, with real processes and a real PostgreSQL.

The verdict does not rest on our own log alone: each task appends a line when its process starts and one when it ends.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from hetuflow.cli.cluster import Child, Cluster, Layout, free_port, start_agent, start_server, stop_children
from tests.support.postgres import query

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TASKS = 500
AGENTS, SLOTS = 2, 40
DEADLINE_SECONDS = 240.0

SCRIPT = """
echo "start $HETUFLOW_TASK_ID $HETUFLOW_INSTANCE_ID $HETUFLOW_EPOCH $(date +%s%N)" >> "$LINES"
sleep 0.5
echo "end $HETUFLOW_TASK_ID $HETUFLOW_INSTANCE_ID $HETUFLOW_EPOCH $(date +%s%N)" >> "$LINES"
"""

SUCCEEDED = 100
OPEN = [1, 2, 5, 10, 15]


async def test_nothing_acknowledged_is_lost_and_nothing_runs_twice(fresh_database: str, tmp_path: Path) -> None:
    layout = Layout(data_dir=tmp_path, http_port=free_port(), websocket_port=free_port(), agents=AGENTS, slots=SLOTS)
    layout.log("x").parent.mkdir(parents=True)
    lines = tmp_path / "lines"
    lines.touch()
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            cluster = Cluster(layout, fresh_database)
            try:
                acknowledged = await _tasks_with_a_killed_server(cluster, nursery, lines)
            finally:
                with trio.CancelScope(shield=True):
                    await stop_children(cluster)
                nursery.cancel_scope.cancel()
    assert len(acknowledged) == TASKS
    await _check_tasks(fresh_database, acknowledged)
    _check_lines(lines, acknowledged)
    await _check_fires(fresh_database)
    await _check_log(fresh_database)


async def _tasks_with_a_killed_server(cluster: Cluster, nursery: trio.Nursery, lines: Path) -> list[str]:
    """Run it all; return the ids of the tasks whose creation was acknowledged."""
    server = await start_server(cluster, nursery)
    for number in range(1, AGENTS + 1):
        await start_agent(cluster, nursery, number)
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=30, limits=limits) as http:
        job = {"name": "lines", "config": {"cmd": "bash", "args": ["-c", SCRIPT], "max_retries": 0}}
        job_id = await _post(http, "/jobs/item", {**job, "environment": {"LINES": str(lines)}})
        beat = await _post(http, "/jobs/item", {"name": "beat", "config": {"cmd": "true"}})
        await _post(http, "/schedules/item", {"job_id": beat, "schedule_kind": 2, "interval_secs": 1})
        acknowledged: list[str] = []
        async with trio.open_nursery() as clients:
            for client in range(8):
                clients.start_soon(_submit, http, job_id, acknowledged, client)
            while _count(lines, "end") < TASKS // 4:  # noqa: ASYNC110 - what is awaited is other processes' doing
                await trio.sleep(0.02)
            await _kill(server)
            assert _count(lines, "start") > _count(lines, "end"), "it was killed while nothing ran"
            await start_server(cluster, nursery)
        await _until_none_is_open(http, job_id)
    return acknowledged


async def _submit(http: httpx.AsyncClient, job_id: str, acknowledged: list[str], client: int) -> None:
    """This client's share of the tasks. What was not acknowledged is asked again, under the same id."""
    for number in range(client, TASKS, 8):
        task_id = f"00000000-0000-7000-8000-{number:012}"
        while True:
            try:
                answer = await http.post(f"/jobs/item/{job_id}/run", json={"id": task_id})
            except httpx.TransportError:
                await trio.sleep(0.05)
                continue
            if answer.status_code == 503:
                await trio.sleep(0.05)
                continue
            assert answer.status_code in (200, 409), answer.text  # 409: it was committed, the answer was lost
            acknowledged.append(task_id)
            break


async def _kill(server: Child) -> None:
    server.stopping = True
    server.process.kill()
    await server.ended.wait()


async def _until_none_is_open(http: httpx.AsyncClient, job_id: str) -> None:
    query = {"filter": {"job_id": {"$eq": job_id}, "status": {"$in": OPEN}}, "page": {"limit": 1}}
    while True:
        answer = await http.post("/tasks/query", json=query)
        assert answer.status_code == 200, answer.text
        if not answer.json()["page"]["total"]:
            return
        await trio.sleep(0.1)


async def _post(http: httpx.AsyncClient, path: str, body: object) -> str:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def _count(lines: Path, what: str) -> int:
    return sum(line.startswith(what) for line in lines.read_text().splitlines())


# --- the verdict ---------------------------------------------------------------------------------------------------


async def _check_tasks(database: str, acknowledged: list[str]) -> None:
    rows = await query(
        database,
        "select id::text, status from sched_task where job_id in (select id from sched_job where name = 'lines')",
    )
    statuses = {row[0]: row[1] for row in rows}
    assert statuses == dict.fromkeys(acknowledged, SUCCEEDED)


def _check_lines(lines: Path, acknowledged: list[str]) -> None:
    """Each task's process ran exactly once, from its first line to its last: the agents lived all the while."""
    ran: dict[str, list[str]] = defaultdict(list)
    for line in lines.read_text().splitlines():
        what, task_id, *_ = line.split()
        ran[task_id].append(what)
    assert dict(ran) == {task_id: ["start", "end"] for task_id in acknowledged}


async def _check_fires(database: str) -> None:
    """Every second since the schedule's creation is covered by one decision: no moment lost, none doubled."""
    rows = await query(
        database,
        "select type, data::text from events where type in ('ScheduleFired', 'ScheduleSkipped') order by position",
    )
    covered: Counter[datetime] = Counter()
    for type_, text in rows:
        data = json.loads(text)
        if type_ == "ScheduleFired":
            covered[datetime.fromisoformat(data["nominal_at"])] += 1
        else:
            first = datetime.fromisoformat(data["first_nominal_at"])
            covered.update(first + timedelta(seconds=n) for n in range(data["count"]))
    assert set(covered.values()) == {1}
    assert max(covered) - min(covered) == timedelta(seconds=len(covered) - 1)


async def _check_log(database: str) -> None:
    gaps = await query(
        database,
        "select stream_id from events group by stream_id having min(version) <> 1 or max(version) <> count(*)",
    )
    assert gaps == []
    [[started, lost]] = await query(
        database,
        "select count(*) filter (where type = 'ServerStarted'), count(*) filter (where type = 'ServerLost') from events",
    )
    assert (started, lost) == (2, 1)
