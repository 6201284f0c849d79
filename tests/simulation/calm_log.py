"""More short runs as in `calm.py`: for deliberate bugs of the log, of what clients are shown, and of the life of a task."""

from __future__ import annotations

import trio

from hetuflow.domain.commands import CreateJob, DisableSchedule, UpdateTask
from hetuflow.domain.decider import Address
from tests.simulation.calm import EVERY_FIVE_SECONDS, Script
from tests.simulation.operators import Operators
from tests.simulation.readers import READERS, follow


async def tasks_that_end(operators: Operators) -> None:
    """Twenty tasks that write something and end well."""
    job_id = await operators.create_job("writing", "seconds=0.5", "output=300")
    for _ in range(20):
        await operators.run_now(job_id)
    await trio.sleep(30)


async def read_by_followers(operators: Operators) -> None:
    """Readers of the feed that lose their connection every few seconds, while tasks come and end."""
    cluster = operators.cluster
    for number in range(READERS):
        cluster.nursery.start_soon(follow, cluster, f"reader-{number + 1}", (1.0, 4.0))
    for _ in range(2):
        await tasks_that_end(operators)


async def created_twice(operators: Operators) -> None:
    """A job is created, and by another client once more."""
    job_id = await operators.create_job("once", "seconds=0.2")
    command = CreateJob(job_id=job_id, name="twice", config={"cmd": "program", "args": []})
    await operators.insist("create job again", Address("job", job_id), command)


def after_misfires(**members: object) -> Script:
    """All servers are away for many nominal times of a schedule with these members."""

    async def script(operators: Operators) -> None:
        cluster = operators.cluster
        job_id = await operators.create_job("quick", "seconds=0.2")
        schedule_id = await operators.create_schedule(job_id, **{**EVERY_FIVE_SECONDS, **members})
        await trio.sleep(20)
        for server in cluster.servers.values():
            await server.kill()
        await trio.sleep(60)
        for server in cluster.servers.values():
            server.start()
        await trio.sleep(60)
        await operators.insist("pause", Address("schedule", schedule_id), DisableSchedule())

    return script


def waiting_for_several(*ends: str, on_failure: str) -> Script:
    """A task is told, while no slot is free, that it waits for a short task with such an end and for a long one."""

    async def script(operators: Operators) -> None:
        slow = await operators.run_now(await operators.create_job("slow", "seconds=40"))
        first = await operators.run_now(await operators.create_job("first", "seconds=5", *ends, max_retries=0))
        busy = await operators.create_job("busy", "seconds=10")
        for _ in range(sum(host.slots for host in operators.cluster.hosts.values()) - 2):
            await operators.run_now(busy)
        last = await operators.run_now(await operators.create_job("last", "seconds=1"))
        change = UpdateTask(changes={"dependencies": {"task_ids": [first, slow], "on_failure": on_failure}})
        await operators.insist("edit task", Address("task", last), change)
        await trio.sleep(90)

    return script


async def retried_in_vain(operators: Operators) -> None:
    """A retry is asked for of a task that succeeded."""
    task_id = await operators.run_now(await operators.create_job("quick", "seconds=0.2"))
    await trio.sleep(10)
    await operators.retry(task_id)
    await trio.sleep(10)


async def cancelled_soon(operators: Operators) -> None:
    """A long task is cancelled while it runs, and there is time for all that this takes."""
    task_id = await operators.run_now(await operators.create_job("slow", "seconds=600"))
    await trio.sleep(5)
    await operators.cancel(task_id)
    await trio.sleep(120)


async def looked_at(operators: Operators) -> None:
    """Tasks that are read while they run and when they have ended."""
    job_id = await operators.create_job("quick", "seconds=3")
    for _ in range(3):
        await operators.run_now(job_id)
    for _ in range(4):
        await trio.sleep(3)
        for task_id in operators.tasks:
            await operators.look_at(Address("task", task_id))
