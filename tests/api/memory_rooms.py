"""The API over the memory store with the real actors, scheduler and gateway: what no filter's SQL is needed for.

`FoldedRows` folds the whole log with the projections' own Python interpreter at every read: slow, and never behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import trio
from attrs import frozen

from eventstore.memory import MemoryStore
from eventstore.store import EventStore
from hetuflow.api import Identity, Rooms, create_app
from hetuflow.api.endings import InstanceEnd, end_of_instance
from hetuflow.api.filters import Comparison, PageRequest
from hetuflow.api.rooms import BadCursor, Row, RowPage
from hetuflow.core import CoreSettings, open_core
from hetuflow.domain.decider import Address
from hetuflow.domain.flow_graph import upstream_ids
from hetuflow.file_room import StoredFiles
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.ports.real import SystemClock, SystemIds
from hetuflow.usage_room import StoredUsage
from projections.artifacts import MemoryArtifacts
from projections.errors import RebuildRunning
from projections.fold import Tables
from projections.kept_files import MemoryFiles
from projections.output import MemoryOutput
from projections.rebuilds import Underway
from projections.status import ProjectionStatus
from projections.tables import LIVE_TABLES
from projections.usage import MemoryUsage
from tests.api.client import Client
from tests.projections.naive_queries import json_contains
from tests.support.schedules import belongs

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "in": lambda value, wanted: value in wanted,
    "contains": json_contains,
}


class FoldedRows:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def _tables(self, position: int | None) -> Tables:
        tables = Tables(LIVE_TABLES)
        before = None if position is None else position + 1
        tables.apply(await self._store.read_all(before=before, limit=1_000_000))
        return tables

    async def _rows(self, collection: str, position: int | None = None) -> list[Row]:
        tables = await self._tables(position)
        return list(tables.folds[collection].rows().values())

    async def reached(self, position: int, seconds: float) -> int:
        return await self._store.head()

    async def page(self, collection: str, request: PageRequest) -> RowPage:
        return await self.page_at(collection, request, None)

    async def page_at(self, collection: str, request: PageRequest, position: int | None) -> RowPage:
        rows = await self._rows(collection, position)
        if request.alternatives:
            any_of = request.alternatives
            rows = [row for row in rows if any(all(_holds(row, each) for each in one) for one in any_of)]
        rows.sort(key=lambda row: (row["created_at"], str(row["id"])), reverse=True)
        if request.after is not None:
            if not request.after.isdigit():
                raise BadCursor
            start = int(request.after)
        else:
            start = request.offset
        found = rows[start : start + request.limit]
        end = start + len(found)
        has_more = end < len(rows)
        total = None if request.after is not None else len(rows)
        return RowPage(rows=found, total=total, has_more=has_more, next=str(end) if has_more else None)

    async def get(self, collection: str, key: str) -> Row | None:
        return await self.get_at(collection, key, None)

    async def get_at(self, collection: str, key: str, position: int | None) -> Row | None:
        return next((row for row in await self._rows(collection, position) if str(row["id"]) == key), None)

    async def tally(self, collection: str, column: str) -> Mapping[Any, int]:
        counts: dict[Any, int] = {}
        for row in await self._rows(collection):
            counts[row[column]] = counts.get(row[column], 0) + 1
        return counts

    async def streams(self, prefix: str) -> Mapping[str, int]:
        events = await self._store.read_all(limit=1_000_000)
        return {event.stream_id: event.version for event in events if event.stream_id.startswith(prefix)}

    def connections(self) -> int:
        return 0

    def stall(self) -> str | None:
        return None


class FoldedTables:
    """The projections of `FoldedRows`: never behind, and rebuilt when somebody says so (`finish`)."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.underway: dict[str, Underway] = {}

    def status(self) -> Sequence[ProjectionStatus]:
        head = len(self._store.log.events)
        return [
            ProjectionStatus(
                name=name,
                definition=table.fingerprint,
                status="live",
                position=head,
                head=head,
                lag_events=0,
                lag_seconds=0.0,
                updated_at=None,
            )
            for name, table in LIVE_TABLES.items()
        ]

    def start(self, name: str) -> str:
        if name not in LIVE_TABLES:
            raise KeyError(name)
        if name in self.underway:
            raise RebuildRunning
        begun = Underway(id=str(SystemIds().uuid7()), started_at=datetime.now(UTC))
        self.underway[name] = begun
        return begun.id

    def finish(self) -> None:
        self.underway.clear()


def _holds(row: Row, comparison: Comparison) -> bool:
    if comparison.field.name == "enabled":
        return (row["status"] == 100) == comparison.value
    value = row[comparison.field.name]
    for name in comparison.path:
        value = value.get(name) if isinstance(value, dict) else None
    return bool(OPERATORS[comparison.operator](value, comparison.value))


@frozen(slots=True)
class World:
    client: Client
    store: EventStore
    rooms: Rooms


@asynccontextmanager
async def memory_world(**identity: Any) -> AsyncIterator[World]:
    clock, ids = SystemClock(), SystemIds()
    store = MemoryStore(clock.now)
    rows = FoldedRows(store)
    output, artifacts, files = MemoryOutput(), MemoryArtifacts(), MemoryFiles()

    async def find_open(position: int) -> Sequence[Address]:
        return []

    async def schedules_of(source: Address, position: int) -> Sequence[str]:
        return [str(row["id"]) for row in await rows._rows("schedules") if belongs(row, source)]

    async def followers_of(job_ids: Sequence[str]) -> Sequence[str]:
        found = await rows._rows("jobs")
        return [str(row["id"]) for row in found if set(upstream_ids(row["upstream"])) & set(job_ids)]

    async def end_of(instance_id: str) -> InstanceEnd | None:
        row = await rows.get("task_instances", instance_id)
        return None if row is None else await end_of_instance(store, str(row["task_id"]), instance_id)

    settings = CoreSettings(
        server_name="test", version="0", address="127.0.0.1:0", gateway=GatewaySettings(server_id="server-1")
    )
    async with open_core(
        store,
        output,
        clock,
        ids,
        settings,
        find_open=find_open,
        schedules_of=schedules_of,
        followers_of=followers_of,
        files=StoredFiles(artifacts, files, end_of),
        usage=StoredUsage(usage := MemoryUsage()),
    ) as core:
        rooms = Rooms(
            identity=Identity(
                server_id="server-1",
                server_name="test",
                version="0.1.0",
                started_at=datetime.now(UTC),
                started=trio.current_time(),
                http_port=8080,
                websocket_port=8081,
                **identity,
            ),
            system=core.system,
            store=store,
            rows=rows,
            projections=FoldedTables(store),
            scheduler=core.scheduler,
            output=output,
            artifacts=artifacts,
            files=files,
            usage=usage,
            agents=core.gateway,
            clock=core.clock,
            ids=ids,
        )
        yield World(Client(create_app(rooms)), store, rooms)
