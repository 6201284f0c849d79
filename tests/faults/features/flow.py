"""Flow runs: each job of the graph once, after what it follows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import trio
from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.features.told import told
from tests.faults.lines import Run
from tests.faults.rules import followed

EVERY_SECONDS = 2.0


@define
class Flow(Feature):
    """A rhombus, one job of which fails at first."""

    name = "flow"
    jobs = (
        Job(name="extract", seconds=0.1),
        Job(name="load", seconds=0.1, fails=1, after=("extract",)),
        Job(name="clean", seconds=0.3, after=("extract",)),
        Job(name="report", seconds=0.05, after=("load", "clean")),
    )

    async def create(self) -> None:
        """Nothing: it is run by hand."""

    async def ask(self) -> None:
        async with trio.open_nursery() as nursery:
            while time.time() < self.end.timestamp():
                run = str(uuid.uuid4())
                self.slots += [told(job.name, run) for job in self.jobs]
                body = {"id": run, "parameters": {"mark": run}}
                nursery.start_soon(self.asker.until_sure, f"/jobs/item/{self.ids['extract']}/run-flow", body)
                await trio.sleep(EVERY_SECONDS)

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return followed(runs, {job.name: job.after for job in self.jobs})


FEATURES: Sequence[type[Feature]] = (Flow,)
