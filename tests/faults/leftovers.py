"""What may not be left when a round is over: open tasks, taken slots, processes, tables behind the log."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import trio

from tests.faults.cluster import SLOTS, Cluster
from tests.faults.processes import LINES_VARIABLE, with_environment

OPEN = {"Pending": 1, "Locked": 2, "Dispatched": 5, "Running": 10, "WaitingRetry": 15}
SETTLE_SECONDS_MAX = 90.0


async def until_nothing_is_open(cluster: Cluster, jobs: Mapping[str, str]) -> str | None:
    """Wait until no task is open any more; what is, when that takes too long."""
    said = ""
    with trio.move_on_after(SETTLE_SECONDS_MAX):
        while True:
            said = await _open_tasks(cluster, jobs)
            if not said:
                return None
            await trio.sleep(0.1)
    return f"open after {SETTLE_SECONDS_MAX:.0f} s: {said}"


async def _open_tasks(cluster: Cluster, jobs: Mapping[str, str]) -> str:
    query = {"filter": {"job_id": {"$in": list(jobs.values())}, "status": {"$in": list(OPEN.values())}}}
    try:
        async with cluster.client(seconds=5.0) as http:
            answer = await http.post("/tasks/query", json={**query, "page": {"limit": 5}})
            if answer.status_code != 200:
                return f"{answer.status_code} {answer.text}"
            page = answer.json()
            if not page["page"]["total"]:
                return ""
            rows = [f"{row['id']} status {row['status']}" for row in page["result"]]
            return f"{page['page']['total']} tasks: " + ", ".join(rows)
    except (httpx.TransportError, ValueError, KeyError) as problem:
        return repr(problem)


async def look(cluster: Cluster) -> list[str]:
    """What is left, in words; empty = nothing."""
    found = [f"{node.name} ended by itself:\n{node.last_words()}" for node in cluster.unexpected_ends()]
    found += await _rows(cluster)
    with trio.move_on_after(5.0):
        while _processes(cluster):  # noqa: ASYNC110 - the last ones are just ending
            await trio.sleep(0.05)
    found += [f"process {pid} of a run is left" for pid in _processes(cluster)]
    with trio.move_on_after(10.0):
        while await _health(cluster):  # noqa: ASYNC110 - behind HTTP there is no event
            await trio.sleep(0.2)
    return found + await _health(cluster)


def _processes(cluster: Cluster) -> list[int]:
    return with_environment(f"{LINES_VARIABLE}={cluster.lines}".encode())


async def _rows(cluster: Cluster) -> list[str]:
    found = []
    rows = await cluster.database.query(
        "select status, count(*) from sched_task where status = any($1::int[]) group by 1", list(OPEN.values())
    )
    found += [f"{count} rows of sched_task have status {status}" for status, count in rows]
    gaps = await cluster.database.query(
        "select stream_id from events group by stream_id having min(version) <> 1 or max(version) <> count(*)"
    )
    found += [f"stream {row[0]} has a gap" for row in gaps]
    return found


async def _health(cluster: Cluster) -> list[str]:
    found = []
    try:
        async with cluster.client(seconds=10.0) as http:
            health = (await http.get("/system/health")).json()
            agents = (await http.post("/agents/query", json={})).json()["result"]
    except (httpx.TransportError, ValueError) as problem:
        return [repr(problem)]
    if health["status"] != "healthy" or health["checks"]["projections"]["lag_events"]:
        found.append(f"health: {health['checks']}")
    for agent in agents:
        busy = agent["running_instances"]
        if busy:
            found.append(f"agent {agent['id']} holds {busy} slots of {SLOTS}")
    return found
