"""Given / when / then for deciders: no store, no trio, thousands per second.

    given(TASK, *events).at(NOW).when(CancelTask()).then(InstanceCancelled, TaskCancelled)

Every decision is folded as the kernel would fold it, and encoded as the store would keep it: one that cannot be folded,
or has a member of the wrong type, fails the test that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from attrs import evolve, frozen

from hetuflow.domain.decider import NOTHING, Decider, Decision, Intent
from hetuflow.domain.events import Event
from hetuflow.domain.rejection import Rejected
from tests.support.stored import stored

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def later(seconds: float, since: datetime = NOW) -> datetime:
    return since + timedelta(seconds=seconds)


@frozen
class Given:
    """A decider in a state, at an instant. Frozen: each step gives a new one."""

    decider: Decider[Any]
    state: Any
    now: datetime = NOW

    def at(self, now: datetime) -> Given:
        return evolve(self, now=now)

    def after(self, seconds: float) -> Given:
        return self.at(later(seconds, self.now))

    def when(self, *commands: Any) -> Outcome:
        """Decide and fold each command; what the last one gave is the outcome."""
        state, outcome = self.state, None
        for command in commands:
            outcome = self._decide(command, state)
            state = outcome.state
        assert outcome is not None
        return outcome

    def _decide(self, command: Any, state: Any) -> Outcome:
        try:
            decision = self.decider.decide(command, state, self.now)
        except Rejected as rejected:
            return Outcome(self.decider, state, self.now, NOTHING, rejected)
        for events in [decision.events, *decision.opened.values()]:
            assert stored(events) == list(events), "what is stored of it reads back as something else"
        return Outcome(self.decider, reduce(self.decider.evolve, decision.events, state), self.now, decision, None)


@frozen
class Outcome:
    """What a command gave: a decision or a rejection, and the state after it."""

    decider: Decider[Any]
    state: Any
    now: datetime
    decision: Decision
    rejected: Rejected | None

    def then(self, *expected: type[Event] | Event) -> Outcome:
        """The events, in order: each given as a type, or whole."""
        assert self.rejected is None, f"rejected: {self.rejected!r}"
        actual: Sequence[Event] = self.decision.events
        assert [type(event) for event in actual] == [e if isinstance(e, type) else type(e) for e in expected]
        for event, wanted in zip(actual, expected, strict=True):
            if not isinstance(wanted, type):
                assert event == wanted
        return self

    def then_nothing(self) -> Outcome:
        assert self.rejected is None, f"rejected: {self.rejected!r}"
        assert not self.decision, f"decided {self.decision}"
        return self

    def then_rejected(self, code: str, **detail: Any) -> Outcome:
        assert self.rejected is not None, f"decided {self.decision}"
        assert self.rejected.code == code
        assert {name: self.rejected.detail.get(name) for name in detail} == detail
        return self

    def event(self, kind: type[Any]) -> Any:
        """The one event of that type, of the stream or of those it opened."""
        opened = [event for events in self.decision.opened.values() for event in events]
        found = [event for event in [*self.decision.events, *opened] if type(event) is kind]
        assert len(found) == 1, f"{len(found)} {kind.__name__} in {self.decision}"
        return found[0]

    @property
    def intents(self) -> frozenset[Intent]:
        return self.decider.intents(self.state)

    def intent(self, kind: type[Any]) -> Any:
        found = [intent for intent in self.intents if type(intent) is kind]
        assert len(found) == 1, f"{len(found)} {kind.__name__} in {self.intents}"
        return found[0]

    def next(self, seconds: float = 0) -> Given:
        """Go on from here, so many seconds later."""
        return Given(self.decider, self.state, later(seconds, self.now))

    def at_now(self, now: datetime) -> Given:
        """Go on from here, at that instant."""
        return Given(self.decider, self.state, now)

    def when(self, *commands: Any) -> Outcome:
        return self.next().when(*commands)


def given(decider: Decider[Any], *events: Event) -> Given:
    return Given(decider, reduce(decider.evolve, events, decider.initial))
