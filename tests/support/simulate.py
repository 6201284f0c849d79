"""Run trio in virtual time with a seeded scheduler: the same seed, the same run.

Trio shuffles the runnable tasks of each tick with a private random source; sorting them first and seeding it makes the
order repeatable (private hooks: the canary in `tests/simulation` tells when an upgrade of trio breaks them). Nothing
inside may use threads, sockets or files: time jumps while all tasks wait, and would run away beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio
import trio._core._run as trio_run
import trio.testing

from eventstore.event import RecordedEvent
from tests.support.nodes import pausing

T = TypeVar("T")


def run(seed: int, main: Callable[..., Awaitable[T]], *args: object) -> T:
    """`trio.run` with the scheduler seeded, a clock that jumps over every wait, and nodes that can be paused."""
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio_run._r.seed(seed)
    with pausing():
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


def log_hash(events: Iterable[RecordedEvent]) -> str:
    """A digest of a whole event log, positions, times, ids and metadata included."""
    digest = hashlib.sha256()
    for event in events:
        digest.update(repr(event).encode())
        digest.update(b"\n")
    return digest.hexdigest()
