"""A hundred thousand enabled schedules: the start, the memory, what an idle server costs, ten thousand due at once, and what
an addition and an edit cost among them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psutil
import trio
from attrs import frozen

from eventstore.event import Claim, NewEvent
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

FEW = 1_000
"""Schedules among which an addition and an edit are measured first, to see whether they cost more among many."""

CHANGES = 100


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
            few = min(FEW, count - due)
            await _write(cluster.database_url, range(few), 0, datetime.now(UTC))
            await _until_tables_follow(cluster, nursery, few)
            among_few = await _changes(cluster)
            await stop_children(cluster)
            due_at = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS + count / LEAD_PER_SECOND)
            await _write(cluster.database_url, range(few, count), due, due_at)
            await _until_tables_follow(cluster, nursery, count)
            await stop_children(cluster)
            began = trio.current_time()
            await start_server(cluster, nursery)
            started = trio.current_time() - began
            among = f"{count} schedules: "
            figures, burst, head = await _figures(cluster, among, due, due_at, started)
            figures += _compared(among_few, few, await _changes(cluster), count)
            await stop_children(cluster)
            figures += await _burst_figures(cluster, due, burst, head)
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return figures


@frozen
class Burst:
    """Many due at once: seconds until the last is decided, and CPU seconds meanwhile."""

    seconds: float
    server_cpu: float
    database_cpu: float


async def _figures(
    cluster: Cluster, among: str, due: int, due_at: datetime, started: float
) -> tuple[list[Figure], Burst, int]:
    """The start, the rest, and what is due then; the last is the position of the log before it."""
    server, database = psutil.Process(cluster.children["server"].process.pid), _database(cluster)
    start_cpu = _cpu(server)
    await trio.sleep(2)
    rss = server.memory_info().rss / 2**20
    before = _cpu(server)
    await trio.sleep(IDLE_SECONDS)
    idle = (_cpu(server) - before) / IDLE_SECONDS
    (head,) = await _asked(cluster.database_url, "select max(position) from events")
    left = (due_at - datetime.now(UTC)).total_seconds()
    if left < 1:
        raise AssertionError(f"the start and the rest took {-left:.0f} s too long: nothing is measured")
    await trio.sleep(left - 0.5)
    before, database_before = _cpu(server), _cpu_of_all(database)
    decided = await _decided(cluster.database_url, due, due_at, head)
    burst = Burst(decided, _cpu(server) - before, _cpu_of_all(database) - database_before)
    figures = [
        Figure(
            f"{among}start, s", f"{started:.1f}", f"CPU of the server: {start_cpu:.1f} s", None, "≤ 5", started <= 5
        ),
        Figure(f"{among}server RSS, MiB", f"{rss:.0f}"),
        Figure(f"{among}idle CPU, % of a core", f"{idle * 100:.2f}", budget="≤ 1", met=idle <= 0.01),
    ]
    return figures, burst, head


async def _burst_figures(cluster: Cluster, due: int, burst: Burst, head: int) -> list[Figure]:
    bare, bare_cpu = await _appended_alone(cluster.database_url, head)
    return [
        Figure(
            f"{due} due at once: until the last is decided, s",
            f"{burst.seconds:.2f}",
            f"the same events alone: {bare:.2f} s",
            burst.seconds / bare,
            "≤ 1",
            burst.seconds <= 1,
        ),
        Figure(
            f"{due} due at once: CPU of the server, µs for each",
            f"{burst.server_cpu / due * 1e6:.0f}",
            f"the same events alone: {bare_cpu / due * 1e6:.0f}",
            burst.server_cpu / bare_cpu,
        ),
        Figure(f"{due} due at once: CPU of PostgreSQL, µs for each", f"{burst.database_cpu / due * 1e6:.0f}"),
    ]


@frozen
class Changes:
    """Seconds of each over REST, and CPU seconds of the server for all."""

    added: Sequence[float]
    edited: Sequence[float]
    added_cpu: float
    edited_cpu: float


def _compared(few: Changes, few_count: int, many: Changes, count: int) -> list[Figure]:
    def figure(what: str, one: Sequence[float], one_cpu: float, other: Sequence[float], other_cpu: float) -> Figure:
        return Figure(
            f"{what} over REST among {count} schedules: p50; CPU of the server",
            f"{quantile(other, 0.5) * 1000:.1f} ms; {other_cpu / len(other) * 1000:.2f} ms",
            f"among {few_count}: {quantile(one, 0.5) * 1000:.1f} ms; {one_cpu / len(one) * 1000:.2f} ms",
            other_cpu / one_cpu,
        )

    return [
        figure("add", few.added, few.added_cpu, many.added, many.added_cpu),
        figure("edit", few.edited, few.edited_cpu, many.edited, many.edited_cpu),
    ]


async def _write(url: str, numbers: range, due: int, due_at: datetime) -> None:
    """The log of a cluster in which these schedules were made, without the clicks; the last `due` are due then."""
    now, codec = datetime.now(UTC), event_codec()
    later = due_at + timedelta(days=1)
    async with open_postgres_store(url) as store:
        made: list[Claim] = []
        versions: dict[str, int] = {}

        def add(kind: str, entity: str, events: Sequence[Any], n: int) -> None:
            new = [codec.encode(event, UUID(_uuid(9, n * 4 + k)), {}) for k, event in enumerate(events)]
            made.append(Claim(f"{kind}-{entity}", 0, new))
            versions[entity] = len(new)

        for n in range(0 if numbers.start else JOBS):
            job_id = _uuid(1, n)
            create = CreateJob(job_id=job_id, name=f"job {n}", config={"cmd": "true"})
            add("job", job_id, DECIDERS["job"].decide(create, DECIDERS["job"].initial, now).events, n)
        for n in numbers:
            command = CreateSchedule(
                schedule_id=_uuid(2, n),
                job_id=_uuid(1, n % JOBS),
                name=f"schedule {n}",
                schedule_kind=ScheduleKind.INTERVAL,
                interval_secs=7 * 86_400,
                start_time=due_at if n >= numbers.stop - due else later + timedelta(seconds=n),
                guards=(),
            )
            decision = DECIDERS["schedule"].decide(command, DECIDERS["schedule"].initial, now)
            add("schedule", _uuid(2, n), decision.events, JOBS + n)
        for first in range(0, len(made), 500):
            await store.append(made[first : first + 500])


async def _until_tables_follow(cluster: Cluster, nursery: trio.Nursery, count: int) -> None:
    """Until so many schedules are in the tables: what is measured is the start of a server that was there before, not the making of the tables."""
    for _ in range(
        5
    ):  # on a busy machine the tables may take longer than a start is waited for; they go on where they were
        with contextlib.suppress(ClusterError):
            await start_server(cluster, nursery)
            break
        await stop_children(cluster)
    async with open_api(cluster) as http:
        while (await answer(http, "POST", "/schedules/page", {"page": {"limit": 1}}))["page"]["total"] < count:  # type: ignore[index]
            await trio.sleep(0.1)


async def _asked(url: str, query: str, *args: object) -> Sequence[Any]:
    """One row."""
    import asyncio

    async def ask() -> Sequence[Any]:
        connection = await asyncpg.connect(url)
        try:
            return tuple(await connection.fetchrow(query, *args))
        finally:
            await connection.close()

    return await trio.to_thread.run_sync(lambda: asyncio.run(ask()))


async def _decided(url: str, due: int, due_at: datetime, head: int) -> float:
    """Seconds from the instant to the last decision, by the log's own clock."""
    while True:
        fired, seconds = await _asked(
            url,
            "select count(*), extract(epoch from max(recorded_at) - $1::timestamptz)::float8 from events"
            " where position > $2 and type = 'ScheduleFired' and recorded_at >= $1",
            due_at,
            head,
        )
        if fired >= due:
            return float(seconds)
        await trio.sleep(0.5)


async def _appended_alone(url: str, head: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process, to append the events after `head` once more, to streams of other names.

    No server may run: it knows no such streams.
    """
    async with open_postgres_store(url) as store:
        claims: list[Claim] = []
        while recorded := await store.read_all(after=head):
            head = recorded[-1].position
            for n, event in enumerate(recorded):
                if event.type in ("ScheduleFired", "TaskCreated"):
                    new = NewEvent(event_id=uuid4(), type=event.type, data=event.data, metadata=event.metadata)
                    claims.append(Claim(f"bench-{head}-{n}", 0, [new]))
        began, cpu = trio.current_time(), _cpu(psutil.Process())
        for first in range(0, len(claims), 500):
            await store.append(claims[first : first + 500])
        return trio.current_time() - began, _cpu(psutil.Process()) - cpu


async def _changes(cluster: Cluster) -> Changes:
    server = psutil.Process(cluster.children["server"].process.pid)
    body = {"job_id": _uuid(1, 0), "kind": "interval", "interval_secs": 86_400}
    async with open_api(cluster) as http:
        before = _cpu(server)
        added, ids = [], []
        for _ in range(CHANGES):
            began = trio.current_time()
            made: Any = await answer(http, "POST", "/schedules/item", body)
            added.append(trio.current_time() - began)
            ids.append(made["id"])
        between, edited = _cpu(server), []
        for n, schedule_id in enumerate(ids):
            began = trio.current_time()
            await answer(http, "PUT", f"/schedules/item/{schedule_id}", {"interval_secs": 90_000 + n})
            edited.append(trio.current_time() - began)
        return Changes(added, edited, between - before, _cpu(server) - between)


def _database(cluster: Cluster) -> psutil.Process:
    (pid_file,) = cluster.layout.data_dir.rglob("postmaster.pid")
    return psutil.Process(int(pid_file.read_text().split()[0]))


def _cpu_of_all(process: psutil.Process) -> float:
    """Of the process and its children that live."""
    total = _cpu(process)
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += _cpu(child)
    return total


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
