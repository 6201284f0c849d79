"""Random lives of an agent against an outside model of its sessions, drawn in any order and with stale ones among them.

The model reads events only. It holds that sessions never overlap, that nothing stale ends a newer session, that a lower
incarnation never gets in, and that what is wanted of the outside (`Available`, `Watch`) follows from the events seen.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hetuflow.domain.agent import AGENT
from hetuflow.domain.commands import (
    ConnectAgent,
    CreateAgent,
    DisconnectAgent,
    DrainAgent,
    LeftBehind,
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
from tests.support.given import Given, Outcome, given
from tests.support.stored import stored

LABELS = [{}, {"zone": "a"}, {"zone": "b"}]
LEASE = Guard("server-server-2", 7)
LEFT = LeftBehind(running=1, started=1, guards=(Guard("task-x", 3),))
NOT_THERE = {"not_found"}


class Model:
    """What can be said of an agent from its events alone."""

    def __init__(self) -> None:
        self.forget()
        self.sessions: set[str] = set()
        self.version = 0
        self.was_removed = False

    def forget(self) -> None:
        self.exists = self.is_draining = self.is_lost = False
        self.live: str | None = None
        self.last: str | None = None
        self.incarnation = self.slots = 0
        self.set_labels: dict[str, str] | None = None
        self.declared: dict[str, str] = {}

    def sees(self, event: Any) -> None:
        self.version += 1
        match event:
            case AgentCreated():
                assert not self.exists and not self.was_removed
                self.exists, self.set_labels = True, event.labels
                self.slots = event.max_concurrent_tasks or 0
            case AgentRegistered():
                assert self.live is None, "registered in the middle of a session"
                assert event.incarnation >= self.incarnation, "an older start was let in"
                self.exists, self.was_removed, self.incarnation = True, False, event.incarnation
                self.declared, self.slots = dict(event.reported_labels), event.max_concurrent_tasks
                assert event.effective_labels == self.labels
            case AgentConnected():
                assert self.exists and self.live is None, "two sessions at once"
                assert event.session not in self.sessions, "a session came back"
                assert event.incarnation == self.incarnation and event.effective_labels == self.labels
                self.sessions.add(event.session)
                self.live = self.last = event.session
                self.is_lost, self.slots = False, event.max_concurrent_tasks
            case AgentDisconnected():
                assert event.session == self.live, "another session than the live one ended"
                self.live = None
            case AgentLost():
                assert self.live is None and event.session == self.last and not self.is_lost
                self.is_lost = True
            case AgentUpdated():
                self.set_labels, self.slots = event.labels_set, event.max_concurrent_tasks
                assert event.effective_labels == self.labels
            case AgentDrained() | AgentUndrained():
                assert self.is_draining is (type(event) is AgentUndrained), "drained twice"
                self.is_draining = not self.is_draining
            case AgentRemoved():
                assert self.exists and self.live is None
                self.forget()
                self.was_removed = True

    @property
    def labels(self) -> dict[str, str]:
        return self.declared if self.set_labels is None else self.set_labels


class AgentMachine(RuleBasedStateMachine):
    @initialize(by_hand=st.booleans())
    def begin(self, by_hand: bool) -> None:
        self.at: Given = given(AGENT)
        self.model = Model()
        self.events: list[Any] = []
        self.hellos = 0
        if by_hand:
            self.create()

    def do(self, command: Any, *allowed: str) -> Outcome:
        """`allowed`: codes with which it may be refused."""
        outcome = self.at.when(command)
        if outcome.rejected is not None:
            assert outcome.rejected.code in allowed, f"{command} was refused: {outcome.rejected!r}"
        for event in outcome.decision.events:
            self.model.sees(event)
        self.events += outcome.decision.events
        self.at = outcome.next(1)
        return outcome

    def session(self, back: int) -> str:
        return f"s{max(self.hellos - back, 1)}"

    # --- what happens ---

    @rule()
    def create(self) -> None:
        may = not self.model.exists and not self.model.was_removed
        outcome = self.do(CreateAgent(agent_id="a", labels={"zone": "a"}, max_concurrent_tasks=2), "already_exists")
        assert (outcome.rejected is None) is may

    @rule(
        back=st.sampled_from([0, 0, 0, 1]),
        newer=st.sampled_from([-1, 0, 0, 1]),
        labels=st.sampled_from(LABELS),
        slots=st.integers(1, 3),
        takeover=st.booleans(),
        server=st.sampled_from(["server-1", "server-2"]),
    )
    def hello(self, back: int, newer: int, labels: dict[str, str], slots: int, takeover: bool, server: str) -> None:
        if not back or self.model.live != self.session(1):  # only a live session is said again
            self.hellos += 1
        session = self.session(0)
        is_again, is_held, known = session == self.model.live, self.model.live is not None, self.model.incarnation
        was_removed = self.model.was_removed
        incarnation = max(known + newer, 1)
        command = ConnectAgent(
            agent_id="a",
            server_id=server,
            session=session,
            address="10.0.0.1:5",
            name="box",
            incarnation=incarnation,
            labels=labels,
            metadata={},
            max_concurrent_tasks=slots,
            version="0.1",
            host="box.local",
            lease_seconds=20.0,
            takeover=takeover,
            left=LEFT if was_removed else None,
        )
        outcome = self.do(command, "incarnation_old", "session_live")
        if outcome.rejected is not None and outcome.rejected.code == "incarnation_old":
            assert incarnation < known
        elif outcome.rejected is not None:
            assert incarnation == known and is_held and not is_again and not takeover
        elif is_again:
            outcome.then_nothing()
        else:
            assert self.model.live == session, "it was let in without a session"
            assert (outcome.decision.guards == LEFT.guards) is was_removed, "what it has left is not guarded"
        outcome.when(command)

    @rule(back=st.integers(0, 2))
    def disconnect(self, back: int) -> None:
        session, live = self.session(back), self.model.live
        outcome = self.do(DisconnectAgent(session=session, reason="closed"))
        assert bool(outcome.decision) is (session == live)
        outcome.when(DisconnectAgent(session=session, reason="closed")).then_nothing()

    @rule(back=st.integers(0, 2))
    def lose(self, back: int) -> None:
        session, last, was_lost = self.session(back), self.model.last, self.model.is_lost
        outcome = self.do(LoseAgent(session=session, guards=(LEASE,)))
        if session == last and not was_lost:
            assert self.model.is_lost and outcome.decision.guards == (LEASE,), "declared lost without its guard"
        else:
            outcome.then_nothing()

    @rule(labels=st.sampled_from([None, *LABELS]), slots=st.integers(0, 3))
    def edit(self, labels: dict[str, str] | None, slots: int) -> None:
        command = UpdateAgent(changes={"labels": labels, "max_concurrent_tasks": slots})
        exists = self.model.exists
        outcome = self.do(command, *NOT_THERE)
        if exists:
            assert (self.model.set_labels, self.model.slots) == (labels, slots)
            outcome.when(command).then_nothing()

    @rule(is_on=st.booleans())
    def drain(self, is_on: bool) -> None:
        command = DrainAgent(reason="x") if is_on else UndrainAgent()
        outcome = self.do(command, *NOT_THERE)
        if self.model.exists:
            assert self.model.is_draining is is_on
            outcome.when(command).then_nothing()

    @rule()
    def remove(self) -> None:
        exists = self.model.exists
        outcome = self.do(RemoveAgent(), *NOT_THERE)
        assert (outcome.rejected is None) is exists

    # --- what always holds ---

    @invariant()
    def work_is_offered_to_a_live_session_only(self) -> None:
        found = [intent for intent in AGENT.intents(self.at.state) if type(intent) is Available]
        assert len(found) == (0 if self.model.live is None else 1)
        for available in found:
            assert available.session == self.model.live
            assert available.slots == (0 if self.model.is_draining else self.model.slots)
            assert available.labels == tuple(sorted(self.model.labels.items()))
            assert available.guard == (Guard("agent-a", self.model.version),), "a dispatch guards another version"

    @invariant()
    def a_session_is_watched_until_it_is_lost(self) -> None:
        found = [intent for intent in AGENT.intents(self.at.state) if type(intent) is Watch]
        is_watched = self.model.last is not None and not self.model.is_lost
        assert [(w.session, w.connected) for w in found] == (
            [(self.model.last, self.model.live is not None)] if is_watched else []
        )

    def teardown(self) -> None:
        if hasattr(self, "events"):
            assert given(AGENT, *stored(self.events)).state == self.at.state


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
