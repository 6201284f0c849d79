"""A connection with the tables and the log as temporary ones, so that one database serves thousands of examples."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from eventstore.event import RecordedEvent
from projections.compile_sql import compile_table, fold_statement
from projections.ddl import create_table_statements
from projections.definition import Kind, Table, kind_of
from projections.fold import Row

T = TypeVar("T")


class Scratch:
    """Folds a table with the compiled statements on a connection of its own."""

    def __init__(self, url: str, tables: Iterable[Table]) -> None:
        self._runner = asyncio.Runner()
        self.connection: Any = self.run(asyncpg.connect(url, server_settings={"jit": "off", "timezone": "UTC"}))
        self.execute("CREATE TEMP TABLE events (LIKE public.events INCLUDING INDEXES)")
        for table in tables:
            for statement in create_table_statements(table, "pg_temp"):
                self.execute(statement)
        self._tables = [table.name for table in tables]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def execute(self, sql: str, *args: Any) -> None:
        self.run(self.connection.execute(sql, *args))

    def close(self) -> None:
        self.run(self.connection.close())
        self._runner.close()

    def load(self, events: Sequence[RecordedEvent]) -> None:
        """Replace the log, and empty the tables."""
        self.execute(f"TRUNCATE {', '.join(['events', *self._tables])}")
        rows = [
            (e.position, e.recorded_at, e.version, e.schema, e.event_id, e.stream_id, e.type, e.data, e.metadata)
            for e in events
        ]
        self.run(self.connection.executemany("INSERT INTO events VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)", rows))

    def fold(self, table: Table, until: int, *, removals: bool = True) -> dict[Any, Row]:
        """The rows by the statement of a rebuild."""
        return self._rows(table, fold_statement(table, until=until, removals=removals))

    def apply(self, table: Table, bounds: Sequence[int]) -> dict[Any, Row]:
        """The rows by the live statements, range after range between the bounds."""
        compiled = compile_table(table)
        for low, high in pairwise(bounds):
            self.execute(compiled.remove, low, high)
            self.execute(compiled.apply, low, high)
        return self._rows(table, f"SELECT * FROM {table.name}")

    def _rows(self, table: Table, sql: str) -> dict[Any, Row]:
        return {row[table.key]: row for row in (shown(table, row) for row in self.run(self.connection.fetch(sql)))}


def shown(table: Table, record: Any) -> Row:
    """A row as the Python fold has it."""
    kinds = {table.key: table.key_kind, **{item.name: kind_of(item) for item in table.items}}
    row = dict(record)
    assert list(row) == list(table.column_names)
    for name, value in row.items():
        if isinstance(value, UUID):
            row[name] = str(value)
        elif kinds[name] is Kind.JSON and value is not None:
            row[name] = json.loads(value)
        elif isinstance(value, datetime):
            assert value.tzinfo is not None
    return row


@contextmanager
def scratch(url: str, tables: Iterable[Table]) -> Iterator[Scratch]:
    opened = Scratch(url, list(tables))
    try:
        yield opened
    finally:
        opened.close()
