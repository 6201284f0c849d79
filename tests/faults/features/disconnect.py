"""What goes on while its agent has no server: jobs with `on_disconnect: continue`, of which some may run twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.lines import Run, by_task
from tests.faults.verdict import Slot

LASTS_SECONDS = 2.5


class _GoesOn(Feature):
    every = 2

    async def create(self) -> None:
        for job in self.jobs:
            await self.often(job.name, every=self.every)
            at = self.start
            while at <= self.end:
                self.slots.append(Slot(job=job.name, schedule=self.name, nominal=at))
                at += timedelta(seconds=self.every)


@define
class Continue(_GoesOn):
    """The server waits for it: it is run once, however long its agent was away."""

    name = "continue"
    jobs = (Job(name="continued", seconds=LASTS_SECONDS, config={"on_disconnect": "continue"}),)

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return [
            "repeated, though it was to go on: " + "; and ".join(map(str, theirs))
            for theirs in by_task(runs).values()
            if len(theirs) > 1
        ]


@define
class Idempotent(_GoesOn):
    """The server gives it to another agent when the lease is over, and the first may go on with it."""

    name = "idempotent"
    may_double = True
    jobs = (Job(name="harmless", seconds=LASTS_SECONDS, config={"on_disconnect": "continue", "idempotent": True}),)


FEATURES: Sequence[type[Feature]] = (Continue, Idempotent)
