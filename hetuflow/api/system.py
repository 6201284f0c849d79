"""Y1-Y4: how the server does; and what answers 501."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

import trio
from attrs import frozen

from eventstore.errors import EventStoreError
from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import ApiError
from hetuflow.api.gateway import agent_counts, gateway_status
from hetuflow.api.reads import AnyDocument, PlainText
from hetuflow.api.routing import Endpoint
from hetuflow.api.schemas.system import HEALTH, INFO, METRICS
from hetuflow.api.telemetry import CONTENT_TYPE, Figures
from hetuflow.domain.enums import InstanceStatus, ScheduleStatus, TaskStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DATABASE_SECONDS_MAX = 1.0
"""Health must answer within two seconds also when the store is down."""

SCRAPE_SECONDS_MAX = 5.0
"""Less than the ten seconds after which Prometheus gives up."""

LATE_MS = 1000.0
"""A scheduler this late (p99) is worth a warning."""

LAG_EVENTS = 10_000


def _epoch_ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _uptime(call: Call) -> int:
    return int(trio.current_time() - call.rooms.identity.started)


@frozen(slots=True)
class _Look:
    """What the store and the tables answered, within the time allowed; None = they did not."""

    head: int | None
    latency_ms: float
    reached: int | None
    agents: Mapping[str, int] | None


async def _look(call: Call) -> _Look:
    started = trio.current_time()
    head = reached = agents = None
    latency = DATABASE_SECONDS_MAX * 1000
    with trio.move_on_after(DATABASE_SECONDS_MAX):
        try:
            head = await call.rooms.store.head()
            latency = (trio.current_time() - started) * 1000
            reached = await call.rooms.rows.reached(0, 0.0)
            agents = await agent_counts(call)
        except EventStoreError:
            pass
    return _Look(head, latency, reached, agents)


async def health(call: Call) -> Reply:
    look = await _look(call)
    scheduler = call.rooms.scheduler.status()
    lateness_ms = scheduler.lateness_seconds_p99 * 1000
    lag = max(0, look.head - look.reached) if look.head is not None and look.reached is not None else 0
    connected = look.head is not None
    agents = look.agents or {"total": 0, "online": 0, "offline": 0}
    trouble = call.rooms.store.trouble
    # One that only shows a log decides nothing, and that is as it should be.
    problems = () if call.rooms.identity.is_read_only else scheduler.problems
    checks: dict[str, dict[str, Any]] = {
        "database": {
            "status": "ok" if connected and trouble is None else "failed",
            "latency_ms": round(look.latency_ms, 3),
            "problem": trouble,
        },
        "scheduler": {
            "status": "failed" if problems else "warning" if lateness_ms > LATE_MS else "ok",
            "lateness_ms": round(lateness_ms, 3),
            "role": "active" if scheduler.is_deciding else "standby",
            "clock_offset_ms": _milliseconds(scheduler.clock.offset_seconds),
            "problem": "; ".join(problems) or None,
        },
        "projections": {
            "status": _projections(call, look, lag),
            "lag_events": lag,
        },
        "agents": {"status": "ok" if agents["online"] else "warning", "online": agents["online"]},
    }
    failed = any(check["status"] == "failed" for check in checks.values())
    identity = call.rooms.identity
    return Reply(
        {
            "status": "unhealthy" if failed else "healthy",
            "checks": checks,
            "timestamp": _epoch_ms(call.rooms.clock.now()),
            "version": identity.version,
            "uptime": _uptime(call),
            "db_conn_size": call.rooms.rows.connections(),
            "agent_size": agents["online"],
            "database": {"status": "connected" if connected else "disconnected", "pool_size": identity.pool_size},
            "agents": dict(agents),
        },
        look.reached,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _projections(call: Call, look: _Look, lag: int) -> str:
    if look.reached is None or call.rooms.rows.stall() is not None:
        return "failed"
    return "warning" if lag > LAG_EVENTS else "ok"


async def info(call: Call) -> Reply:
    identity = call.rooms.identity
    head = await call.log_head()
    return Reply(
        {
            "name": "hetuflow",
            "version": identity.version,
            "api_version": "v1",
            "server_id": identity.server_id,
            "server_name": identity.server_name,
            "start_time": identity.started_at,
            "uptime": _uptime(call),
            "http_port": identity.http_port,
            "websocket_port": identity.websocket_port,
            "timezone": identity.timezone,
            "python_version": platform.python_version(),
            "database_version": identity.database_version,
            "position": head,
        },
        head,
    )


async def metrics(call: Call) -> Reply:
    position = await call.visible()
    return Reply(await _counts(call, position), position)


async def _counts(call: Call, position: int) -> dict[str, Any]:
    """The figures of Y2, of tables that show that position. Raises what the store raises."""
    rooms = call.rooms
    head = await rooms.store.head()
    scheduler, actors = rooms.scheduler.status(), rooms.system.statistics()
    lag = {"position": position, "lag_events": max(0, head - position)}
    fires = call.memory.fires
    await fires.advance(rooms.store, rooms.identity.server_id)
    schedules = await rooms.rows.tally("schedules", "status")
    return {
        "ok": True,
        "timestamp": _epoch_ms(rooms.clock.now()),
        "uptime": _uptime(call),
        "events": {"position": head, "appended_total": actors.events},
        "tasks": _by_name(TaskStatus, await rooms.rows.tally("tasks", "status")),
        "task_instances": _by_name(InstanceStatus, await rooms.rows.tally("task_instances", "status")),
        "agents": {
            **await agent_counts(call),
            "slots": scheduler.agenda.slots_total,
            "slots_free": scheduler.agenda.slots_free,
        },
        "schedules": {
            "enabled": schedules.get(int(ScheduleStatus.ENABLED), 0),
            "fired_total": fires.fired,
            "skipped_total": fires.skipped,
            "lateness_ms": {
                "p50": round(scheduler.lateness_seconds_p50 * 1000, 3),
                "p95": round(scheduler.lateness_seconds_p95 * 1000, 3),
                "p99": round(scheduler.lateness_seconds_p99 * 1000, 3),
            },
        },
        "projections": dict.fromkeys(PROJECTIONS, lag),
        "gateway": await gateway_status(call),
        "http": {"requests_total": call.memory.requests, "errors_total": call.memory.errors},
    }


async def prometheus(call: Call) -> Reply:
    """Waits for nothing: a table that is behind shows in its lag. Without the database, what this server counts itself."""
    counts = None
    with trio.move_on_after(SCRAPE_SECONDS_MAX):
        try:
            counts = await _counts(call, await call.rooms.rows.reached(0, 0.0))
        except EventStoreError:
            pass
    rooms, memory = call.rooms, call.memory
    scheduler, actors = rooms.scheduler.status(), rooms.system.statistics()
    agenda = scheduler.agenda
    figures = Figures(
        counts=counts,
        uptime_seconds=_uptime(call),
        version=rooms.identity.version,
        server_id=rooms.identity.server_id,
        connections=rooms.rows.connections(),
        open_streams=len(memory.streams),
        queue={
            "commands": actors.queued_commands,
            "schedules_due": agenda.schedules_due,
            "tasks_waiting": agenda.tasks_waiting,
            "tasks_held_back": agenda.tasks_held_back,
            "tasks_later": agenda.tasks_later,
            "tasks_in_hand": agenda.tasks_in_hand,
            "events_undecided": scheduler.events_undecided,
        },
        commands=actors.commands,
        conflicts=actors.conflicts,
        append_seconds=actors.append_seconds,
        lateness_seconds=rooms.scheduler.lateness,
        is_deciding=scheduler.is_deciding,
        clock_offset_seconds=scheduler.clock.offset_seconds,
    )
    return Reply(content=memory.telemetry.exposition(figures), content_type=CONTENT_TYPE)


PROJECTIONS = ("jobs", "schedules", "tasks", "task_instances", "agents", "servers", "calendars", "backfills")


def _by_name(enum: type[IntEnum], counts: Mapping[Any, int]) -> dict[str, int]:
    """Counts by status name in snake_case, every status present."""
    return {member.name.lower(): counts.get(int(member), 0) for member in enum}


async def later(call: Call) -> Reply:
    raise ApiError(501, "there is no authentication in this version: no request needs a token")


def _not_implemented(number: str, path: str) -> Endpoint:
    return Endpoint(
        number=number,
        method="POST",
        path=path,
        handler=later,
        reply=AnyDocument(),
        summary="Tokens come with authentication",
        tag="authentication",
        also=(501,),
    )


ENDPOINTS = (
    Endpoint(
        number="Y1",
        is_positioned=False,
        method="GET",
        path="/api/v1/system/health",
        handler=health,
        reply=HEALTH,
        summary="Whether the server is well",
        tag="system",
    ),
    Endpoint(
        number="Y2",
        method="GET",
        path="/api/v1/system/metrics",
        handler=metrics,
        reply=METRICS,
        summary="Counts",
        tag="system",
    ),
    Endpoint(
        number="Y3",
        method="GET",
        path="/api/v1/system/info",
        handler=info,
        reply=INFO,
        summary="What this server is",
        tag="system",
    ),
    Endpoint(
        number="Y4",
        is_positioned=False,
        method="GET",
        path="/metrics",
        handler=prometheus,
        reply=PlainText(),
        summary="The same for Prometheus: text format 0.0.4",
        tag="system",
    ),
    _not_implemented("U1", "/api/v1/auth/generate-token"),
    _not_implemented("U2", "/api/v1/admin/agents/token"),
)
