"""The writer's own connection, in the database thread: one prepared statement, kept open, reopened when lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from eventstore.errors import EventStoreError, StoreTimeout, StoreUnavailable
from eventstore.postgres.batch import Columns, Verdict
from eventstore.postgres.connection import Connect, silence_limit, uncancelled
from eventstore.postgres.errors import translated, was_refused
from eventstore.postgres.statements import statement

T = TypeVar("T")

Wanted = tuple[int, str, int, int]
"""(append, stream, after version, until version): the versions a lost append wanted to write."""

Stored = tuple[int, str, UUID, int, datetime]
"""(append, stream, event id, position, recorded at)."""

SILENCE_SECONDS = 1.0
"""Beyond PostgreSQL's own limit: everything waits for this connection, so one that says nothing is given up soon."""


class WriterConnection:
    """Errors tell what is known: `StoreUnavailable` = nothing was written, `StoreTimeout` = perhaps it was."""

    def __init__(self, connect: Connect, origin: Callable[[], str], seconds: float) -> None:
        self._connect = connect
        self._origin = origin
        self._seconds = seconds
        self._connection: Any = None
        self._append: Any = None

    async def append(self, columns: Columns) -> Verdict:
        connection = await self._open()
        with silence_limit(connection, self._seconds, SILENCE_SECONDS):
            try:
                with translated():
                    row = await uncancelled(connection, self._append.fetchrow(*columns.arguments(), self._origin()))
            except StoreUnavailable as exc:
                raise self._lost(exc if was_refused(exc) else StoreTimeout(f"the answer was lost: {exc}")) from exc
            except StoreTimeout as exc:  # ended by the server's timeout, and therefore rolled back
                raise StoreUnavailable(f"the append took too long: {exc}") from exc
        lost = dict(zip(row["lost_claim"] or (), row["lost_actual"] or (), strict=True))
        return Verdict(row["head"], row["appended"], row["recorded_at"], lost)

    async def recorded_ids(self, wanted: Sequence[Wanted]) -> Sequence[Stored]:
        """The events that stand at the wanted versions."""
        columns = [list(column) for column in zip(*wanted, strict=True)]
        rows = await self._read("recorded_ids", *columns)
        return [(row[0], row[1], UUID(bytes=row[2].bytes), row[3], row[4]) for row in rows]

    async def extend(self, ahead: int, size: int) -> int:
        """Make room for `ahead` events after the head, in partitions of `size`; the first position that has none."""
        rows = await self._read("extend_events", ahead, size)
        bound: int = rows[0][0]
        return bound

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _read(self, name: str, *args: Any) -> Any:
        connection = await self._open()
        with silence_limit(connection, self._seconds, SILENCE_SECONDS):
            try:
                with translated():
                    return await uncancelled(connection, connection.fetch(statement(name), *args))
            except StoreUnavailable as exc:
                raise self._lost(exc) from exc

    async def _open(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            connection = await self._connect()
            try:
                with translated(), silence_limit(connection, self._seconds, SILENCE_SECONDS):
                    self._append = await connection.prepare(statement("append"))
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _lost(self, error: EventStoreError) -> EventStoreError:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        return error
