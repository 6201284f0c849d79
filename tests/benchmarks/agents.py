"""A thousand connected agents: what they cost the server while nothing happens, and how they come back to it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import psutil
import trio
from attrs import frozen

from hetuflow.cli.cluster import Cluster, start_server
from tests.benchmarks.harness import Figure, answer, bench_cluster, open_api, until_agent_online

SWARMS = 2
HEARTBEATS_PER_SECOND_MAX = 50
BACK_SECONDS_MAX = 30.0
SETTLE_SECONDS = 10.0


@frozen(kw_only=True)
class Looked:
    """The server at one moment."""

    at: float
    cpu_seconds: float
    rss: int
    messages: int


async def agents(count: int, seconds: float) -> list[Figure]:
    """`count` agents that idle for so many seconds; then the server is killed and started again."""
    environ = {**os.environ, "HETUFLOW_SERVER__MAX_CONNECTIONS": str(2 * count)}
    async with bench_cluster(agents=0) as cluster, open_api(cluster) as http:
        await trio.sleep(SETTLE_SECONDS)
        alone = await _look(cluster, http)
        async with _swarm(cluster, count), trio.open_nursery() as nursery:
            began = trio.current_time()
            await until_agent_online(http, count)
            came = trio.current_time() - began
            await trio.sleep(SETTLE_SECONDS)
            before = await _look(cluster, http)
            await trio.sleep(seconds)
            after = await _look(cluster, http)
            back = await _restarted(cluster, http, nursery, count, environ)
            nursery.cancel_scope.cancel()
    beats = (after.messages - before.messages) / (after.at - before.at)
    cpu = (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at)
    each = (after.rss - alone.rss) / count / 1024
    name = f"{count} agents"
    return [
        Figure(f"{name}: all connected after, s", f"{came:.1f}"),
        Figure(f"{name}: server memory a connection, KiB", f"{each:.0f}", f"alone {alone.rss / 2**20:.0f} MiB"),
        Figure(
            f"{name}: heartbeats/s",
            f"{beats:.1f}",
            budget=f"≤ {HEARTBEATS_PER_SECOND_MAX}",
            met=beats <= HEARTBEATS_PER_SECOND_MAX,
        ),
        Figure(f"{name}, idle: server CPU, % of a core", f"{cpu * 100:.1f}", budget="≤ 10", met=cpu <= 0.10),
        *back,
    ]


async def _restarted(
    cluster: Cluster, http: httpx.AsyncClient, nursery: trio.Nursery, count: int, environ: dict[str, str]
) -> list[Figure]:
    """kill -9 of the server; from when it answers again until all are back, and how often they knocked for that."""
    old = cluster.children["server"]
    old.process.kill()
    await old.ended.wait()
    child = await start_server(cluster, nursery, environ)
    began = trio.current_time()
    await until_agent_online(http, count)
    back = trio.current_time() - began
    status: Any = await answer(http, "GET", "/gateway/status")
    cpu = sum(psutil.Process(child.process.pid).cpu_times()[:2])
    knocks = status["total_connections"] / count
    name = f"{count} agents, server restarted"
    return [
        Figure(f"{name}: all back after, s", f"{back:.1f}", budget="< 30", met=back < BACK_SECONDS_MAX),
        Figure(f"{name}: connections opened for each", f"{knocks:.2f}"),
        Figure(f"{name}: most let in within a second", f"{await _most_in_a_second(http)}"),
        Figure(f"{name}: server CPU until then, s", f"{cpu:.1f}"),
    ]


async def _most_in_a_second(http: httpx.AsyncClient) -> int:
    page: Any = await answer(http, "GET", "/events?type=AgentConnected&limit=1000&order=desc")
    at = sorted(datetime.fromisoformat(event["recorded_at"]).timestamp() for event in page["result"])
    first = 0
    most = 0
    for last, instant in enumerate(at):
        while at[first] < instant - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def _look(cluster: Cluster, http: httpx.AsyncClient) -> Looked:
    process = psutil.Process(cluster.children["server"].process.pid)
    status: Any = await answer(http, "GET", "/gateway/status")
    return Looked(
        at=trio.current_time(),
        cpu_seconds=sum(process.cpu_times()[:2]),
        rss=process.memory_info().rss,
        messages=status["total_messages_received"],
    )


@asynccontextmanager
async def _swarm(cluster: Cluster, count: int) -> AsyncIterator[None]:
    url = f"ws://127.0.0.1:{cluster.layout.websocket_port}"
    share = count // SWARMS
    processes = [
        await trio.lowlevel.open_process(
            [
                *(sys.executable, "-m", "tests.benchmarks.swarm", "--url", url),
                *("--first", str(1 + number * share), "--count", str(share)),
            ]
        )
        for number in range(SWARMS)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
