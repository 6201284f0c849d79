"""Questions to an agent that are answered with a message of its own: each waits for its answer, or for a deadline."""

from __future__ import annotations

from typing import Final

import trio
from attrs import define, field

from hetuflow.protocol.messages import LogLines

OPEN_MAX: Final = 32
"""Questions to one agent at once."""


class NoAnswer(Exception):
    """The agent did not answer in time, or is asked too much at once; the message says which."""


@define(slots=True)
class _Question:
    arrived: trio.Event = field(factory=trio.Event)
    answer: LogLines | None = None


class Questions:
    """Of one connection. An answer to nobody's question is dropped."""

    def __init__(self) -> None:
        self._open: dict[str, _Question] = {}

    def ask(self, question_id: str) -> None:
        """Expect an answer. Raises `NoAnswer` when too many are expected."""
        if len(self._open) >= OPEN_MAX:
            raise NoAnswer(f"{OPEN_MAX} questions to this agent are open already")
        self._open[question_id] = _Question()

    async def answer(self, question_id: str, seconds: float) -> LogLines:
        """Raises `NoAnswer`."""
        question = self._open[question_id]
        try:
            with trio.move_on_after(seconds):
                await question.arrived.wait()
        finally:
            del self._open[question_id]
        if question.answer is None:
            raise NoAnswer(f"the agent did not answer within {seconds:g} s")
        return question.answer

    def answered(self, message: LogLines) -> None:
        question = self._open.get(message.id)
        if question is not None:
            question.answer = message
            question.arrived.set()
