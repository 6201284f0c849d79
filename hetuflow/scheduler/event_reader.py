"""Reads the log for those who wait for events: each that a schedule matches is put to that schedule, in order, once.

Only the server that decides reads on. How far everything is decided is kept in the store (`Cursor`), behind the decisions
and never ahead of one: who takes over goes on from there, and meets again what its predecessor decided last. That does no
harm, since a schedule knows the newest position it has decided about. Which schedule matches what is a fold of the same
log in the same order (`EventIndex`), so that an event is matched by what was defined before it and nothing else.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import trio
from attrs import define, evolve, field

from eventstore.errors import EventStoreError, SqlError
from eventstore.event import RecordedEvent
from eventstore.store import EventStore
from hetuflow.actors import ActorSystem, Context, Crashed, Quarantined
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import MatchedEvent
from hetuflow.domain.decider import Address
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.event_cursor import Cursor
from hetuflow.scheduler.event_decisions import DEFECTS_MAX, EventDecisions, Standing
from hetuflow.scheduler.event_index import EventIndex, Waiting, named
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

UNDECIDED_MAX: Final = 1000
"""Matched events that are not decided about; reading waits beyond it."""

ASKING_MAX: Final = 32
"""Schedules that are asked at once."""

TERM_PAUSE_SECONDS: Final = 0.1
"""Between two terms: a lease that was lost may be on its way back."""

SAVE_SECONDS: Final = 1.0
"""The most that is read again after a crash."""
IDLE_SAVE_SECONDS: Final = 30.0
"""The same while no schedule waits for anything: then reading is all that it costs."""


@define(slots=True)
class Match:
    """An event and a schedule that it may concern. `cause`: the event, in its conversation."""

    waiting: Waiting
    event: MatchedEvent
    cause: Context


@define(slots=True)
class Queue:
    """What one schedule is to be asked about, oldest first."""

    matches: deque[Match] = field(factory=deque)
    is_in_hand: bool = False


class EventReader:
    """`decisions` puts a matched event to its schedule."""

    def __init__(
        self,
        system: ActorSystem,
        store: EventStore,
        leases: Leases,
        decisions: EventDecisions,
        *,
        tick_seconds: float,
    ) -> None:
        self._system = system
        self._store = store
        self._leases = leases
        self._decisions = decisions
        self._tick_seconds = tick_seconds
        self._cursor = Cursor(store)
        self._index = EventIndex()
        self._queues: dict[str, Queue] = {}
        self._undecided: dict[int, int] = {}
        self._room = trio.Event()
        self._read = 0
        self._places = trio.CapacityLimiter(ASKING_MAX)
        self._patience = Patience(most_seconds=5.0)
        self._alarm = Alarm()
        self._unsaved = Alarm()
        self.matched = 0

    def __repr__(self) -> str:
        return f"<EventReader at {self._read}, {len(self._index)} schedules, {len(self._undecided)} events undecided>"

    @property
    def position(self) -> int:
        """Everything up to it is decided."""
        return next(iter(self._undecided), self._read + 1) - 1

    @property
    def undecided(self) -> int:
        """Matched events that are not decided about yet."""
        return len(self._undecided)

    def look_again(self) -> None:
        """This server decides from now on."""
        self._alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read while this server decides, until cancelled."""
        task_status.started()
        while True:
            if not self._leases.is_deciding:
                await self._alarm.wait(self._tick_seconds)
                continue
            pause, is_over = TERM_PAUSE_SECONDS, False
            try:
                await self._term()
            except* STOPPING:
                is_over = True
            except* (EventStoreError, *FAILING) as group:
                pause = self._patience.failed(None)
                log.warning("the log cannot be read for event schedules yet: %s", group.exceptions[0])
            else:
                self._patience.worked(None)
            if is_over:
                return
            await self._alarm.wait(pause)

    # --- a term: from the durable cursor, until this server does not decide any more ------------------------------------

    async def _term(self) -> None:
        self._queues, self._undecided = {}, {}
        self._index, self._read = await self._cursor.load()
        if len(self._index):
            log.info("%d schedules wait for events; the log is read from position %d", len(self._index), self._read)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._save)
            async with self._store.subscribe(after=self._read) as batches:
                async for batch in batches:
                    if not self._leases.is_deciding:
                        break
                    for event in batch:
                        await self._take(event, nursery)
                    self._unsaved.ring()
            nursery.cancel_scope.cancel()

    async def _save(self) -> None:
        """Keep the cursor, some time after it has moved."""
        saved = trio.current_time()
        while True:
            await self._unsaved.wait(math.inf)
            await trio.sleep(SAVE_SECONDS)
            if self._index.is_idle and trio.current_time() < saved + IDLE_SAVE_SECONDS:
                self._unsaved.ring()  # a schedule may come at any time, and is then not to wait for so long
                continue
            saved = trio.current_time()
            try:
                await self._cursor.save(self.position, self._index)
            except EventStoreError as problem:
                log.info("how far events are decided is not kept yet: %s", problem)
                self._unsaved.ring()

    async def _take(self, event: RecordedEvent, nursery: trio.Nursery) -> None:
        """One event, in the order of the log."""
        self._index.apply(event)
        matches = [] if self._index.is_idle else await self._matches(event)
        while len(self._undecided) >= UNDECIDED_MAX:
            self._room = trio.Event()
            await self._room.wait()
        if matches:
            self._undecided[event.position] = len(matches)
            self.matched += len(matches)
        self._read = event.position
        for match in matches:
            queue = self._queues.setdefault(match.waiting.schedule_id, Queue())
            queue.matches.append(match)
            if not queue.is_in_hand:
                queue.is_in_hand = True
                nursery.start_soon(self._work, match.waiting.schedule_id, queue, nursery.cancel_scope)

    async def _matches(self, event: RecordedEvent) -> list[Match]:
        event_type, data = named(event)
        candidates = [each for each in self._index.waiting_for(event_type) if each.since < event.position]
        if not candidates:
            return []
        content: Mapping[str, Any] = json.loads(event.data) if data is None else data
        found = [each for each in candidates if each.fits(content)]
        if not found:
            return []
        origin, depth, unfit = await self._origin(event, content)
        matched = MatchedEvent(
            event_id=str(event.event_id),
            position=event.position,
            type=event_type,
            recorded_at=event.recorded_at,
            data=content,
            depth=depth,
            unfit=unfit,
        )
        cause = _because_of(event)
        return [
            Match(each, evolve(matched, job_enabled_at=self._index.job_enabled_at(each.job_id)), cause)
            for each in found
            if each.schedule_id != origin
        ]

    async def _origin(self, event: RecordedEvent, data: Mapping[str, Any]) -> tuple[str | None, int, str | None]:
        """The schedule that the event is of, itself or by a task it made, and how many event schedules are behind it.

        Or why that is not known, of a task that cannot be folded: it must not keep the events from all schedules, and
        what is started by it could start itself for ever.
        """
        address, defects, is_defect = Address.of_stream(event.stream_id), 0, False
        if address.category == "schedule":
            return address.id, int(data.get("event_depth") or data.get("depth") or 0), None
        if address.category != "task":
            return None, 0, None
        while True:
            try:
                spec = (await self._system.read(address)).state.spec
            except STOPPING:
                raise
            except FAILING as problem:
                log.warning("%s cannot be read yet: %s", address.stream_id, problem)
                if not isinstance(problem, Quarantined):  # which says nothing of why it crashed
                    is_defect = isinstance(problem, Crashed) and not isinstance(problem.__cause__, SqlError)
                defects += is_defect
                if defects >= DEFECTS_MAX:
                    self._patience.worked(address)
                    return None, 0, f"its task {address.id} cannot be read"
                await trio.sleep(self._patience.failed(address))
            else:
                self._patience.worked(address)
                if spec is None:
                    return None, 0, None
                return spec.schedule_id, int((spec.event or {}).get("depth", 0)), None

    # --- one schedule -------------------------------------------------------------------------------------------------

    async def _work(self, schedule_id: str, queue: Queue, term: trio.CancelScope) -> None:
        """Put to the schedule what it is to be asked about, one after the other; each until it is answered."""
        while queue.matches:
            match = queue.matches[0]
            async with self._places:
                standing = await self._decisions.put(match.waiting, match.event, match.cause)
            if standing is Standing.NOT_OURS:
                term.cancel()
                return
            if standing is Standing.AGAIN:
                await trio.sleep(self._patience.failed(schedule_id))
                continue
            self._patience.worked(schedule_id)
            queue.matches.popleft()
            self._decided(match.event.position)
        queue.is_in_hand = False
        if self._queues.get(schedule_id) is queue:
            del self._queues[schedule_id]

    def _decided(self, position: int) -> None:
        left = self._undecided[position] - 1
        if left:
            self._undecided[position] = left
        else:
            del self._undecided[position]
            self._room.set()
            self._unsaved.ring()


def _because_of(event: RecordedEvent) -> Context:
    """The event as the cause of what follows, in its own conversation."""
    correlation_id = json.loads(event.metadata).get("correlation_id")
    return Context(causation_id=str(event.event_id), correlation_id=correlation_id)
