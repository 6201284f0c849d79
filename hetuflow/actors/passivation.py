"""Which actors stay in memory, and the snapshots of those that leave it.

The warm cells are kept in the order of their last use; beyond the limit the least recently used idle ones are
forgotten. There is nothing to save, the log has everything: a snapshot is only a shorter way back for long streams.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

import trio

from eventstore.event import Snapshot
from eventstore.store import EventStore
from hetuflow.actors.actor import Cell
from hetuflow.actors.entity import Entities, Fold
from hetuflow.domain.decider import Address

log = logging.getLogger(__name__)

SNAPSHOTS_WAITING_MAX = 64
"""Snapshots not yet written; more are dropped, for they are a cache and each holds a whole state as text."""


class WarmCells:
    """The cells in memory, least recently used first."""

    def __init__(self, entities: Entities, limit: int, leaving: Callable[[Cell], None]) -> None:
        self._entities, self._limit, self._leaving = entities, limit, leaving
        self._cells: OrderedDict[Address, Cell] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def is_over_limit(self) -> bool:
        return len(self._cells) > self._limit

    @property
    def is_half_full(self) -> bool:
        return len(self._cells) > self._limit // 2

    @property
    def queued_commands(self) -> int:
        return sum(len(cell.mailbox) for cell in self._cells.values() if cell.mailbox is not None)

    def being_found_out(self) -> Sequence[Address]:
        """Those at work in this moment whose state is not, or may not be, the newest that was heard of. O(cells)."""
        return [each.address for each in self._cells.values() if each.is_busy and (not each.is_warm or each.is_stale)]

    def find(self, address: Address) -> Cell | None:
        """The cell, if there is one; this is not a use."""
        return self._cells.get(address)

    def use(self, address: Address) -> Cell:
        """The cell, made if need be, now the most recently used."""
        cell = self._cells.get(address)
        if cell is None:
            cell = self._cells[address] = Cell(address, self._entities.decider(address.category))
        else:
            self._cells.move_to_end(address)
        return cell

    def drop(self, cell: Cell) -> None:
        """Forget a cell that may leave at once."""
        assert cell.may_leave
        self._cells.pop(cell.address, None)

    def passivate(self) -> None:
        """Forget the least recently used cells beyond the limit; one that must stay counts as used just now."""
        excess, looked_at = len(self._cells) - self._limit, 0
        while excess > 0 and looked_at < len(self._cells):
            address, cell = next(iter(self._cells.items()))
            looked_at += 1
            if cell.may_leave:
                del self._cells[address]
                excess -= 1
                self._leaving(cell)
            else:
                self._cells.move_to_end(address)


class Snapshots:
    """Loads snapshots on activation and writes those of long streams behind the actors' backs."""

    def __init__(self, store: EventStore, entities: Entities, events: int) -> None:
        self._store, self._entities, self._events = store, entities, events
        self._waiting: dict[str, Snapshot] = {}
        self._wake = trio.Event()
        self.written = 0

    def offer(self, cell: Cell) -> None:
        """A cell leaves memory: keep its state if its stream has grown long since the last snapshot."""
        if cell.version is None or cell.version - cell.snapshot_version < self._events:
            return
        decider = self._entities.snapshotting(cell.address.category)
        if decider is None or len(self._waiting) >= SNAPSHOTS_WAITING_MAX:
            return
        name = cell.address.stream_id
        try:
            text = decider.dump_state(cell.state)
        except Exception:
            log.exception("the state of %s cannot be kept as a snapshot", name)
            return
        self._waiting[name] = Snapshot(stream_id=name, schema=decider.state_schema, version=cell.version, state=text)
        self._wake.set()

    async def load(self, cell: Cell) -> Fold | None:
        """The newest usable snapshot of the cell's stream."""
        decider = self._entities.snapshotting(cell.address.category)
        if decider is None:
            return None
        found = await self._store.load_snapshot(cell.address.stream_id, decider.state_schema)
        if found is None:
            return None
        try:
            return Fold(decider.load_state(found.state), found.version, 0)
        except Exception:
            log.exception("the snapshot of %s cannot be read; the whole stream is folded", cell.address.stream_id)
            return None

    async def run(self) -> None:
        """Write what was offered, one at a time, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                name = next(iter(self._waiting))
                try:
                    await self._store.save_snapshot(self._waiting.pop(name))
                    self.written += 1
                except Exception as exc:  # a cache: losing one costs reading time, never the kernel
                    log.warning("no snapshot of %s: %s", name, exc)
