"""The streams of servers and of leases."""

from __future__ import annotations

import pytest

from hetuflow.domain.commands import (
    LoseServer,
    ReleaseLease,
    RemoveServer,
    StartServer,
    StopServer,
    TakeLease,
    UpdateServer,
)
from hetuflow.domain.events import (
    LeaseReleased,
    LeaseTaken,
    ServerLost,
    ServerRemoved,
    ServerStarted,
    ServerStopped,
    ServerUpdated,
)
from hetuflow.domain.lease import LEASE
from hetuflow.domain.server import SERVER
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, given

START = StartServer(server_id="server-1", name="hetu", address="127.0.0.1:8080", version="0.1")
running = given(SERVER).when(START)


def test_a_server_starts_stops_and_starts_again() -> None:
    running.then(ServerStarted)
    stopped = running.when(StopServer()).then(ServerStopped)
    stopped.when(StopServer()).then_nothing()
    stopped.when(LoseServer()).then_nothing()
    assert stopped.when(START).then(ServerStarted).state.is_active


def test_a_start_over_a_killed_life_ends_that_one_first() -> None:
    running.when(START).then(ServerLost, ServerStarted)


def test_what_was_set_for_it_outlives_a_restart_except_name_and_address() -> None:
    updated = running.when(UpdateServer(changes={"name": "x", "description": "d", "bind_namespaces": ["a"]}))
    updated.then(ServerUpdated)
    again = updated.when(LoseServer(), START).then(ServerStarted)
    state = again.state
    assert (state.name, state.description, state.bind_namespaces) == ("hetu", "d", ("a",))
    assert again.event(ServerStarted).bind_namespaces == ("a",)


def test_an_update_that_changes_nothing_is_nothing() -> None:
    running.when(UpdateServer(changes={"name": "hetu", "bind_namespaces": []})).then_nothing()
    running.when(UpdateServer(changes={"status": 1})).then_rejected("invalid", path="status")


def test_only_an_inactive_server_is_removed() -> None:
    running.when(RemoveServer()).then_rejected("server_active")
    removed = running.when(LoseServer()).then(ServerLost).when(RemoveServer()).then(ServerRemoved)
    removed.when(RemoveServer()).then_rejected("not_found", kind="server")
    removed.when(UpdateServer(changes={"name": "x"})).then_rejected("not_found", kind="server")
    removed.when(START).then(ServerStarted)


def test_a_server_that_is_not_known_takes_no_other_event() -> None:
    with pytest.raises(IllegalTransition):
        SERVER.evolve(SERVER.initial, ServerStopped(server_id="server-1", stopped_at=NOW))


def test_every_taking_is_an_event_so_that_a_restart_fences_its_previous_life() -> None:
    taken = given(LEASE).when(TakeLease(slot=7, server_id="server-1")).then(LeaseTaken)
    assert taken.state.holder_id == "server-1"
    taken.when(TakeLease(slot=7, server_id="server-1")).then(LeaseTaken)
    other = taken.when(TakeLease(slot=7, server_id="server-2")).then(LeaseTaken)
    assert other.state.holder_id == "server-2"


def test_only_the_holder_releases() -> None:
    taken = given(LEASE).when(TakeLease(slot=7, server_id="server-1"))
    taken.when(ReleaseLease(slot=7, server_id="server-2")).then_nothing()
    released = taken.when(ReleaseLease(slot=7, server_id="server-1")).then(LeaseReleased)
    assert released.state.holder_id is None
    released.when(ReleaseLease(slot=7, server_id="server-1")).then_nothing()
