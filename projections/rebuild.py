"""Filling a table anew from the log, beside the live one, and changing places with it in one short transaction.

1. Fill: `CREATE TABLE … AS` the fold up to a position, in the schema `hetuflow_rebuild`, under the names it will have;
   then the primary key and indexes, those that people added too, and their partitions.
2. Catch up: the live statements on the fresh table, while traffic goes on.
3. Swap: the checkpoint is locked, the last events are folded, the old table goes, the new one comes, grants and views
   are given again. With a lock timeout, so that no reader queues behind us for long; repeated until it works.

A second schema instead of other names: indexes and partitions keep theirs without being renamed one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from attrs import define, field, frozen

from eventstore.errors import SqlError, StoreTimeout
from eventstore.postgres.database import Connection, Database
from projections.definition import Table
from projections.errors import RebuildRunning
from projections.follower import CATCH_UP_POSITIONS_MAX
from projections.rebuild_table import Filled, catch_up_table, fill_table, has_shape, swap_table
from projections.tables import ALL_TABLES, LIVE, LIVE_TABLES, OPEN_WORK_CHECKPOINT

log = logging.getLogger(__name__)

FILLS_MAX = 2
"""Tables filled at once: as many as the smallest machine has cores."""

FILL_SECONDS_MAX = 6 * 3600.0
"""For one table: some hundred million events."""

SWAP_LOCK_MILLISECONDS = 200
SWAP_PAUSE_SECONDS = 0.1
SWAP_TRIES_MAX = 300
"""A swap that meets a long reader gives way and comes again; after a minute and a half it gives up."""

NEAR_POSITIONS = 1_000
"""So few positions may be left for the transaction of the swap."""


@frozen(slots=True, kw_only=True)
class Progress:
    """How far a rebuild is: `position` of `target` positions, over all its tables; `done` names those filled so far."""

    position: int
    target: int
    events_per_second: float
    done: Sequence[str]


OnProgress = Callable[[Progress], None]


@frozen(slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did: the tables show the log up to `position`."""

    names: Sequence[str]
    position: int
    seconds: float

    @property
    def events_per_second(self) -> float:
        return self.position / self.seconds if self.seconds else 0.0


async def rebuild(
    database: Database, names: Sequence[str] = tuple(ALL_TABLES), *, on_progress: OnProgress | None = None
) -> Sequence[Rebuilt]:
    """Rebuild the tables of these projections. The live ones serve reads until the swap, and writes go on.

    Tables that move with one checkpoint change places together. Where all of them are rebuilt, they are then at the
    head that the log had at the start, even if the live ones were not.

    Raises:
      KeyError: no such projection.
      RebuildRunning: one of them is being rebuilt by somebody else.
      RebuildRefused: something of people's depends on a table and cannot be carried over; nothing was done.
      SqlError: an event cannot be folded.
      StoreUnavailable, StoreTimeout: the database was lost, or the swap never got its locks.
    After an error the live tables are as before.
    """
    wanted = {name: ALL_TABLES[name] for name in dict.fromkeys(names)}
    live = {name: table for name, table in wanted.items() if name in LIVE_TABLES}
    own = {name: table for name, table in wanted.items() if name not in LIVE_TABLES}
    groups = [_Group(database, LIVE, live, len(live) == len(LIVE_TABLES)), _Group(database, OPEN_WORK_CHECKPOINT, own)]
    return [await group.rebuild(on_progress) for group in groups if group.tables]


async def prepare(database: Database, *, on_progress: OnProgress | None = None) -> Sequence[str]:
    """At a start: rebuild the tables whose definition is not the one they were folded by; return their names.

    Raises what `rebuild` raises, but waits where another process rebuilds them.
    """
    while stale := await _stale(database):
        try:
            log.info("rebuilding %s: folded by another definition", ", ".join(stale))
            await rebuild(database, stale, on_progress=on_progress)
            return stale
        except RebuildRunning:
            await trio.sleep(SWAP_PAUSE_SECONDS)
    return []


async def _stale(database: Database) -> Sequence[str]:
    known = dict(await database.fetch("SELECT name, fingerprint FROM projection_tables"))
    stale = [name for name, table in ALL_TABLES.items() if known.get(name) != table.fingerprint]
    folded = dict(await database.fetch("SELECT name, position FROM checkpoints")) if stale else {}
    kept = []
    for name in stale:
        table, checkpoint = ALL_TABLES[name], LIVE if name in LIVE_TABLES else OPEN_WORK_CHECKPOINT
        if name not in known and folded.get(checkpoint) == 0 and await has_shape(database, table):
            await database.fetch(_REMEMBER, name, table.fingerprint)  # as the migration made it: empty
        else:
            kept.append(name)
    return kept


_REMEMBER = (
    "INSERT INTO projection_tables (name, fingerprint) VALUES ($1, $2)"
    " ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, folded_at = now()"
)


@define(slots=True)
class _Group:
    """Tables of one checkpoint that are rebuilt together. `is_whole`: they are all that move with it."""

    database: Database
    checkpoint: str
    tables: Mapping[str, Table]
    is_whole: bool = True
    filled: dict[str, Filled] = field(factory=dict)

    async def rebuild(self, on_progress: OnProgress | None) -> Rebuilt:
        began = trio.current_time()
        until = await self._start()
        self._report(on_progress, began, until)
        limit = trio.CapacityLimiter(FILLS_MAX)

        async def fill(name: str, table: Table) -> None:
            async with limit:
                self.filled[name] = await self.database.transact(
                    lambda connection: fill_table(connection, table, until), timeout_seconds=FILL_SECONDS_MAX
                )
            self._report(on_progress, began, until)

        try:
            async with trio.open_nursery() as nursery:
                for name, table in self.tables.items():
                    nursery.start_soon(fill, name, table)
        except BaseExceptionGroup as group:
            raise _first(group) from group
        await self._catch_up()
        position = await self._swap()
        return Rebuilt(names=tuple(self.tables), position=position, seconds=trio.current_time() - began)

    def _report(self, on_progress: OnProgress | None, began: float, until: int) -> None:
        if on_progress is None:
            return
        position = until * len(self.filled) // len(self.tables)
        seconds = trio.current_time() - began
        rate = position / seconds if seconds else 0.0
        on_progress(Progress(position=position, target=until, events_per_second=rate, done=tuple(self.filled)))

    async def _start(self) -> int:
        """Where the fill ends: at the head, or where other tables of the checkpoint stay, at the checkpoint."""
        if not self.is_whole:
            return await self._checkpoint()
        rows = await self.database.fetch("SELECT position FROM events ORDER BY position DESC LIMIT 1")
        return rows[0][0] if rows else 0

    async def _checkpoint(self) -> int:
        rows = await self.database.fetch("SELECT position FROM checkpoints WHERE name = $1", self.checkpoint)
        return rows[0][0] if rows else 0

    async def _catch_up(self) -> None:
        """Follow the live tables until the swap has little left to do."""
        for name, filled in self.filled.items():
            target = await self._checkpoint()
            while filled.position < target - NEAR_POSITIONS:
                until = min(target, filled.position + CATCH_UP_POSITIONS_MAX)
                filled = await self.database.transact(_catching_up(filled, until))
                target = await self._checkpoint()
            self.filled[name] = filled

    async def _swap(self) -> int:
        for left in reversed(range(SWAP_TRIES_MAX)):
            try:
                return await self.database.transact(self._swap_all)
            except (StoreTimeout, SqlError) as exc:
                deadlock = isinstance(exc, SqlError) and exc.sqlstate == "40P01"
                if left == 0 or (isinstance(exc, SqlError) and not deadlock):
                    raise
            await trio.sleep(SWAP_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def _swap_all(self, connection: Connection) -> int:
        """In the database thread, in one transaction."""
        await connection.execute(f"SET LOCAL lock_timeout = {SWAP_LOCK_MILLISECONDS}")
        checkpoint: int = await connection.fetchval(
            "SELECT position FROM checkpoints WHERE name = $1 FOR UPDATE", self.checkpoint
        )
        position = max(checkpoint, *(filled.position for filled in self.filled.values()))
        for name, filled in self.filled.items():
            await catch_up_table(connection, filled, position)
            await swap_table(connection, filled)
            await connection.execute(_REMEMBER, name, filled.table.fingerprint)
        await connection.execute("UPDATE checkpoints SET position = $2 WHERE name = $1", self.checkpoint, position)
        return position


def _catching_up(filled: Filled, until: int) -> Callable[[Connection], Awaitable[Filled]]:
    return lambda connection: catch_up_table(connection, filled, until)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason, not its companions."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
