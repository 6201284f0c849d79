"""What running instances use over time, and how their agents do: best effort, few points, dropped by day.

A run's time is divided into slots of `SLOT_SECONDS`; of a run that has come to slot n only those are kept that are
multiples of `stride_of(n)`, so that no run has more than `POINTS_MAX`. Agents send by the same rule; what became too
dense is removed here. Two implementations of one contract: PostgreSQL, and memory for tests and simulation.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, Protocol

from attrs import frozen

from eventstore.errors import SqlError, StoreTimeout
from eventstore.postgres.database import Database

log = logging.getLogger(__name__)

SLOT_SECONDS: Final = 10.0
POINTS_MAX: Final = 240
DAYS_AHEAD: Final = 2
INSTANCE_DAYS: Final = 7
AGENT_DAYS: Final = 1
"""Whole days that are kept beside today."""
AGENT_POINTS_MAX: Final = 2000
"""Of one answer: a day has 1440 minutes."""


@frozen(slots=True, kw_only=True)
class InstancePoint:
    """All but `memory_bytes` and `processes` since the start; 0 = not measured."""

    instance_id: str
    at: datetime
    elapsed_seconds: float
    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int
    disk_read_bytes: int
    disk_write_bytes: int
    processes: int
    cpu_pressure_seconds: float
    memory_pressure_seconds: float

    @property
    def slot(self) -> int:
        return int(self.elapsed_seconds // SLOT_SECONDS)


@frozen(slots=True, kw_only=True)
class AgentPoint:
    """`*_usage` in percent, `load` the mean of a minute."""

    agent_id: str
    at: datetime
    cpu_usage: float
    memory_usage: float
    disk_usage: float
    load: float
    active_tasks: int
    slots: int


class UsageStore(Protocol):
    async def store(self, points: Sequence[InstancePoint], agents: Sequence[AgentPoint]) -> None:
        """Keep them; a second point of the same moment is dropped. Raises what `Database` raises."""
        ...

    async def of_instance(self, instance_id: str) -> Sequence[InstancePoint]:
        """In order of time, at most `POINTS_MAX`."""
        ...

    async def of_agent(self, agent_id: str, since: datetime) -> Sequence[AgentPoint]:
        """In order of time."""
        ...


def stride_of(slot: int) -> int:
    """Every how many slots one is kept, in a run that has come to this slot: a power of two."""
    stride = 1
    while slot >= stride * POINTS_MAX:
        stride *= 2
    return stride


def _thinned(points: Sequence[InstancePoint]) -> Sequence[InstancePoint]:
    """One for each slot that is kept: what came twice, or from two lives of an agent, may be there twice."""
    if not points:
        return points
    stride = stride_of(points[-1].slot)
    first: dict[int, InstancePoint] = {}
    for point in points:
        if point.slot % stride == 0:
            first.setdefault(point.slot, point)
    return list(first.values())


_INSTANCE_COLUMNS: Final = (
    "elapsed_seconds",
    "cpu_seconds",
    "memory_bytes",
    "memory_peak_bytes",
    "disk_read_bytes",
    "disk_write_bytes",
    "processes",
    "cpu_pressure_seconds",
    "memory_pressure_seconds",
)
_AGENT_COLUMNS: Final = ("cpu_usage", "memory_usage", "disk_usage", "load", "active_tasks", "slots")

_STORE_POINTS = f"""
INSERT INTO task_instance_usage (instance_id, slot, at, {", ".join(_INSTANCE_COLUMNS)})
SELECT * FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::float8[], $5::float8[], $6::int8[], $7::int8[],
                     $8::int8[], $9::int8[], $10::int[], $11::float8[], $12::float8[])
ON CONFLICT DO NOTHING
"""

_THIN = """
DELETE FROM task_instance_usage AS u USING unnest($1::uuid[], $2::int[]) AS run(id, stride)
 WHERE u.instance_id = run.id AND u.slot % run.stride <> 0
"""

_STORE_AGENTS = f"""
INSERT INTO agent_usage (agent_id, at, {", ".join(_AGENT_COLUMNS)})
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::real[], $4::real[], $5::real[], $6::real[], $7::int[], $8::int[])
ON CONFLICT DO NOTHING
"""

_OF_INSTANCE = f"""
SELECT at, {", ".join(_INSTANCE_COLUMNS)} FROM task_instance_usage WHERE instance_id = $1::uuid ORDER BY slot, at
 LIMIT {4 * POINTS_MAX}
"""

_OF_AGENT = f"""
SELECT at, {", ".join(_AGENT_COLUMNS)} FROM agent_usage WHERE agent_id = $1 AND at >= $2 ORDER BY at
 LIMIT {AGENT_POINTS_MAX}
"""


class PostgresUsage:
    """In the tables `task_instance_usage` and `agent_usage`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._day: date | None = None

    async def store(self, points: Sequence[InstancePoint], agents: Sequence[AgentPoint]) -> None:
        moments = [*(point.at for point in points), *(each.at for each in agents)]
        if not moments:
            return
        await self._turn(max(moments).astimezone(UTC).date())
        if points:
            columns = [[getattr(point, name) for point in points] for name in _INSTANCE_COLUMNS]
            ids = [point.instance_id for point in points]
            slots = [point.slot for point in points]
            await self._database.fetch(_STORE_POINTS, ids, slots, [point.at for point in points], *columns)
            strides = {
                each: stride_of(slot) for each, slot in sorted(zip(ids, slots, strict=True)) if stride_of(slot) > 1
            }
            if strides:
                await self._database.fetch(_THIN, list(strides), list(strides.values()))
        if agents:
            columns = [[getattr(each, name) for each in agents] for name in _AGENT_COLUMNS]
            ids = [each.agent_id for each in agents]
            await self._database.fetch(_STORE_AGENTS, ids, [each.at for each in agents], *columns)

    async def of_instance(self, instance_id: str) -> Sequence[InstancePoint]:
        rows = await self._database.fetch(_OF_INSTANCE, instance_id)
        return _thinned([InstancePoint(instance_id=instance_id, **_named(row, _INSTANCE_COLUMNS)) for row in rows])

    async def of_agent(self, agent_id: str, since: datetime) -> Sequence[AgentPoint]:
        rows = await self._database.fetch(_OF_AGENT, agent_id, since)
        return [AgentPoint(agent_id=agent_id, **_named(row, _AGENT_COLUMNS)) for row in rows]

    async def _turn(self, day: date) -> None:
        """Once a day: partitions of the coming days, and away with the old ones."""
        if day == self._day:
            return
        self._day = day
        try:
            await self._database.fetch("SELECT turn_usage($1, $2, $3)", DAYS_AHEAD, INSTANCE_DAYS, AGENT_DAYS)
        except (SqlError, StoreTimeout) as problem:
            log.warning("the partitions of what instances use were not turned over on %s: %s", day, problem)


def _named(row: Any, columns: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in ("at", *columns)}


class MemoryUsage:
    """The same in memory: for tests and simulation. Forgets nothing but what is too dense."""

    def __init__(self) -> None:
        self._points: dict[str, dict[tuple[int, datetime], InstancePoint]] = defaultdict(dict)
        self._agents: dict[str, dict[datetime, AgentPoint]] = defaultdict(dict)

    async def store(self, points: Sequence[InstancePoint], agents: Sequence[AgentPoint]) -> None:
        for point in points:
            self._points[point.instance_id].setdefault((point.slot, point.at), point)
        for each in agents:
            self._agents[each.agent_id].setdefault(each.at, each)

    async def of_instance(self, instance_id: str) -> Sequence[InstancePoint]:
        kept = self._points.get(instance_id, {})
        return _thinned([kept[key] for key in sorted(kept)])

    async def of_all(self) -> Mapping[str, Sequence[InstancePoint]]:
        """By instance."""
        return {instance_id: await self.of_instance(instance_id) for instance_id in self._points}

    async def of_agent(self, agent_id: str, since: datetime) -> Sequence[AgentPoint]:
        kept = self._agents.get(agent_id, {})
        return [kept[at] for at in sorted(kept) if at >= since]
