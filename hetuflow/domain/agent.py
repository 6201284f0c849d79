"""The agent: what it declares of itself, its sessions, and what was set for it over the API.

A session is one connection. It ends by `AgentDisconnected`; until `AgentLost` its lease may still run, and what it ran
stays its own. Labels set over the API replace the declared ones and hold across reconnections; but placement goes by
the agent's own word on what it finds out itself (`sys.…`) and on what it protects. A higher incarnation always wins: it is a later start of the same agent, so whoever shows a lower one is a stale copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import evolve as changed
from attrs import frozen

from hetuflow.domain.commands import (
    ConnectAgent,
    CreateAgent,
    DisconnectAgent,
    DrainAgent,
    LoseAgent,
    RemoveAgent,
    UndrainAgent,
    UpdateAgent,
)
from hetuflow.domain.decider import NOTHING, Available, Decision, Intent, Watch
from hetuflow.domain.events import (
    AgentConnected,
    AgentCreated,
    AgentDisconnected,
    AgentDrained,
    AgentEvent,
    AgentLost,
    AgentRegistered,
    AgentRemoved,
    AgentUndrained,
    AgentUpdated,
    Event,
)
from hetuflow.domain.placement_labels import placement_labels
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import NO_INTENTS, TableDecider
from hetuflow.domain.transition import IllegalTransition, changed_members

JSON = Mapping[str, Any]

EDITABLE = ("name", "namespace_id", "description", "address", "max_concurrent_tasks", "config")
_SET_AS = {"labels": "labels_set", "metadata": "metadata_set"}


@frozen(slots=True)
class AgentState:
    """An agent. `labels_set`, `metadata_set`: set over the API, None when not. `incarnation` 0: never connected."""

    agent_id: str = ""
    name: str = ""
    namespace_id: str = "default"
    description: str | None = None
    address: str = ""
    labels_set: JSON | None = None
    metadata_set: JSON | None = None
    reported_labels: JSON | None = None
    reported_metadata: JSON | None = None
    protected_labels: tuple[str, ...] = ()
    max_concurrent_tasks: int = 0
    config: JSON | None = None
    version: str = ""
    host: str = ""
    incarnation: int = 0
    session: str | None = None
    server_id: str | None = None
    lease_seconds: float = 0.0
    is_connected: bool = False
    is_lost: bool = False
    is_draining: bool = False
    drain_reason: str | None = None
    exists: bool = False
    was_removed: bool = False
    stream_version: int = 0

    @property
    def labels(self) -> JSON:
        """Those that people see: set over the API, else declared."""
        return self.labels_set if self.labels_set is not None else self.reported_labels or {}

    @property
    def labels_for_placement(self) -> JSON:
        return placement_labels(self.labels, self.reported_labels or {}, self.protected_labels)

    @property
    def metadata(self) -> JSON:
        return self.metadata_set if self.metadata_set is not None else self.reported_metadata or {}


# --- decide: over the API ------------------------------------------------------------------------------------------


def _create(command: CreateAgent, state: AgentState, now: datetime) -> Decision:
    if state.exists or state.was_removed:
        raise Rejected("already_exists", f"agent {command.agent_id} exists", {"kind": "agent", "id": command.agent_id})
    return Decision(
        [
            AgentCreated(
                agent_id=command.agent_id,
                name=command.name or command.agent_id,
                namespace_id=command.namespace_id,
                description=command.description,
                address=command.address,
                labels=command.labels,
                metadata=command.metadata,
                max_concurrent_tasks=command.max_concurrent_tasks,
                config=command.config,
                created_at=now,
            )
        ]
    )


def _update(command: UpdateAgent, state: AgentState, now: datetime) -> Decision:
    _existing(state)
    wanted = {_SET_AS.get(name, name): value for name, value in command.changes.items()}
    if "max_concurrent_tasks" in wanted and wanted["max_concurrent_tasks"] is None:
        wanted["max_concurrent_tasks"] = 0
    names = changed_members(state, wanted, (*EDITABLE, *_SET_AS.values()))
    if not names:
        return NOTHING
    after = changed(state, **{name: wanted[name] for name in names})
    return Decision(
        [
            AgentUpdated(
                agent_id=state.agent_id,
                labels_set=after.labels_set,
                metadata_set=after.metadata_set,
                effective_labels=after.labels,
                effective_metadata=after.metadata,
                changed=tuple(name.removesuffix("_set") for name in names),
                **{name: getattr(after, name) for name in EDITABLE},
            )
        ]
    )


def _drain(command: DrainAgent, state: AgentState, now: datetime) -> Decision:
    _existing(state)
    if state.is_draining:
        return NOTHING
    return Decision([AgentDrained(agent_id=state.agent_id, drained_at=now, reason=command.reason)])


def _undrain(command: UndrainAgent, state: AgentState, now: datetime) -> Decision:
    _existing(state)
    return Decision([AgentUndrained(agent_id=state.agent_id)]) if state.is_draining else NOTHING


def _remove(command: RemoveAgent, state: AgentState, now: datetime) -> Decision:
    """That it has no open instances is the caller's to see to."""
    _existing(state)
    return Decision([*_end_of_session(state, "removed", now), AgentRemoved(agent_id=state.agent_id)])


def _existing(state: AgentState) -> None:
    if not state.exists:
        raise Rejected("not_found", "there is no such agent", {"kind": "agent", "id": state.agent_id or None})


# --- decide: sessions ----------------------------------------------------------------------------------------------


def _connect(command: ConnectAgent, state: AgentState, now: datetime) -> Decision:
    """A hello.

    Raises:
      Rejected: `incarnation_old`, a later start of this agent is known; `session_live`, the same incarnation has a
        session that is not known to have ended: ask again with `takeover` when it does not answer.
    """
    if command.incarnation < state.incarnation:
        raise Rejected(
            "incarnation_old",
            f"agent {command.agent_id} has started again since",
            {"incarnation": command.incarnation, "known": state.incarnation},
        )
    if state.is_connected:
        if command.session == state.session:
            return NOTHING
        if command.incarnation == state.incarnation and not command.takeover:
            raise Rejected(
                "session_live",
                f"agent {command.agent_id} is connected with the same incarnation",
                {"session": state.session, "server_id": state.server_id},
            )
    registered = _registration(command, state, now)
    labels = registered.effective_labels if registered is not None else state.labels
    connected = AgentConnected(
        agent_id=command.agent_id,
        server_id=command.server_id,
        session=command.session,
        address=command.address,
        incarnation=command.incarnation,
        effective_labels=labels,
        max_concurrent_tasks=command.max_concurrent_tasks,
        lease_seconds=command.lease_seconds,
        connected_at=now,
    )
    declared = () if registered is None else (registered,)
    guards = command.left.guards if state.was_removed and command.left else ()
    return Decision([*_end_of_session(state, "replaced", now), *declared, connected], guards=guards)


def _registration(command: ConnectAgent, state: AgentState, now: datetime) -> AgentRegistered | None:
    """What the agent declares; None when all of it is known already."""
    declares = (
        command.labels,
        command.metadata,
        command.protected_labels,
        command.max_concurrent_tasks,
        command.version,
        command.host,
        command.incarnation,
    )
    known = (
        state.reported_labels,
        state.reported_metadata,
        state.protected_labels,
        state.max_concurrent_tasks,
        state.version,
        state.host,
        state.incarnation,
    )
    if state.exists and declares == known:
        return None
    return AgentRegistered(
        agent_id=command.agent_id,
        name=state.name or command.name or command.agent_id,
        reported_labels=command.labels,
        reported_metadata=command.metadata,
        protected_labels=command.protected_labels,
        effective_labels=command.labels if state.labels_set is None else state.labels_set,
        effective_metadata=command.metadata if state.metadata_set is None else state.metadata_set,
        max_concurrent_tasks=command.max_concurrent_tasks,
        version=command.version,
        host=command.host,
        incarnation=command.incarnation,
        registered_at=now,
        running_instances=command.left.running if state.was_removed and command.left else 0,
        started_instances=command.left.started if state.was_removed and command.left else 0,
    )


def _disconnect(command: DisconnectAgent, state: AgentState, now: datetime) -> Decision:
    if command.session != state.session or not state.is_connected:
        return NOTHING
    return Decision(_end_of_session(state, command.reason, now))


def _lose(command: LoseAgent, state: AgentState, now: datetime) -> Decision:
    """The lease of the session ran out. Nothing when another session has come meanwhile."""
    if command.session != state.session or state.is_lost:
        return NOTHING
    lost = AgentLost(agent_id=state.agent_id, session=command.session, lost_at=now)
    return Decision([*_end_of_session(state, "lease_expired", now), lost], guards=command.guards)


def _end_of_session(state: AgentState, reason: str, now: datetime) -> list[AgentEvent]:
    if not state.is_connected or state.session is None:
        return []
    return [
        AgentDisconnected(agent_id=state.agent_id, session=state.session, reason=reason, disconnected_at=now),
    ]


# --- evolve --------------------------------------------------------------------------------------------------------


def _created(state: AgentState, event: AgentCreated) -> AgentState:
    if state.exists:
        raise IllegalTransition("agent", "KNOWN", AgentCreated)
    return AgentState(
        agent_id=event.agent_id,
        name=event.name,
        namespace_id=event.namespace_id,
        description=event.description,
        address=event.address,
        labels_set=event.labels,
        metadata_set=event.metadata,
        max_concurrent_tasks=event.max_concurrent_tasks or 0,
        config=event.config,
        exists=True,
    )


def _registered(state: AgentState, event: AgentRegistered) -> AgentState:
    return changed(
        state,
        agent_id=event.agent_id,
        name=event.name,
        reported_labels=event.reported_labels,
        reported_metadata=event.reported_metadata,
        protected_labels=event.protected_labels,
        max_concurrent_tasks=event.max_concurrent_tasks,
        version=event.version,
        host=event.host,
        incarnation=event.incarnation,
        exists=True,
        was_removed=False,
    )


def _connected(state: AgentState, event: AgentConnected) -> AgentState:
    _check(state, event)
    if state.is_connected:
        raise IllegalTransition("agent", "CONNECTED", AgentConnected)
    return changed(
        state,
        server_id=event.server_id,
        session=event.session,
        address=event.address,
        incarnation=event.incarnation,
        max_concurrent_tasks=event.max_concurrent_tasks,
        lease_seconds=event.lease_seconds,
        is_connected=True,
        is_lost=False,
    )


def _disconnected(state: AgentState, event: AgentDisconnected) -> AgentState:
    _check_session(state, event)
    return changed(state, is_connected=False)


def _lost(state: AgentState, event: AgentLost) -> AgentState:
    _check_session(state, event)
    return changed(state, is_connected=False, is_lost=True)


def _updated(state: AgentState, event: AgentUpdated) -> AgentState:
    _check(state, event)
    return changed(
        state,
        labels_set=event.labels_set,
        metadata_set=event.metadata_set,
        **{name: getattr(event, name) for name in EDITABLE},
    )


def _drained(state: AgentState, event: AgentDrained) -> AgentState:
    _check(state, event)
    return changed(state, is_draining=True, drain_reason=event.reason)


def _undrained(state: AgentState, event: AgentUndrained) -> AgentState:
    _check(state, event)
    return changed(state, is_draining=False, drain_reason=None)


def _removed(state: AgentState, event: AgentRemoved) -> AgentState:
    """All of it is forgotten, its incarnation too: a machine that is set up anew starts counting at 1.

    But not how long what it runs may go on.
    """
    _check(state, event)
    return AgentState(was_removed=True, lease_seconds=state.lease_seconds)


def _check(state: AgentState, event: AgentEvent) -> None:
    if not state.exists:
        raise IllegalTransition("agent", None, type(event))


def _check_session(state: AgentState, event: AgentDisconnected | AgentLost) -> None:
    _check(state, event)
    if event.session != state.session:
        raise IllegalTransition("agent", "KNOWN", type(event), f"its session is {state.session}")


# --- intents -------------------------------------------------------------------------------------------------------


def intents(state: AgentState) -> frozenset[Intent]:
    """Work while it is connected; a watch on its lease until that session is declared lost."""
    if state.session is None or state.server_id is None or state.is_lost:
        return NO_INTENTS
    watch = Watch(state.agent_id, state.session, state.server_id, state.is_connected, state.lease_seconds)
    if not state.is_connected:
        return frozenset((watch,))
    available = Available(
        agent_id=state.agent_id,
        server_id=state.server_id,
        session=state.session,
        slots=0 if state.is_draining else state.max_concurrent_tasks,
        labels=tuple(sorted(state.labels_for_placement.items())),
        draining=state.is_draining,
        drain_reason=state.drain_reason,
        version=state.stream_version,
    )
    return frozenset((available, watch))


def _counted(fold: Callable[[AgentState, Any], AgentState]) -> Callable[[AgentState, Any], AgentState]:
    """The fold, and the count of the stream's events."""

    def counting(state: AgentState, event: Any) -> AgentState:
        return changed(fold(state, event), stream_version=state.stream_version + 1)

    return counting


INITIAL = AgentState()

FOLDS: Mapping[type[Event], Callable[[AgentState, Any], AgentState]] = {
    AgentCreated: _created,
    AgentRegistered: _registered,
    AgentConnected: _connected,
    AgentDisconnected: _disconnected,
    AgentLost: _lost,
    AgentUpdated: _updated,
    AgentDrained: _drained,
    AgentUndrained: _undrained,
    AgentRemoved: _removed,
}

AGENT: TableDecider[AgentState] = TableDecider(
    "agent",
    INITIAL,
    {
        CreateAgent: _create,
        ConnectAgent: _connect,
        DisconnectAgent: _disconnect,
        LoseAgent: _lose,
        UpdateAgent: _update,
        DrainAgent: _drain,
        UndrainAgent: _undrain,
        RemoveAgent: _remove,
    },
    {kind: _counted(fold) for kind, fold in FOLDS.items()},
    intents,
)
