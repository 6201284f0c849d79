"""Commands for many actors at once, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field, frozen

from eventstore.errors import EventStoreError
from hetuflow.actors.actor import Answer
from hetuflow.actors.context import SYSTEM, Context
from hetuflow.actors.mailbox import Request
from hetuflow.domain.decider import Address


@frozen(slots=True)
class Question:
    """A command for one actor."""

    address: Address
    command: Any
    context: Context = SYSTEM


@define(slots=True, eq=False)
class Chunk:
    """Questions that travel together. `answers`: of those that were carried out."""

    questions: Mapping[Address, Question]
    answers: dict[Address, Answer | EventStoreError] = field(factory=dict)
    _problem: Exception | None = None
    _done: trio.Event = field(factory=trio.Event)

    def request(self, address: Address) -> Request[Any]:
        question = self.questions[address]
        return Request(question.command, question.context)

    def settle(self, problem: Exception | None) -> None:
        self._problem = problem
        self._done.set()

    async def answer(self) -> Mapping[Address, Answer | EventStoreError]:
        """Wait; raises what kept all of them from being asked."""
        await self._done.wait()
        if self._problem is not None:
            raise self._problem
        return self.answers
