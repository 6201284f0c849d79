"""One command, rule by rule: activate, decide, fold ahead, append, take over, reconcile.

The rules (event-store-and-actors, 3.4): state changes only after the commit; a conflict on the own stream is decided
again on the newer state; a lost guard is the caller's to answer; an answer without events is final only if it was taken
from the newest version; effects follow the commit in the same step, without an await between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import trio
from attrs import define, frozen

from eventstore.errors import EventStoreError, InvalidEvent, StoreTimeout, StoreUnavailable, WrongExpectedVersion
from eventstore.event import Appended, Claim
from eventstore.store import EventStore
from hetuflow.actors.actor import Answer, Cell, Reading
from hetuflow.actors.context import Record, metadata_of
from hetuflow.actors.entity import Entities, Fold, Plan
from hetuflow.actors.errors import GuardLost
from hetuflow.actors.intentions import Intentions
from hetuflow.actors.limits import Limits
from hetuflow.actors.mailbox import Request
from hetuflow.actors.passivation import Snapshots, WarmCells
from hetuflow.actors.recovery import Recovery
from hetuflow.domain.decider import Address, Decision, Intent
from hetuflow.domain.rejection import Rejected
from hetuflow.measure import Histogram
from hetuflow.ports.clock import Clock
from hetuflow.ports.ids import Ids

APPEND_TRIES = 2
"""Identical appends tried while the outcome is unknown: the store resends by itself after a lost connection."""


DECIDED_AT_ONCE = 50
"""Commands of a chunk that are decided before others have a turn: some 5 ms."""


class Look:
    """The question for the state, where a command would stand."""


LOOK = Look()


@define(slots=True)
class Counters:
    """What happened since the start."""

    commands: int = 0
    events: int = 0
    activations: int = 0
    conflicts: int = 0
    guards_lost: int = 0
    verifications: int = 0


@frozen(slots=True)
class Memory:
    """What the process remembers of its actors; all of it can be had again from the log."""

    cells: WarmCells
    snapshots: Snapshots
    intentions: Intentions
    recovery: Recovery


class Execution:
    """Carries out commands for a cell that the caller holds."""

    def __init__(
        self,
        store: EventStore,
        entities: Entities,
        memory: Memory,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        record: Record | None = None,
    ) -> None:
        self._record = record
        self._store, self._entities, self._clock, self._ids, self._limits = store, entities, clock, ids, limits
        self._cells, self._snapshots = memory.cells, memory.snapshots
        self._intentions, self._recovery = memory.intentions, memory.recovery
        self.counters = Counters()
        self.append_seconds = Histogram()

    async def carry_out(self, cell: Cell, request: Request[Answer | Reading[object]]) -> Answer | Reading[object]:
        """Answer one request. Raises what the decider, the store or the codec raise, and `GuardLost`."""
        if request.command is LOOK:
            if not cell.is_warm:
                await self.activate(cell)
            return cell.reading()
        self.counters.commands += 1
        for attempt in range(1, self._limits.attempts + 1):
            try:
                answer = await self._attempt(cell, request)
            except WrongExpectedVersion:
                self.counters.conflicts += 1
                cell.forget()
                if attempt == self._limits.attempts:
                    raise
            else:
                return answer
        raise AssertionError("unreachable: attempts is at least 1")

    async def activate(self, cell: Cell) -> None:
        """Fold the stream and perform its intents. Raises `StoreUnavailable` when the log is behind what it told us."""
        for _ in range(self._limits.attempts):
            fold = await self._fold(cell)
            if cell.version is not None and cell.version >= fold.version:
                return  # opened by another actor's decision while we read
            if self.adopt(cell, fold):
                return
        raise StoreUnavailable(f"stream {cell.address.stream_id!r} is behind version {cell.floor}, which is known")

    def adopt(self, cell: Cell, fold: Fold) -> bool:
        """Make a cell warm with what was read; False when the reading is older than what is known."""
        if fold.version < cell.floor:
            return False
        intents = cell.decider.intents(fold.state)
        cell.take(fold.version, fold.state, fold.position, fold.conversation)
        cell.snapshot_version = fold.snapshot_version
        self.counters.activations += 1
        self._intend(cell.address, fold.version, intents)
        return True

    async def _fold(self, cell: Cell) -> Fold:
        name, fold = cell.address.stream_id, self._entities.fold
        start = await self._snapshots.load(cell)
        if start is not None:
            events = await self._store.read_stream(name, after_version=start.version - 1)
            if events and events[0].version == start.version:
                return fold(cell.decider, events, start)
            # the log does not reach the snapshot: it belongs to another life of this database
        return fold(cell.decider, await self._store.read_stream(name))

    async def _attempt(self, cell: Cell, request: Request[Answer | Reading[object]]) -> Answer:
        """Decide once. Raises `WrongExpectedVersion` when the picture was old."""
        is_fresh = not cell.is_warm
        if is_fresh:
            await self.activate(cell)
        state, version, position = cell.state, cell.version, cell.position
        assert version is not None
        try:
            now = self._clock.now()
            decision = cell.decider.decide(request.command, state, now)
        except Rejected:
            if not is_fresh:
                await self._verify(cell, version)
            raise
        if not decision:
            if not is_fresh:
                await self._verify(cell, version)
            return Answer(position, version, decision, state)
        plan = self._planned(cell, request, decision, now)
        opened = [self._cells.use(each.address) for each in plan.outcomes if each.address != cell.address]
        for each in opened:
            each.openings += 1
        try:
            appended = await self._append(cell, plan)
            return self._committed(cell, plan, appended, decision)
        finally:
            for each in opened:
                each.openings -= 1

    def _planned(
        self, cell: Cell, request: Request[Answer | Reading[object]], decision: Decision, now: datetime
    ) -> Plan:
        assert cell.version is not None
        if request.metadata is None:
            request.metadata = metadata_of(request.context, self._ids, cell.conversation)
        command = None if self._record is None else self._record(request.command, now)
        return self._entities.plan(cell.address, cell.state, cell.version, decision, request.metadata, command)

    # --- one command each of many cells -------------------------------------------------------------------------------

    async def carry_out_each(
        self, asked: Sequence[tuple[Cell, Request[Answer | Reading[object]]]]
    ) -> Sequence[Answer | EventStoreError | None]:
        """Answer one request each of many warm cells, each decided and appended for itself, in one turn of the store.

        None: nothing was written and nothing is settled (a rejection, no change, a crash, a conflict, a lost guard): that
        is for `carry_out`, alone. An error of the store is as `ActorSystem.ask` raises it.
        """
        planned: list[tuple[Plan, Decision] | None] = []
        opened: list[Cell] = []
        now = self._clock.now()
        try:
            for cell, request in asked:
                if len(planned) % DECIDED_AT_ONCE == DECIDED_AT_ONCE - 1:
                    await trio.lowlevel.checkpoint()
                    now = self._clock.now()
                found = self._plan_or_leave(cell, request, now)
                planned.append(found)
                if found is not None:
                    self._open(cell, found[0], opened)
            return await self._append_each([cell for cell, _ in asked], planned)
        finally:
            for each in opened:
                each.openings -= 1

    def _open(self, cell: Cell, plan: Plan, opened: list[Cell]) -> None:
        """The cells that the append opens stay until it is answered."""
        for outcome in plan.outcomes:
            if outcome.address != cell.address:
                each = self._cells.use(outcome.address)
                each.openings += 1
                opened.append(each)

    def _plan_or_leave(
        self, cell: Cell, request: Request[Answer | Reading[object]], now: datetime
    ) -> tuple[Plan, Decision] | None:
        try:
            decision = cell.decider.decide(request.command, cell.state, now)
            return (self._planned(cell, request, decision, now), decision) if decision else None
        except Exception:  # asked alone, it is told, counted and supervised
            return None

    async def _append_each(
        self, cells: Sequence[Cell], planned: Sequence[tuple[Plan, Decision] | None]
    ) -> Sequence[Answer | EventStoreError | None]:
        plans = [(cell, *each) for cell, each in zip(cells, planned, strict=True) if each is not None]
        started = trio.current_time()
        try:
            verdicts = iter(await self._store.append_each([plan.claims for _, plan, _ in plans]))
        except Exception:
            for cell, plan, _ in plans:
                self._doubt(cell, plan)
            raise
        seconds = trio.current_time() - started
        answers: list[Answer | EventStoreError | None] = []
        for cell, each in zip(cells, planned, strict=True):
            if each is None:
                answers.append(None)
                continue
            self.append_seconds.observe(seconds)
            answers.append(self._settled(cell, *each, next(verdicts)))
        return answers

    def _settled(
        self, cell: Cell, plan: Plan, decision: Decision, verdict: Appended | EventStoreError
    ) -> Answer | EventStoreError | None:
        if isinstance(verdict, Appended):
            self.counters.commands += 1
            return self._committed(cell, plan, verdict, decision)
        if isinstance(verdict, InvalidEvent):
            return None
        if isinstance(verdict, WrongExpectedVersion):
            with suppress(GuardLost):
                self._lost(cell, plan, verdict)
                self.counters.conflicts += 1
                cell.forget()
            return None
        if not isinstance(verdict, StoreUnavailable):  # perhaps it was committed
            self._doubt(cell, plan)
        self.counters.commands += 1
        return verdict

    async def _verify(self, cell: Cell, version: int) -> None:
        """Check that the stream is still at the version that was decided on."""
        if not self._limits.verify_unchanged:
            return
        self.counters.verifications += 1
        try:
            await self._store.append([Claim(cell.address.stream_id, version)])
        except WrongExpectedVersion as lost:
            cell.heard_of(lost.actual)
            raise

    async def _append(self, cell: Cell, plan: Plan) -> Appended:
        tries = 0
        try:
            while True:
                tries += 1
                started = trio.current_time()
                try:
                    appended = await self._store.append(plan.claims)
                    self.append_seconds.observe(trio.current_time() - started)
                    return appended
                except StoreTimeout:
                    if tries >= APPEND_TRIES:
                        raise
        except WrongExpectedVersion as lost:
            self._lost(cell, plan, lost)
            raise
        except StoreUnavailable:
            if tries > 1:  # the try before this one may have been committed
                self._doubt(cell, plan)
            raise
        except Exception:
            self._doubt(cell, plan)
            raise

    def _lost(self, cell: Cell, plan: Plan, lost: WrongExpectedVersion) -> None:
        """Forget what proved old. Raises `GuardLost` when it is a stream that the append does not write."""
        address = Address.of_stream(lost.stream_id)
        known = cell if lost.stream_id == cell.address.stream_id else self._cells.find(address)
        if known is not None:
            known.heard_of(lost.actual)
            if known.is_stale and not known.is_busy:
                known.forget()
        if known is cell or any(outcome.address == address for outcome in plan.outcomes):
            return
        self.counters.guards_lost += 1
        raise GuardLost(lost.stream_id, lost.expected, lost.actual) from lost

    def _doubt(self, cell: Cell, plan: Plan) -> None:
        """Nobody knows whether the append was committed: fold again, so that no intent of it is lost."""
        cell.forget()
        for outcome in plan.outcomes:
            self._recovery.doubt(outcome.address)

    def _committed(self, cell: Cell, plan: Plan, appended: Appended, decision: Decision) -> Answer:
        """Take over what was written and perform its intents.

        The answer may be late: a stream that was committed by a try whose answer was lost may have gone on since, here
        or elsewhere. Then its intents are those of a past, and are not performed.
        """
        answer = None
        for outcome, position in plan.last_positions(appended):
            self.counters.events += outcome.events
            is_own = outcome.address == cell.address
            target = cell if is_own else self._cells.use(outcome.address)
            if target.take(outcome.version, outcome.state, position, outcome.conversation):
                self._intend(outcome.address, outcome.version, outcome.intents)
            elif not target.is_warm:
                self._recovery.look_again(outcome.address)
            if is_own:
                answer = Answer(appended.position, outcome.version, decision, outcome.state)
        if answer is None:  # only new streams were written; the own one was a guard
            assert cell.version is not None
            answer = Answer(appended.position, cell.version, decision, cell.state)
        return answer

    def _intend(self, address: Address, version: int, intents: frozenset[Intent]) -> None:
        if not self._intentions.want(address, version, intents):
            self._recovery.wake()
