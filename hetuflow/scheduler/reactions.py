"""What must follow an event in another actor: event -> command.

A reaction is a subscription, not a step of the event's append: only new streams may be written along with one's own.
Each is idempotent, and each has a second way to happen, so that a crash in between loses nothing: the schedules of a
deleted job are looked for again at every start, and a schedule that comes due finds its job deleted by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import DeleteSchedule
from hetuflow.domain.decider import Address
from hetuflow.domain.events import JobDeleted
from hetuflow.domain.rejection import Rejected

log = logging.getLogger(__name__)

SchedulesOf = Callable[[str, int], Awaitable[Sequence[str]]]
"""(job id, position) -> ids of its schedules that are not deleted, as of at least that position."""

OPEN_MAX = 1000
"""Deleted jobs whose schedules are still being looked up; the subscription waits beyond it."""


class Reactions:
    """`schedules_of` looks the schedules of a job up; it may raise errors of the store, and is then asked again."""

    def __init__(self, system: ActorSystem, schedules_of: SchedulesOf) -> None:
        self._system = system
        self._schedules_of = schedules_of
        self._send, self._receive = trio.open_memory_channel[tuple[str, int, str | None]](OPEN_MAX)

    async def heard(self, event: RecordedEvent) -> None:
        """Take note of a committed event; waits only when far too many reactions are open."""
        if event.type == JobDeleted.__name__:
            await self.job_deleted(Address.of_stream(event.stream_id).id, event.position, str(event.event_id))

    async def job_deleted(self, job_id: str, position: int, cause: str | None) -> None:
        """Delete the schedules of a job that is deleted as of `position`; `cause` is the id of the event that said so."""
        await self._send.send((job_id, position, cause))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for job_id, position, cause in self._receive:
            patience = Patience()
            while True:
                if await self._delete_schedules(job_id, position, cause):
                    break
                await trio.sleep(patience.failed(job_id))

    async def _delete_schedules(self, job_id: str, position: int, cause: str | None) -> bool:
        context = Context(causation_id=cause)
        try:
            for schedule_id in await self._schedules_of(job_id, position):
                try:
                    await self._system.ask(
                        Address("schedule", schedule_id), DeleteSchedule(reason="job_deleted"), context
                    )
                except Rejected:
                    log.debug("schedule %s of the deleted job %s is gone already", schedule_id, job_id)
        except STOPPING:
            return True
        except FAILING as problem:
            log.warning("the schedules of the deleted job %s cannot be deleted yet: %s", job_id, problem)
            return False
        return True
