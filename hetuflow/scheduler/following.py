"""Tells schedules how the tasks that they made have ended: those that want to know (`Follow`).

The wish is the memory, as with `Dependencies`: it is there again after every start, and then each of its tasks is looked
at. What is told is the first end in the task's stream, in the order of the log: a schedule is asked by one question at a
time, which has every end that is known by then, and what is heard afterwards has ended later. Told twice is told once.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import datetime

import trio

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from eventstore.store import EventStore
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import NoteTaskEnds, TaskEnd
from hetuflow.domain.decider import Address, Follow
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_state import TaskState
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ENDS: Mapping[str, tuple[TaskStatus, str]] = {
    "TaskSucceeded": (TaskStatus.SUCCEEDED, "completed_at"),
    "TaskFailed": (TaskStatus.FAILED, "completed_at"),
    "TaskCancelled": (TaskStatus.CANCELLED, "cancelled_at"),
}
"""The event that ends a task: as what, and the member that says when."""

ASKING_MAX = 16
"""Schedules that are told something at once."""


class Following:
    """Which tasks each schedule follows, and what it is still to be told. Every change costs O(1)."""

    def __init__(self, system: ActorSystem, store: EventStore, leases: Leases) -> None:
        self._system = system
        self._store = store
        self._leases = leases
        self._wishes: dict[str, Follow] = {}
        self._schedule_of: dict[str, str] = {}
        self._to_tell: dict[str, dict[str, RecordedEvent | None]] = {}
        self._in_hand: set[str] = set()
        self._patience = Patience()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Following: {len(self._schedule_of)} tasks of {len(self._wishes)} schedules>"

    def __len__(self) -> int:
        return len(self._schedule_of)

    def add(self, wish: Follow) -> None:
        """The schedule follows these. What it did not follow before may have ended already: it is looked at."""
        before = self._wishes.get(wish.schedule_id)
        known = frozenset() if before is None else before.task_ids
        self._wishes[wish.schedule_id] = wish
        for task_id in wish.task_ids - known:
            self._schedule_of[task_id] = wish.schedule_id
            self._look(wish.schedule_id, task_id, None)

    def remove(self, wish: Follow) -> None:
        """The schedule does not follow these any more, unless it has said so anew."""
        now = self._wishes.get(wish.schedule_id)
        if now == wish:
            del self._wishes[wish.schedule_id]
            self._to_tell.pop(wish.schedule_id, None)
            now = None
        for task_id in wish.task_ids - (now.task_ids if now is not None else frozenset()):
            self._schedule_of.pop(task_id, None)

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order, after the actors have taken note of it."""
        if event.type in ENDS:
            task_id = Address.of_stream(event.stream_id).id
            schedule_id = self._schedule_of.get(task_id)
            if schedule_id is not None:
                self._look(schedule_id, task_id, event)

    def look_again(self) -> None:
        """This server decides for schedules that another one was deciding for."""
        for wish in self._wishes.values():
            for task_id in wish.task_ids:
                self._look(wish.schedule_id, task_id, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                while len(self._in_hand) < ASKING_MAX and (schedule_id := self._next()) is not None:
                    self._in_hand.add(schedule_id)
                    nursery.start_soon(self._tell, schedule_id, self._to_tell.pop(schedule_id))
                await self._alarm.wait(math.inf)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self, schedule_id: str, task_id: str, end: RecordedEvent | None) -> None:
        """`end`: the event that ended the task, where it was heard; the first one counts. None = it is to be looked for."""
        waiting = self._to_tell.setdefault(schedule_id, {})
        if task_id not in waiting:
            waiting[task_id] = end
        self._alarm.ring()

    def _next(self) -> str | None:
        return next((schedule_id for schedule_id in self._to_tell if schedule_id not in self._in_hand), None)

    async def _tell(self, schedule_id: str, tasks: dict[str, RecordedEvent | None]) -> None:
        """Find the ends of these tasks and tell the schedule; later again, if that fails."""
        pause = 0.0
        try:
            wish = self._wishes.get(schedule_id)
            if wish is not None and self._leases.guard(wish.job_id) is not None:
                await self._note(wish, {each: end for each, end in tasks.items() if each in wish.task_ids})
        except STOPPING:
            return
        except (EventStoreError, *FAILING) as problem:
            pause = self._patience.failed(schedule_id)
            log.warning("schedule %s cannot be told yet how its tasks ended: %s", schedule_id, problem)
        else:
            self._patience.worked(schedule_id)
        finally:
            if not pause:
                self._in_hand.discard(schedule_id)
                self._alarm.ring()
        if pause:
            await trio.sleep(pause)
            self._in_hand.discard(schedule_id)
            self._to_tell[schedule_id] = {**self._to_tell.get(schedule_id, {}), **tasks}
            self._alarm.ring()

    async def _note(self, wish: Follow, tasks: Mapping[str, RecordedEvent | None]) -> None:
        heard = [end for end in tasks.values() if end is not None]
        found = await self._ends_of([task_id for task_id, end in tasks.items() if end is None])
        ends = sorted([*heard, *found], key=lambda event: event.position)
        if not ends:
            return
        try:
            await self._system.ask(
                Address("schedule", wish.schedule_id),
                NoteTaskEnds(ends=[_end(event) for event in ends]),
                Context(causation_id=str(ends[-1].event_id)),
            )
        except Rejected as no:
            log.info("schedule %s is not told how its tasks ended: %s", wish.schedule_id, no)

    async def _ends_of(self, task_ids: list[str]) -> list[RecordedEvent]:
        """The first end in the stream of each that has ended; only streams that may have one are read."""
        if not task_ids:
            return []
        readings = await self._system.read_many([Address("task", task_id) for task_id in task_ids])
        ended = [address.stream_id for address, reading in readings.items() if _may_have_ended(reading.state)]
        streams = await self._store.read_streams(ended) if ended else {}
        firsts = (next((event for event in stream if event.type in ENDS), None) for stream in streams.values())
        return [event for event in firsts if event is not None]


def _may_have_ended(task: TaskState) -> bool:
    """It has ended, or it runs again: after a retry, or since a user opened it anew."""
    return task.is_terminal or (task.instance is not None and task.instance.attempt > 1)


def _end(event: RecordedEvent) -> TaskEnd:
    status, member = ENDS[event.type]
    ended_at = datetime.fromisoformat(json.loads(event.data)[member])
    return TaskEnd(task_id=Address.of_stream(event.stream_id).id, status=int(status), ended_at=ended_at)
