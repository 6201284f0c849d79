"""The bounded queue of one actor, and the reply that each asker waits for.

A mailbox exists while its actor is busy. Every asker is a waiting task, so that the queue is back-pressure by itself;
its capacity says which commands are *taken*: a command within it is carried out even when its asker is cancelled, one
beyond it is withdrawn with its asker, like a `send` that never found room.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

import outcome
import trio
from attrs import define

from hetuflow.actors.context import Context

T = TypeVar("T")


@define(slots=True, eq=False)
class Request(Generic[T]):
    """A command, who asked, and the answer once there is one."""

    command: Any
    context: Context
    number: int = 0
    """Place in its mailbox, counted from the mailbox's beginning."""
    metadata: dict[str, Any] | None = None
    """Made once: an append that is decided anew is still the same command."""
    withdrawn: bool = False
    _result: outcome.Outcome[T] | None = None
    _asker: trio.lowlevel.Task | None = None

    def settle(self, result: outcome.Outcome[T]) -> None:
        """Answer; only the first answer counts."""
        if self._result is None:
            self._result = result
            if self._asker is not None:
                trio.lowlevel.reschedule(self._asker)
                self._asker = None

    async def answer(self, mailbox: Mailbox[T]) -> T:
        """Wait for the answer. Cancelling this abandons the answer, and the command only if it was not taken yet."""
        if self._result is None:
            self._asker = trio.lowlevel.current_task()

            def abandon(_: Any) -> trio.lowlevel.Abort:
                self._asker = None
                self.withdrawn = not mailbox.has_taken(self)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abandon)
        assert self._result is not None
        return self._result.unwrap()


class Mailbox(Generic[T]):
    """Commands of one busy actor, oldest first. Not counted: the command that is being carried out."""

    __slots__ = ("_capacity", "_queue", "_received", "_removed")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._queue: deque[Request[T]] = deque()
        self._received = self._removed = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._capacity

    def put(self, request: Request[T]) -> None:
        request.number = self._received
        self._received += 1
        self._queue.append(request)

    def take(self) -> Request[T] | None:
        """The oldest command that still stands; None when there is none."""
        while self._queue:
            request = self._queue.popleft()
            self._removed += 1
            if not request.withdrawn:
                return request
        return None

    def has_taken(self, request: Request[T]) -> bool:
        """Whether the command has its place within the capacity, or is already under way."""
        return request.number < self._removed + self._capacity
