"""What the API needs of the rest of the server, as one frozen value that the composition root fills.

Protocols say how little that is. `rows.py` implements `Rows` over the projections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from attrs import frozen

from eventstore.store import EventStore
from hetuflow.actors import ActorSystem
from hetuflow.api.filters import PageRequest
from hetuflow.domain.decider import Placement
from hetuflow.domain.gates import GateStatus
from hetuflow.domain.need import Need
from hetuflow.gateway.gateway import AgentCondition, AgentLog, GatewayStatus
from hetuflow.gateway.usage import UsageAt
from hetuflow.measure import Histogram
from hetuflow.ports.clock import Clock
from hetuflow.ports.ids import Ids
from hetuflow.ports.network import MessageStream
from hetuflow.scheduler.scheduler import SchedulerStatus
from projections.artifacts import ArtifactStore
from projections.kept_files import FileStore
from projections.output import OutputStore
from projections.rebuilds import Underway
from projections.status import ProjectionStatus
from projections.usage import UsageStore

Row = Mapping[str, Any]


@frozen(slots=True, kw_only=True)
class RowPage:
    """Rows of one page. `total` counts all matches, None when a cursor was given; `next` is the cursor, None at the end."""

    rows: Sequence[Row]
    total: int | None
    has_more: bool
    next: str | None


class BadCursor(Exception):
    """The cursor of a page is malformed, or of another filter or order."""


class Rows(Protocol):
    """The tables: rows of the six collections by column name, and how far they are."""

    async def reached(self, position: int, seconds: float) -> int:
        """Wait until the tables show `position`, at most so long; return the position they show."""
        ...

    async def page(self, collection: str, request: PageRequest) -> RowPage:
        """Raises `BadCursor`."""
        ...

    async def get(self, collection: str, key: str) -> Row | None: ...

    async def page_at(self, collection: str, request: PageRequest, position: int) -> RowPage:
        """The page as it was when `position` was the last event. Raises `BadCursor`."""
        ...

    async def get_at(self, collection: str, key: str, position: int) -> Row | None: ...

    async def tally(self, collection: str, column: str) -> Mapping[Any, int]:
        """How many rows have each value of that column."""
        ...

    async def streams(self, prefix: str) -> Mapping[str, int]:
        """Streams of the log whose id begins so (ASCII), with their versions."""
        ...

    def connections(self) -> int:
        """Connections to the database that are open now."""
        ...

    def stall(self) -> str | None:
        """What a table cannot get past; None while all follow the log."""
        ...


class Projections(Protocol):
    """The tables: how each does, and rebuilding one."""

    def status(self) -> Sequence[ProjectionStatus]: ...

    @property
    def underway(self) -> Mapping[str, Underway]:
        """Rebuilds by projection: those that run, and the last failure."""
        ...

    def start(self, name: str) -> str:
        """The id of the rebuild. Raises `KeyError`, `RebuildRunning`."""
        ...


class Scheduling(Protocol):
    """The scheduler: slots held for tasks that are due now, and how it does."""

    def reserve(self, need: Need) -> Placement | None: ...

    def release(self, placement: Placement) -> None: ...

    def full_limits(self, need: Need, task_id: str) -> Sequence[GateStatus]: ...

    def status(self) -> SchedulerStatus: ...

    @property
    def lateness(self) -> Histogram:
        """From due moments to their committed decisions, since the start."""
        ...


class Agents(Protocol):
    """What only the gateway knows of connected agents."""

    def status(self) -> GatewayStatus: ...

    def metrics(self, agent_id: str) -> Mapping[str, Any] | None:
        """Of the last heartbeat."""
        ...

    def last_heard_at(self, agent_id: str) -> datetime | None: ...

    def connected(self) -> Sequence[str]:
        """The agents that are connected to this server now."""
        ...

    def command(self, agent_id: str, *, command_id: str, kind: int, timestamp: int, payload: Mapping[str, Any]) -> bool:
        """Hand an operator's command to the agent's connection; False when it has none here."""
        ...

    def condition(self, agent_id: str) -> AgentCondition | None:
        """How the agent does; None when it is not connected to this server."""
        ...

    def refusal_of(self, agent_id: str) -> str | None:
        """Why it takes nothing now, as it says itself; None: it does, or is not connected to this server."""
        ...

    def usage_of(self, instance_id: str, agent_id: str) -> UsageAt | None:
        """The latest figures of a running instance; None when there are none here."""
        ...

    def usages(self) -> Sequence[tuple[str, UsageAt]]:
        """Agents by id, and the latest figures of what they run here."""
        ...

    async def log_of(self, agent_id: str, *, lines: int, after: int, seconds: float) -> AgentLog | None:
        """The last lines of the agent's own log; None when it is not connected here. Raises `NoAnswer`."""
        ...

    async def serve_connection(self, stream: MessageStream) -> None: ...


@frozen(slots=True, kw_only=True)
class Identity:
    """Who this server is and whom it answers. `started` is `trio.current_time()` at the start."""

    server_id: str
    server_name: str
    version: str
    started_at: datetime
    started: float
    http_port: int
    websocket_port: int
    timezone: str = "UTC"
    database_version: str | None = None
    pool_size: int = 0
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()
    static_dir: str | None = None
    is_read_only: bool = False
    """It shows a log that was brought from elsewhere: nothing is written."""


@frozen(slots=True, kw_only=True)
class Rooms:
    identity: Identity
    system: ActorSystem
    store: EventStore
    rows: Rows
    projections: Projections
    scheduler: Scheduling
    output: OutputStore
    artifacts: ArtifactStore
    files: FileStore
    usage: UsageStore
    agents: Agents
    clock: Clock
    ids: Ids
