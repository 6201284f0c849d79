"""Carries backfills on: has each make its next tasks while there is room, and cancels what waits of those cancelled.

The wish is the memory (`Backfill`): after each step the backfill wants the next, as long as there is one, and wants it
again after every start. Only the server that decides asks, and the append is guarded by its lease; asked twice, the
backfill has nothing more to make. One question per backfill at a time, and a few backfills at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import trio

from eventstore.errors import EventStoreError, WrongExpectedVersion
from hetuflow.actors import ActorSystem, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.calendar import snapshot as calendar
from hetuflow.domain.commands import AdvanceBackfill, CalendarSnapshot, CancelTask
from hetuflow.domain.decider import Address, Backfill, Guard
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import CALENDARS_UNKNOWN
from hetuflow.domain.schedule_overlap import TASKS_UNKNOWN
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ASKING_MAX = 4
"""Backfills that are asked at once; the rest waits its turn."""

ATTEMPTS_MAX = 5
"""Within one question: the job has changed, or a task was made by somebody else meanwhile."""


class Backfills:
    """Every change costs O(1)."""

    def __init__(self, system: ActorSystem, leases: Leases) -> None:
        self._system = system
        self._leases = leases
        self._wishes: dict[str, Backfill] = {}
        self._to_ask: dict[str, None] = {}
        self._in_hand: set[str] = set()
        self._patience = Patience()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Backfills: {len(self._wishes)} want to go on>"

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, wish: Backfill) -> None:
        """The backfill wants to go on."""
        self._wishes[wish.backfill_id] = wish
        self._to_ask[wish.backfill_id] = None
        self._alarm.ring()

    def remove(self, wish: Backfill) -> None:
        """It does not want that any more. A newer wish of the same backfill stays."""
        if self._wishes.get(wish.backfill_id) == wish:
            del self._wishes[wish.backfill_id]
            self._to_ask.pop(wish.backfill_id, None)

    def look_again(self) -> None:
        """This server decides for backfills that another one was deciding for."""
        self._to_ask.update(dict.fromkeys(self._wishes))
        self._alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                while len(self._in_hand) < ASKING_MAX and (backfill_id := self._next()) is not None:
                    self._in_hand.add(backfill_id)
                    del self._to_ask[backfill_id]
                    nursery.start_soon(self._carry_on, self._wishes[backfill_id])
                await self._alarm.wait(math.inf)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _next(self) -> str | None:
        return next((each for each in self._to_ask if each not in self._in_hand), None)

    async def _carry_on(self, wish: Backfill) -> None:
        """One step; the next is another wish. One that failed is tried again after a pause."""
        pause = 0.0
        try:
            guard = self._leases.guard(wish.job_id)
            if guard is not None:
                await (self._cancel_waiting(wish) if wish.waiting else self._advance(wish, guard))
        except STOPPING:
            return
        except Rejected as no:  # its job is about to be deleted, perhaps, or is not after all
            pause = self._patience.failed(wish.backfill_id)
            log.info("backfill %s does not go on yet: %s", wish.backfill_id, no)
        except GuardLost as lost:
            if not self._leases.lost(lost.stream_id, lost.actual):
                pause = self._patience.failed(wish.backfill_id)
        except (EventStoreError, *FAILING) as problem:
            pause = self._patience.failed(wish.backfill_id)
            log.warning("backfill %s cannot go on yet: %s", wish.backfill_id, problem)
        else:
            self._patience.worked(wish.backfill_id)
        if pause:
            await trio.sleep(pause)
            if self._wishes.get(wish.backfill_id) == wish:
                self._to_ask[wish.backfill_id] = None
        self._in_hand.discard(wish.backfill_id)
        self._alarm.ring()

    async def _advance(self, wish: Backfill, guard: Guard) -> None:
        """Ask, with the job as it is and what is known of the tasks; raises what the last attempt raised."""
        address, has_task, calendars = (
            Address("backfill", wish.backfill_id),
            dict[str, bool](),
            list[CalendarSnapshot](),
        )
        for attempt in range(1, ATTEMPTS_MAX + 1):
            reading = await self._system.read(Address("job", wish.job_id))
            job = snapshot(reading.state, reading.version)
            try:
                command = AdvanceBackfill(job=job, has_task=has_task, calendars=calendars, guards=(guard,))
                await self._system.ask(address, command)
                return
            except Rejected as no:
                if no.code not in (TASKS_UNKNOWN, CALENDARS_UNKNOWN) or attempt == ATTEMPTS_MAX:
                    raise
                if no.code == TASKS_UNKNOWN:
                    has_task.update(await self._which_exist(no.detail["task_ids"]))
                else:
                    calendars = await self._calendars(no.detail["calendar_ids"])
            except (GuardLost, WrongExpectedVersion) as changed:
                if attempt == ATTEMPTS_MAX or (isinstance(changed, GuardLost) and changed.stream_id == guard.stream_id):
                    raise
                has_task.clear()
                calendars = []

    async def _calendars(self, calendar_ids: list[str]) -> list[CalendarSnapshot]:
        readings = await self._system.read_many([Address("calendar", each) for each in calendar_ids])
        return [calendar(address.id, reading.state, reading.version) for address, reading in readings.items()]

    async def _which_exist(self, task_ids: list[str]) -> Mapping[str, bool]:
        readings = await self._system.read_many([Address("task", task_id) for task_id in task_ids])
        return {address.id: reading.version > 0 for address, reading in readings.items()}

    async def _cancel_waiting(self, wish: Backfill) -> None:
        """Tasks that an agent has go on; they are heard of when they end."""
        readings = await self._system.read_many([Address("task", task_id) for task_id in sorted(wish.waiting)])
        for address, reading in readings.items():
            if reading.state.is_terminal or reading.state.live_instance is not None:
                continue
            try:
                command = CancelTask(cause="cascade", reason=f"backfill {wish.backfill_id} was cancelled", by="user")
                await self._system.ask(address, command)
            except Rejected as no:
                log.info("task %s of a cancelled backfill goes on: %s", address.id, no)
