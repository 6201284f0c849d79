"""Complete tasks per second, and the two latencies people feel."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

import httpx
import trio

from hetuflow.cli.cluster import Cluster, start_agent
from tests.benchmarks.harness import Figure, answer, bench_cluster, open_api, quantile, quantiles_ms, until_agent_online

MUST_RATIO_16, AIM_RATIO_16, AIM_RATIO_4 = 0.3, 0.5, 0.33


def xargs_rate(count: int, parallel: int = 4) -> float:
    """`/bin/true` processes per second by `xargs -P`."""
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(parallel), "-I{}", "/bin/true"],
        input="\n".join(map(str, range(count))).encode(),
        check=True,
    )
    return count / (time.perf_counter() - began)


async def throughput(count: int, slots: int) -> list[Figure]:
    """`count` tasks of /bin/true wait; an agent comes; from its connection to the last task's end, by the log's own clock."""
    async with (
        bench_cluster(agents=0, slots=slots) as cluster,
        open_api(cluster) as http,
        trio.open_nursery() as nursery,
    ):
        job = await _job(http, "true", {"cmd": "/bin/true"})
        limiter = trio.CapacityLimiter(16)

        async def submit() -> None:
            async with limiter:
                await answer(http, "POST", f"/jobs/item/{job}/run")

        began = trio.current_time()
        async with trio.open_nursery() as submitters:
            for _ in range(count):
                submitters.start_soon(submit)
        submit_rate = count / (trio.current_time() - began)
        baseline = xargs_rate(count)
        await start_agent(cluster, nursery, 1)
        await _until_ended(http, count)
        rate = count / await _elapsed(http)
        baseline = (baseline + xargs_rate(count)) / 2
        nursery.cancel_scope.cancel()
    ratio = rate / baseline
    aim = AIM_RATIO_16 if slots == 16 else AIM_RATIO_4
    must = MUST_RATIO_16 if slots == 16 else None
    return [
        Figure(
            f"complete tasks/s, /bin/true, {slots} slots",
            f"{rate:.0f}",
            f"xargs -P4: {baseline:.0f}",
            ratio,
            f"≥ {must} must, {aim} aim" if must else f"{aim} aim",
            ratio >= (must or aim),
        ),
        Figure(f"runs submitted over REST/s, 16 clients, {slots} slots", f"{submit_rate:.0f}"),
    ]


async def latency(samples: int) -> list[Figure]:
    async with bench_cluster(agents=1, slots=4) as cluster, open_api(cluster) as http:
        await until_agent_online(http)
        submit = await _submit_to_start(cluster, http, samples)
        due = await _due_to_start(http, samples)
    return [
        Figure(
            "submit by REST → process runs, p50/p95/p99",
            quantiles_ms(submit),
            budget="p50 ≤ 5, p99 ≤ 10 ms",
            met=quantile(submit, 0.5) <= 0.005 and quantile(submit, 0.99) <= 0.010,
        ),
        Figure(
            "due instant → process runs, p50/p95/p99",
            quantiles_ms(due),
            budget="p50 ≤ 3, p99 ≤ 8 ms",
            met=quantile(due, 0.5) <= 0.003 and quantile(due, 0.99) <= 0.008,
        ),
    ]


async def _submit_to_start(cluster: Cluster, http: httpx.AsyncClient, samples: int) -> list[float]:
    """One client after the other, idle in between. With http.client: httpx alone takes a millisecond a request."""
    job = await _job(http, "latency", {"cmd": "/bin/true"})
    return await trio.to_thread.run_sync(_submit_one_by_one, cluster.layout.http_port, job, samples)


def _submit_one_by_one(port: int, job: str, samples: int) -> list[float]:
    connection = HTTPConnection("127.0.0.1", port)

    def call(path: str, body: str) -> Any:
        connection.request("POST", f"/api/v1{path}", body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    found: list[float] = []
    for number in range(samples + 10):
        time.sleep(0.03)
        sent = datetime.now(UTC)
        task = call(f"/jobs/item/{job}/run", "{}")["id"]
        where = json.dumps({"filter": {"task_id": {"$eq": task}}})
        while (started := call("/task-instances/page", where)["result"][0]["started_at"]) is None:
            time.sleep(0.01)
        if number >= 10:  # the first ones warm everything up
            found.append((datetime.fromisoformat(started) - sent).total_seconds())
    connection.close()
    return found


async def _due_to_start(http: httpx.AsyncClient, samples: int) -> list[float]:
    """Twenty one-second intervals, 50 ms apart, so that one is due every 50 ms."""
    job = await _job(http, "due", {"cmd": "/bin/true"})
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    for number in range(20):
        await answer(
            http,
            "POST",
            "/schedules/item",
            {
                "job_id": job,
                "kind": "interval",
                "interval_secs": 1,
                "start_time": (first + timedelta(milliseconds=50 * number)).isoformat(),
                "max_count": samples // 20,
            },
        )
    while True:
        await trio.sleep(0.5)
        page: Any = await answer(
            http,
            "POST",
            "/tasks/page",
            {"filter": {"job_id": {"$eq": job}, "status": {"$eq": 100}}, "page": {"limit": 5000}},
        )
        if page["page"]["total"] >= samples // 20 * 20:
            break
    instances: Any = await answer(
        http, "POST", "/task-instances/page", {"filter": {"job_id": {"$eq": job}}, "page": {"limit": 5000}}
    )
    nominal = {row["id"]: datetime.fromisoformat(row["scheduled_at"]) for row in page["result"]}
    return [
        (datetime.fromisoformat(row["started_at"]) - nominal[row["task_id"]]).total_seconds()
        for row in instances["result"]
    ]


async def _job(http: httpx.AsyncClient, name: str, config: dict[str, Any]) -> str:
    created: Any = await answer(http, "POST", "/jobs/item", {"name": name, "config": config})
    return str(created["id"])


async def _until_ended(http: httpx.AsyncClient, count: int) -> None:
    while True:
        page: Any = await answer(
            http, "POST", "/tasks/page", {"filter": {"status": {"$eq": 100}}, "page": {"limit": 1}}
        )
        if page["page"]["total"] >= count:
            return
        await trio.sleep(0.5)


async def _elapsed(http: httpx.AsyncClient) -> float:
    first: Any = await answer(http, "GET", "/events?type=AgentConnected&limit=1&order=desc")
    last: Any = await answer(http, "GET", "/events?type=TaskSucceeded&limit=1&order=desc")
    began, ended = (datetime.fromisoformat(page["result"][0]["recorded_at"]) for page in (first, last))
    return (ended - began).total_seconds()
