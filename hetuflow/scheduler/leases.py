"""This server's right to decide, per slot of jobs; carried by every append that the scheduler decides.

What the scheduler decides, it decides from a memory of many streams. Whether that memory was current is not asked of a
clock but of PostgreSQL: a slot's lease is the stream `lease-<slot>`, taking it appends to it, and the version it then
has is the epoch. Each decision names (stream, epoch) as a guard; a server that was paused, cut off or slow while
another took the lease has its appends refused by the statement itself. It then stops deciding for that slot.

Commands of users and reports of agents need no lease: expected versions are enough.
"""

from __future__ import annotations

import logging
from zlib import crc32

import trio
from attrs import frozen

from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, PASSING, STOPPING, Patience
from hetuflow.domain.commands import ReleaseLease, TakeLease
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.rejection import Rejected

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
    """Which slots this server decides for, and which were taken from it since it started."""

    held: int
    lost: tuple[int, ...]


class Leases:
    """The leases of this server."""

    def __init__(self, system: ActorSystem, server_id: str) -> None:
        self._system = system
        self._server_id = server_id
        self._guards: dict[int, Guard] = {}
        self._lost: set[int] = set()

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
            self._lost.add(slot)
            log.error(
                "lease of slot %d was taken by another server: this one (%s) stops deciding for its jobs",
                slot,
                self._server_id,
            )
        return True

    def heard(self, event: RecordedEvent) -> None:
        """Another process appended: a lease that is now further than ours is lost, before any append finds out."""
        if event.category == CATEGORY:
            guard = self._guards.get(int(Address.of_stream(event.stream_id).id))
            if guard is not None and event.version > guard.version:
                self.lost(event.stream_id)

    def status(self) -> LeaseStatus:
        return LeaseStatus(len(self._guards), tuple(sorted(self._lost)))

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
                self._lost.discard(slot)
                return

    async def _release(self, slot: int) -> None:
        try:
            await self._system.ask(address_of(slot), ReleaseLease(slot=slot, server_id=self._server_id))
        except (Rejected, *FAILING, *STOPPING) as problem:  # the next holder supersedes us in any case
            log.info("lease of slot %d was not released: %s", slot, problem)
