"""The `Database` port over a single connection, and the six tables in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from eventstore.postgres.errors import translated
from projections.compile_sql import create_table_statements
from projections.queries import Row
from projections.query_fields import COLLECTIONS, Collection

T = TypeVar("T")


class LoopDatabase:
    """`Database.fetch` over one connection, for code outside trio: `wait` runs a coroutine. Counts the statements."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.connection: Any = self.wait(asyncpg.connect(url, server_settings={"jit": "off", "timezone": "UTC"}))
        self.statements = 0

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.wait(self.connection.close())
        self._runner.close()

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]:
        self.statements += 1
        with translated():
            rows: Sequence[Any] = await self.connection.fetch(sql, *args)
            return rows


class ScratchDatabase(LoopDatabase):
    """With the six tables as temporary ones."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        for known in COLLECTIONS.values():
            for statement in create_table_statements(known.table, "pg_temp"):
                self.wait(self.connection.execute(statement))

    def fill(self, known: Collection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Let the table hold these rows only."""
        name = known.table.name
        text = json.dumps([{column: _plain(value) for column, value in row.items()} for row in rows])
        self.wait(self.connection.execute(f"TRUNCATE {name}"))
        insert = f"INSERT INTO {name} SELECT * FROM jsonb_populate_recordset(NULL::{name}, $1::jsonb)"
        self.wait(self.connection.execute(insert, text))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


@contextmanager
def scratch_database(url: str) -> Iterator[ScratchDatabase]:
    opened = ScratchDatabase(url)
    try:
        yield opened
    finally:
        opened.close()


def a_row(known: Collection, **values: Any) -> Row:
    """A row with nulls wherever nothing is given."""
    unknown = values.keys() - known.columns.keys()
    assert not unknown, f"{known.name} have no {sorted(unknown)}"
    return {column: values.get(column) for column in known.columns}
