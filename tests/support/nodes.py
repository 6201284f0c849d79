"""Nodes of a simulated cluster: groups of tasks that can be stopped as SIGSTOP stops a process, and continued.

Every task knows its node by a context variable, which the tasks that it starts inherit. While a node is paused, what
would make one of its tasks runnable (an event, a deadline, a cancellation) is noted and takes effect in that order when
the node is continued. Time goes on meanwhile. `run` in `tests/support/simulate.py` installs the hook: trio's only way
into its queue of runnable tasks, `Runner.reschedule`, which is private (a canary in `tests/simulation` watches it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import trio
import trio._core._run as trio_run


class Node:
    """One process, or one machine. What it is made of is started with `start_soon`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_paused = False
        self._held: list[trio.lowlevel.Task] = []

    def __repr__(self) -> str:
        return f"<Node {self.name}{f', paused with {len(self._held)} to run' if self.is_paused else ''}>"

    def start_soon(self, nursery: trio.Nursery, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """As the nursery's, with the task and all that it starts belonging to this node."""
        _start_soon(self, nursery, function, *args)

    def pause(self) -> None:
        """From the next scheduling point on, nothing of this node runs."""
        if not self.is_paused:
            self.is_paused = True
            runner = trio_run.GLOBAL_RUN_CONTEXT.runner
            mine = [task for task in runner.runq if task.context.get(NODE) is self]
            for task in mine:
                runner.runq.remove(task)
            self._held.extend(sorted(mine, key=lambda task: task._counter))

    def resume(self) -> None:
        """Run on: first what became runnable first."""
        self.is_paused = False
        held, self._held = self._held, []
        trio_run.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)


NODE: ContextVar[Node | None] = ContextVar("node", default=None)


def start_outside(nursery: trio.Nursery, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Start a task that belongs to no node, whoever asks for it: the kernel's part, which no SIGSTOP stops."""
    _start_soon(None, nursery, function, *args)


def _start_soon(node: Node | None, nursery: trio.Nursery, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
    context = copy_context()
    context.run(NODE.set, node)
    context.run(nursery.start_soon, function, *args)


@contextmanager
def pausing() -> Iterator[None]:
    """While it is open, paused nodes are paused."""
    original = trio_run.Runner.reschedule

    def reschedule(self: Any, task: trio.lowlevel.Task, *args: Any) -> None:
        original(self, task, *args)
        node = task.context.get(NODE)
        if node is not None and node.is_paused:
            self.runq.pop()
            node._held.append(task)

    trio_run.Runner.reschedule = reschedule  # type: ignore[method-assign]
    try:
        yield
    finally:
        trio_run.Runner.reschedule = original  # type: ignore[method-assign]
