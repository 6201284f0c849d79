"""Tells tasks that wait for others which of those have ended.

A waiting task wants to be told (`Await`), from its creation on and again after every start: that wish is the memory, so
that nothing is lost whatever crashes. Told twice is told once. When one of the awaited is looked at the wish is known
already, and the log is followed in its order: an end is either seen by that look, or heard afterwards.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import trio

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import CancelTask, SettleDependencies
from hetuflow.domain.decider import Address, Await, Guard
from hetuflow.domain.events import TaskCancelled, TaskFailed, TaskSucceeded
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ENDS = frozenset(cls.__name__ for cls in (TaskSucceeded, TaskFailed, TaskCancelled))

ASKING_MAX = 16
"""Waiting tasks that are told something at once."""


class Dependencies:
    """What each waiting task waits for, and what it is still to be told."""

    def __init__(self, system: ActorSystem, leases: Leases) -> None:
        self._system = system
        self._leases = leases
        self._awaiting: dict[str, Await] = {}
        self._waiting_for: dict[str, dict[str, None]] = {}
        self._to_look_at: dict[str, dict[str, str | None]] = {}
        self._in_hand: set[str] = set()
        self._patience = Patience()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Dependencies: {len(self._awaiting)} tasks wait, {len(self._to_look_at)} to be told>"

    def __len__(self) -> int:
        return len(self._awaiting)

    def add(self, wish: Await) -> None:
        """The task waits. What it did not wait for before may have ended already: it is looked at."""
        before = self._awaiting.get(wish.task_id)
        known = frozenset() if before is None else before.task_ids
        self._awaiting[wish.task_id] = wish
        for task_id in sorted(wish.task_ids - known):
            self._waiting_for.setdefault(task_id, {})[wish.task_id] = None
            self._look(wish.task_id, task_id, None)

    def remove(self, wish: Await) -> None:
        """The task does not wait for these any more, unless it has said so anew."""
        now = self._awaiting.get(wish.task_id)
        if now == wish:
            del self._awaiting[wish.task_id]
            self._to_look_at.pop(wish.task_id, None)
            now = None
        for task_id in wish.task_ids - (now.task_ids if now is not None else frozenset()):
            waiting = self._waiting_for.get(task_id, {})
            waiting.pop(wish.task_id, None)
            if not waiting:
                self._waiting_for.pop(task_id, None)

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order, after the actors have taken note of it."""
        if event.type in ENDS:
            ended = Address.of_stream(event.stream_id).id
            for task_id in self._waiting_for.get(ended, ()):
                self._look(task_id, ended, str(event.event_id))

    def look_again(self) -> None:
        """This server decides for tasks that another one was deciding for."""
        for wish in self._awaiting.values():
            for task_id in sorted(wish.task_ids):
                self._look(wish.task_id, task_id, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                while len(self._in_hand) < ASKING_MAX and (task_id := self._next()) is not None:
                    self._in_hand.add(task_id)
                    nursery.start_soon(self._tell, task_id, self._to_look_at.pop(task_id))
                await self._alarm.wait(math.inf)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self, task_id: str, awaited: str, cause: str | None) -> None:
        self._to_look_at.setdefault(task_id, {})[awaited] = cause
        self._alarm.ring()

    def _next(self) -> str | None:
        return next((task_id for task_id in self._to_look_at if task_id not in self._in_hand), None)

    async def _tell(self, task_id: str, awaited: Mapping[str, str | None]) -> None:
        """Look at what one task waits for, and tell it what has ended; later again, if that fails."""
        pause = 0.0
        try:
            wish = self._awaiting.get(task_id)
            if wish is not None and self._leases.guard(wish.job_id) is not None:
                await self._settle(wish, [each for each in awaited if each in wish.task_ids], awaited)
        except STOPPING:
            return
        except (EventStoreError, *FAILING) as problem:
            pause = self._patience.failed(task_id)
            log.warning("task %s cannot be told yet what has ended: %s", task_id, problem)
        else:
            self._patience.worked(task_id)
        finally:
            if not pause:
                self._in_hand.discard(task_id)
                self._alarm.ring()
        if pause:
            await trio.sleep(pause)
            self._in_hand.discard(task_id)
            for each, cause in awaited.items():
                self._look(task_id, each, cause)

    async def _settle(self, wish: Await, awaited: Sequence[str], causes: Mapping[str, str | None]) -> None:
        readings = await self._system.read_many([Address("task", each) for each in awaited])
        settled = {
            address.id: int(reading.state.status) for address, reading in readings.items() if reading.state.is_terminal
        }
        if wish.cancels:
            await self._cancel(wish, [address for address in readings if address.id not in settled])
        if not settled:
            return
        cause = next((causes[each] for each in settled if causes[each] is not None), None)
        guards = tuple(
            Guard(Address("task", each).stream_id, readings[Address("task", each)].version) for each in settled
        )
        try:
            await self._system.ask(
                Address("task", wish.task_id),
                SettleDependencies(settled=settled, guards=guards),
                Context(causation_id=cause),
            )
        except Rejected as no:
            log.info("task %s is not told what has ended: %s", wish.task_id, no)

    async def _cancel(self, wish: Await, addresses: Sequence[Address]) -> None:
        """End what the task waits for; its end is then heard as any other."""
        for address in addresses:
            try:
                command = CancelTask(cause="overlap", reason=f"task {wish.task_id} follows", by="schedule")
                await self._system.ask(address, command)
            except Rejected as no:
                log.info("task %s is not cancelled for its successor: %s", address.id, no)
