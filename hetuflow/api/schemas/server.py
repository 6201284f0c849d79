"""Servers: they register themselves."""

from __future__ import annotations

from hetuflow.api.coded import CodeOut
from hetuflow.api.kinds import Array, NameId, Text, Time
from hetuflow.api.schemas.job import CREATED_UPDATED
from hetuflow.api.shapes import Entity, Member
from hetuflow.domain.enums import ServerStatus

SERVER = Entity(
    title="SchedServer",
    members=[
        Member(name="id", kind=NameId()),
        Member(name="name", kind=Text()),
        Member(name="address", kind=Text()),
        Member(name="bind_namespaces", kind=Array(Text()), doc="served first by this server; [] = all"),
        Member(name="status", kind=CodeOut(ServerStatus), doc="Active while its heartbeat is fresh"),
        Member(name="description", kind=Text(), nullable=True),
        Member(name="last_heartbeat_at", kind=Time()),
        *CREATED_UPDATED,
    ],
)
