"""`sched_server`: one row per server that ever started and was not removed."""

from __future__ import annotations

from hetuflow.domain.enums import ServerStatus
from hetuflow.domain.events import ServerLost, ServerRemoved, ServerStarted, ServerStopped, ServerUpdated
from projections.definition import (
    BIRTH,
    Born,
    Column,
    Constant,
    Field,
    Kind,
    Table,
    Touched,
    TouchedVersion,
    always,
    same,
)

SERVERS = Table(
    name="sched_server",
    key="id",
    key_kind=Kind.TEXT,
    key_source=Field("server_id"),
    creates={ServerStarted: None},
    removes={ServerRemoved: None},
    items=(
        Column("name", Kind.TEXT, same("name", ServerStarted, ServerUpdated)),
        Column("address", Kind.TEXT, same("address", ServerStarted, ServerUpdated)),
        Column(
            "bind_namespaces",
            Kind.JSON,
            same("bind_namespaces", ServerStarted, ServerUpdated, default=[]),
            initial=[],
        ),
        Column(
            "status",
            Kind.INT,
            {
                ServerStarted: Constant(int(ServerStatus.ACTIVE)),
                **always(int(ServerStatus.INACTIVE), ServerStopped, ServerLost),
            },
        ),
        Column("description", Kind.TEXT, same("description", ServerUpdated)),
        Column(
            "last_heartbeat_at",
            Kind.TIME,
            {ServerStarted: Field("started_at"), ServerStopped: Field("stopped_at")},
            initial=BIRTH,
        ),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id",),
)
