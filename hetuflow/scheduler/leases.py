"""This server's right to decide, per slot of jobs; carried by every append that the scheduler decides.

What the scheduler decides, it decides from a memory of many streams. Whether that memory was current is not asked of a
clock but of PostgreSQL: a slot's lease is the stream `lease-<slot>`, taking it appends to it, and the version it then
has is the epoch. Each decision names (stream, epoch) as a guard; a server that was paused, cut off or slow while
another took the lease has its appends refused by the statement itself. It then stops deciding for that slot.

A server takes every lease at its start, whoever holds it, and a lease that was lost only when nobody holds it any more:
it was released, or its holder said that it stops, or was found dead. So a second server that is started by mistake has
all of it while it lives, and the first has it again afterwards; two that live never take from each other in turns.

Commands of users and reports of agents need no lease: expected versions are enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from zlib import crc32

import trio
from attrs import frozen

from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, PASSING, STOPPING, Patience
from hetuflow.domain.commands import ReleaseLease, TakeLease
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.events import LeaseReleased
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.peers import SERVER_ENDS

log = logging.getLogger(__name__)

SLOTS = 64
"""Number of leases, for ever: a job's slot must not change. Enough to spread over more servers than one database feeds."""

CATEGORY = "lease"


def slot_of(job_id: str) -> int:
    """The slot of a job, its schedules and its tasks."""
    return crc32(job_id.encode()) % SLOTS


def address_of(slot: int) -> Address:
    return Address(CATEGORY, str(slot))


@frozen(slots=True)
class LeaseStatus:
    """For how many slots this server decides, and which were taken from it and are not back."""

    held: int
    lost: tuple[int, ...]


class Leases:
    """The leases of this server. `regained` is called after some that were lost have been taken back."""

    def __init__(self, system: ActorSystem, server_id: str) -> None:
        self._system = system
        self._server_id = server_id
        self._guards: dict[int, Guard] = {}
        self._lost: dict[int, None] = {}
        self._vacant: dict[int, None] = {}
        self._alarm = Alarm()
        self.regained: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Leases: {len(self._guards)} of {SLOTS} held, {len(self._lost)} lost>"

    async def take_all(self) -> None:
        """Take every slot, whoever holds it; repeated while the store cannot be reached."""
        async with trio.open_nursery() as nursery:
            for slot in range(SLOTS):
                nursery.start_soon(self._take, slot)

    async def release_all(self) -> None:
        """Give every slot up, so that nobody has to find out that this server is gone."""
        async with trio.open_nursery() as nursery:
            for slot in sorted(self._guards):
                nursery.start_soon(self._release, slot)
        self._guards.clear()

    def guard(self, job_id: str) -> Guard | None:
        """The right to decide for that job, to be named in the append; None when this server does not have it."""
        return self._guards.get(slot_of(job_id))

    def lost(self, stream_id: str) -> bool:
        """A guard on this stream failed. True when it is a lease: this server does not decide for that slot any more."""
        address = Address.of_stream(stream_id)
        if address.category != CATEGORY:
            return False
        slot = int(address.id)
        if self._guards.pop(slot, None) is not None:
            log.log(
                logging.INFO if self._lost else logging.ERROR,  # 64 at once: said once
                "lease of slot %d was taken by another server: this one (%s) stops deciding for its jobs. Is a second"
                " server running on this database? This one goes on when it has ended",
                slot,
                self._server_id,
            )
            self._lost[slot] = None
        return True

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order.

        A lease that is now further than ours is lost, before any append finds out; one that was lost and that nobody
        holds any more is taken back by `run`.
        """
        if event.category == CATEGORY:
            slot = int(Address.of_stream(event.stream_id).id)
            guard = self._guards.get(slot)
            if guard is not None and event.version > guard.version:
                self.lost(event.stream_id)
            if event.type == LeaseReleased.__name__ and slot in self._lost:
                self._vacant[slot] = None
                self._alarm.ring()
        elif event.type in SERVER_ENDS and self._lost:
            self._vacant.update(self._lost)
            self._alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take lost leases back when nobody holds them any more; until cancelled."""
        task_status.started()
        while True:
            await self._alarm.wait()
            while self._vacant:
                slots, self._vacant = list(self._vacant), {}
                lost = len(self._lost)
                async with trio.open_nursery() as nursery:
                    for slot in slots:
                        nursery.start_soon(self._take_back, slot)
                if len(self._lost) < lost:
                    log.warning("leases of %d slots are back; %d are not", lost - len(self._lost), len(self._lost))
                    self.regained()

    def status(self) -> LeaseStatus:
        return LeaseStatus(len(self._guards), tuple(sorted(self._lost)))

    async def _take_back(self, slot: int) -> None:
        """Take a lost lease if nobody holds it: what freed it may be past already."""
        patience = Patience(most_seconds=5.0)
        while slot in self._lost:
            try:
                if await self._is_held(slot):
                    return
                await self._take(slot)
            except STOPPING:
                return
            except FAILING as problem:
                pause = patience.failed(slot)
                log.warning("lease of slot %d is not taken back yet: %s; again in %.1f s", slot, problem, pause)
                await trio.sleep(pause)

    async def _is_held(self, slot: int) -> bool:
        holder = (await self._system.read(address_of(slot))).state.holder_id
        if holder is None:
            return False
        return bool((await self._system.read(Address("server", holder))).state.is_active)

    async def _take(self, slot: int) -> None:
        patience = Patience(most_seconds=5.0)
        while True:
            try:
                answer = await self._system.ask(address_of(slot), TakeLease(slot=slot, server_id=self._server_id))
            except PASSING as problem:
                pause = patience.failed(slot)
                log.warning("lease of slot %d: %s; again in %.1f s", slot, problem, pause)
                await trio.sleep(pause)
            else:
                self._guards[slot] = Guard(address_of(slot).stream_id, answer.version)
                self._lost.pop(slot, None)
                return

    async def _release(self, slot: int) -> None:
        try:
            await self._system.ask(address_of(slot), ReleaseLease(slot=slot, server_id=self._server_id))
        except (Rejected, *FAILING, *STOPPING) as problem:  # the next holder supersedes us in any case
            log.info("lease of slot %d was not released: %s", slot, problem)
