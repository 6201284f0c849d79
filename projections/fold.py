"""The Python interpreter of a definition: tables folded from recorded events.

For the in-memory store, single entities and `as_of`. The compiled SQL is the other interpreter; both give the same rows.
Values are those that queries return: ids as text, aware datetimes, decoded JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from attrs import frozen

from eventstore.event import RecordedEvent
from projections.definition import (
    BIRTH,
    Born,
    Category,
    Column,
    Composite,
    Condition,
    Constant,
    Counter,
    Equals,
    Field,
    Item,
    Kind,
    Mapped,
    Mean,
    Metadata,
    NotNull,
    ObjectOf,
    Plain,
    Present,
    RecordedAt,
    SecondsAsMillis,
    Source,
    Streak,
    StreamId,
    Table,
    TimeAsMillis,
    Touched,
    TouchedVersion,
    Version,
    When,
)

Row = dict[str, Any]

_ABSENT = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(slots=True)
class Fact:
    """A recorded event, decoded once for all tables."""

    event: RecordedEvent
    data: Mapping[str, Any]
    metadata: Mapping[str, Any]


def decode(event: RecordedEvent) -> Fact:
    return Fact(event, json.loads(event.data), json.loads(event.metadata))


class TableFold:
    """The rows of one table, in memory. `apply` events in the order of their positions."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._rows: dict[Any, Row] = {}
        self._types = frozenset(table.event_types)
        self._touching = frozenset(table.touching_types)
        self._plain = dict(table.plain())

    def apply(self, fact: Fact) -> None:
        """Change the rows as this event says; an event that does not concern the table changes nothing."""
        table, type_ = self.table, fact.event.type
        if type_ not in self._types:
            return
        if type_ in table.removes and holds(table.removes[type_], fact):
            self._remove(fact)
        key = value_of(table.key_source, table.key_kind, fact)
        if key is None:
            return
        if type_ in table.ends and holds(table.ends[type_], fact):
            self._rows.pop(key, None)
            return
        row = self._rows.get(key)
        if row is None:
            if type_ not in table.creates or not holds(table.creates[type_], fact):
                return
            row = self._rows[key] = self._newborn(fact)
        for name, column in self._plain.items():
            _change(row, name, column, fact)
        if type_ in self._touching:
            row["+touched_at"], row["+version"] = fact.event.recorded_at, fact.event.version

    def row(self, key: Any) -> Row | None:
        """The row with this key, or None."""
        row = self._rows.get(key)
        return None if row is None else self._shown(key, row)

    def rows(self) -> Mapping[Any, Row]:
        """All rows by key."""
        return {key: self._shown(key, row) for key, row in self._rows.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def _remove(self, fact: Fact) -> None:
        table = self.table
        if table.scope is None or table.scope_source is None:
            self._rows.pop(value_of(table.key_source, table.key_kind, fact), None)
            return
        scope = value_of(table.scope_source, table.scope_kind, fact)
        for key in [key for key, row in self._rows.items() if row[table.scope] == scope]:
            del self._rows[key]

    def _newborn(self, fact: Fact) -> Row:
        born = fact.event.recorded_at
        row: Row = {"+born_at": born, "+touched_at": born, "+version": fact.event.version}
        for name, column in self._plain.items():
            initial = column.initial if isinstance(column, Column) else 0
            row[name] = born if initial is BIRTH else initial
        return row

    def _shown(self, key: Any, row: Row) -> Row:
        return {self.table.key: key, **{item.name: _show(item, row) for item in self.table.items}}


class Tables:
    """Several tables folded together, up to `position`."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.folds = {name: TableFold(table) for name, table in tables.items()}
        self.position = 0

    def apply(self, events: Iterable[RecordedEvent]) -> None:
        """Fold the events in; those at or below `position` are already in and are passed over."""
        for event in events:
            if event.position <= self.position:
                continue
            fact = decode(event)
            for fold in self.folds.values():
                fold.apply(fact)
            self.position = event.position


def holds(condition: Condition | None, fact: Fact) -> bool:
    """Whether the condition is true of the event; None always is."""
    match condition:
        case None:
            return True
        case Present(path):
            return _at(fact.data, path) is not _ABSENT
        case NotNull(path):
            return _at(fact.data, path) not in (_ABSENT, None)
        case Equals(path, value):
            found = _at(fact.data, path)
            return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)


def value_of(source: Source, kind: Kind, fact: Fact) -> Any:
    """What the source gives for this event, as a value of that kind."""
    return _SOURCES[type(source)](source, kind, fact)


def _change(row: Row, name: str, column: Plain, fact: Fact) -> None:
    type_ = fact.event.type
    match column:
        case Column(sets=sets):
            source = sets.get(type_)
            if isinstance(source, When):
                source = source.source if holds(source.condition, fact) else None
            if source is not None:
                row[name] = value_of(source, column.kind, fact)
        case Counter(adds=adds):
            add = adds.get(type_)
            if add is not None and holds(add.when, fact):
                amount = add.amount
                row[name] += amount if isinstance(amount, int) else value_of(amount, Kind.BIGINT, fact) or 0
        case Streak(grows=grows, resets=resets):
            if type_ in resets:
                row[name] = 0
            elif type_ in grows and holds(grows[type_], fact):
                row[name] += 1


def _show(item: Item, row: Row) -> Any:
    match item:
        case Composite(name=name, parts=parts):
            return {
                part.name: _mean(part, name, row) if isinstance(part, Mean) else row[f"{name}.{part.name}"]
                for part in parts
            }
        case Born():
            return row["+born_at"]
        case Touched():
            return row["+touched_at"]
        case TouchedVersion():
            return row["+version"]
        case _:
            return row[item.name]


def _mean(mean: Mean, composite: str, row: Row) -> float:
    count = sum(row[f"{composite}.{name}"] for name in mean.counts)
    return row[f"{composite}.{mean.total}"] / count if count else 0


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _field(source: Field, kind: Kind, fact: Fact) -> Any:
    found = _at(fact.data, source.path)
    return source.default if found is _ABSENT or found is None else _typed(found, kind)


def _metadata(source: Metadata, kind: Kind, fact: Fact) -> Any:
    found = _at(fact.metadata, source.path)
    return None if found is _ABSENT or found is None else _typed(found, kind)


def _mapped(source: Mapped, kind: Kind, fact: Fact) -> Any:
    found = _at(fact.data, source.path)
    return source.default if found is _ABSENT or found is None else source.values.get(_text(found), source.default)


def _seconds_as_millis(source: SecondsAsMillis, kind: Kind, fact: Fact) -> Any:
    found = _at(fact.data, source.path)
    return None if found is _ABSENT or found is None else int(Decimal(repr(found)) * 1000)


def _time_as_millis(source: TimeAsMillis, kind: Kind, fact: Fact) -> Any:
    found = _at(fact.data, source.path)
    if found is _ABSENT or found is None:
        return None
    return (datetime.fromisoformat(found) - _EPOCH) // timedelta(milliseconds=1)


def _object_of(source: ObjectOf, kind: Kind, fact: Fact) -> Any:
    return {name: value_of(member, Kind.JSON, fact) for name, member in source.members.items()}


_SOURCES: Mapping[type, Callable[[Any, Kind, Fact], Any]] = {
    Field: _field,
    Metadata: _metadata,
    Constant: lambda source, kind, fact: source.value,
    Mapped: _mapped,
    RecordedAt: lambda source, kind, fact: fact.event.recorded_at,
    Version: lambda source, kind, fact: fact.event.version,
    StreamId: lambda source, kind, fact: fact.event.stream_id,
    Category: lambda source, kind, fact: fact.event.category,
    SecondsAsMillis: _seconds_as_millis,
    TimeAsMillis: _time_as_millis,
    ObjectOf: _object_of,
}


def _text(value: Any) -> str:
    """As `->>` shows a JSON value."""
    return value if isinstance(value, str) else json.dumps(value)


def _typed(value: Any, kind: Kind) -> Any:
    match kind:
        case Kind.TEXT:
            return _text(value)
        case Kind.UUID:
            return str(UUID(value))
        case Kind.TIME:
            return datetime.fromisoformat(value).astimezone(UTC)
        case _:
            return value
