"""I10, I11: what instances use, over time and now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import TASK_INSTANCES
from hetuflow.api.kinds import Integer
from hetuflow.api.reads import row_of
from hetuflow.api.routing import Endpoint, Parameter, PathId, integer_text
from hetuflow.api.schemas.usage import INSTANCE_METRICS, RUNNING_USAGES
from hetuflow.gateway.usage import UsageAt
from projections.usage import InstancePoint

LISTED_DEFAULT, LISTED_MAX = 100, 1000


def shown(at: datetime, point: Any, cpu: float | None) -> dict[str, Any]:
    """`point`: as an agent tells it, or as it is kept."""
    return {
        "at": at,
        "elapsed": round(point.elapsed_seconds, 3),
        "cpu": None if cpu is None else round(cpu, 3),
        "cpu_time": round(point.cpu_seconds, 3),
        "memory": point.memory_bytes,
        "memory_peak": point.memory_peak_bytes,
        "disk_read": point.disk_read_bytes,
        "disk_write": point.disk_write_bytes,
        "processes": point.processes,
        "cpu_pressure": round(point.cpu_pressure_seconds, 3),
        "memory_pressure": round(point.memory_pressure_seconds, 3),
    }


def running(agent_id: str, used: UsageAt) -> dict[str, Any]:
    return {
        "instance_id": used.instance_id,
        "agent_id": agent_id,
        "epoch": used.epoch,
        "usage": shown(used.at, used.point, used.cores),
    }


def series(points: Sequence[InstancePoint]) -> list[dict[str, Any]]:
    """Each with the cores it used since the one before."""
    found, elapsed, used = [], 0.0, 0.0
    for point in points:
        seconds = point.elapsed_seconds - elapsed
        cores = max(0.0, point.cpu_seconds - used) / seconds if seconds > 0 else None
        found.append(shown(point.at, point, cores))
        elapsed, used = point.elapsed_seconds, point.cpu_seconds
    return found


async def metrics(call: Call) -> Reply:
    row, position = await row_of(call, TASK_INSTANCES, "task_instance")
    agents = call.rooms.agents
    latest = None if row["agent_id"] is None else agents.usage_of(call.id, row["agent_id"])
    value = {
        "latest": None if latest is None else shown(latest.at, latest.point, latest.cores),
        "result": series(await call.rooms.usage.of_instance(call.id)),
    }
    return Reply(value, position)


async def usages(call: Call) -> Reply:
    limit = call.query.get("limit", LISTED_DEFAULT)
    found = list(call.rooms.agents.usages())
    found.sort(key=lambda each: (-(each[1].cores or 0.0), -each[1].point.memory_bytes, each[1].instance_id))
    return Reply({"result": [running(*each) for each in found[:limit]]})


ENDPOINTS = (
    Endpoint(
        number="I10",
        method="GET",
        path="/api/v1/task-instances/item/{id}/metrics",
        path_id=PathId.UUID,
        handler=metrics,
        reply=INSTANCE_METRICS,
        summary="What a task instance uses: CPU, memory, disk, processes, over its run",
        tag="task instances",
    ),
    Endpoint(
        number="I11",
        method="GET",
        path="/api/v1/task-instances/usage",
        handler=usages,
        reply=RUNNING_USAGES,
        summary="What runs now, and what it uses",
        tag="task instances",
        is_positioned=False,
        parameters=(
            Parameter(
                name="limit", kind=Integer(1, LISTED_MAX), doc=f"default: {LISTED_DEFAULT}", from_text=integer_text
            ),
        ),
    ),
)
