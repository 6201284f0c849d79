"""Tells schedules and backfills how the tasks that they made have ended: those that want to know (`Follow`).

The wish is the memory, as with `Dependencies`: it is there again after every start, and then each of its tasks is looked
at. What is told is the first end in the task's stream, in the order of the log: a follower is asked by one question at a
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
from hetuflow.domain.commands import NoteBackfillEnds, NoteTaskEnds, TaskEnd
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

TELLING = {"schedule": NoteTaskEnds, "backfill": NoteBackfillEnds}

ASKING_MAX = 16
"""Followers that are told something at once."""


class Following:
    """Which tasks each of them follows, and what it is still to be told. Every change costs O(1)."""

    def __init__(self, system: ActorSystem, store: EventStore, leases: Leases) -> None:
        self._system = system
        self._store = store
        self._leases = leases
        self._wishes: dict[Address, Follow] = {}
        self._follower_of: dict[str, Address] = {}
        self._to_tell: dict[Address, dict[str, RecordedEvent | None]] = {}
        self._in_hand: set[Address] = set()
        self._patience = Patience()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Following: {len(self._follower_of)} tasks of {len(self._wishes)} followers>"

    def __len__(self) -> int:
        return len(self._follower_of)

    def add(self, wish: Follow) -> None:
        """It follows these. What it did not follow before may have ended already: it is looked at."""
        before = self._wishes.get(wish.follower)
        known = frozenset() if before is None else before.task_ids
        self._wishes[wish.follower] = wish
        for task_id in sorted(wish.task_ids - known):
            self._follower_of[task_id] = wish.follower
            self._look(wish.follower, task_id, None)

    def remove(self, wish: Follow) -> None:
        """It does not follow these any more, unless it has said so anew."""
        now = self._wishes.get(wish.follower)
        if now == wish:
            del self._wishes[wish.follower]
            self._to_tell.pop(wish.follower, None)
            now = None
        for task_id in wish.task_ids - (now.task_ids if now is not None else frozenset()):
            self._follower_of.pop(task_id, None)

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order, after the actors have taken note of it."""
        if event.type in ENDS:
            task_id = Address.of_stream(event.stream_id).id
            follower = self._follower_of.get(task_id)
            if follower is not None:
                self._look(follower, task_id, event)

    def look_again(self) -> None:
        """This server decides for schedules that another one was deciding for."""
        for wish in self._wishes.values():
            for task_id in sorted(wish.task_ids):
                self._look(wish.follower, task_id, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                while len(self._in_hand) < ASKING_MAX and (follower := self._next()) is not None:
                    self._in_hand.add(follower)
                    nursery.start_soon(self._tell, follower, self._to_tell.pop(follower))
                await self._alarm.wait(math.inf)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self, follower: Address, task_id: str, end: RecordedEvent | None) -> None:
        """`end`: the event that ended the task, where it was heard; the first one counts. None = it is to be looked for."""
        waiting = self._to_tell.setdefault(follower, {})
        if task_id not in waiting:
            waiting[task_id] = end
        self._alarm.ring()

    def _next(self) -> Address | None:
        return next((follower for follower in self._to_tell if follower not in self._in_hand), None)

    async def _tell(self, follower: Address, tasks: dict[str, RecordedEvent | None]) -> None:
        """Find the ends of these tasks and tell the schedule; later again, if that fails."""
        pause = 0.0
        try:
            wish = self._wishes.get(follower)
            if wish is not None and self._leases.guard(wish.job_id) is not None:
                await self._note(wish, {each: end for each, end in tasks.items() if each in wish.task_ids})
        except STOPPING:
            return
        except (EventStoreError, *FAILING) as problem:
            pause = self._patience.failed(follower)
            log.warning("%s cannot be told yet how its tasks ended: %s", follower.stream_id, problem)
        else:
            self._patience.worked(follower)
        finally:
            if not pause:
                self._in_hand.discard(follower)
                self._alarm.ring()
        if pause:
            await trio.sleep(pause)
            self._in_hand.discard(follower)
            self._to_tell[follower] = {**self._to_tell.get(follower, {}), **tasks}
            self._alarm.ring()

    async def _note(self, wish: Follow, tasks: Mapping[str, RecordedEvent | None]) -> None:
        heard = [end for end in tasks.values() if end is not None]
        found = await self._ends_of([task_id for task_id, end in tasks.items() if end is None])
        ends = sorted([*heard, *found], key=lambda event: event.position)
        if not ends:
            return
        try:
            await self._system.ask(
                wish.follower,
                TELLING[wish.follower.category](ends=[_end(event) for event in ends]),
                Context(causation_id=str(ends[-1].event_id)),
            )
        except Rejected as no:
            log.info("%s is not told how its tasks ended: %s", wish.follower.stream_id, no)

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
