"""What must follow an event in other actors: event -> command.

A reaction is a subscription, not a step of the event's append: only new streams may be written along with one's own.
Each is idempotent, and each has a second way to happen, so that a crash in between loses nothing: the schedules of a
deleted job, and those that a changed calendar leaves with an outdated next run, are looked for again at every start; and
a schedule that comes due finds its job deleted by itself. One that fails is tried again by itself, and holds up no other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, PASSING, STOPPING, Patience
from hetuflow.domain.commands import DeleteSchedule, ReplanSchedule
from hetuflow.domain.decider import Address
from hetuflow.domain.events import CalendarCreated, CalendarDeleted, CalendarUpdated, JobDeleted
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.calendars import ask_schedule

log = logging.getLogger(__name__)

SchedulesOf = Callable[[Address, int], Awaitable[Sequence[str]]]
"""(a job or calendar, position) -> ids of the schedules that belong or refer to it and are not deleted, as of at least
that position."""

OPEN_MAX = 1000
"""Events whose schedules are still being asked; the subscription waits beyond it."""

ASKING_MAX = 16
"""Events that are worked on at once; those that wait for another try do not count."""

SCHEDULES_MAX = 32
"""Schedules that are asked at once because of one event."""

DEFECTS_MAX = 10
"""Failures in a row that are not the store's being away, before an event is left to the second way."""

_COMMANDS: Mapping[str, Any] = {
    JobDeleted.__name__: DeleteSchedule(reason="job_deleted"),
    **dict.fromkeys((each.__name__ for each in (CalendarCreated, CalendarUpdated, CalendarDeleted)), ReplanSchedule()),
}
"""What each schedule of the event's entity is asked."""


class Reactions:
    """`schedules_of` looks the schedules up; it may raise errors of the store, and is then asked again."""

    def __init__(self, system: ActorSystem, schedules_of: SchedulesOf) -> None:
        self._system = system
        self._schedules_of = schedules_of
        self._send, self._receive = trio.open_memory_channel[tuple[Address, Any, int, Context]](OPEN_MAX)
        self._places = trio.Semaphore(OPEN_MAX)
        self._asking = trio.Semaphore(ASKING_MAX)

    async def heard(self, event: RecordedEvent) -> None:
        """Take note of a committed event; waits only when far too many reactions are open."""
        command = _COMMANDS.get(event.type)
        if command is not None:
            cause = _because_of(event)
            await self._send.send((Address.of_stream(event.stream_id), command, event.position, cause))

    async def job_deleted(self, job_id: str, position: int, cause: Context) -> None:
        """Delete the schedules of a job that is deleted as of `position`; `cause` says which event said so."""
        await self._send.send((Address("job", job_id), _COMMANDS[JobDeleted.__name__], position, cause))

    async def calendar_changed(self, calendar_id: str, position: int, cause: Context) -> None:
        """Have the schedules that refer to a calendar, as it is as of `position`, look for their next run anew."""
        await self._send.send((Address("calendar", calendar_id), ReplanSchedule(), position, cause))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for work in self._receive:
                await self._places.acquire()
                nursery.start_soon(self._react, *work)

    async def _react(self, source: Address, command: Any, position: int, cause: Context) -> None:
        """Try until each schedule of the job or calendar has been asked."""
        patience, defects = Patience(), 0
        try:
            while defects < DEFECTS_MAX:
                try:
                    async with self._asking:
                        await self._ask_schedules(source, command, position, cause)
                except STOPPING:
                    return
                except (EventStoreError, *FAILING) as problem:
                    defects += not isinstance(problem, PASSING)
                    log.warning("the schedules of %s cannot follow its change yet: %s", source.stream_id, problem)
                    await trio.sleep(patience.failed(source))
                else:
                    return
            log.error("the schedules of %s are left: each follows its change when it comes due", source.stream_id)
        finally:
            self._places.release()

    async def _ask_schedules(self, source: Address, command: Any, position: int, cause: Context) -> None:
        """Ask each once; raises what one that failed raised."""
        failures: list[Exception] = []
        schedule_ids = iter(await self._schedules_of(source, position))

        async def ask_next() -> None:
            for schedule_id in schedule_ids:
                try:
                    await ask_schedule(self._system, schedule_id, command, cause)
                except Rejected:
                    log.debug("schedule %s of %s is gone already", schedule_id, source.stream_id)
                except (EventStoreError, *FAILING, *STOPPING) as problem:
                    failures.append(problem)

        async with trio.open_nursery() as nursery:
            for _ in range(SCHEDULES_MAX):
                nursery.start_soon(ask_next)
        if failures:
            raise next((each for each in failures if isinstance(each, STOPPING)), failures[0])


def _because_of(event: RecordedEvent) -> Context:
    """The event as the cause of what follows, in its own conversation."""
    correlation_id = json.loads(event.metadata).get("correlation_id")
    return Context(causation_id=str(event.event_id), correlation_id=correlation_id)
