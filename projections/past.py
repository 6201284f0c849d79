"""The tables as they were at a position of the log: folded into temporary tables, and asked like the live ones.

One dedicated connection with a statement timeout, one question at a time, so that the past never competes with the
present for more than that. The newest few folds are kept, so that the pages of one moment cost one fold; what nobody
asks for a minute is dropped with the connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import evolve

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.postgres.database import Connection, Database, Session
from projections.compile_sql import FOLD_SETTINGS, fold_statement, removals_statement
from projections.expressions import quoted
from projections.queries import COLLECTIONS, Page, Query, Row, get, page
from projections.query_fields import Collection

FOLDS_MAX = 8
"""Tables kept at once."""

FOLD_SECONDS_MAX = 30.0
"""For one statement; a fold of some million events."""

TURN_SECONDS_MAX = 60.0
"""The longest wait for the questions before; with the fold itself within what clients and proxies wait for."""

IDLE_SECONDS_MAX = 60.0

_SET = "SELECT set_config($1, $2, true)"


class PastTables:
    """Pages and rows of any position up to the head of the log. The answer for a position never changes."""

    def __init__(self, database: Database, *, fold_seconds: float = FOLD_SECONDS_MAX) -> None:
        self._database = database
        self._fold_seconds = fold_seconds
        self._turn = trio.Lock()
        self._session: Session | None = None
        self._folds: OrderedDict[tuple[str, int], Collection] = OrderedDict()
        self._used = 0.0

    def __repr__(self) -> str:
        return f"<PastTables {len(self._folds)} folds kept>"

    async def page(self, collection: str, query: Query, position: int) -> Page:
        """The rows that the query asks for, as they were when `position` was the last event.

        Raises:
          StoreTimeout: it took too long, or others were before it for too long.
          What `queries.page` raises.
        """
        async with self._fold(collection, position) as (session, known):
            return await page(session, known, query)

    async def get(self, collection: str, key: str, position: int) -> Row | None:
        """The row of that id as it was then, or None. Raises what `page` raises."""
        async with self._fold(collection, position) as (session, known):
            return await get(session, known, key)

    async def run(self) -> None:
        """Give the connection back when nobody has asked for a while. Until cancelled."""
        try:
            while True:
                await trio.sleep(IDLE_SECONDS_MAX / 2)
                if self._session is not None and trio.current_time() - self._used > IDLE_SECONDS_MAX:
                    async with self._turn:
                        await self._forget()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2.0):
                await self._forget()

    @asynccontextmanager
    async def _fold(self, collection: str, position: int) -> AsyncIterator[tuple[Session, Collection]]:
        with trio.move_on_after(TURN_SECONDS_MAX) as patience:
            await self._turn.acquire()
        if patience.cancelled_caught:
            raise StoreTimeout("others are looking at the past; try again")
        try:
            yield await self._prepared(collection, position)
        except (StoreUnavailable, StoreTimeout, trio.Cancelled):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2.0):
                await self._forget()  # the connection is lost, or in the middle of something
            raise
        finally:
            self._used = trio.current_time()
            self._turn.release()

    async def _prepared(self, collection: str, position: int) -> tuple[Session, Collection]:
        if self._session is not None and self._session.is_closed:
            await self._forget()
        if self._session is None:
            self._session = await self._database.open_session("past", timeout_seconds=self._fold_seconds)
        session = self._session
        known = self._folds.get((collection, position))
        if known is None:
            while len(self._folds) >= FOLDS_MAX:
                _, oldest = self._folds.popitem(last=False)
                await session.fetch(f"DROP TABLE IF EXISTS {quoted(oldest.table.name)}")
            plain = COLLECTIONS[collection]
            known = evolve(plain, table=evolve(plain.table, name=f"{plain.table.name}@{position}"))
            await session.transact(lambda connection: _fill(connection, plain, known, position))
            self._folds[collection, position] = known
        self._folds.move_to_end((collection, position))
        return session, known

    async def _forget(self) -> None:
        session, self._session = self._session, None
        self._folds.clear()
        if session is not None:
            await session.close()


async def _fill(connection: Connection, plain: Collection, known: Collection, position: int) -> None:
    """In the database thread."""
    table, name = plain.table, quoted(known.table.name)
    for setting, value in FOLD_SETTINGS.items():
        await connection.fetch(_SET, setting, value)
    removals = await connection.fetchval(removals_statement(table, until=position))
    await connection.execute(f"CREATE TEMP TABLE {name} AS {fold_statement(table, until=position, removals=removals)}")
    await connection.execute(f"CREATE INDEX ON {name} ({quoted(table.key)})")
    await connection.execute(f"ANALYZE {name}")
