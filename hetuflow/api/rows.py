"""The tables as the API reads them: its page requests as the projections' queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from eventstore.postgres.database import Database
from hetuflow.api.filters import PageRequest
from hetuflow.api.rooms import BadCursor, Row, RowPage
from projections import queries
from projections.past import PastTables
from projections.queries import Condition, CursorError, Order, Query
from projections.rebuilds import Rebuilds, Underway
from projections.runner import Runner
from projections.status import ProjectionStatus

Reached = Callable[[int, float], Awaitable[int]]
"""(position, seconds) -> the position the tables show, once that is at least `position` or the seconds are over."""

_STREAMS = "SELECT stream_id, version FROM streams WHERE stream_id >= $1 AND stream_id < $2 ORDER BY stream_id"


@frozen(slots=True)
class ProjectionRows:
    """Implements `hetuflow.api.rooms.Rows` over PostgreSQL."""

    database: Database
    past: PastTables
    wait_until: Reached
    status: Callable[[], Sequence[ProjectionStatus]] | None = None
    """Where given, a stalled projection is told in `/system/health`."""

    async def reached(self, position: int, seconds: float) -> int:
        return await self.wait_until(position, seconds)

    async def page(self, collection: str, request: PageRequest) -> RowPage:
        try:
            found = await queries.page(self.database, collection, query_of(request))
        except CursorError as error:
            raise BadCursor(str(error)) from error
        return RowPage(rows=found.rows, total=found.total, has_more=found.has_more, next=found.next)

    async def page_at(self, collection: str, request: PageRequest, position: int) -> RowPage:
        try:
            found = await self.past.page(collection, query_of(request), position)
        except CursorError as error:
            raise BadCursor(str(error)) from error
        return RowPage(rows=found.rows, total=found.total, has_more=found.has_more, next=found.next)

    async def get_at(self, collection: str, key: str, position: int) -> Row | None:
        return await self.past.get(collection, key, position)

    async def get(self, collection: str, key: str) -> Row | None:
        return await queries.get(self.database, collection, key)

    async def tally(self, collection: str, column: str) -> Mapping[Any, int]:
        return await queries.tally(self.database, collection, column)

    async def streams(self, prefix: str) -> Mapping[str, int]:
        rows = await self.database.fetch(_STREAMS, prefix, prefix + "\x7f")
        return {row["stream_id"]: row["version"] for row in rows}

    def connections(self) -> int:
        return self.database.connections

    def stall(self) -> str | None:
        stalled = (each for each in (self.status() if self.status is not None else ()) if each.error is not None)
        return next((f"{each.name}: {each.error}" for each in stalled), None)


def query_of(request: PageRequest) -> Query:
    """The request as the projections' query."""
    return Query(
        any_of=[
            [Condition(each.field.name, each.operator, each.value, each.path) for each in alternative]
            for alternative in request.alternatives
        ],
        order=[Order(order.field.name, order.is_descending) for order in request.orders],
        limit=request.limit,
        offset=request.offset,
        after=request.after,
    )


@frozen(slots=True)
class ProjectionTables:
    """Implements `hetuflow.api.rooms.Projections`."""

    runner: Runner
    rebuilds: Rebuilds

    def status(self) -> Sequence[ProjectionStatus]:
        return self.runner.status()

    @property
    def underway(self) -> Mapping[str, Underway]:
        return self.rebuilds.underway

    def start(self, name: str) -> str:
        return self.rebuilds.start(name)
