"""What a feature is: jobs, schedules of a round, what is asked meanwhile, and what must hold of the runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import trio
from attrs import Factory, define, frozen

from tests.faults.asking import Asker
from tests.faults.lines import Run
from tests.faults.verdict import Slot


@frozen(kw_only=True)
class Job:
    """Its runs last `seconds`; the run of attempt `fails` exits with status 7, and is retried after a second.

    Attributes:
      config: laid over what all jobs have.
      after: the jobs that it follows in a flow; they stand before it.
      agent: the only agent that may run it.
    """

    name: str
    seconds: float
    fails: int | None = None
    config: Mapping[str, Any] = Factory(dict)
    after: tuple[str, ...] = ()
    agent: str = ""


@define
class Feature(ABC):
    """One round's. Subclasses say their `jobs`, which are made once for a cluster and have names of their own.

    `is_exact`: each run belongs to a slot. Where it is not, tasks are judged by the rules alone (`broken`).
    `goes_on`: it runs until it is told to stop, so that it must be seen to go on after a fault.
    """

    name: ClassVar[str]
    jobs: ClassVar[tuple[Job, ...]]
    is_exact: ClassVar[bool] = True
    goes_on: ClassVar[bool] = False
    may_double: ClassVar[bool] = False
    """Running twice is harmless, also at the same time."""

    ids: Mapping[str, str]
    asker: Asker
    start: datetime
    end: datetime
    slots: list[Slot] = Factory(list)
    schedules: list[str] = Factory(list)

    @abstractmethod
    async def create(self) -> None:
        """Make the schedules: before `start`, which the caller checks."""

    async def ask(self) -> None:
        """Ask for what is asked for while things break. Returns after `end`, when each answer is sure."""
        await trio.lowlevel.checkpoint()

    def broken(self, runs: Sequence[Run]) -> list[str]:
        """What must not be among the runs of its jobs."""
        return []

    def of(self, runs: Sequence[Run]) -> list[Run]:
        names = {job.name for job in self.jobs}
        return [run for run in runs if run.job in names]

    def back_after(self, runs: Sequence[Run], since: float) -> float | None:
        """Seconds from `since` until these runs show that it goes on; None = they do not."""
        return min((run.start - since for run in runs if run.start >= since), default=None)

    async def schedule(self, job: str, **members: Any) -> str:
        body = {"job_id": self.ids[job], "name": self.name, **members}
        schedule = str((await self.asker.once("/schedules/item", body))["id"])
        self.schedules.append(schedule)
        return schedule

    def often(self, job: str, every: int, **members: Any) -> Any:
        """An interval from `start` to `end`, each nominal time of which is to be decided as if it were on time."""
        return self.schedule(
            job,
            kind="interval",
            interval_seconds=every,
            start_time=self.start.isoformat(),
            end_time=self.end.isoformat(),
            **{"misfire_policy": "fire_all", "misfire_grace_seconds": 86_400, **members},
        )
