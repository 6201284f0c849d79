"""This server's right to decide, per slot of jobs; carried by every append that the scheduler decides.

What the scheduler decides, it decides from a memory of many streams. Whether that memory was current is not asked of a
clock but of PostgreSQL: a slot's lease is the stream `lease-<slot>`, taking it appends to it, and the version it then
has is the epoch. Each decision names (stream, epoch) as a guard; a server that was paused, cut off or slow while
another took the lease has its appends refused by the statement itself. It then stops deciding for that slot.

Of several servers one decides, the others stand by (docs/decisions/0008). Who decides is settled by one lease, the
*leadership* (slot 0): it is taken only when nobody holds it, or its holder has ended according to the log, and of two takers
the store lets one win. Whoever has the leadership takes the other slots from anybody, each append guarded by the leadership. So a
server that starts takes nothing from one that lives, two that start together settle with one append, and what a
superseded server still tries is refused.

Commands of users and reports of agents need no lease: expected versions are enough.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from zlib import crc32

import trio
from attrs import frozen

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import ReleaseLease, TakeLease
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.peers import SERVER_ENDS

log = logging.getLogger(__name__)

SLOTS = 64
"""Number of leases, for ever: a job's slot must not change. Enough to spread over more servers than one database feeds."""

LEADERSHIP = 0
"""The slot whose holder decides for all."""

CATEGORY = "lease"


def slot_of(job_id: str) -> int:
    """The slot of a job, its schedules and its tasks."""
    return crc32(job_id.encode()) % SLOTS


def address_of(slot: int) -> Address:
    return Address(CATEGORY, str(slot))


@frozen(slots=True)
class LeaseStatus:
    """`held`: slots that this server decides for. `holder_id`: who has the leadership, as far as known; None = nobody."""

    held: int
    holder_id: str | None


class Leases:
    """The leases of this server.

    `is_reluctant`: whether others would decide better (its clock is wrong): then a leadership that nobody has is left to them for
    `reluctant_seconds`, and `step_down` gives up one's own.
    `is_fit`: whether it may decide at all now. `has_ended`: whether the log says that this server has ended.
    `regained` is called after this server has got the right to decide.
    """

    def __init__(
        self,
        system: ActorSystem,
        server_id: str,
        *,
        is_fit: Callable[[], bool],
        has_ended: Callable[[str], Awaitable[bool]],
        is_reluctant: Callable[[], bool] = lambda: False,
        reluctant_seconds: float = 10.0,
    ) -> None:
        self._is_reluctant = is_reluctant
        self._reluctant_seconds = reluctant_seconds
        self._vacant_since: float | None = None
        self._steps_down = False
        self._system = system
        self._server_id = server_id
        self._is_fit = is_fit
        self._has_ended = has_ended
        self._guards: dict[int, Guard] = {}
        self._holder_id: str | None = None
        self._is_stopping = False
        self._is_in_doubt = False
        self._is_up_to_date = False
        """Whether everything that was decided before this server got the leadership has its effects here."""
        self._is_to_tell = False
        """Something was taken, and `regained` is still to be called: the store may be in the way for a while."""
        self._given_up: int | None = None
        """Version of our own leadership that is not ours to decide under any more, whether the log knows that yet or not."""
        self._patience = Patience(most_seconds=2.0)
        self._alarm = Alarm()
        self.regained: Callable[[], None] = lambda: None
        self.catch_up: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Returns when all that is in the log now has its effects here; may raise errors of the store."""

    def __repr__(self) -> str:
        return f"<Leases: {len(self._guards)} of {SLOTS} held, the leadership by {self._holder_id}>"

    # --- the right ---------------------------------------------------------------------------------------------------

    @property
    def is_deciding(self) -> bool:
        """Whether this server has the leadership, may believe so, and knows all that was decided before it."""
        return LEADERSHIP in self._guards and self._is_up_to_date and self._is_fit()

    def guard(self, job_id: str) -> Guard | None:
        """The right to decide for that job, to be named in the append; None when this server does not have it (yet)."""
        return self._guards.get(slot_of(job_id)) if self._is_up_to_date and self._is_fit() else None

    def lost(self, stream_id: str, actual_version: int) -> bool:
        """A guard on this stream failed, which is at that version. True when it is a lease: decide anew, or not at all."""
        address = Address.of_stream(stream_id)
        if address.category != CATEGORY:
            return False
        slot = int(address.id)
        guard = self._guards.get(slot)
        if guard is None or guard.version >= actual_version:
            return True  # known, or taken anew since
        del self._guards[slot]
        if slot == LEADERSHIP:
            self._guards.clear()
            self._is_up_to_date = False
            log.error("another server decides from now on: this one (%s) stands by", self._server_id)
        self._alarm.ring()
        return True

    def status(self) -> LeaseStatus:
        return LeaseStatus(len(self._guards) if self._is_fit() else 0, self._holder_id)

    # --- the log -----------------------------------------------------------------------------------------------------

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order: a lease that is now further than ours is lost before any append finds out."""
        if event.category == CATEGORY:
            slot = int(Address.of_stream(event.stream_id).id)
            guard = self._guards.get(slot)
            if guard is not None and event.version > guard.version:
                self.lost(event.stream_id, event.version)
            if slot == LEADERSHIP and (guard is None or event.version > guard.version):
                self._alarm.ring()
        elif event.type in SERVER_ENDS:
            self._alarm.ring()

    def look(self) -> None:
        """Something has changed that decides about who may take what."""
        self._alarm.ring()

    def step_down(self) -> None:
        """Let another server decide, if one wants to."""
        if LEADERSHIP in self._guards:
            self._steps_down = True
            self._alarm.ring()

    # --- taking and giving -------------------------------------------------------------------------------------------

    async def take_at_start(self) -> None:
        """Take every slot, unless another server lives that decides. Repeated while the store cannot be reached.

        A lease that bears this server's own name is one of its previous life.
        """
        while True:
            if await self._settled(at_start=True):
                return
            await trio.sleep(self._patience.failed(None))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take what nobody holds any more; until cancelled."""
        task_status.started()
        while True:
            await self._alarm.wait(self._seconds_of_reluctance())
            if self._steps_down:
                self._steps_down = False
                log.warning("this server (%s) gives its leases to others", self._server_id)
                await self._release_held()
            if not await self._settled():
                await trio.sleep(self._patience.failed(None))
                self._alarm.ring()

    async def release_all(self) -> None:
        """Give every slot up, so that nobody has to find out that this server is gone. Others wait for the leadership."""
        self._is_stopping = True
        await self._release_held()

    async def _release_held(self) -> None:
        held = sorted(self._guards)
        if LEADERSHIP in self._guards:
            self._given_up = self._guards[LEADERSHIP].version
        self._guards.clear()  # first: nothing is decided under what is being given up
        self._is_up_to_date = False
        async with trio.open_nursery() as nursery:
            for slot in held:
                nursery.start_soon(self._release, slot)

    def _seconds_of_reluctance(self) -> float:
        """Until a free leadership is taken all the same; infinity when it is not free, or not left to others."""
        if self._vacant_since is None:
            return math.inf
        return max(0.0, self._vacant_since + self._reluctant_seconds - trio.current_time())

    def _leaves_it_to_others(self) -> bool:
        """a leadership that nobody has is left to those who would decide better, for a while."""
        if not self._is_reluctant():
            self._vacant_since = None
            return False
        if self._vacant_since is None:
            self._vacant_since = trio.current_time()
        if self._seconds_of_reluctance() > 0:
            return True
        self._vacant_since = None
        return False

    async def _settled(self, *, at_start: bool = False) -> bool:
        """Look who has the leadership and take what may be taken; False: the store was in the way, try again."""
        if self._is_stopping or not (at_start or self._is_fit()):
            return True  # `look` is called when it is fit
        try:
            if LEADERSHIP not in self._guards and await self._take_leadership(at_start):
                self._is_to_tell = True
            if LEADERSHIP in self._guards:
                if await self._take_rest():
                    self._is_to_tell = True
                if not at_start and not self._is_up_to_date:
                    await self.catch_up()  # after the last lease: from here on nobody else decides
                self._is_up_to_date = LEADERSHIP in self._guards
        except STOPPING:
            return True
        except (EventStoreError, *FAILING) as problem:
            log.warning("leases cannot be taken yet: %s", problem)
            return False
        if self._is_to_tell:
            self._is_to_tell = False
            self.regained()
        self._patience.worked(None)
        return True

    async def _take_leadership(self, at_start: bool) -> bool:
        leadership = await self._system.read(address_of(LEADERSHIP))
        holder = leadership.state.holder_id
        self._note_holder(holder)
        is_left = holder == self._server_id and leadership.version == self._given_up  # giving it away has failed
        if holder == self._server_id and not (at_start or self._is_in_doubt or is_left):
            return False  # a namesake's, see `Peers`
        if is_left and self._is_reluctant():
            await self._system.ask(address_of(LEADERSHIP), ReleaseLease(slot=LEADERSHIP, server_id=self._server_id))
            holder = None
        if holder not in (None, self._server_id) and not await self._has_ended(holder):
            self._vacant_since = None
            return False
        if not at_start and self._leaves_it_to_others():
            return False
        over = () if holder is None else (holder,)
        self._is_in_doubt = True  # until an answer is there
        try:
            answer = await self._system.ask(
                address_of(LEADERSHIP), TakeLease(slot=LEADERSHIP, server_id=self._server_id, over=over)
            )
        except Rejected as no:
            self._is_in_doubt = False
            log.info("the leadership was taken by another server in this moment: %s", no)
            self._note_holder(str(no.detail["holder"]) if no.detail else None)
            return False
        self._is_in_doubt = False
        self._guards[LEADERSHIP] = Guard(address_of(LEADERSHIP).stream_id, answer.version)
        self._note_holder(self._server_id)
        log.info("this server decides%s", "" if holder in (None, self._server_id) else f" from now on, after {holder}")
        return True

    async def _take_rest(self) -> bool:
        """The other slots, from anybody, by the right of the leadership. True when there were any to take."""
        missing = [slot for slot in range(SLOTS) if slot not in self._guards]
        async with trio.open_nursery() as nursery:
            failures: list[Exception] = []

            async def take(slot: int) -> None:
                leadership = self._guards.get(LEADERSHIP)
                if leadership is None:
                    return
                command = TakeLease(slot=slot, server_id=self._server_id, guards=(leadership,))
                try:
                    answer = await self._system.ask(address_of(slot), command)
                except GuardLost as superseded:
                    self.lost(superseded.stream_id, superseded.actual)
                except (*FAILING, *STOPPING) as problem:
                    failures.append(problem)
                else:
                    if LEADERSHIP in self._guards:
                        self._guards[slot] = Guard(address_of(slot).stream_id, answer.version)

            for slot in missing:
                nursery.start_soon(take, slot)
        if failures:
            raise failures[0]
        return bool(missing)

    def _note_holder(self, holder: str | None) -> None:
        if holder != self._holder_id and holder not in (None, self._server_id):
            log.info("server %s decides; this one (%s) stands by", holder, self._server_id)
        self._holder_id = holder

    async def _release(self, slot: int) -> None:
        try:
            await self._system.ask(address_of(slot), ReleaseLease(slot=slot, server_id=self._server_id))
        except (Rejected, *FAILING, *STOPPING) as problem:  # the next holder supersedes us in any case
            log.info("lease of slot %d was not released: %s", slot, problem)
