"""Servers: they register themselves."""

from __future__ import annotations

from attrs import evolve

from hetuflow.api.coded import CodeOut
from hetuflow.api.kinds import Array, NameId, Text, Time
from hetuflow.api.schemas.job import CREATED_UPDATED, DESCRIPTION, NAMESPACE
from hetuflow.api.shapes import Entity, Member
from hetuflow.domain.enums import ServerStatus

SERVER = Entity(
    title="SchedServer",
    members=[
        Member(name="id", kind=NameId()),
        Member(name="name", kind=Text(255, 1), write="U", doc="the next start of the server sets it again"),
        Member(name="address", kind=Text(255), write="U", doc="the next start of the server sets it again"),
        Member(
            name="bind_namespaces",
            kind=Array(NAMESPACE, high=1000),
            write="U",
            doc="served first by this server; [] = all. Kept, but without effect: one server decides for all namespaces",
        ),
        Member(name="status", kind=CodeOut(ServerStatus), doc="Active while its heartbeat is fresh"),
        Member(name="description", kind=DESCRIPTION, write="U", nullable=True),
        Member(name="last_heartbeat_at", kind=Time()),
        *CREATED_UPDATED,
    ],
)

SERVER_UPDATE = evolve(
    SERVER.update, ignored=SERVER.update.ignored - {"id"}, fixed={**SERVER.update.fixed, "id": NameId()}
)
"""A server is never created over the API; its id may be sent back all the same."""
