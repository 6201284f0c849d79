"""Deliberate bugs of output, feeds, clocks, and of coming to an end."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import trio

from agent.spool import StreamTally
from eventstore.memory import MemoryStore
from hetuflow.scheduler.agenda import Agenda
from tests.simulation.calm import fires_in_calm
from tests.simulation.calm_log import read_by_followers, tasks_that_end
from tests.simulation.mutations.kit import Mutation, replaced, together


def digest_half_of_it() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def write(self: Any, data: bytes) -> None:
            original(self, data[: len(data) // 2 + 1])
            self.written += len(data) - (len(data) // 2 + 1)

        return write

    return replaced(StreamTally, "write", make)


def feed_skips_one() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        @contextlib.asynccontextmanager
        async def subscribe(self: Any, *, after: int, **more: Any) -> Any:
            async with original(self, after=after + 1 if after else 0, **more) as batches:
                yield batches

        return subscribe

    return replaced(MemoryStore, "subscribe", make)


def ticker_sleeps() -> AbstractContextManager[object]:
    """The ticker looks for due schedules once in five minutes."""

    def make(original: Any) -> Any:
        def take(self: Any, now: Any, most: int) -> Any:
            return original(self, now, most) if trio.current_time() % 300 < 5 else []

        return take

    return together(replaced(Agenda, "take_due", make), mock.patch.object(Agenda, "next_due_at", lambda self: None))


def forget_some_tasks() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def add(self: Any, address: Any, offer: Any) -> None:
            if int(offer.task_id[-1], 16) % 8:
                original(self, address, offer)

        return add

    return replaced(Agenda, "_add_offer", make)


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "half a digest",
        "the digest covers half of the output",
        "O1",
        digest_half_of_it,
        quick=True,
        script=tasks_that_end,
    ),
    Mutation(
        "feed skips one",
        "a resumed feed leaves out its first event",
        "E1",
        feed_skips_one,
        quick=True,
        script=read_by_followers,
    ),
    Mutation(
        "ticker sleeps",
        "due schedules are looked for every five minutes",
        "C1",
        ticker_sleeps,
        quick=True,
        script=fires_in_calm,
    ),
    Mutation("forgotten tasks", "some waiting tasks are never given a slot", "V1", forget_some_tasks),
)
