"""Looking at files when somebody else may have to answer for them: a file server that is gone lets a look wait, for ever perhaps.

A look is a thread's, with a deadline, and one of few: the agent goes on. What lies on a file server (`agent.keeper.remote` tells
without touching it) is asked for first by a thread that can be left behind, no more than a few for each server; while it does
not answer, nobody else waits for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

import trio

from agent.keeper.remote import Reach, RemoteMounts
from hetuflow.ports.processes import StartError

T = TypeVar("T")

LOOK_SECONDS_MAX: Final = 20.0
"""All that one look asks for; more than several servers take that are found to be gone."""
ANSWER_SECONDS_MAX: Final = 5.0
"""As long as the keeper waits."""
ASKING_MAX: Final = 4
"""Threads that wait for one server: after a mount was replaced, those who asked the old one may wait on."""
_LOOKS: Final = trio.CapacityLimiter(64)
"""The threads of looks are not those that the journal waits for."""


async def look(question: Callable[[], T]) -> T:
    """Its answer, from a thread. Raises `StartError` when there is none in time, and what the question raises."""
    try:
        with trio.fail_after(LOOK_SECONDS_MAX):
            return await trio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=_LOOKS)
    except trio.TooSlowError:
        raise StartError(
            f"files that this needs were not found or missed within {LOOK_SECONDS_MAX:g} s: does their file system answer?"
        ) from None


class Reachable:
    """For any threads. Raises `StartError` for what lies on a server that does not answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = Asking()
        self._reach: Reach | None = None

    def check_path(self, path: str) -> None:
        with self._known() as reach:
            needed = reach.holding(path)
        self._ask(needed)

    def check_program(self, name: str, environment: Mapping[str, str], directory: str) -> None:
        """The program, and what is looked through to find it."""
        with self._known() as reach:
            needed = reach.needed(name, environment, directory)
        self._ask(needed)

    def _ask(self, needed: Mapping[str, str]) -> None:
        assert self._reach is not None
        for point, path in needed.items():
            self._reach.ask(point, path)

    @contextlib.contextmanager
    def _known(self) -> Iterator[Reach]:
        """The table of mounts is one thread's at a time; nobody waits who has it."""
        with self._lock:
            if self._reach is None:
                self._reach = Reach(time.monotonic, RemoteMounts(), self._asking)
            yield self._reach


class Asking:
    """Whether somebody answers for a path, by a thread that may never come back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, list[threading.Event]] = {}

    def __call__(self, point: str, path: str) -> bool:
        with self._lock:
            waiting = [each for each in self._open.get(point, ()) if not each.is_set()]
            if len(waiting) < ASKING_MAX:
                waiting.append(answered := threading.Event())
                threading.Thread(target=_look_at, args=(path, answered), daemon=True, name=f"asks {point}").start()
            self._open[point] = waiting
        return waiting[-1].wait(ANSWER_SECONDS_MAX)


def _look_at(path: str, answered: threading.Event) -> None:
    os.access(path, os.X_OK)
    os.path.isdir(path)
    answered.set()
