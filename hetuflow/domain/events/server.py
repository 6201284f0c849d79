"""What happens to a server: stream `server-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import Event


class ServerEvent(Event):
    """An event of a `server-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class ServerStarted(ServerEvent):
    server_id: str
    name: str
    address: str
    version: str
    started_at: datetime
    bind_namespaces: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class ServerUpdated(ServerEvent):
    server_id: str
    name: str
    address: str
    description: str | None
    bind_namespaces: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class ServerStopped(ServerEvent):
    server_id: str
    stopped_at: datetime


@frozen(slots=True, kw_only=True)
class ServerLost(ServerEvent):
    server_id: str
    lost_at: datetime


@frozen(slots=True, kw_only=True)
class ServerRemoved(ServerEvent):
    server_id: str
