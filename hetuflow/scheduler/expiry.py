"""Ends tasks that did not start in time, at the moment they say (`Expire`).

The wish is the memory: it is there again after every start. Only the server that decides asks, and the append is guarded
by its lease; what another server decides for is parked until this one does (`look_again`). Asked twice is asked once.
"""

from __future__ import annotations

import logging

import trio

from hetuflow.actors import ActorSystem, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import ExpireTask
from hetuflow.domain.decider import Address, Expire, Guard
from hetuflow.domain.instants import Instants
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import later
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ASKING_MAX = 64
"""Tasks that are ended at once; the rest waits its turn."""


class Expiry:
    """`tick_seconds`: longest time without a look at the wall clock. Every change costs O(log n)."""

    def __init__(
        self, system: ActorSystem, leases: Leases, clock: Clock, clocks: ClockWatch, *, tick_seconds: float
    ) -> None:
        self._system = system
        self._leases = leases
        self._clock = clock
        self._clocks = clocks
        self._tick_seconds = tick_seconds
        self._wishes: dict[str, Expire] = {}
        self._instants = Instants()
        self._in_hand: set[str] = set()
        self._parked: dict[str, None] = {}
        self._patience = Patience()
        self._alarm = Alarm()
        self.expired = 0

    def __repr__(self) -> str:
        return f"<Expiry: {len(self._wishes)} tasks have a deadline, {len(self._parked)} parked>"

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, wish: Expire) -> None:
        """The task is to be ended at that moment."""
        self._wishes[wish.task_id] = wish
        self._parked.pop(wish.task_id, None)
        if wish.task_id not in self._in_hand:
            self._instants.set(wish.task_id, wish.at)
            if self._instants.first_at() == wish.at:
                self._alarm.ring()

    def remove(self, wish: Expire) -> None:
        """The task is not to be ended then. A newer wish of the same task stays."""
        if self._wishes.get(wish.task_id) == wish:
            del self._wishes[wish.task_id]
            self._parked.pop(wish.task_id, None)
            self._instants.discard(wish.task_id)

    def look_again(self) -> None:
        """This server decides for tasks that another one was deciding for."""
        parked, self._parked = self._parked, {}
        for task_id in parked:
            self._instants.set(task_id, self._wishes[task_id].at)
        self._alarm.ring()

    def put_forward(self) -> None:
        """The clock was set: no pause counts any more that began by the wrong one."""
        self._instants.put_forward()
        self._alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                if self._leases.is_deciding:
                    now = self._clocks.cautious(self._clock.now())
                    for task_id in self._instants.take(now, ASKING_MAX - len(self._in_hand)):
                        self._in_hand.add(task_id)
                        nursery.start_soon(self._expire, self._wishes[task_id])
                await self._alarm.wait(self._seconds_until_next())

    # --- inside ------------------------------------------------------------------------------------------------------

    def _seconds_until_next(self) -> float:
        at = self._instants.first_at()
        if at is None or not self._leases.is_deciding or len(self._in_hand) >= ASKING_MAX:
            return self._tick_seconds
        return min((at - self._clocks.cautious(self._clock.now())).total_seconds(), self._tick_seconds)

    async def _expire(self, wish: Expire) -> None:
        guard = self._leases.guard(wish.job_id)
        try:
            if guard is not None:
                await self._ask(wish, guard)
        finally:
            self._in_hand.discard(wish.task_id)
            self._alarm.ring()
        wanted = self._wishes.get(wish.task_id)
        if wanted is None:
            self._patience.worked(wish.task_id)
        elif self._leases.guard(wanted.job_id) is None:
            self._parked[wanted.task_id] = None
        elif wanted == wish:
            pause_until_at = later(self._clock.now(), self._patience.failed(wish.task_id))
            self._instants.set(wanted.task_id, wanted.at, pause_until_at)
        else:
            self._instants.set(wanted.task_id, wanted.at)

    async def _ask(self, wish: Expire, guard: Guard) -> None:
        """Whatever goes wrong, the task's own wish says whether it is still to be ended."""
        try:
            await self._system.ask(Address("task", wish.task_id), ExpireTask(guards=(guard,)))
        except STOPPING:
            pass
        except Rejected as no:
            log.info("task %s is not ended for starting late: %s", wish.task_id, no)
        except GuardLost as lost:
            if not self._leases.lost(lost.stream_id, lost.actual):
                log.info("task %s: %s", wish.task_id, lost)
        except FAILING as problem:
            log.warning("task %s cannot be ended yet for starting late: %s", wish.task_id, problem)
        else:
            self.expired += 1
