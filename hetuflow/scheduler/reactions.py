"""What must follow an event in another actor: event -> command.

A reaction is a subscription, not a step of the event's append: only new streams may be written along with one's own.
Each is idempotent, and each has a second way to happen, so that a crash in between loses nothing: the schedules of a
deleted job are looked for again at every start, and a schedule that comes due finds its job deleted by itself. One that
fails is tried again by itself, and holds up no other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, PASSING, STOPPING, Patience
from hetuflow.domain.commands import DeleteSchedule
from hetuflow.domain.decider import Address
from hetuflow.domain.events import JobDeleted
from hetuflow.domain.rejection import Rejected

log = logging.getLogger(__name__)

SchedulesOf = Callable[[str, int], Awaitable[Sequence[str]]]
"""(job id, position) -> ids of its schedules that are not deleted, as of at least that position."""

OPEN_MAX = 1000
"""Deleted jobs whose schedules are still being deleted; the subscription waits beyond it."""

ASKING_MAX = 16
"""Deleted jobs that are worked on at once; those that wait for another try do not count."""

DEFECTS_MAX = 10
"""Failures in a row that are not the store's being away, before a job is left to the second way."""


class Reactions:
    """`schedules_of` looks the schedules of a job up; it may raise errors of the store, and is then asked again."""

    def __init__(self, system: ActorSystem, schedules_of: SchedulesOf) -> None:
        self._system = system
        self._schedules_of = schedules_of
        self._send, self._receive = trio.open_memory_channel[tuple[str, int, Context]](OPEN_MAX)
        self._places = trio.Semaphore(OPEN_MAX)
        self._asking = trio.Semaphore(ASKING_MAX)

    async def heard(self, event: RecordedEvent) -> None:
        """Take note of a committed event; waits only when far too many reactions are open."""
        if event.type == JobDeleted.__name__:
            await self.job_deleted(Address.of_stream(event.stream_id).id, event.position, _because_of(event))

    async def job_deleted(self, job_id: str, position: int, cause: Context) -> None:
        """Delete the schedules of a job that is deleted as of `position`; `cause` says which event said so."""
        await self._send.send((job_id, position, cause))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for job_id, position, cause in self._receive:
                await self._places.acquire()
                nursery.start_soon(self._react, job_id, position, cause)

    async def _react(self, job_id: str, position: int, cause: Context) -> None:
        """Try until the schedules of the job are deleted."""
        patience, defects = Patience(), 0
        try:
            while defects < DEFECTS_MAX:
                try:
                    async with self._asking:
                        await self._delete_schedules(job_id, position, cause)
                except STOPPING:
                    return
                except (EventStoreError, *FAILING) as problem:
                    defects += not isinstance(problem, PASSING)
                    log.warning("the schedules of the deleted job %s cannot be deleted yet: %s", job_id, problem)
                    await trio.sleep(patience.failed(job_id))
                else:
                    return
            log.error("the schedules of the deleted job %s are left: each is deleted when it comes due", job_id)
        finally:
            self._places.release()

    async def _delete_schedules(self, job_id: str, position: int, cause: Context) -> None:
        """Ask each once; raises what the last one that failed raised."""
        failure: Exception | None = None
        for schedule_id in await self._schedules_of(job_id, position):
            try:
                await self._system.ask(
                    Address("schedule", schedule_id),
                    DeleteSchedule(reason="job_deleted"),
                    cause,
                )
            except Rejected:
                log.debug("schedule %s of the deleted job %s is gone already", schedule_id, job_id)
            except STOPPING:
                raise
            except (EventStoreError, *FAILING) as problem:
                failure = problem
        if failure is not None:
            raise failure


def _because_of(event: RecordedEvent) -> Context:
    """The event as the cause of what follows, in its own conversation."""
    correlation_id = json.loads(event.metadata).get("correlation_id")
    return Context(causation_id=str(event.event_id), correlation_id=correlation_id)
