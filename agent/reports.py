"""Reports on their way to the server: journaled, then sent, sent again on the next connection, gone when acknowledged.

`Started` is sent at once. `Ended` is sent when the journal has been fsynced: one task does that for all outcomes that have
gathered while the previous fsync ran, so that the cost of an fsync is shared exactly when it matters. A journal that
cannot be written (disk full) does not hold reports back: what is known is told, and the log says that a crash of the
agent would now lose it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
import trio
from attrs import evolve, frozen

from agent.journal import Accepted, Acked, Forgotten, Journal, Outcome, Running
from agent.wakeup import Wakeup
from hetuflow.ports.disk import DiskError
from hetuflow.ports.ids import Ids
from hetuflow.protocol.messages import Ended, Known, KnownState, Report, Started

log = structlog.get_logger()

OUTPUT_FIRST_SECONDS: Final = 5.0
"""How long an outcome waits for the last of its output to be offered to the server first."""


@frozen(slots=True)
class _Held:
    """An outcome that waits until `offered()` or the deadline."""

    report: Ended
    offered: Callable[[], bool]
    deadline: float


class Reports:
    """One owner of the journal. `run` must be running for outcomes to be sent. `ready` is set when there is work."""

    def __init__(self, journal: Journal, ids: Ids, ready: Wakeup) -> None:
        self._journal, self._ids, self._ready = journal, ids, ready
        self._unsynced: list[_Held] = []
        self._held: list[_Held] = []
        self._outbox: deque[Report] = deque()
        self._unacked: dict[int, Report] = {}
        self._synced: set[int] = set()
        self._sync_wanted = Wakeup()
        self._drained = trio.Event()
        for entry in journal.entries.values():
            for report in entry.unacked():
                self._unacked[report.sequence] = report
                self._synced.add(report.sequence)

    @property
    def unacked_count(self) -> int:
        return len(self._unacked)

    @property
    def last_acked(self) -> int:
        return self._journal.last_acked

    # --- what happens to instances ---------------------------------------------------------------------------------

    def accept(self, *, task_id: str, instance_id: str, epoch: int) -> None:
        """Before anything is started. Raises `DiskError`: then nothing may be started."""
        try:
            self._journal.append(Accepted(task_id=task_id, instance_id=instance_id, epoch=epoch))
        except DiskError:
            self._journal.entries.pop(instance_id, None)
            raise

    def started(self, report: Started, identity: str | None) -> None:
        report = evolve(report, **self._numbered())
        self._write(Running(started=report, identity=identity))
        self._unacked[report.sequence] = report
        self._synced.add(report.sequence)
        self._outbox.append(report)
        self._ready.set()

    def ended(self, report: Ended, *, offered: Callable[[], bool] = lambda: True) -> None:
        """`offered` tells whether all output of the instance has been sent once on this connection."""
        report = evolve(report, **self._numbered())
        self._write(Outcome(ended=report))
        self._unacked[report.sequence] = report
        self._unsynced.append(_Held(report, offered, trio.current_time() + OUTPUT_FIRST_SECONDS))
        self._sync_wanted.set()

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

    def take(self) -> list[Report]:
        """What should be sent now; each report once per connection."""
        if self._held:
            now = trio.current_time()
            due = [held for held in self._held if held.deadline <= now or held.offered()]
            if due:
                self._held = [held for held in self._held if held not in due]
                self._outbox.extend(held.report for held in due)
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
        known = tuple(number for number in sequences if self._drop(number))
        if not known:
            return
        self._write(Acked(sequences=known))
        self._sync_wanted.set()

    def forget(self, instance_ids: Sequence[str]) -> None:
        """The server wants no report of these."""
        wanted = frozenset(instance_ids)
        for number in [number for number, report in self._unacked.items() if report.instance_id in wanted]:
            self._drop(number)
        self._write(Forgotten(instance_ids=tuple(instance_ids)))

    async def wait_drained(self) -> None:
        """Until every report is acknowledged."""
        while self._unacked:
            self._drained = trio.Event()
            await self._drained.wait()

    # --- durability ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make outcomes durable, in groups, and hand them out for sending; until cancelled."""
        while True:
            await self._sync_wanted.wait()
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
        self._ready.set()

    def _drop(self, number: int) -> bool:
        self._synced.discard(number)
        found = self._unacked.pop(number, None) is not None
        if found and not self._unacked:
            self._drained.set()
        return found

    def _write(self, record: Running | Outcome | Acked | Forgotten) -> None:
        try:
            self._journal.append(record)
        except DiskError as exc:
            log.error("the journal cannot be written", record=type(record).__name__, error=str(exc))

    def _numbered(self) -> dict[str, Any]:
        return {"event_id": str(self._ids.uuid7()), "sequence": self._journal.take_sequence()}
