"""What becomes of an instance whose agent cannot say: it never started (requeued), or it is lost.

Both are decided by the task's actor; here the question is asked, again and again, until the instance does not hold its
slot any more, or what the answer relied on is not so any more; not while this server is not sure of itself, for then it may have slept through what it believes. Whoever
finds the reason (reaper, reconciliation, a dispatch for a session that is gone) hands it over.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import trio

from hetuflow.actors import FOLLOWING, ActorSystem, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import LoseInstance, RequeueInstance
from hetuflow.domain.decider import Address, Guard, Occupy
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.alarm import Alarm

log = logging.getLogger(__name__)

ASKING_MAX = 256
"""Questions under way at once: a server-wide loss of agents must not fill memory with waiting tasks."""

PAUSE_SECONDS_MAX = 5.0

Settlement = RequeueInstance | LoseInstance


def requeue(occupy: Occupy, reason: str) -> RequeueInstance:
    return RequeueInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, reason=reason)


def lose(occupy: Occupy, message: str, guards: Sequence[Guard] = ()) -> LoseInstance:
    return LoseInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, message=message, guards=guards)


class Settling:
    """Carries settlements out in the background, each instance's one at a time."""

    def __init__(self, system: ActorSystem, agenda: Agenda, is_trusted: Callable[[], bool] = lambda: True) -> None:
        self._system = system
        self._is_trusted = is_trusted
        self._agenda = agenda
        self._open: dict[str, tuple[Occupy, Settlement]] = {}
        self._asking = 0
        self._patience = Patience(most_seconds=PAUSE_SECONDS_MAX)
        self._alarm = Alarm()
        self._later: list[tuple[float, str]] = []
        self._ready: dict[str, None] = {}
        self.refuted: Callable[[Occupy], None] = lambda occupy: None
        """Called when a guard of the settlement was lost: it is dropped, and whoever had the reason may look again."""

    def __len__(self) -> int:
        return len(self._open)

    def look_again(self) -> None:
        """This server is sure of itself again: what it was to settle is asked now."""
        self._alarm.ring()

    def put(self, occupy: Occupy, settlement: Settlement) -> None:
        """Settle this in the background; an instance that is being settled already is left to that."""
        known = self._open.get(occupy.instance_id)
        if known is None or known[0] != occupy:
            self._open[occupy.instance_id] = (occupy, settlement)
            self._ready[occupy.instance_id] = None
            self._alarm.ring()

    async def settle(self, occupy: Occupy, settlement: Settlement) -> None:
        """Ask once, and wait. Raises what `ActorSystem.ask` raises, but not `Rejected`: then there is nothing to settle."""
        try:
            await self._system.ask(Address("task", occupy.task_id), settlement, FOLLOWING)
        except Rejected as no:
            log.info("instance %s was not settled: %s", occupy.instance_id, no)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now = trio.current_time()
                due = [instance_id for at, instance_id in self._later if at <= now]
                self._later = [entry for entry in self._later if entry[0] > now]
                self._ready.update(dict.fromkeys(due))
                while self._ready and self._asking < ASKING_MAX and self._is_trusted():
                    instance_id = next(iter(self._ready))
                    del self._ready[instance_id]
                    self._asking += 1
                    nursery.start_soon(self._ask, instance_id)
                await self._alarm.wait(min((at for at, _ in self._later), default=math.inf) - trio.current_time())

    async def _ask(self, instance_id: str) -> None:
        found, is_refuted = self._open.get(instance_id), False
        try:
            if found is None:
                return  # waited for its next try beside a newer dispatch of the same instance that is settled now
            occupy, settlement = found
            if self._agenda.is_occupying(occupy):
                await self.settle(occupy, settlement)
        except STOPPING:
            return
        except GuardLost as lost:
            log.info("instance %s is not settled: %s", instance_id, lost)
            is_refuted = True
        except FAILING as problem:
            log.warning("instance %s cannot be settled yet: %s", instance_id, problem)
        finally:
            self._asking -= 1
            self._alarm.ring()
        if self._open.get(instance_id) != found:
            return  # settled meanwhile, or a newer dispatch of the same instance was put; that is on the list
        if is_refuted:
            del self._open[instance_id]
            self.refuted(occupy)
        elif self._agenda.is_occupying(occupy):
            self._later.append((trio.current_time() + self._patience.failed(instance_id), instance_id))
        else:
            del self._open[instance_id]
            self._patience.worked(instance_id)
