"""Schedules whose tasks depend on each other, on calendars, or lie in the past."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import trio
from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.lines import Run
from tests.faults.rules import all_complete, at_most_together, each_after_the_last, one_task_each
from tests.faults.verdict import Slot

DELAY_SECONDS = 1
BACKFILLED = 20
BACKFILLED_TOGETHER = 3
BACKFILL_LEAD_SECONDS = 1.0
"""From the start of the window: it is half done when things break."""


@define
class FixedDelay(Feature):
    """Each task no sooner than a second after the end of the one before, and it never stops for good."""

    name = "fixed delay"
    jobs = (Job(name="delayed", seconds=0.6),)
    is_exact = False
    goes_on = True

    async def create(self) -> None:
        await self.schedule(
            "delayed", kind="interval", interval_seconds=DELAY_SECONDS, interval_mode="fixed_delay",
            start_time=self.start.isoformat(),
        )  # fmt: skip

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return each_after_the_last(runs, DELAY_SECONDS) + one_task_each(runs)


class _Alone(Feature):
    """No two tasks at once."""

    is_exact = False
    policy = ""

    async def create(self) -> None:
        await self.often(self.jobs[0].name, every=1, overlap_policy=self.policy)

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return at_most_together(runs, 1) + one_task_each(runs) + all_complete(runs)


@define
class Skipping(_Alone):
    name = policy = "skip"
    jobs = (Job(name="skipping", seconds=1.4),)


@define
class Queueing(_Alone):
    name = policy = "queue"
    jobs = (Job(name="queueing", seconds=1.2),)

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return super().broken(runs) + each_after_the_last(runs, 0.0)


@define
class Calendar(Feature):
    """What a calendar excludes does not run, all else does, once."""

    name = "calendar"
    jobs = (Job(name="calendar", seconds=0.05),)

    async def create(self) -> None:
        since, until = self.start + timedelta(seconds=3), self.start + timedelta(seconds=5)
        name = f"faults-{self.start.timestamp():.0f}"
        period = {"from": since.isoformat(), "to": until.isoformat()}
        await self.asker.once("/calendars/item", {"id": name, "timezone": "UTC", "periods": [period]})
        await self.often("calendar", every=1, exclude_calendars=[name])
        at = self.start
        while at <= self.end:
            if not since <= at < until:
                self.slots.append(Slot(job="calendar", schedule=self.name, nominal=at))
            at += timedelta(seconds=1)


@define
class Backfill(Feature):
    """Each nominal time of a past window once, a few at once."""

    name = "backfill"
    jobs = (Job(name="backfilled", seconds=0.5),)

    async def create(self) -> None:
        await self.schedule("backfilled", kind="cron", cron_expression="0 * * * *", timezone="UTC", enabled=False)

    async def ask(self) -> None:
        await trio.sleep(max(0.0, self.start.timestamp() + BACKFILL_LEAD_SECONDS - time.time()))
        day = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(2000))
        times = [day + timedelta(hours=number) for number in range(BACKFILLED)]
        self.slots += [Slot(job="backfilled", schedule=self.name, nominal=at) for at in times]
        body = {"id": str(uuid.uuid4()), "from": times[0].isoformat(), "to": times[-1].isoformat()}
        await self.asker.until_sure(
            f"/schedules/item/{self.schedules[0]}/backfill", {**body, "max_concurrent": BACKFILLED_TOGETHER}
        )

    def broken(self, runs: Sequence[Run]) -> list[str]:
        return at_most_together(runs, BACKFILLED_TOGETHER)


FEATURES: Sequence[type[Feature]] = (FixedDelay, Skipping, Queueing, Calendar, Backfill)
