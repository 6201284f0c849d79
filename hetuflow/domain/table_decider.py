"""A decider whose three functions are looked up by the type of command or event in tables, not by ladders of `if`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from hetuflow.domain.decider import Decision, Intent
from hetuflow.domain.events import Event
from hetuflow.domain.transition import IllegalTransition

S = TypeVar("S")

Deciding = Mapping[type, Callable[[Any, S, datetime], Decision]]
Evolving = Mapping[type[Event], Callable[[S, Any], S]]

NO_INTENTS: frozenset[Intent] = frozenset()


class TableDecider(Generic[S]):
    """Implements `hetuflow.domain.decider.Decider` over pure functions.

    A command or event of a type that the tables do not name is a defect: `TypeError`, `IllegalTransition`.
    """

    __slots__ = ("_deciding", "_evolving", "_intents", "category", "initial")

    def __init__(
        self,
        category: str,
        initial: S,
        deciding: Deciding[S],
        evolving: Evolving[S],
        intents: Callable[[S], frozenset[Intent]] = lambda _state: NO_INTENTS,
    ) -> None:
        self.category = category
        self.initial = initial
        self._deciding = deciding
        self._evolving = evolving
        self._intents = intents

    @property
    def commands(self) -> frozenset[type]:
        """The types of command this decider answers."""
        return frozenset(self._deciding)

    @property
    def events(self) -> frozenset[type[Event]]:
        """The types of event its streams may hold."""
        return frozenset(self._evolving)

    def decide(self, command: Any, state: S, now: datetime) -> Decision:
        decide = self._deciding.get(type(command))
        if decide is None:
            raise TypeError(f"a {self.category} is not asked {type(command).__name__}")
        return decide(command, state, now)

    def evolve(self, state: S, event: Any) -> S:
        evolve = self._evolving.get(type(event))
        if evolve is None:
            raise IllegalTransition(self.category, "any state", type(event), "not an event of this category")
        return evolve(state, event)

    def intents(self, state: S) -> frozenset[Intent]:
        return self._intents(state)
