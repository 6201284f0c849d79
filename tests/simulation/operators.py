"""Users of the cluster. Their answers may get lost, so they ask again with the same ids; every answer is written down."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, field

from eventstore.errors import EventStoreError
from hetuflow.actors import ActorError, Answer
from hetuflow.core import Core
from hetuflow.domain.commands import (
    CancelTask,
    CreateJob,
    CreateSchedule,
    CreateTask,
    DeleteTask,
    DisableSchedule,
    EnableSchedule,
    RetryTask,
)
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.job import snapshot
from hetuflow.domain.need import Need
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.calendars import ask_schedule
from tests.simulation.cluster import Cluster
from tests.simulation.observed import SECRET
from tests.simulation.server_node import NoAnswer
from tests.support.ports import SeededIds

log = logging.getLogger("simulation")

ANSWER_SECONDS_MAX = 10.0
"""A client's patience with one request."""
AGAIN_SECONDS = 0.5
READ_BACK_RATE = 0.3
"""How often somebody looks at what has just been changed."""

Ask = Callable[[Core], Awaitable[Answer]]


@define(slots=True, eq=False)
class Operators:
    """`loss_rate`: of answers that never reach the client."""

    cluster: Cluster
    ids: SeededIds = field(init=False)
    loss_rate: float = field(init=False)
    jobs: list[str] = field(factory=list)
    schedules: list[str] = field(factory=list)
    tasks: list[str] = field(factory=list)
    done: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.ids = SeededIds(f"{self.cluster.seed} operators", self.cluster.clock)
        self.loss_rate = self.cluster.rng.choice([0, 0.02, 0.2])

    @property
    def cancelled(self) -> dict[str, float]:
        """Task -> when a cancel was acknowledged, and no retry asked for since."""
        return self.cluster.observed.cancelled

    # --- what they ask -----------------------------------------------------------------------------------------------

    async def create_job(self, name: str, *args: str, labels: dict[str, str] | None = None, **config: object) -> str:
        job_id = str(self.ids.uuid7())
        namespace = str(config.pop("namespace_id", "default"))
        upstream: Any = config.pop("upstream", None)
        members = {"cmd": "program", "args": list(args), "labels": labels, **config}
        secret = {"PASSWORD": SECRET}
        command = CreateJob(
            job_id=job_id, name=name, config=members, environment=secret, namespace_id=namespace, upstream=upstream
        )
        await self.insist("create job", Address("job", job_id), command)
        self.jobs.append(job_id)
        return job_id

    async def create_schedule(self, job_id: str, **members: object) -> str:
        schedule_id = str(self.ids.uuid7())
        address = Address("schedule", schedule_id)

        async def ask(core: Core) -> Answer:
            job = await core.system.read(Address("job", job_id))
            guards = (Guard(f"job-{job_id}", job.version),)
            command = CreateSchedule(schedule_id=schedule_id, job_id=job_id, guards=guards, **members)  # type: ignore[arg-type]
            return await ask_schedule(core.system, schedule_id, command)

        if await self.insist_on("create schedule", address, ask):
            self.schedules.append(schedule_id)
        return schedule_id

    async def run_now(self, job_id: str) -> str:
        task_id = str(self.ids.uuid7())
        address = Address("task", task_id)

        async def ask(core: Core) -> Answer:
            reading = await core.system.read(Address("job", job_id))
            job = snapshot(reading.state, reading.version)
            with core.scheduler.reserved(Need.of(job)) as placement:
                command = CreateTask(task_id=task_id, job=job, trigger="run", placement=placement)
                return await core.system.ask(address, command)

        if await self.insist_on("run", address, ask):
            self.tasks.append(task_id)
        return task_id

    async def cancel(self, task_id: str) -> None:
        if await self.insist("cancel", Address("task", task_id), CancelTask()):
            self.cancelled.setdefault(task_id, trio.current_time())

    async def retry(self, task_id: str) -> None:
        self.cancelled.pop(task_id, None)  # before asking: the answer may be lost (seed 5085)
        await self.insist("retry", Address("task", task_id), RetryTask())

    async def delete_task(self, task_id: str, command: DeleteTask) -> None:
        """With `cascade` it is cancelled too."""
        if await self.insist("delete task", Address("task", task_id), command) and command.cascade:
            self.cancelled.setdefault(task_id, trio.current_time())

    async def disable(self, schedule_id: str) -> None:
        await self.insist("pause", Address("schedule", schedule_id), DisableSchedule())

    async def enable(self, schedule_id: str) -> None:
        await self.insist("resume", Address("schedule", schedule_id), EnableSchedule())

    # --- how they ask ------------------------------------------------------------------------------------------------

    async def insist(self, what: str, address: Address, command: object) -> bool:
        """Ask for a command; see `insist_on`. A schedule is told of its calendars, as the API does it."""
        if address.category == "schedule":
            return await self.insist_on(what, address, lambda core: ask_schedule(core.system, address.id, command))
        return await self.insist_on(what, address, lambda core: core.system.ask(address, command))

    async def insist_on(self, what: str, address: Address, ask: Ask) -> bool:
        """Ask until there is an answer; False when it is no. Carried to its end, so that no wish is left in the air."""
        with trio.CancelScope(shield=True):
            observed, stream = self.cluster.observed, address.stream_id
            asked_at, asked_wall = trio.current_time(), self.cluster.clock.now()
            answer = await self._until_answered(what, ask)
            accepted = isinstance(answer, Answer) or answer.code == "already_exists"
            observed.acted(what, stream, asked_at, asked_wall, accepted=accepted)
            if isinstance(answer, Answer) and answer.version:
                observed.wrote(stream, answer.version, answer.position)
            if what in ("run", "create job", "create schedule"):
                observed.answered(f"{what} {address.id}", "created" if accepted else "refused", stream)
            if accepted:
                self.done[what] = self.done.get(what, 0) + 1
            if self.cluster.rng.random() < READ_BACK_RATE:
                await self.look_at(address)
            return accepted

    async def _until_answered(self, what: str, ask: Ask) -> Answer | Rejected:
        """Ask one server after the other, as a client behind a load balancer does."""
        draw = self.cluster.rng
        while True:
            try:
                answer = await self.cluster.any_life().request(ask, ANSWER_SECONDS_MAX)
                if draw.random() >= self.loss_rate:
                    return answer
                problem: Exception = NoAnswer("the answer was lost")
                self.done["answers lost"] = self.done.get("answers lost", 0) + 1
            except Rejected as no:
                self.cluster.observed.line(f"the answer to {what}", f"{no!r} {no.detail}")
                return no
            except (EventStoreError, ActorError, NoAnswer) as exc:
                self.cluster.observed.line(f"the answer to {what}", repr(exc))
                problem = exc
            log.debug("%s: %r, again", what, problem)
            await trio.sleep(AGAIN_SECONDS)

    async def look_at(self, address: Address) -> None:
        """Read what a server shows of it then; no answer is no matter."""
        try:
            reading = await self.cluster.any_life().request(lambda core: core.system.read(address), ANSWER_SECONDS_MAX)
        except (EventStoreError, ActorError, NoAnswer):
            return
        self.cluster.observed.saw_state(address.stream_id, reading.version, reading.state)
