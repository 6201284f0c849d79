"""The agent's decider: sessions, incarnations, labels, draining."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from hetuflow.domain.agent import AGENT
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
from hetuflow.domain.decider import Available, Guard, Watch
from hetuflow.domain.events import (
    AgentConnected,
    AgentCreated,
    AgentDisconnected,
    AgentDrained,
    AgentLost,
    AgentRegistered,
    AgentRemoved,
    AgentUndrained,
    AgentUpdated,
)
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, given

HELLO = ConnectAgent(
    agent_id="agent-1",
    server_id="server-1",
    session="s1",
    address="10.0.0.1:5",
    name="box",
    incarnation=1,
    labels={"env": "prod"},
    metadata={"rack": "7"},
    max_concurrent_tasks=5,
    version="0.1",
    host="box.local",
    lease_seconds=120.0,
)
AGAIN = evolve(HELLO, session="s2")
AVAILABLE = Available("agent-1", "server-1", "s1", 5, (("env", "prod"),), False, version=2)
WATCHED = Watch("agent-1", "s1", "server-1", True, 120.0)

connected = given(AGENT).when(HELLO)
disconnected = connected.when(DisconnectAgent(session="s1", reason="closed"))


def test_a_first_hello_registers_and_connects() -> None:
    connected.then(AgentRegistered, AgentConnected)
    registered = connected.event(AgentRegistered)
    assert (registered.name, registered.effective_labels, registered.incarnation) == ("box", {"env": "prod"}, 1)
    assert connected.event(AgentConnected).effective_labels == {"env": "prod"}
    assert connected.intents == {AVAILABLE, WATCHED}


def test_the_same_hello_again_is_nothing() -> None:
    connected.when(HELLO).then_nothing()


def test_a_reconnection_that_declares_the_same_only_connects() -> None:
    outcome = disconnected.when(AGAIN).then(AgentConnected)
    assert outcome.intents == {evolve(AVAILABLE, session="s2", version=4), evolve(WATCHED, session="s2")}


@pytest.mark.parametrize(
    "declares",
    [
        {"labels": {}},
        {"metadata": {"rack": "8"}},
        {"max_concurrent_tasks": 9},
        {"version": "0.2"},
        {"host": "other"},
        {"incarnation": 2},
    ],
)
def test_whatever_it_declares_anew_is_registered(declares: dict[str, Any]) -> None:
    disconnected.when(evolve(AGAIN, **declares)).then(AgentRegistered, AgentConnected)


def test_a_higher_incarnation_replaces_a_live_session() -> None:
    outcome = connected.when(evolve(AGAIN, incarnation=2)).then(AgentDisconnected, AgentRegistered, AgentConnected)
    ended = outcome.event(AgentDisconnected)
    assert (ended.session, ended.reason) == ("s1", "replaced")
    assert outcome.state.session == "s2"


def test_a_lower_incarnation_is_a_stale_copy() -> None:
    newer = connected.when(evolve(AGAIN, incarnation=3))
    newer.when(evolve(HELLO, session="s3", incarnation=2)).then_rejected("incarnation_old", incarnation=2, known=3)


def test_an_equal_incarnation_takes_over_only_when_told_so() -> None:
    connected.when(AGAIN).then_rejected("session_live", session="s1", server_id="server-1")
    connected.when(evolve(AGAIN, takeover=True)).then(AgentDisconnected, AgentConnected)


def test_a_disconnection_leaves_the_lease_to_be_watched() -> None:
    disconnected.then(AgentDisconnected)
    assert disconnected.intents == {evolve(WATCHED, connected=False)}
    disconnected.when(DisconnectAgent(session="s1", reason="closed")).then_nothing()
    connected.when(DisconnectAgent(session="s0", reason="closed")).then_nothing()


def test_a_lease_that_runs_out_ends_the_watch_once() -> None:
    lost = disconnected.when(LoseAgent(session="s1")).then(AgentLost)
    assert lost.intents == frozenset()
    lost.when(LoseAgent(session="s1")).then_nothing()
    disconnected.when(AGAIN).when(LoseAgent(session="s1")).then_nothing()
    lost.when(AGAIN).then(AgentConnected)


def test_a_lease_that_runs_out_on_an_open_connection_ends_it_too() -> None:
    outcome = connected.when(LoseAgent(session="s1")).then(AgentDisconnected, AgentLost)
    assert outcome.event(AgentDisconnected).reason == "lease_expired"
    assert outcome.intents == frozenset()


def test_labels_set_here_replace_the_declared_ones_across_reconnections() -> None:
    updated = connected.when(UpdateAgent(changes={"labels": {"env": "staging", "capacity": "high"}})).then(AgentUpdated)
    wanted = {"env": "staging", "capacity": "high"}
    event = updated.event(AgentUpdated)
    assert (event.effective_labels, event.labels_set, event.changed) == (wanted, wanted, ("labels",))
    assert updated.intent(Available).labels == (("capacity", "high"), ("env", "staging"))
    again = updated.when(evolve(AGAIN, incarnation=2, labels={"env": "dev"}))
    assert again.event(AgentRegistered).effective_labels == again.event(AgentConnected).effective_labels == wanted
    cleared = again.when(UpdateAgent(changes={"labels": None})).event(AgentUpdated)
    assert (cleared.labels_set, cleared.effective_labels) == (None, {"env": "dev"})


def test_metadata_set_here_replace_the_declared_ones_too() -> None:
    assert connected.event(AgentRegistered).effective_metadata == connected.state.metadata == {"rack": "7"}
    updated = connected.when(UpdateAgent(changes={"metadata": {"floor": "2"}}))
    event = updated.event(AgentUpdated)
    assert event.metadata_set == event.effective_metadata == updated.state.metadata == {"floor": "2"}
    assert (event.labels_set, event.effective_labels, event.changed) == (None, {"env": "prod"}, ("metadata",))
    again = updated.when(evolve(AGAIN, incarnation=2)).event(AgentRegistered)
    assert (again.effective_metadata, again.reported_metadata) == ({"floor": "2"}, {"rack": "7"})


def test_an_empty_set_of_labels_is_not_the_same_as_none_set() -> None:
    outcome = connected.when(UpdateAgent(changes={"labels": {}}))
    assert outcome.intent(Available).labels == ()


def test_an_update_that_changes_nothing_is_nothing() -> None:
    same = {"name": "box", "labels": None, "max_concurrent_tasks": 5, "description": None}
    connected.when(UpdateAgent(changes=same)).then_nothing()
    connected.when(UpdateAgent(changes={"status": 1})).then_rejected("invalid", path="status")


def test_a_connection_keeps_name_and_description_and_sets_address_and_capacity() -> None:
    edited = disconnected.when(
        UpdateAgent(changes={"name": "mine", "description": "d", "address": "x", "max_concurrent_tasks": 1})
    )
    outcome = edited.when(AGAIN).then(AgentRegistered, AgentConnected)
    assert outcome.event(AgentRegistered).name == "mine"
    state = outcome.state
    assert (state.name, state.description, state.address, state.max_concurrent_tasks) == ("mine", "d", "10.0.0.1:5", 5)


def test_a_draining_agent_takes_nothing_new_and_is_drained_once() -> None:
    drained = connected.when(DrainAgent(reason="reboot")).then(AgentDrained)
    assert (drained.event(AgentDrained).reason, drained.event(AgentDrained).drained_at) == ("reboot", NOW)
    draining = evolve(AVAILABLE, slots=0, draining=True, drain_reason="reboot", version=3)
    assert drained.intents == {draining, WATCHED}
    assert draining.guard == (Guard("agent-agent-1", 3),)
    drained.when(DrainAgent()).then_nothing()
    drained.when(UndrainAgent()).then(AgentUndrained).when(UndrainAgent()).then_nothing()
    reconnected = drained.when(evolve(AGAIN, incarnation=2))
    assert reconnected.intent(Available).draining


def test_an_agent_made_over_the_api_keeps_its_labels_when_it_connects() -> None:
    created = given(AGENT).when(CreateAgent(agent_id="agent-1", labels={"a": "1"})).then(AgentCreated)
    assert (created.event(AgentCreated).name, created.intents) == ("agent-1", frozenset())
    outcome = created.when(HELLO).then(AgentRegistered, AgentConnected)
    assert outcome.state.labels == {"a": "1"} and outcome.state.reported_labels == {"env": "prod"}
    created.when(CreateAgent(agent_id="agent-1")).then_rejected("already_exists")


def test_what_is_sent_is_kept() -> None:
    members = {
        "name": "n",
        "namespace_id": "team",
        "description": "d",
        "address": "1.2.3.4:5",
        "max_concurrent_tasks": 3,
        "config": {"type": "x"},
        "metadata": {"m": "1"},
    }
    outcome = given(AGENT).when(CreateAgent(agent_id="agent-1", **members))
    assert {name: getattr(outcome.event(AgentCreated), name) for name in members} == members
    assert {name: getattr(outcome.state, name) for name in members} == members
    changed = {name: "x" if isinstance(value, str) else None for name, value in members.items()}
    changed["max_concurrent_tasks"] = 0
    updated = outcome.when(UpdateAgent(changes={**changed, "max_concurrent_tasks": None})).event(AgentUpdated)
    assert {name: getattr(updated, name) for name in changed if name != "metadata"} == {
        name: value for name, value in changed.items() if name != "metadata"
    }


def test_a_removed_agent_may_register_again_from_the_start() -> None:
    removed = connected.when(RemoveAgent()).then(AgentDisconnected, AgentRemoved)
    assert removed.intents == frozenset()
    removed.when(HELLO).then(AgentRegistered, AgentConnected)
    removed.when(CreateAgent(agent_id="agent-1")).then_rejected("already_exists")
    disconnected.when(RemoveAgent()).then(AgentRemoved)


@pytest.mark.parametrize("command", [UpdateAgent(changes={"name": "x"}), DrainAgent(), UndrainAgent(), RemoveAgent()])
def test_an_agent_that_is_not_known_is_not_found(command: Any) -> None:
    given(AGENT).when(command).then_rejected("not_found", kind="agent")
    connected.when(RemoveAgent(), command).then_rejected("not_found", kind="agent")


@pytest.mark.parametrize("command", [DisconnectAgent(session="s1", reason="x"), LoseAgent(session="s1")])
def test_the_end_of_an_unknown_session_is_nothing(command: Any) -> None:
    given(AGENT).when(command).then_nothing()
    connected.when(RemoveAgent(), command).then_nothing()


def test_events_that_cannot_follow_are_refused() -> None:
    known = connected.event(AgentConnected)
    other = AgentDisconnected(agent_id="agent-1", session="s9", reason="x", disconnected_at=NOW)
    created = given(AGENT).when(CreateAgent(agent_id="agent-1")).event(AgentCreated)
    for state, event in [
        (AGENT.initial, known),
        (connected.state, known),
        (connected.state, other),
        (connected.state, created),
        (AGENT.initial, AgentDrained(agent_id="agent-1", drained_at=NOW, reason=None)),
    ]:
        with pytest.raises(IllegalTransition):
            AGENT.evolve(state, event)
