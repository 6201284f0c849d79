"""What the operators do all the time, drawn from the seed."""

from __future__ import annotations

import trio

from hetuflow.domain.enums import ScheduleKind
from tests.simulation.operators import Operators


async def work(operators: Operators) -> None:
    """Set up jobs and schedules, then act on them until cancelled."""
    scale, draw = operators.cluster.scale, operators.cluster.rng
    quick = await operators.create_job("quick", "seconds=0.2", "output=400")
    steady = await operators.create_job("steady", "seconds=3", "output=100", max_retries=5, retry_interval=1)
    failing = await operators.create_job("failing", "seconds=0.5", "exit=3", max_retries=2, retry_interval=2)
    flaky = await operators.create_job("flaky", "exit_below_epoch=2", max_retries=3, retry_interval=1)
    slow = await operators.create_job("slow", "seconds=40", "ignore_term", max_retries=4, retry_interval=1)
    picky = await operators.create_job("picky", "seconds=1", labels={"zone": "b"}, retry_interval=1)
    late = await operators.create_job("late", "seconds=30", timeout=4, max_retries=0)
    missing = await operators.create_job("missing", cmd="nowhere", max_retries=1, retry_interval=1)
    loud = await operators.create_job("loud", "seconds=2", "output=300000")
    forking = await operators.create_job("forking", "seconds=1", "fork=20", max_retries=1, retry_interval=1)
    hungry = await operators.create_job("hungry", "seconds=1", "signal=9", max_retries=1, retry_interval=1)
    every = await operators.create_schedule(
        quick, schedule_kind=int(ScheduleKind.INTERVAL), interval_secs=scale.interval, misfire_grace_seconds=3
    )
    await operators.create_schedule(
        steady, schedule_kind=int(ScheduleKind.CRON), cron_expression=scale.cron, priority=5
    )
    jobs = [quick, steady, failing, flaky, slow, picky, late, missing, loud, forking, hungry]
    for job in jobs:
        await operators.run_now(job)
    await operators.cancel(operators.tasks[4])  # a slow one that ignores SIGTERM, very likely running
    while True:
        await trio.sleep(draw.uniform(0.2, 1.8) * scale.pace_operators)
        action = draw.choice(["run", "run", "run", "cancel", "retry", "pause", "burst"])
        if action == "run":
            await operators.run_now(draw.choice(jobs))
        elif action == "burst":
            async with trio.open_nursery() as nursery:
                for _ in range(draw.randint(2, 8)):
                    nursery.start_soon(operators.run_now, draw.choice([quick, flaky, picky]))
        elif action == "cancel":
            await operators.cancel(draw.choice(operators.tasks))
        elif action == "retry":
            await operators.retry(draw.choice(operators.tasks))
        elif action == "pause":
            await operators.disable(every)
            await trio.sleep(draw.uniform(0.2, 4) * scale.interval)
            await operators.enable(every)
