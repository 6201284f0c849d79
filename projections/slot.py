"""What the pivot of a fold keeps per key: the newest event of a type and condition, and which of its parts are read."""

from __future__ import annotations

from collections.abc import Iterator

from projections.definition import (
    Column,
    Constant,
    Field,
    Mapped,
    ObjectOf,
    SecondsAsMillis,
    Source,
    Table,
    TimeAsMillis,
    When,
)
from projections.expressions import EventSql


class Slot:
    """The newest event of a type and condition; carried with its data only where a column reads them.

    Taking single members out before the pivot was rejected: it costs more than copying the data (500 000 events).
    """

    def __init__(self, name: str, *, metadata: bool) -> None:
        self.name, self.metadata = name, metadata
        self.data = self.more = False

    def reading(self, source: Source) -> EventSql:
        """Where a source finds the event's parts after the pivot; the slot will carry them."""
        for part in parts_of(source):
            if isinstance(part, Field | Mapped | SecondsAsMillis | TimeAsMillis):
                self.data = True
            elif not isinstance(part, Constant):
                self.more = True
        more = f"s.{self.name}[3]"
        return EventSql(
            f"s.{self.name}[2]",
            f"({more} ->> 'recorded_at')::timestamptz",
            f"({more} ->> 'version')::integer",
            f"({more} ->> 'stream_id')",
            f"({more} -> 'metadata')",
        )

    def newest(self) -> str:
        """What the pivot takes the maximum of."""
        if self.more:
            more = "'recorded_at', recorded_at, 'version', version, 'stream_id', stream_id"
            more += ", 'metadata', metadata" if self.metadata else ""
            return f"ARRAY[to_jsonb(position), data, jsonb_build_object({more})]"
        return "ARRAY[to_jsonb(position), data]" if self.data else "position"

    def unpacked(self, *, late: bool) -> str:
        """Its columns after the pivot; `late`: it counts only if it came after the row's creation, at `base`."""
        at = f"({self.name}[1])::bigint" if self.data or self.more else self.name
        at = f"CASE WHEN {at} >= base THEN {at} END" if late else at
        return f"{self.name}, {at} AS {self.name}_at"


def parts_of(source: Source) -> Iterator[Source]:
    """The source itself, or the sources of an object's members."""
    if isinstance(source, ObjectOf):
        for member in source.members.values():
            yield from parts_of(member)
    else:
        yield source


def sources_of(table: Table) -> Iterator[Source]:
    """Everything that the columns of a table, its key and its scope are read from."""
    yield table.key_source
    if table.scope_source is not None:
        yield table.scope_source
    for _, column in table.plain():
        if isinstance(column, Column):
            for source in column.sets.values():
                yield source.source if isinstance(source, When) else source
