"""What the server says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from hetuflow.api.kinds import Array, Boolean, Integer, Kind, Number, Text, Time
from hetuflow.api.objects import FreeObject
from hetuflow.api.shapes import Member, Shape


def _shape(title: str, **members: Kind) -> Shape:
    return Shape(title=title, members=[Member(name=name, kind=kind) for name, kind in members.items()])


def _counts(title: str, names: Sequence[str]) -> Shape:
    return Shape(title=title, members=[Member(name=name, kind=Integer()) for name in names])


HEALTH = _shape(
    "Health",
    status=Text(meaning="healthy or unhealthy"),
    checks=_shape(
        "HealthChecks",
        database=Shape(
            title="DatabaseCheck",
            members=[
                Member(name="status", kind=Text()),
                Member(name="latency_ms", kind=Number()),
                Member(name="problem", kind=Text(), nullable=True, doc="why appends do not get through"),
            ],
        ),
        scheduler=Shape(
            title="SchedulerCheck",
            members=[
                Member(name="status", kind=Text()),
                Member(name="lateness_ms", kind=Number()),
                Member(name="role", kind=Text(), doc="active or standby: of several servers one decides"),
                Member(name="clock_offset_ms", kind=Number(), nullable=True, doc="our clock minus PostgreSQL's"),
                Member(name="problem", kind=Text(), nullable=True, doc="why jobs do not run as they should"),
            ],
        ),
        projections=_shape("ProjectionsCheck", status=Text(), lag_events=Integer()),
        agents=_shape("AgentsCheck", status=Text(), online=Integer()),
    ),
    timestamp=Integer(),
    version=Text(),
    uptime=Integer(),
    db_conn_size=Integer(),
    agent_size=Integer(),
    database=_shape("DatabaseState", status=Text(), pool_size=Integer()),
    agents=_counts("AgentCounts", ("total", "online", "offline")),
)

INFO = Shape(
    title="Info",
    members=[
        Member(name="name", kind=Text()),
        Member(name="version", kind=Text()),
        Member(name="api_version", kind=Text()),
        Member(name="server_id", kind=Text()),
        Member(name="server_name", kind=Text()),
        Member(name="start_time", kind=Time()),
        Member(name="uptime", kind=Integer()),
        Member(name="http_port", kind=Integer()),
        Member(name="websocket_port", kind=Integer()),
        Member(name="timezone", kind=Text()),
        Member(name="python_version", kind=Text()),
        Member(name="database_version", kind=Text(), nullable=True),
        Member(name="position", kind=Integer(), doc="head of the log"),
    ],
)

CONNECTION = _shape("GatewayConnection", agent_id=Text(), address=Text(), connected_at=Time(), last_message_at=Time())

GATEWAY_STATUS = Shape(
    title="GatewayStatus",
    members=[
        *(
            Member(name=name, kind=Integer())
            for name in (
                "total_connections",
                "active_connections",
                "total_messages_sent",
                "total_messages_received",
                "total_agents",
                "online_agents",
                "offline_agents",
            )
        ),
        Member(name="timestamp", kind=Time()),
        Member(name="connections", kind=Array(CONNECTION)),
    ],
)

METRICS = _shape(
    "Metrics",
    ok=Boolean(),
    timestamp=Integer(),
    uptime=Integer(),
    events=_counts("EventCounts", ("position", "appended_total")),
    tasks=FreeObject(),
    task_instances=FreeObject(),
    agents=_counts("AgentCapacity", ("total", "online", "offline", "slots", "slots_free")),
    schedules=_shape(
        "ScheduleCounts",
        enabled=Integer(),
        fired_total=Integer(),
        skipped_total=Integer(),
        lateness_ms=_shape("Lateness", p50=Number(), p95=Number(), p99=Number()),
    ),
    projections=FreeObject(),
    gateway=GATEWAY_STATUS,
    http=_counts("HttpCounts", ("requests_total", "errors_total")),
)
