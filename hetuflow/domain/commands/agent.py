"""What can be asked of an agent, and told of it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from hetuflow.domain.commands.snapshots import JSON
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class CreateAgent:
    agent_id: str
    name: str | None = None
    namespace_id: str = "default"
    description: str | None = None
    address: str = ""
    labels: JSON | None = None
    metadata: JSON | None = None
    max_concurrent_tasks: int | None = None
    config: JSON | None = None


@frozen(slots=True, kw_only=True)
class LeftBehind:
    """What an agent that was removed has left: instances that hold a slot of its id, and how many of them started.

    `guards`: the versions of their tasks, so that what is counted is still so.
    """

    running: int
    started: int
    guards: tuple[Guard, ...]


@frozen(slots=True, kw_only=True)
class ConnectAgent:
    """A hello. Refused (`Rejected("incarnation_old")`) when a higher incarnation is known.

    An equal incarnation with another live session is decided by the gateway (ping), which then passes `takeover`.
    """

    agent_id: str
    server_id: str
    session: str
    address: str
    name: str
    incarnation: int
    labels: JSON
    metadata: JSON
    max_concurrent_tasks: int
    version: str
    host: str
    lease_seconds: float
    takeover: bool = False
    left: LeftBehind | None = None
    protected_labels: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class DisconnectAgent:
    session: str
    reason: str


@frozen(slots=True, kw_only=True)
class LoseAgent:
    """`guards`: what the decision relies on, when another server has heard the agent last: that this one has ended."""

    session: str
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class UpdateAgent:
    """`changes` of: name, namespace_id, description, address, labels, metadata, max_concurrent_tasks, config.

    `labels: None` clears the labels set here: the reported ones hold again.
    """

    changes: JSON


@frozen(slots=True, kw_only=True)
class DrainAgent:
    reason: str | None = None


@frozen(slots=True)
class UndrainAgent:
    pass


@frozen(slots=True)
class RemoveAgent:
    pass
