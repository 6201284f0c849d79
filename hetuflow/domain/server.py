"""A server's own stream: when it lived, and how it is shown."""

from __future__ import annotations

from datetime import datetime

from attrs import evolve as changed
from attrs import frozen

from hetuflow.domain.commands import (
    AffirmServer,
    LoseServer,
    RemoveServer,
    StartServer,
    StopServer,
    UpdateServer,
)
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.enums import ServerStatus
from hetuflow.domain.events import ServerEvent, ServerLost, ServerRemoved, ServerStarted, ServerStopped, ServerUpdated
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import TableDecider
from hetuflow.domain.transition import IllegalTransition, changed_members

EDITABLE = ("name", "address", "description", "bind_namespaces")


@frozen(slots=True)
class ServerState:
    """A server. `status` None: it is not known, or was removed."""

    server_id: str = ""
    name: str = ""
    address: str = ""
    description: str | None = None
    bind_namespaces: tuple[str, ...] = ()
    status: ServerStatus | None = None
    started_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.status is not None

    @property
    def is_active(self) -> bool:
        return self.status is ServerStatus.ACTIVE


def _start(command: StartServer, state: ServerState, now: datetime) -> Decision:
    """Every start is recorded, also over one that was never stopped (killed): the previous life is then lost."""
    events: list[ServerEvent] = []
    if state.is_active:
        events.append(ServerLost(server_id=command.server_id, lost_at=now))
    events.append(
        ServerStarted(
            server_id=command.server_id,
            name=command.name,
            address=command.address,
            version=command.version,
            started_at=now,
            bind_namespaces=state.bind_namespaces,
        )
    )
    return Decision(events, guards=command.guards)


def _update(command: UpdateServer, state: ServerState, now: datetime) -> Decision:
    _existing(state)
    wanted = dict(command.changes)
    if wanted.get("bind_namespaces") is not None:
        wanted["bind_namespaces"] = tuple(wanted["bind_namespaces"])
    names = changed_members(state, wanted, EDITABLE)
    if not names:
        return NOTHING
    members = {name: wanted[name] if name in names else getattr(state, name) for name in EDITABLE}
    return Decision([ServerUpdated(server_id=state.server_id, **members)])


def _affirm(command: AffirmServer, state: ServerState, now: datetime) -> Decision:
    """It is as it was: that it says so is the news."""
    if not state.is_active:
        return NOTHING
    members = {name: getattr(state, name) for name in EDITABLE}
    return Decision([ServerUpdated(server_id=state.server_id, **members)])


def _stop(command: StopServer, state: ServerState, now: datetime) -> Decision:
    if not state.is_active:
        return NOTHING
    return Decision([ServerStopped(server_id=state.server_id, stopped_at=now)])


def _lose(command: LoseServer, state: ServerState, now: datetime) -> Decision:
    if not state.is_active:
        return NOTHING
    return Decision([ServerLost(server_id=state.server_id, lost_at=now)])


def _remove(command: RemoveServer, state: ServerState, now: datetime) -> Decision:
    _existing(state)
    if state.is_active:
        raise Rejected("server_active", "the server is active", {"id": state.server_id})
    return Decision([ServerRemoved(server_id=state.server_id)])


def _existing(state: ServerState) -> None:
    if not state.exists:
        raise Rejected("not_found", "there is no such server", {"kind": "server", "id": state.server_id or None})


def _started(state: ServerState, event: ServerStarted) -> ServerState:
    return changed(
        state,
        server_id=event.server_id,
        name=event.name,
        address=event.address,
        bind_namespaces=tuple(event.bind_namespaces),
        status=ServerStatus.ACTIVE,
        started_at=event.started_at,
    )


def _updated(state: ServerState, event: ServerUpdated) -> ServerState:
    _check(state, event)
    return changed(
        state,
        name=event.name,
        address=event.address,
        description=event.description,
        bind_namespaces=tuple(event.bind_namespaces),
    )


def _ended(state: ServerState, event: ServerStopped | ServerLost) -> ServerState:
    _check(state, event)
    return changed(state, status=ServerStatus.INACTIVE)


def _removed(state: ServerState, event: ServerRemoved) -> ServerState:
    _check(state, event)
    return INITIAL


def _check(state: ServerState, event: ServerEvent) -> None:
    if not state.exists:
        raise IllegalTransition("server", None, type(event))


INITIAL = ServerState()

SERVER: TableDecider[ServerState] = TableDecider(
    "server",
    INITIAL,
    {
        StartServer: _start,
        UpdateServer: _update,
        AffirmServer: _affirm,
        StopServer: _stop,
        LoseServer: _lose,
        RemoveServer: _remove,
    },
    {
        ServerStarted: _started,
        ServerUpdated: _updated,
        ServerStopped: _ended,
        ServerLost: _ended,
        ServerRemoved: _removed,
    },
)
