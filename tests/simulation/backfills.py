"""Operators who have a past window of a schedule run, and change their minds."""

from __future__ import annotations

import random
from datetime import timedelta

import trio
from attrs import define, field

from hetuflow.actors import Answer
from hetuflow.core import Core
from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import CancelBackfill, StartBackfill
from hetuflow.domain.decider import Address
from tests.simulation.operators import Operators

SHARE = 0.4
"""Of the runs; the others draw what they drew without this."""

INTERVALS_BETWEEN = 3
"""Of the run's schedules, on average."""


@define(slots=True, eq=False)
class Backfilling:
    """An operator of its own, with chance of its own."""

    operators: Operators
    draw: random.Random = field(init=False)
    started: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.draw = random.Random(f"backfills {self.operators.cluster.seed}")

    @property
    def is_drawn(self) -> bool:
        return random.Random(f"has backfills {self.operators.cluster.seed}").random() < SHARE

    async def act_forever(self) -> None:
        draw, interval = self.draw, self.operators.cluster.scale.interval
        while True:
            await trio.sleep(draw.uniform(0.2, 1.8) * INTERVALS_BETWEEN * interval)
            schedule_id = draw.choice(self.operators.schedules)
            seconds = draw.uniform(1, 12) * interval
            found = await backfill(self.operators, schedule_id, seconds, draw.randint(1, 3))
            if found is None:
                continue
            self.started.append(found)
            if draw.random() < 0.3:
                await trio.sleep(draw.uniform(0, 3) * interval)
                await cancel_backfill(self.operators, found)

    async def finish(self) -> None:
        """What still goes on would make tasks for longer than a run may take to become quiet."""
        for backfill_id in self.started:
            await cancel_backfill(self.operators, backfill_id)


async def backfill(operators: Operators, schedule_id: str, seconds: float, max_concurrent: int) -> str | None:
    """The last so many seconds of the schedule; the id of the backfill, None when it was refused."""
    backfill_id = str(operators.ids.uuid7())
    address = Address("backfill", backfill_id)
    until = operators.cluster.clock.now()

    async def ask(core: Core) -> Answer:
        reading = await core.system.read(Address("schedule", schedule_id))
        begin = until - timedelta(seconds=seconds)
        start = start_of(backfill_id, reading.state, begin, until, until, max_concurrent=max_concurrent)
        return await core.system.ask(address, StartBackfill(start=start))

    return backfill_id if await operators.insist_on("backfill", address, ask) else None


async def cancel_backfill(operators: Operators, backfill_id: str) -> None:
    await operators.insist("cancel backfill", Address("backfill", backfill_id), CancelBackfill())
