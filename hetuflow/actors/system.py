"""The front door of the actors: ask, read, activate; and the nursery that owns every command under way.

Nothing that an actor does raises into this nursery: a crash is caught where the command runs, answered and counted.
An actor is held by one task at a time: the drain of its mailbox, or a chunk that folds many actors with one read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any
from uuid import UUID

import outcome
import trio
from attrs import frozen

from eventstore.codec import EventCodec
from eventstore.errors import (
    EventStoreError,
    InvalidEvent,
    StoreClosed,
    StoreTimeout,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.event import RecordedEvent
from eventstore.store import EventFilter, EventStore
from hetuflow.actors.actor import Answer, Cell, Reading
from hetuflow.actors.chunk import Chunk, Question
from hetuflow.actors.context import SYSTEM, Context, Record
from hetuflow.actors.entity import Entities, Fold
from hetuflow.actors.errors import Crashed, GuardLost, MailboxFull, Quarantined, SystemStopped
from hetuflow.actors.execution import LOOK, Counters, Execution, Memory
from hetuflow.actors.intentions import Effects, Intentions
from hetuflow.actors.limits import Limits
from hetuflow.actors.mailbox import Mailbox, Request
from hetuflow.actors.passivation import Snapshots, WarmCells
from hetuflow.actors.recovery import Recovery
from hetuflow.actors.supervisor import Quarantine, Supervisor
from hetuflow.domain.decider import Address, Decider
from hetuflow.domain.rejection import Rejected
from hetuflow.measure import Histogram
from hetuflow.ports.clock import Clock
from hetuflow.ports.ids import Ids

log = logging.getLogger(__name__)

ANSWERS = (
    Rejected,
    GuardLost,
    WrongExpectedVersion,
    StoreUnavailable,
    StoreTimeout,
    StoreClosed,
    InvalidEvent,
)
"""Errors that are an answer to the asker; anything else is a crash of the actor."""


@frozen(slots=True, kw_only=True)
class Statistics:
    """The system at one moment. Counts are since the start; the first group is what is now."""

    cells: int
    busy: int
    queued_commands: int
    actors_with_intents: int
    to_recover: int
    quarantines: tuple[Quarantine, ...]

    commands: int
    events: int
    activations: int
    verifications: int
    conflicts: int
    guards_lost: int
    crashes: int
    snapshots_written: int
    append_seconds: Histogram
    """Goes on counting."""


class ActorSystem:
    """Virtual actors over an event store. Everybody may ask from the first; it answers while `run` runs.

    `record` makes of each command what is kept with the first event of its decision; None: nothing is.
    """

    def __init__(
        self,
        store: EventStore,
        codec: EventCodec,
        deciders: Mapping[str, Decider[Any]],
        effects: Effects,
        clock: Clock,
        ids: Ids,
        limits: Limits | None = None,
        record: Record | None = None,
    ) -> None:
        self._limits = limits = Limits() if limits is None else limits
        self._store = store
        self._entities = entities = Entities(deciders, codec, ids)
        self._snapshots = Snapshots(store, entities, limits.snapshot_events)
        self._cells = WarmCells(entities, limits.warm_cells, self._snapshots.offer)
        self._intentions = Intentions(effects)
        self._recovery = Recovery(self._intentions, limits)
        self._supervisor = Supervisor(limits.restart)
        memory = Memory(self._cells, self._snapshots, self._intentions, self._recovery)
        self._execution = Execution(store, entities, memory, clock, ids, limits, record)
        self._nursery: trio.Nursery | None = None
        self._busy = 0
        self._all_idle = trio.Event()

    def __repr__(self) -> str:
        return f"<ActorSystem {len(self._cells)} cells, {self._busy} busy, {len(self._recovery)} to recover>"

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own all commands until cancelled; then refuse new ones and finish those taken, up to `drain_seconds`."""
        shield = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            self._nursery = await nursery.start(self._work, shield)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                if self._busy:
                    self._all_idle = trio.Event()
                    with trio.move_on_after(self._limits.drain_seconds, shield=True):
                        await self._all_idle.wait()
                shield.cancel()

    async def _work(self, shield: trio.CancelScope, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        with shield:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._snapshots.run)
                nursery.start_soon(self._recovery.run, self.activate)
                task_status.started(nursery)
                await trio.sleep_forever()

    # --- asking -------------------------------------------------------------------------------------------------

    async def ask(self, address: Address, command: object, context: Context = SYSTEM) -> Answer:
        """Have the actor carry out a command; return after the commit and after its effects were handed on.

        Waits while others are before it. A command that was taken is carried out even when the asker is cancelled.

        Raises:
          Rejected: the domain said no; verified against the log.
          GuardLost: another stream that the decision relied on has changed; never retried here.
          WrongExpectedVersion: the stream changed during every one of the attempts, or a new stream exists already.
          Crashed, Quarantined: the actor failed on this command, or failed too often lately.
          StoreUnavailable: nothing was written. StoreTimeout: unknown; the log decides, and effects follow it.
          SystemStopped, UnknownCategory.
        """
        answer = await self._ask(address, Request(command, context))
        assert isinstance(answer, Answer)
        return answer

    def tell(self, address: Address, command: object, context: Context = SYSTEM) -> None:
        """Have the actor carry out a command without waiting: nobody gets the answer, crashes are logged and counted.

        Raises `MailboxFull`, `SystemStopped` or `UnknownCategory` at once.
        """
        cell = self._cells.use(address)
        if cell.mailbox is not None and cell.mailbox.is_full:
            raise MailboxFull(address, self._limits.mailbox_commands)
        self._deliver(cell, Request(command, context))

    async def ask_each(self, questions: Sequence[Question]) -> Mapping[Address, Answer | EventStoreError]:
        """Have many actors carry out a command each: decided and committed each for itself, with one turn of the store.

        Absent from the answer: who is to be asked alone, because it is at work on something else, said no, changes
        nothing, crashed, or lost its append or a guard; nothing was written for it. `StoreUnavailable`, `StoreTimeout`
        and other errors of the store stand for those they concern, and mean what they mean for `ask`.

        Raises: errors of the store before anything is written; `SystemStopped`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._nursery is None:
            raise SystemStopped
        chunk = Chunk({question.address: question for question in questions})
        self._nursery.start_soon(self._answer_each, chunk)
        return await chunk.answer()

    async def read(self, address: Address) -> Reading[Any]:
        """The folded state, without a command. A warm actor answers at once: its last committed state here."""
        cell = self._cells.use(address)
        if cell.is_warm and not cell.is_stale:
            return cell.reading()
        reading = await self._ask(address, Request(LOOK, SYSTEM))
        assert isinstance(reading, Reading)
        return reading

    async def read_many(self, addresses: Sequence[Address]) -> Mapping[Address, Reading[Any]]:
        """The folded states of many actors: one read of the store per chunk of cold ones.

        An actor whose stream cannot be folded, or that is quarantined, is absent. Raises errors of the store.
        """
        found: dict[Address, Reading[Any]] = {}
        cold = []
        for address in dict.fromkeys(addresses):
            cell = self._cells.find(address)
            if cell is not None and cell.is_warm and not cell.is_stale:
                found[address] = cell.reading()
            else:
                cold.append(address)
        for chunk in _chunks(cold, self._limits.chunk_streams):
            found.update(await self._fold_chunk(chunk))
        return found

    async def activate(self, addresses: Sequence[Address]) -> Sequence[Address]:
        """Fold these actors and perform their intents, e.g. at start; return those that could not be folded.

        Cells made for it stay warm only while the memory for warm cells is at most half full.
        """
        failed: list[Address] = []
        for chunk in _chunks(list(dict.fromkeys(addresses)), self._limits.chunk_streams):
            known = {address for address in chunk if self._cells.find(address) is not None}
            found = await self.read_many(chunk)
            failed.extend(address for address in chunk if address not in found)
            for address in chunk:
                cell = self._cells.find(address)
                if cell is not None and address not in known and cell.may_leave and self._cells.is_half_full:
                    self._cells.drop(cell)
        return failed

    async def is_received(self, event_id: UUID) -> bool:
        """Whether an event from outside is recorded under this id. Raises errors of the store."""
        return bool(await self._store.read_all(limit=1, where=EventFilter(external_id=event_id)))

    def apply_foreign(self, event: RecordedEvent) -> None:
        """Take note of a committed event, from a subscription to the log; the own ones are recognised and ignored.

        A warm actor exactly one version behind evolves; another one is forgotten. Where effects of an older state
        stand, the actor is folded again soon, so that they follow. Never raises.
        """
        address = Address.of_stream(event.stream_id)
        cell = self._cells.find(address)
        if cell is not None:
            if cell.version is not None and event.version <= cell.version:
                return
            cell.heard_of(event.version)
            if cell.is_busy:
                return  # its holder finds out: by a conflict, or when it lets go
            if cell.version == event.version - 1 and self._evolve(cell, event):
                return
            cell.forget()
        self._follow(address, event.version)

    def has_followed(self, address: Address, version: int) -> bool | None:
        """Whether this process acts on at least that version of the stream; None: its holder is about to find out."""
        cell = self._cells.find(address)
        if cell is not None:
            if cell.version is not None and cell.version >= version:
                return True
            if not cell.may_leave:
                return None
        performed = self._intentions.version_of(address)
        return performed is not None and performed >= version

    @property
    def has_doubts(self) -> bool:
        """Whether an append has an unknown outcome: it may have been committed, without effects here so far."""
        return self._recovery.has_doubts

    async def until_known(self) -> None:
        """Until every append with an unknown outcome was looked up in the log and has its effects."""
        await self._recovery.until_known()

    async def until_settled(self) -> None:
        """Until every actor that has heard of newer events than it knows was folded again, and has its effects.

        For whoever is to act on all effects of what was applied so far (`apply_foreign`)."""
        for address in self._cells.being_found_out():
            self._recovery.doubt(address)
        await self._recovery.until_settled()

    def statistics(self) -> Statistics:
        """A snapshot; O(cells)."""
        counters: Counters = self._execution.counters
        return Statistics(
            cells=len(self._cells),
            busy=self._busy,
            queued_commands=self._cells.queued_commands,
            actors_with_intents=len(self._intentions),
            to_recover=len(self._recovery),
            quarantines=self._supervisor.quarantines(trio.current_time()),
            commands=counters.commands,
            events=counters.events,
            activations=counters.activations,
            verifications=counters.verifications,
            conflicts=counters.conflicts,
            guards_lost=counters.guards_lost,
            crashes=self._supervisor.crashes,
            snapshots_written=self._snapshots.written,
            append_seconds=self._execution.append_seconds,
        )

    # --- one actor ----------------------------------------------------------------------------------------------

    async def _ask(self, address: Address, request: Request[Any]) -> Answer | Reading[Any]:
        await trio.lowlevel.checkpoint_if_cancelled()
        mailbox = self._deliver(self._cells.use(address), request)
        answer: Answer | Reading[Any] = await request.answer(mailbox)
        return answer

    def _deliver(self, cell: Cell, request: Request[Any]) -> Mailbox[Any]:
        if self._nursery is None:
            raise SystemStopped
        mailbox = cell.mailbox
        if mailbox is None:
            mailbox = self._hold(cell)
            self._nursery.start_soon(self._drain, cell, mailbox)
        mailbox.put(request)
        return mailbox

    def _hold(self, cell: Cell) -> Mailbox[Any]:
        assert cell.mailbox is None
        self._busy += 1
        cell.mailbox = Mailbox(self._limits.mailbox_commands)
        return cell.mailbox

    async def _drain(self, cell: Cell, mailbox: Mailbox[Any]) -> None:
        """Carry out the commands of the mailbox until it is empty. No await between the last look and the release."""
        try:
            while (request := mailbox.take()) is not None:
                try:
                    request.settle(await self._supervised(cell, request))
                except BaseException:
                    request.settle(outcome.Error(SystemStopped()))
                    raise
        finally:
            self._release(cell)

    def _release(self, cell: Cell) -> None:
        """Let go of a cell; whoever is still in the mailbox (the drain was cancelled) is answered."""
        mailbox, cell.mailbox = cell.mailbox, None
        assert mailbox is not None
        while (request := mailbox.take()) is not None:
            request.settle(outcome.Error(SystemStopped()))
        self._busy -= 1
        if not self._busy:
            self._all_idle.set()
        if cell.is_stale:
            cell.forget()
        if not cell.is_warm:
            self._follow(cell.address, cell.floor)
        if self._cells.is_over_limit:
            self._cells.passivate()

    async def _supervised(self, cell: Cell, request: Request[Any]) -> outcome.Outcome[Any]:
        """Let it crash: drop the state, answer this one command, keep the siblings."""
        now = trio.current_time()
        pause_seconds = self._supervisor.pause_seconds(cell.address, now)
        if pause_seconds:
            return outcome.Error(Quarantined(cell.address, pause_seconds))
        try:
            answer = await self._execution.carry_out(cell, request)
        except ANSWERS as no:
            return outcome.Error(no)
        except Exception as exc:
            return outcome.Error(self._crashed(cell, request.command, exc))
        self._supervisor.worked(cell.address, now)
        return outcome.Value(answer)

    def _crashed(self, cell: Cell, command: object, cause: Exception) -> Crashed:
        cell.forget()
        failure = Crashed(cell.address, command)
        failure.__cause__ = cause
        pause_seconds = self._supervisor.crashed(cell.address, trio.current_time())
        log.error("%s%s", failure, f"; left alone for {pause_seconds:.0f} s" if pause_seconds else "", exc_info=cause)
        return failure

    def _evolve(self, cell: Cell, event: RecordedEvent) -> bool:
        """Let an idle warm cell follow one event of another server; False when it cannot."""
        assert cell.version is not None
        try:
            events = self._entities.fold(cell.decider, [event], Fold(cell.state, cell.version, cell.position))
            intents = cell.decider.intents(events.state)
        except Exception as exc:
            self._crashed(cell, event, exc)
            return False
        cell.take(events.version, events.state, events.position, events.conversation)
        if not self._intentions.want(cell.address, events.version, intents):
            self._recovery.wake()
        return True

    def _follow(self, address: Address, version: int) -> None:
        """Effects of an older state stand outside: fold the actor again soon."""
        performed = self._intentions.version_of(address)
        if performed is not None and performed < version:
            self._recovery.look_again(address)

    # --- many actors --------------------------------------------------------------------------------------------

    async def _fold_chunk(self, addresses: Sequence[Address]) -> Mapping[Address, Reading[Any]]:
        """Fold cold actors with one read; those that somebody else holds are asked afterwards."""
        found: dict[Address, Reading[Any]] = {}
        crashed: set[Address] = set()
        with self._holding(addresses) as held:
            streams = await self._store.read_streams([cell.address.stream_id for cell in held]) if held else {}
            for cell in held:
                try:
                    self._adopt(cell, streams.get(cell.address.stream_id, ()))
                except Exception as exc:
                    self._crashed(cell, LOOK, exc)
                    crashed.add(cell.address)
                if cell.is_warm:
                    found[cell.address] = cell.reading()
        for address in addresses:
            if address not in found and address not in crashed:
                try:
                    found[address] = await self.read(address)
                except (Crashed, Quarantined) as exc:
                    log.warning("%s is left out: %s", address.stream_id, exc)
        return found

    async def _answer_each(self, chunk: Chunk) -> None:
        """In the system's own nursery: what was begun is finished, also when the asker is cancelled."""
        try:
            with self._holding(list(chunk.questions)) as held:
                cold = [cell for cell in held if not cell.is_warm]
                streams = await self._store.read_streams([cell.address.stream_id for cell in cold]) if cold else {}
                for cell in cold:
                    with suppress(Exception):  # asked alone, it is told and counted
                        self._adopt(cell, streams.get(cell.address.stream_id, ()))
                asked = [(cell, chunk.request(cell.address)) for cell in held if cell.is_warm]
                answers = await self._execution.carry_out_each(asked)
                now = trio.current_time()
                for (cell, _), answer in zip(asked, answers, strict=True):
                    if answer is not None:
                        self._supervisor.worked(cell.address, now)
                        chunk.answers[cell.address] = answer
        except (EventStoreError, SystemStopped) as problem:
            chunk.settle(problem)
        except BaseException:
            chunk.settle(SystemStopped())
            raise
        else:
            chunk.settle(None)

    @contextmanager
    def _holding(self, addresses: Sequence[Address]) -> Iterator[Sequence[Cell]]:
        """Hold those of the cells that are idle; what they are asked meanwhile is drained afterwards."""
        if self._nursery is None:
            raise SystemStopped
        held = []
        now = trio.current_time()
        for address in addresses:
            cell = self._cells.use(address)
            if not cell.is_busy and not self._supervisor.pause_seconds(address, now):
                self._hold(cell)
                held.append(cell)
        try:
            yield held
        finally:
            for cell in held:
                if cell.mailbox and self._nursery is not None:
                    self._nursery.start_soon(self._drain, cell, cell.mailbox)
                else:
                    self._release(cell)

    def _adopt(self, cell: Cell, events: Sequence[RecordedEvent]) -> None:
        """Make a held cell warm with its whole stream, unless the reading is already old."""
        if not cell.is_warm:
            self._execution.adopt(cell, self._entities.fold(cell.decider, events))


def _chunks(addresses: Sequence[Address], size: int) -> Iterator[Sequence[Address]]:
    rest = iter(addresses)
    while chunk := list(islice(rest, size)):
        yield chunk
