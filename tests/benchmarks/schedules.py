"""A hundred thousand enabled schedules: the start, the memory, what an idle server costs, ten thousand due at once, and what
an addition and an edit cost among them."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import psutil
import trio

from eventstore.event import Claim
from eventstore.postgres import migrate, open_postgres_store
from hetuflow.actors.catalogue import event_codec
from hetuflow.cli.cluster import Cluster, ClusterError, Layout, free_port, open_cluster, start_server, stop_children
from hetuflow.domain.commands import CreateJob, CreateSchedule
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.enums import ScheduleKind
from tests.benchmarks.harness import Figure, answer, open_api, quantile

JOBS = 100
LEAD_SECONDS = 45.0
LEAD_PER_SECOND = 400
"""From the beginning to the moment at which many are due, and how many schedules are worth a second more: the log is made,
the tables follow, the server starts and is idle, also on a busy machine."""

IDLE_SECONDS = 10.0


def _uuid(kind: int, n: int) -> str:
    return str(UUID(int=(0x0190_0000_0000_7000 << 64) | (0x8 << 60) | (kind << 48) | n))


async def schedules(count: int, due: int) -> list[Figure]:
    """`count` enabled interval schedules of which `due` are due in one instant; nobody is there to run what they make."""
    directory = Path(tempfile.mkdtemp(prefix="hetuflow-bench-"))
    layout = Layout(
        data_dir=directory, http_port=free_port(), websocket_port=free_port(), database_port=free_port(), agents=0
    )

    async def prepare(url: str) -> None:
        await migrate(url)

    try:
        async with open_cluster(layout, prepare=prepare) as cluster, trio.open_nursery() as nursery:
            await stop_children(cluster)
            due_at = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS + count / LEAD_PER_SECOND)
            await _write(cluster.database_url, count, due, due_at)
            await _until_tables_follow(cluster, nursery)
            await stop_children(cluster)
            began = trio.current_time()
            await start_server(cluster, nursery)
            started = trio.current_time() - began
            figures = await _figures(cluster, count, due, due_at, started)
            await stop_children(cluster)
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return figures


async def _figures(cluster: Cluster, count: int, due: int, due_at: datetime, started: float) -> list[Figure]:
    server = psutil.Process(cluster.children["server"].process.pid)
    start_cpu = _cpu(server)
    await trio.sleep(2)
    rss = server.memory_info().rss / 2**20
    before = _cpu(server)
    await trio.sleep(IDLE_SECONDS)
    idle = (_cpu(server) - before) / IDLE_SECONDS
    left = (due_at - datetime.now(UTC)).total_seconds()
    if left < 1:
        raise AssertionError(f"the start and the rest took {-left:.0f} s too long: nothing is measured")
    await trio.sleep(left - 0.5)
    before = _cpu(server)
    async with open_api(cluster) as http:
        decided = await _decided(cluster.database_url, due, due_at)
        burst = _cpu(server) - before
        added, edited = await _changes(http)
    return [
        Figure(
            f"{count} schedules: start, s",
            f"{started:.1f}",
            f"CPU of the server: {start_cpu:.1f} s",
            budget="≤ 5",
            met=started <= 5,
        ),
        Figure(f"{count} schedules: server RSS, MiB", f"{rss:.0f}"),
        Figure(f"{count} schedules: idle CPU, % of a core", f"{idle * 100:.2f}", budget="≤ 1", met=idle <= 0.01),
        Figure(
            f"{due} due at once: until the last is decided, s",
            f"{decided:.2f}",
            f"CPU of the server: {burst:.2f} s",
            budget="≤ 1",
            met=decided <= 1,
        ),
        Figure(f"{count} schedules: add over REST, p50", f"{quantile(added, 0.5) * 1000:.1f} ms"),
        Figure(f"{count} schedules: edit over REST, p50", f"{quantile(edited, 0.5) * 1000:.1f} ms"),
    ]


async def _write(url: str, count: int, due: int, due_at: datetime) -> None:
    """The log of a cluster in which so many schedules were made, without the clicks."""
    now, codec = datetime.now(UTC), event_codec()
    later = due_at + timedelta(days=1)
    async with open_postgres_store(url) as store:
        made: list[Claim] = []
        versions: dict[str, int] = {}

        def add(kind: str, entity: str, events: Sequence[Any], n: int) -> None:
            new = [codec.encode(event, UUID(_uuid(9, n * 4 + k)), {}) for k, event in enumerate(events)]
            made.append(Claim(f"{kind}-{entity}", 0, new))
            versions[entity] = len(new)

        for n in range(JOBS):
            job_id = _uuid(1, n)
            create = CreateJob(job_id=job_id, name=f"job {n}", config={"cmd": "true"})
            add("job", job_id, DECIDERS["job"].decide(create, DECIDERS["job"].initial, now).events, n)
        for n in range(count):
            command = CreateSchedule(
                schedule_id=_uuid(2, n),
                job_id=_uuid(1, n % JOBS),
                name=f"schedule {n}",
                schedule_kind=ScheduleKind.INTERVAL,
                interval_secs=7 * 86_400,
                start_time=due_at if n < due else later + timedelta(seconds=n),
                guards=(),
            )
            decision = DECIDERS["schedule"].decide(command, DECIDERS["schedule"].initial, now)
            add("schedule", _uuid(2, n), decision.events, JOBS + n)
        for first in range(0, len(made), 500):
            await store.append(made[first : first + 500])


async def _until_tables_follow(cluster: Cluster, nursery: trio.Nursery) -> None:
    """Once: what is measured is the start of a server that was there before, not the making of the tables."""
    for _ in range(
        5
    ):  # on a busy machine the tables may take longer than a start is waited for; they go on where they were
        with contextlib.suppress(ClusterError):
            await start_server(cluster, nursery)
            break
        await stop_children(cluster)
    async with open_api(cluster) as http:
        while (await answer(http, "POST", "/schedules/page", {"page": {"limit": 1}}))["page"]["total"] == 0:  # type: ignore[index]
            await trio.sleep(0.1)


async def _decided(url: str, due: int, due_at: datetime) -> float:
    """Seconds from the instant to the last decision, by the log's own clock."""
    import asyncio

    async def ask() -> tuple[int, float]:
        connection = await asyncpg.connect(url)
        try:
            row = await connection.fetchrow(
                "select count(*), extract(epoch from max(recorded_at) - $1::timestamptz) from events"
                " where type = 'ScheduleFired' and recorded_at >= $1",
                due_at,
            )
            return int(row[0]), float(row[1] or 0)
        finally:
            await connection.close()

    while True:
        fired, seconds = await trio.to_thread.run_sync(lambda: asyncio.run(ask()))
        if fired >= due:
            return seconds
        await trio.sleep(0.5)


async def _changes(http: httpx.AsyncClient) -> tuple[list[float], list[float]]:
    added, edited = [], []
    for n in range(30):
        began = trio.current_time()
        made: Any = await answer(
            http, "POST", "/schedules/item", {"job_id": _uuid(1, 0), "kind": "interval", "interval_secs": 86_400 + n}
        )
        added.append(trio.current_time() - began)
        began = trio.current_time()
        await answer(http, "PUT", f"/schedules/item/{made['id']}", {"interval_secs": 90_000 + n})
        edited.append(trio.current_time() - began)
    assert statistics.fmean(added) > 0
    return added, edited


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
