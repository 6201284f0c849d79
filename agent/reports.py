"""Reports on their way to the server: journaled, then sent, sent again on the next connection, gone when acknowledged.

`Started` is sent at once. `Ended` is sent when the journal has been fsynced: one task does that for all outcomes that have
gathered while the previous fsync ran, and where many run for a few milliseconds more (`agent.gathering`), so that the cost
of an fsync is shared exactly when it matters. A journal that
cannot be written (disk full) does not hold reports back: what is known is told, and the keeper is not told to forget it
(`is_kept`), so that only a crash of both would lose it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog
import trio
from attrs import evolve, frozen

from agent.gathering import Gathering
from agent.journal import (
    Accepted,
    Acked,
    Captured,
    Entry,
    Forgotten,
    Journal,
    Key,
    Noticed,
    Outcome,
    Record,
    Running,
    Spilled,
    Stored,
)
from agent.shipping import Shipment
from agent.spool import Cursor, Owner
from agent.wakeup import Wakeup
from hetuflow.ports.disk import DiskError
from hetuflow.ports.ids import Ids
from hetuflow.protocol.messages import Dispatch, Ended, Known, KnownState, Observed, Started, Told

log = structlog.get_logger()

OBSERVED_MAX: Final = 10_000
"""Observations that wait for the server; they are kept in memory and in the journal."""

OUTPUT_FIRST_SECONDS: Final = 5.0
"""How long an outcome waits for the last of its output to be offered to the server first."""


@frozen(slots=True)
class _Held:
    """An outcome that waits until its output has been offered, or for the deadline."""

    report: Ended
    shipment: Shipment | None
    deadline: float

    def is_due(self, now: float) -> bool:
        return self.shipment is None or self.shipment.all_sent or self.deadline <= now


class Reports:
    """One owner of the journal. `run` must be running for outcomes to be sent. `ready` is set when there is work."""

    def __init__(
        self, journal: Journal, ids: Ids, ready: Wakeup, recovered: Mapping[Key, Shipment] | None = None
    ) -> None:
        self._journal, self._ids, self._ready = journal, ids, ready
        self._unsynced: list[_Held] = []
        self._held: list[_Held] = []
        self._outbox: deque[Told] = deque()
        self._unacked: dict[int, Told] = {}
        self._shipments: dict[int, Shipment] = {}
        """Number of an outcome -> its output."""
        self._deferred: list[int] = []
        """Outcomes that are acknowledged while the journal still holds their output."""
        self._synced: set[int] = set()
        self._sync_wanted = Wakeup()
        self._drained = trio.Event()
        self.kept: Callable[[], None] = lambda: None
        """Hears that `is_kept` holds for more than before."""
        self._unacked.update(journal.observed)
        self._synced.update(journal.observed)
        for entry in journal.entries.values():
            for report in entry.unacked():
                self._unacked[report.sequence] = report
                self._synced.add(report.sequence)
            if entry.ended is not None and recovered is not None and entry.key in recovered:
                self._shipments[entry.ended.sequence] = recovered[entry.key]

    @property
    def journal_bytes(self) -> int:
        return self._journal.size_bytes

    @property
    def unacked_count(self) -> int:
        return len(self._unacked)

    @property
    def last_acked(self) -> int:
        return self._journal.last_acked

    # --- what happens to instances ---------------------------------------------------------------------------------

    def accept(self, order: Dispatch, kept: Dispatch | None = None) -> None:
        """Before anything is started; `kept` is what a later life must know of it. Raises `DiskError`: then nothing may be."""
        accepted = Accepted(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch, order=kept)
        try:
            self._append(accepted)
        except DiskError:
            self._journal.entries.pop((order.instance_id, order.epoch), None)
            raise

    def entry(self, key: Key) -> Entry | None:
        """What the journal has of this try."""
        return self._journal.entries.get(key)

    def holds(self, instance_id: str, epoch: int) -> bool:
        """Whether this try was accepted, and its end not acknowledged yet."""
        return (instance_id, epoch) in self._journal.entries

    def is_kept(self, key: Key) -> bool:
        """Whether the end of this try, which was reported, outlives the agent: the journal has it, or the server."""
        return self._journal.is_whole or key not in self._journal.entries

    def captured(self, owner: Owner, data: bytes) -> None:
        """See `SmallSpools`."""
        self._append(Captured(instance_id=owner.instance_id, epoch=owner.epoch, data=data))

    def spilled(self, owner: Owner) -> None:
        """See `SmallSpools`. Not written, it costs nothing: a file that exists is preferred."""
        self._write(Spilled(instance_id=owner.instance_id, epoch=owner.epoch))

    def stored(self, owner: Owner, cursor: Cursor) -> None:
        """The server has this output up to there: a later life goes on from there. Not written, it costs a repetition."""
        if self.holds(owner.instance_id, owner.epoch):
            self._write(Stored(instance_id=owner.instance_id, epoch=owner.epoch, cursor=cursor))

    def started(self, report: Started, identity: str | None) -> None:
        """It is given its number and id."""
        self._number(report)
        self._write(Running(started=report, identity=identity))
        self._unacked[report.sequence] = report
        self._synced.add(report.sequence)
        self._outbox.append(report)
        self._ready.soon()

    def ended(self, report: Ended, shipment: Shipment | None = None) -> None:
        """It is given its number and id. `shipment`: the instance's output, offered to the server before its end."""
        self._number(report)
        self._write(Outcome(ended=report))
        self._unacked[report.sequence] = report
        if shipment is not None:
            self._shipments[report.sequence] = shipment
        self._unsynced.append(_Held(report, shipment, trio.current_time() + OUTPUT_FIRST_SECONDS))
        self._sync_wanted.set()

    def observed(self, report: Observed) -> bool:
        """Something happened on this machine; its id is its own. False: too much of that is unacknowledged, it is dropped.

        Not fsynced: it survives a crash of the agent, not of the machine.
        """
        if len(self._journal.observed) >= OBSERVED_MAX:
            return False
        report = evolve(report, sequence=self._journal.take_sequence())
        self._write(Noticed(observed=report))
        self._unacked[report.sequence] = report
        self._synced.add(report.sequence)
        self._outbox.append(report)
        self._ready.soon()
        return True

    def known_ended(self) -> list[Known]:
        return [
            Known(task_id=report.task_id, instance_id=report.instance_id, epoch=report.epoch, state=KnownState.ENDED)
            for report in self._unacked.values()
            if isinstance(report, Ended)
        ]

    # --- what the connection does ----------------------------------------------------------------------------------

    def restart(self) -> None:
        """A new connection: everything durable and unacknowledged is sent again, in order of its numbers."""
        self._held = []
        self._outbox = deque(self._unacked[number] for number in sorted(self._unacked) if number in self._synced)

    def take(self) -> list[Told]:
        """What should be sent now; each report once per connection."""
        if self._held:
            now = trio.current_time()
            self._outbox.extend(held.report for held in self._held if held.is_due(now))
            self._held = [held for held in self._held if not held.is_due(now)]
        if not self._outbox:
            return []
        taken = list(self._outbox)
        self._outbox.clear()
        return taken

    @property
    def next_deadline(self) -> float:
        """When `take` may have something without anybody saying so (monotonic seconds)."""
        return min((held.deadline for held in self._held), default=float("inf"))

    def acked(self, sequences: Iterable[int]) -> None:
        """The server has committed these. Unknown numbers are ignored."""
        known = [number for number in sequences if self._drop(number)]
        self._settle([*self._deferred, *known])

    def output_acked(self) -> None:
        """Some output has been stored: what waited for that may be forgotten now."""
        if self._deferred:
            self._settle(self._deferred)

    def _settle(self, numbers: list[int]) -> None:
        """Note in the journal that outcomes are done, but for those whose output it still holds."""
        self._deferred = [n for n in numbers if n in self._shipments and self._shipments[n].needs_journal]
        waiting = frozenset(self._deferred)
        done = tuple(number for number in numbers if number not in waiting)
        if not done:
            return
        for number in done:
            self._shipments.pop(number, None)
        self._write(Acked(sequences=done))
        if self._journal.may_be_mostly_dead:
            self._sync_wanted.set()
        if not self._journal.is_whole:
            self.kept()

    def forget(self, instance_ids: Sequence[str]) -> None:
        """The server wants no report of these."""
        wanted = frozenset(instance_ids)
        held = [(n, report) for n, report in self._unacked.items() if not isinstance(report, Observed)]
        for number in [number for number, report in held if report.instance_id in wanted]:
            self._drop(number)
            self._shipments.pop(number, None)
        for number in [n for n in self._deferred if self._shipments[n].owner.instance_id in wanted]:
            self._deferred.remove(number)
            del self._shipments[number]
        self._write(Forgotten(instance_ids=tuple(instance_ids)))

    async def wait_drained(self) -> None:
        """Until every report is acknowledged."""
        while self._unacked:
            self._drained = trio.Event()
            await self._drained.wait()

    # --- durability ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make outcomes durable, in groups, and hand them out for sending; until cancelled."""
        syncing, next_at = Gathering(), float("-inf")
        while True:
            await self._sync_wanted.wait()
            if trio.current_time() < next_at:
                await trio.sleep_until(next_at)
            next_at = syncing.done(trio.current_time(), len(self._journal.entries))
            group, self._unsynced = self._unsynced, []
            if group:
                try:
                    await self._journal.sync()
                except DiskError as exc:
                    log.error("outcomes are reported without being durable", error=str(exc), outcomes=len(group))
                self._release(group)
            try:
                self._journal.compact_if_mostly_dead()
            except DiskError as exc:
                log.warning("the journal could not be compacted", error=str(exc))

    def _release(self, group: list[_Held]) -> None:
        for held in group:
            if held.report.sequence in self._unacked:
                self._synced.add(held.report.sequence)
                self._held.append(held)
        self._ready.soon()

    def _drop(self, number: int) -> bool:
        self._synced.discard(number)
        found = self._unacked.pop(number, None) is not None
        if found and not self._unacked:
            self._drained.set()
        return found

    def _append(self, record: Record) -> None:
        was_whole = self._journal.is_whole
        self._journal.append(record)
        if not was_whole:
            self.kept()

    def _write(self, record: Record) -> None:
        try:
            self._append(record)
        except DiskError as exc:
            log.error("the journal cannot be written", record=type(record).__name__, error=str(exc))

    def _number(self, report: Started | Ended) -> None:
        """It was made for us and nobody else has it: a copy with thirty members would cost as much as the rest of this."""
        object.__setattr__(report, "event_id", str(self._ids.uuid7()))
        object.__setattr__(report, "sequence", self._journal.take_sequence())
