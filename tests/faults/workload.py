"""The work that runs while things break: schedules of known nominal times, and runs asked for by hand."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import trio
from attrs import Factory, define, frozen

from tests.faults import lines
from tests.faults.asking import Asker
from tests.faults.cluster import Cluster
from tests.faults.features.feature import Feature, Job
from tests.faults.features.register import FEATURES
from tests.faults.lines import Run
from tests.faults.nominal import Schedule
from tests.faults.verdict import Slot, solve

RETRIES = 10
"""More than any fault can use up: what is lost is made again."""

HAND_EVERY_SECONDS = 0.3
CREATE_SECONDS = 2.0
"""From the call to the first nominal time: enough to create the schedules, which is checked."""


JOBS = (
    Job(name="short", seconds=0.05),
    Job(name="long", seconds=2.2),
    Job(name="flaky", seconds=0.1, fails=1),
    Job(name="hand", seconds=0.2),
)


@frozen(kw_only=True)
class Pattern:
    job: str
    name: str
    every: int
    is_cron: bool = False


LOADED = (
    Pattern(job="short", name="each second", every=1),
    Pattern(job="short", name="each second again", every=1),
    Pattern(job="short", name="even seconds", every=2, is_cron=True),
    Pattern(job="long", name="each 2 s", every=2),
    Pattern(job="flaky", name="each 3 s", every=3),
)
SCHEDULED = frozenset(pattern.job for pattern in LOADED)
IDLE = (Pattern(job="short", name="each 2 s", every=2),)


SETTLE_SECONDS_MAX = 60.0
"""From the end of the window until all that was asked for has run."""


class Late(Exception):
    """The schedules were not created before their first nominal time: the machine is too slow for this window."""


@define
class Workload:
    """One round's. `ids` are the schedules."""

    cluster: Cluster
    jobs: Mapping[str, str]
    start: datetime
    end: datetime
    schedules: Sequence[Schedule] = ()
    ids: list[str] = Factory(list)
    by_hand: list[Slot] = Factory(list)
    features: Sequence[Feature] = ()
    asker: Asker = Factory(lambda self: Asker(self.cluster), takes_self=True)

    def slots(self) -> list[Slot]:
        """What must have run, of all."""
        asked = [slot for feature in self.features for slot in feature.slots]
        return [slot for schedule in self.schedules for slot in schedule.slots()] + self.by_hand + asked

    def unslotted(self) -> set[str]:
        """The jobs whose tasks are judged by their features' rules alone."""
        return {job.name for feature in self.features if not feature.is_exact for job in feature.jobs}

    def harmless(self) -> set[str]:
        """The jobs of which a task may run twice."""
        return {job.name for feature in self.features if feature.may_double for job in feature.jobs}

    async def create(self, patterns: Sequence[Pattern], features: Sequence[type[Feature]] = ()) -> None:
        """Raises `Late`."""
        self.features = [feature(self.jobs, self.asker, self.start, self.end) for feature in features]
        schedules = [
            Schedule(
                job=pattern.job,
                name=pattern.name,
                every=pattern.every,
                start=self.start,
                end=self.end,
                is_cron=pattern.is_cron,
            )
            for pattern in patterns
        ]
        async with self.cluster.client() as http, trio.open_nursery() as nursery:
            for schedule in schedules:
                nursery.start_soon(self._create, http, schedule)
            for feature in self.features:
                nursery.start_soon(feature.create)
        if time.time() >= self.start.timestamp():
            raise Late
        self.schedules = schedules

    async def _create(self, http: httpx.AsyncClient, schedule: Schedule) -> None:
        when = (
            {"kind": "cron", "cron_expression": schedule.cron}
            if schedule.is_cron
            else {"kind": "interval", "interval_seconds": schedule.every}
        )
        body = {
            "job_id": self.jobs[schedule.job],
            "name": schedule.name,
            **when,
            "start_time": schedule.start.isoformat(),
            "end_time": schedule.end.isoformat(),
            "misfire_policy": "fire_all",
            "misfire_grace_seconds": 86_400,
        }
        answer = await http.post("/schedules/item", json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"schedule {schedule.name}: {answer.text}")
        self.ids.append(str(answer.json()["id"]))

    async def ask_by_hand(self) -> None:
        """Ask for runs and all else until the window ends; each is asked for until the answer is sure."""
        async with trio.open_nursery() as nursery:
            for feature in self.features:
                nursery.start_soon(feature.ask)
            while time.time() < self.end.timestamp():
                nursery.start_soon(self._ask, str(uuid.uuid4()))
                await trio.sleep(HAND_EVERY_SECONDS)

    async def _ask(self, task: str) -> None:
        self.by_hand.append(Slot(job="hand", schedule="by hand", nominal=datetime.now(UTC), task=task))
        await self.asker.until_sure(f"/jobs/item/{self.jobs['hand']}/run", {"id": task})

    async def until_features_are_done(self, since: float, seen: Container[str]) -> list[str]:
        """Wait until they have run what they were asked for and have gone on after `since`.

        Returns what did not come in time; `seen`: tasks of earlier rounds.
        """
        left: list[Feature] = list(self.features)
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            while left:
                runs = [run for run in lines.read(self.cluster.lines) if run.task not in seen]
                left = [feature for feature in left if not _is_done(feature, feature.of(runs), since)]
                await trio.sleep(0.2)
        return [f"{feature.name}: not done after {SETTLE_SECONDS_MAX:.0f} s" for feature in left]

    async def end_features(self) -> None:
        """Nothing of them fires any more, in this round or later ones."""
        for feature in self.features:
            for schedule in feature.schedules:
                cancel = "?cascade=cancel" if feature.goes_on else ""
                await self.asker.until_deleted(f"/schedules/item/{schedule}{cancel}")


def _is_done(feature: Feature, runs: Sequence[Run], since: float) -> bool:
    if feature.goes_on and feature.back_after(runs, since) is None:
        return False
    return not solve(feature.slots, runs).missed


async def create_jobs(cluster: Cluster) -> Mapping[str, str]:
    """Name -> id."""
    jobs: dict[str, str] = {}
    async with cluster.client() as http:
        for job in (*JOBS, *(job for feature in FEATURES.values() for job in feature.jobs)):
            body = {
                "name": job.name,
                "agent_id": job.agent or None,
                "upstream": {"jobs": [{"job_id": jobs[name]} for name in job.after]} if job.after else None,
                "environment": lines.environment(cluster.lines, job.name, job.seconds, job.fails),
                "config": {
                    "cmd": "bash",
                    "args": ["-c", lines.PROGRAM],
                    "max_retries": RETRIES,
                    "retry_interval": 1,
                    "timeout": 120,
                    **job.config,
                },
            }
            answer = await http.post("/jobs/item", json=body)
            if answer.status_code != 200:
                raise RuntimeError(f"job {job.name}: {answer.text}")
            jobs[job.name] = str(answer.json()["id"])
    return jobs


def window(seconds: float, create_seconds: float = CREATE_SECONDS) -> tuple[datetime, datetime]:
    """The first and the last instant of a round that begins now, as whole seconds."""
    start = datetime.fromtimestamp(math.ceil(time.time() + create_seconds), UTC)
    return start, start + timedelta(seconds=math.ceil(seconds))
