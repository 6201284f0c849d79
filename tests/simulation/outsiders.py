"""Users that do more than run jobs: batches of tasks that wait for each other, executions outside, events from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import trio
from attrs import define, field

from hetuflow.actors import Answer
from hetuflow.core import Core
from hetuflow.domain.commands import (
    CreateInstance,
    CreateTask,
    CreateTasks,
    DeleteInstance,
    ReceiveEvent,
    UpdateInstance,
)
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceStatus
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from tests.simulation.operators import Operators

SHAPES: Final[Sequence[Sequence[Sequence[int]]]] = (
    ((), (0,), (1,)),
    ((), (0,), (0,), (1, 2)),
    ((), (), (0, 1)),
    ((2,), (), (1,), (0, 2)),
)
"""Of batches: what each of its tasks waits for. A chain, a diamond, a join, and one whose first task waits for a later."""

WAYS: Final[Sequence[Sequence[InstanceStatus]]] = (
    (InstanceStatus.RUNNING, InstanceStatus.SUCCEEDED),
    (InstanceStatus.DISPATCHED, InstanceStatus.RUNNING, InstanceStatus.FAILED),
    (InstanceStatus.RUNNING, InstanceStatus.PAUSED, InstanceStatus.RUNNING, InstanceStatus.TIMEOUT),
    (InstanceStatus.SKIPPED,),
    (InstanceStatus.SUCCEEDED,),
)
"""What an execution outside says of itself, one after the other."""

SOURCES: Final = ("billing", "sensors")


@define(slots=True, eq=False)
class Outsiders:
    """`driven`: instances that are taken over, and so have nobody else to end them. `events`: sent so far."""

    operators: Operators
    driven: dict[str, str] = field(factory=dict)
    events: list[tuple[str, str]] = field(factory=list)

    @property
    def _draw(self):  # type: ignore[no-untyped-def]
        return self.operators.cluster.rng

    # --- batches -----------------------------------------------------------------------------------------------------

    async def batch(self, jobs: Sequence[str]) -> None:
        """Some tasks that wait for each other, and perhaps for one that is there already, in one append."""
        draw, operators = self._draw, self.operators
        shape = draw.choice(SHAPES)
        ids = [str(operators.ids.uuid7()) for _ in shape]
        waits = [[ids[each] for each in earlier] for earlier in shape]
        if operators.tasks and draw.random() < 0.5:
            waits[-1].append(draw.choice(operators.tasks))
        on_failure = [draw.choice(["cancel", "cancel", "run"]) for _ in shape]
        of_job = [draw.choice(jobs) for _ in shape]

        async def ask(core: Core) -> Answer:
            readings = await core.system.read_many([Address("job", job_id) for job_id in of_job])
            tasks = []
            for task_id, job_id, others, how in zip(ids, of_job, waits, on_failure, strict=True):
                reading = readings[Address("job", job_id)]
                job = snapshot(reading.state, reading.version)
                dependencies = {"task_ids": others, "on_failure": how} if others else None
                tasks.append(CreateTask(task_id=task_id, job=job, trigger="api", dependencies=dependencies))
            return await core.system.ask(Address("task", ids[0]), CreateTasks(tasks=tasks))

        if await operators.insist_on("batch", Address("task", ids[0]), ask):
            for task_id in ids:
                operators.cluster.observed.answered(f"batch {task_id}", "created", f"task-{task_id}")
            operators.tasks.extend(ids)

    # --- executions outside ------------------------------------------------------------------------------------------

    async def drive(self, job_id: str) -> None:
        """Take a task over before an agent gets it, if that succeeds, and say how it went."""
        draw, interval = self._draw, self.operators.cluster.scale.interval
        task_id = await self.plan(job_id, draw.choice([0, 0, 3 * interval]))
        if task_id is None:
            return
        instance_id = instance_id_of(task_id, 1)
        for status in draw.choice(WAYS):
            if not await self._say(task_id, instance_id, {"status": status}):
                return
            await trio.sleep(draw.uniform(0, 1) * interval)

    async def plan(self, job_id: str, later: float) -> str | None:
        """A task that is not started before so many seconds have passed; its id, None when it is refused."""
        operators = self.operators
        task_id = str(operators.ids.uuid7())
        address = Address("task", task_id)

        async def ask(core: Core) -> Answer:
            reading = await core.system.read(Address("job", job_id))
            job = snapshot(reading.state, reading.version)
            at = operators.cluster.clock.now() + timedelta(seconds=later)
            return await core.system.ask(address, CreateTask(task_id=task_id, job=job, trigger="api", scheduled_at=at))

        if not await operators.insist_on("create task", address, ask):
            return None
        operators.tasks.append(task_id)
        return task_id

    async def _say(self, task_id: str, instance_id: str, changes: Mapping[str, Any]) -> bool:
        """False when it is not believed: an agent was faster, or it has ended."""
        said = UpdateInstance(instance_id=instance_id, changes=changes)
        self.driven[task_id] = instance_id  # before asking: an answer may be long in coming
        believed = await self.operators.insist("drive instance", Address("task", task_id), said)
        if not believed or InstanceStatus(changes["status"]).is_final:
            self.driven.pop(task_id, None)
        return believed

    async def finish(self) -> None:
        """End what was taken over and left: nobody else would."""
        for task_id, instance_id in list(self.driven.items()):
            await self._say(task_id, instance_id, {"status": InstanceStatus.SUCCEEDED})

    async def record(self) -> None:
        """A record of an execution beside the task's own, which changes nothing of it."""
        draw, operators = self._draw, self.operators
        address = Address("task", draw.choice(operators.tasks[-5:]))  # most of the older ones have ended
        instance_id = str(operators.ids.uuid7())
        if await operators.insist("record instance", address, CreateInstance(instance_id=instance_id)):
            ended = UpdateInstance(instance_id=instance_id, changes={"status": draw.choice([90, 100]), "exit_code": 3})
            await operators.insist("end record", address, ended)
            if draw.random() < 0.5:
                await operators.insist("delete record", address, DeleteInstance(instance_id=instance_id))

    # --- events from outside -----------------------------------------------------------------------------------------

    async def send_event(self) -> None:
        """One event, or one that was sent before: it is recorded once."""
        draw, operators = self._draw, self.operators
        is_again = bool(self.events) and draw.random() < 0.3
        source, event_id = draw.choice(self.events) if is_again else (draw.choice(SOURCES), str(operators.ids.uuid7()))
        address = Address("external", source)

        async def ask(core: Core) -> Answer:
            while True:
                known_until = (await core.system.read(address)).version
                if any(event_id in event.data for event in operators.cluster.log.streams.get(address.stream_id, ())):
                    raise Rejected("already_exists", "it is recorded")
                command = ReceiveEvent(
                    id=event_id,
                    source=source,
                    type="thing.happened",
                    data={"id": event_id},
                    time=operators.cluster.shape.starts_at,
                    digest=event_id,
                    known_until=known_until,
                )
                try:
                    return await core.system.ask(address, command)
                except Rejected as no:
                    if no.code not in ("known", "look_again"):
                        raise

        if await operators.insist_on("event", address, ask):
            self.events.append((source, event_id))
            operators.cluster.observed.answered(f"event {source} {event_id}", "recorded", f"{source} {event_id}")
