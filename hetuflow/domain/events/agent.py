"""What happens to an agent: stream `agent-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class AgentEvent(Event):
    """An event of an `agent-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class AgentCreated(AgentEvent):
    """Made over the API, before or without a connection. Labels are those set here (None: none set)."""

    agent_id: str
    name: str
    namespace_id: str
    description: str | None
    address: str
    labels: JSON | None
    metadata: JSON | None
    max_concurrent_tasks: int | None
    config: JSON | None
    created_at: datetime


@frozen(slots=True, kw_only=True)
class AgentRegistered(AgentEvent):
    """What the agent declares of itself: recorded at its first connection and when it changes.

    `name` is the agent's current name; a first registration sets it, later ones repeat it.
    `effective_labels`, `effective_metadata`: those set over the API, else the declared ones.
    `running_instances`, `started_instances`: what an agent of this id that was removed has left, so that the new row
    counts it; 0 at every other registration. `protected_labels`: names of reported ones that count for placement
    whatever is set over the API.
    """

    agent_id: str
    name: str
    reported_labels: JSON
    reported_metadata: JSON
    effective_labels: JSON
    effective_metadata: JSON
    max_concurrent_tasks: int
    version: str
    host: str
    incarnation: int
    registered_at: datetime
    running_instances: int = 0
    started_instances: int = 0
    protected_labels: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class AgentConnected(AgentEvent):
    agent_id: str
    server_id: str
    session: str
    address: str
    incarnation: int
    effective_labels: JSON
    max_concurrent_tasks: int
    lease_seconds: float
    connected_at: datetime


@frozen(slots=True, kw_only=True)
class AgentDisconnected(AgentEvent):
    """The connection ended; its instances stay its own until the lease runs out."""

    agent_id: str
    session: str
    reason: str
    disconnected_at: datetime


@frozen(slots=True, kw_only=True)
class AgentLost(AgentEvent):
    """The lease of the last session ran out: its instances are lost."""

    agent_id: str
    session: str
    lost_at: datetime


@frozen(slots=True, kw_only=True)
class AgentUpdated(AgentEvent):
    """Edited over the API: the effective values after the change. `labels_set`: labels here replace reported ones."""

    agent_id: str
    name: str
    namespace_id: str
    description: str | None
    address: str
    labels_set: JSON | None
    metadata_set: JSON | None
    effective_labels: JSON
    effective_metadata: JSON
    max_concurrent_tasks: int
    config: JSON | None
    changed: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class AgentDrained(AgentEvent):
    agent_id: str
    drained_at: datetime
    reason: str | None


@frozen(slots=True, kw_only=True)
class AgentUndrained(AgentEvent):
    agent_id: str


@frozen(slots=True, kw_only=True)
class AgentRemoved(AgentEvent):
    """Gone from the tables; it may register again."""

    agent_id: str
