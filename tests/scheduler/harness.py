"""The core over a memory log, for tests in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from attrs import frozen

from eventstore.event import RecordedEvent
from eventstore.memory import Hooks, MemoryLog, MemoryStore
from hetuflow.actors import Answer, Limits
from hetuflow.core import Core, CoreSettings, open_core
from hetuflow.domain.commands import CreateJob, CreateSchedule, CreateTask, JobSnapshot
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.flow_graph import upstream_ids
from hetuflow.domain.job import snapshot
from hetuflow.gateway.files import FileRoom
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.protocol.messages import Output
from projections.fold import TableFold, decode
from projections.open_work import OPEN_WORK
from tests.support.ports import EPOCH, SeededIds, TrioClock
from tests.support.schedules import belongs


class MemorySink:
    """Output in memory."""

    def __init__(self) -> None:
        self.chunks: list[Output] = []

    async def store(self, chunks: Sequence[Output]) -> None:
        self.chunks += chunks


@frozen
class Server:
    """A running core and what it runs on."""

    core: Core
    store: MemoryStore
    clock: TrioClock
    ids: SeededIds
    sink: MemorySink

    async def ask(self, address: Address, command: object) -> Answer:
        return await self.core.system.ask(address, command)

    async def job(self, job_id: str = "job-1", **config: Any) -> JobSnapshot:
        address = Address("job", job_id)
        await self.ask(address, CreateJob(job_id=job_id, name=job_id, config={"cmd": "true", **config}))
        reading = await self.core.system.read(address)
        return snapshot(reading.state, reading.version)

    async def schedule(self, job: JobSnapshot, schedule_id: str = "s1", **members: Any) -> None:
        command = CreateSchedule(
            schedule_id=schedule_id,
            job_id=job.job_id,
            **{"schedule_kind": ScheduleKind.INTERVAL, "interval_secs": 10, **members},
            guards=(job.guard,),
        )
        await self.ask(Address("schedule", schedule_id), command)

    async def task(self, job: JobSnapshot, task_id: str = "t1", **members: Any) -> Answer:
        return await self.ask(Address("task", task_id), CreateTask(task_id=task_id, job=job, trigger="run", **members))

    def events(self, *types: str, stream: str | None = None) -> list[RecordedEvent]:
        return [
            event
            for event in self.store.log.events
            if (not types or event.type in types) and stream in (None, event.stream_id)
        ]

    def history(self, task_id: str = "t1") -> list[str]:
        return [event.type for event in self.events(stream=f"task-{task_id}")]


@asynccontextmanager
async def a_server(
    *,
    log: MemoryLog | None = None,
    clock: TrioClock | None = None,
    hooks: Hooks | None = None,
    server_id: str = "server-1",
    seed: int = 1,
    tasks_max: int = 0,
    namespaces_max: Mapping[str, int] | None = None,
    ageing_seconds: int = 300,
    tick_seconds: float = 1.0,
    limits: Limits | None = None,
    server_lost_seconds: float = 10.0,
    store_now: Callable[[], datetime] | None = None,
    files: FileRoom | None = None,
    **gateway: Any,
) -> AsyncIterator[Server]:
    """A core over the log, started as after a crash or a stop of whoever wrote it.

    `store_now`: the clock of the database, when it is another than the server's.
    """
    clock = clock or TrioClock()
    store = MemoryStore(store_now or clock.now, log=log, hooks=hooks, origin=f"{server_id}-{seed}")
    ids = SeededIds(f"{server_id}-{seed}", clock)
    sink = MemorySink()

    async def find_open(position: int) -> Sequence[Address]:
        fold = TableFold(OPEN_WORK)
        for event in await store.read_all(limit=10**9):
            fold.apply(decode(event))
        return [Address.of_stream(stream_id) for stream_id in fold.rows()]

    async def schedules_of(source: Address, position: int) -> Sequence[str]:
        rows: dict[str, Any] = {}
        for event in await store.read_all(limit=10**9):
            if event.type in ("ScheduleCreated", "ScheduleUpdated"):
                rows[event.stream_id] = decode(event).data
        return [data["schedule_id"] for data in rows.values() if belongs(data, source)]

    async def followers_of(job_ids: Sequence[str]) -> Sequence[str]:
        upstream = {
            data(event)["job_id"]: upstream_ids(data(event).get("upstream"))
            for event in await store.read_all(limit=10**9)
            if event.type in ("JobCreated", "JobUpdated")
        }
        return [job_id for job_id, followed in upstream.items() if set(followed) & set(job_ids)]

    settings = CoreSettings(
        server_name="test",
        version="1",
        address="test",
        gateway=GatewaySettings(server_id=server_id, **gateway),
        tick_seconds=tick_seconds,
        tasks_max=tasks_max,
        namespaces_max=namespaces_max or {},
        ageing_seconds=ageing_seconds,
        server_lost_seconds=server_lost_seconds,
        limits=limits or Limits(),
    )
    try:
        async with open_core(
            store,
            sink,
            clock,
            ids,
            settings,
            find_open=find_open,
            schedules_of=schedules_of,
            followers_of=followers_of,
            files=files,
        ) as core:
            yield Server(core, store, clock, ids, sink)
    finally:
        store.close()


def data(event: RecordedEvent) -> dict[str, Any]:
    return json.loads(event.data)


def seconds(events: Sequence[RecordedEvent]) -> list[float]:
    """When they were recorded, since the beginning of time."""
    return [(event.recorded_at - EPOCH).total_seconds() for event in events]


def nominal(event: RecordedEvent) -> float:
    """The nominal time of a fire, since the beginning of time."""
    return (datetime.fromisoformat(data(event)["nominal_at"]) - EPOCH).total_seconds()
