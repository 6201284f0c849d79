"""Limits: a key that two jobs share, and a rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.lines import Run
from tests.faults.rules import at_most_together, at_most_within
from tests.faults.verdict import Slot

COUNT, PER_SECONDS = 4, 4
ON_ITS_WAY_SECONDS = 1.5
"""A start may come so much later than the dispatch that counts: the rate is of dispatches, the lines are of starts."""


class _Often(Feature):
    every = 2

    async def create(self) -> None:
        for job in self.jobs:
            await self.often(job.name, every=self.every)
            at = self.start
            while at <= self.end:
                self.slots.append(Slot(job=job.name, schedule=self.name, nominal=at))
                at += timedelta(seconds=self.every)


KEY = {"limits": {"keys": ["faults"]}}


@define
class Key(_Often):
    """Runs of two jobs that name one key are never alive together."""

    name = "key"
    jobs = (Job(name="key a", seconds=0.3, config=KEY), Job(name="key b", seconds=0.2, config=KEY))

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return at_most_together(runs, 1)


@define
class Rate(_Often):
    """Never more starts in a window than the rate allows, also when much is due at once."""

    name = "rate"
    every = 1
    jobs = (Job(name="rated", seconds=0.05, config={"limits": {"rate": {"count": COUNT, "per_seconds": PER_SECONDS}}}),)

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return at_most_within(runs, COUNT, PER_SECONDS - ON_ITS_WAY_SECONDS)


FEATURES: Sequence[type[Feature]] = (Key, Rate)
