"""The work that runs while things break: schedules of known nominal times, and runs asked for by hand."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import trio
from attrs import Factory, define, frozen

from tests.faults import lines
from tests.faults.cluster import Cluster
from tests.faults.nominal import Schedule
from tests.faults.verdict import Slot

RETRIES = 10
"""More than any fault can use up: what is lost is made again."""

HAND_EVERY_SECONDS = 0.3
CREATE_SECONDS = 1.0
"""From the call to the first nominal time: enough to create the schedules, which is checked."""


@frozen(kw_only=True)
class Job:
    """Its runs last `seconds`; the run of attempt `fails` exits with status 7, and is retried after a second."""

    name: str
    seconds: float
    fails: int | None = None


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
IDLE = (Pattern(job="short", name="each 2 s", every=2),)


class Late(Exception):
    """The schedules were not created before their first nominal time: the machine is too slow for this window."""


@define
class Workload:
    """One round's. `slots` is what must have run, `ids` are the schedules; `answers` counts what clients were told."""

    cluster: Cluster
    jobs: Mapping[str, str]
    start: datetime
    end: datetime
    schedules: Sequence[Schedule] = ()
    ids: list[str] = Factory(list)
    by_hand: list[Slot] = Factory(list)
    answers: Counter[str] = Factory(Counter)
    worst_answer_seconds: float = 0.0

    def slots(self) -> list[Slot]:
        return [slot for schedule in self.schedules for slot in schedule.slots()] + self.by_hand

    async def create(self, patterns: Sequence[Pattern]) -> None:
        """Raises `Late`."""
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
        """Ask for runs until the window ends; each is asked for until the answer is sure."""
        async with trio.open_nursery() as nursery:
            while time.time() < self.end.timestamp():
                nursery.start_soon(self._ask, str(uuid.uuid4()))
                await trio.sleep(HAND_EVERY_SECONDS)

    async def _ask(self, task: str) -> None:
        slot = Slot(job="hand", schedule="by hand", nominal=datetime.now(UTC), task=task)
        self.by_hand.append(slot)
        while True:
            began = trio.current_time()
            try:
                async with self.cluster.client() as http:
                    answer = await http.post(f"/jobs/item/{self.jobs['hand']}/run", json={"id": task})
            except httpx.TransportError as problem:
                self.answers[type(problem).__name__] += 1
                await trio.sleep(0.1)
                continue
            finally:
                self.worst_answer_seconds = max(self.worst_answer_seconds, trio.current_time() - began)
            if answer.status_code in (200, 409):  # 409: it was done, and the first answer got lost
                self.answers[str(answer.status_code)] += 1
                return
            self.answers[f"{answer.status_code} {_message(answer)}"] += 1
            await trio.sleep(0.1)


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return answer.text[:200]


async def create_jobs(cluster: Cluster) -> Mapping[str, str]:
    """Name -> id."""
    jobs = {}
    async with cluster.client() as http:
        for job in JOBS:
            body = {
                "name": job.name,
                "environment": lines.environment(cluster.lines, job.name, job.seconds, job.fails),
                "config": {
                    "cmd": "bash",
                    "args": ["-c", lines.PROGRAM],
                    "max_retries": RETRIES,
                    "retry_interval": 1,
                    "timeout": 120,
                },
            }
            answer = await http.post("/jobs/item", json=body)
            if answer.status_code != 200:
                raise RuntimeError(f"job {job.name}: {answer.text}")
            jobs[job.name] = str(answer.json()["id"])
    return jobs


def window(seconds: float) -> tuple[datetime, datetime]:
    """The first and the last instant of a round that begins now, as whole seconds."""
    start = datetime.fromtimestamp(math.ceil(time.time() + CREATE_SECONDS), UTC)
    return start, start + timedelta(seconds=math.ceil(seconds))
