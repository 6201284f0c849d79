"""A projection as data: a table, its key, and for each column which event sets it and from what.

Nothing here runs. `compile_sql` and `fold` are the two interpreters of these values, and a property test holds them
equal; whatever a definition can say, both must do.

The life of a row: a *creating* event makes it when it is absent (and otherwise only sets its columns), any other event
of the table changes it when it is there and does nothing when it is not, a *removing* event ends it. After a removal
a new creating event starts a new row with nothing of the old one in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import field, frozen

EventClass = type
"""An event class of the catalogue; its name is the stored type."""


class Kind(Enum):
    """The type of a column; the value is the SQL type."""

    TEXT = "text"
    INT = "integer"
    BIGINT = "bigint"
    FLOAT = "double precision"
    BOOL = "boolean"
    UUID = "uuid"
    TIME = "timestamptz"
    JSON = "jsonb"


def _path(path: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(path.split(".")) if isinstance(path, str) else tuple(path)


def _name(event: EventClass | str) -> str:
    return event if isinstance(event, str) else event.__name__


def _type_names(events: Sequence[EventClass | str]) -> tuple[str, ...]:
    return tuple(_name(event) for event in events)


def _names(events: Mapping[Any, Any]) -> Mapping[str, Any]:
    return {_name(event): value for event, value in events.items()}


# --- conditions on one event ---------------------------------------------------------------------------------------


@frozen(slots=True)
class Present:
    """The path exists in the event's data, be its value null or not."""

    path: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class NotNull:
    """The path exists in the event's data and is not null."""

    path: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class Equals:
    """The value at the path is this scalar."""

    path: tuple[str, ...] = field(converter=_path)
    value: str | int | bool


Condition = Present | NotNull | Equals


# --- where a value comes from --------------------------------------------------------------------------------------


@frozen(slots=True)
class Field:
    """A path in the event's data; `default` where it is absent or null."""

    path: tuple[str, ...] = field(converter=_path)
    default: Any = None


@frozen(slots=True)
class Metadata:
    """A path in the event's metadata."""

    path: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class Constant:
    """Always this value."""

    value: Any


@frozen(slots=True)
class Mapped:
    """The text at a path in the data, translated; `default` for any other text."""

    path: tuple[str, ...] = field(converter=_path)
    values: Mapping[str, Any]
    default: Any = None


@frozen(slots=True)
class RecordedAt:
    """When the store recorded the event."""


@frozen(slots=True)
class Version:
    """The event's version in its stream."""


@frozen(slots=True)
class StreamId:
    """The event's stream."""


@frozen(slots=True)
class Category:
    """The kind of the event's stream: what stands before the first hyphen."""


@frozen(slots=True)
class SecondsAsMillis:
    """A path to a number of seconds, as whole milliseconds, cut off."""

    path: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class TimeAsMillis:
    """A path to a time, as whole milliseconds since 1970, cut off."""

    path: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class ObjectOf:
    """A JSON object with these members."""

    members: Mapping[str, Source]


Source = (
    Field | Metadata | Constant | Mapped | RecordedAt | Version | StreamId | Category | SecondsAsMillis | TimeAsMillis
) | ObjectOf


@frozen(slots=True)
class When:
    """Sets the column only if the condition holds for the event; otherwise the event does not touch the column."""

    condition: Condition
    source: Source


# --- columns -------------------------------------------------------------------------------------------------------


@frozen(slots=True)
class _Birth:
    """The `recorded_at` of the event that made the row."""


BIRTH = _Birth()


@frozen(slots=True)
class Column:
    """The newest event among `sets` gives the value; `initial` holds from the row's creation until one does."""

    name: str
    kind: Kind
    sets: Mapping[str, Source | When] = field(converter=_names)
    initial: Any = None


@frozen(slots=True)
class Add:
    """What an event adds to a counter, if the condition holds."""

    amount: int | SecondsAsMillis | Field = 1
    when: Condition | None = None


@frozen(slots=True)
class Counter:
    """A sum over events since the row's creation."""

    name: str
    adds: Mapping[str, Add] = field(converter=_names)
    kind: Kind = Kind.BIGINT


@frozen(slots=True)
class Streak:
    """How many `grows` events happened since the last of `resets`."""

    name: str
    grows: Mapping[str, Condition | None] = field(converter=_names)
    resets: Mapping[str, None] = field(converter=_names)
    kind: Kind = Kind.BIGINT


@frozen(slots=True)
class Mean:
    """Derived, inside a `Composite`: one part divided by the sum of others; 0 when that is 0."""

    name: str
    total: str
    counts: Sequence[str]


@frozen(slots=True)
class Composite:
    """A JSON object whose members are columns in their own right: `SELECT *` shows one object, folds see its parts."""

    name: str
    parts: Sequence[Column | Counter | Streak | Mean]


@frozen(slots=True)
class Born:
    """A time column: `recorded_at` of the event that made the row."""

    name: str


@frozen(slots=True)
class Touched:
    """A time column: `recorded_at` of the last event that changed the row (those in `Table.silent` do not count)."""

    name: str


@frozen(slots=True)
class TouchedVersion:
    """An integer column: stream version of the last event that changed the row (`Table.silent` as above)."""

    name: str


Plain = Column | Counter | Streak
Item = Plain | Composite | Born | Touched | TouchedVersion


# --- tables --------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Table:
    """A table as a fold of single events.

    Args:
      name: of the table.
      key: name, kind and source of the key; an event whose key is null does not concern the table.
      items: the other columns, in their order.
      creates, removes: events that begin and end a row, each with its condition.
      scope: the column by which a removal finds rows (default: the key) and its source in *every* event of the table;
        all events of one row must agree in it.
      ends: events that end the one row of their own key, each with its condition; for tables whose removals have a scope.
      silent: events that change the row without counting as a change of the entity.
      indexes: the column lists of our own indexes, besides the primary key; a name may be followed by ` DESC`. Or a
        method with one column and its operators: `USING gin (config jsonb_path_ops)`.
      partition_by: a `Born` column by whose months people may partition; it becomes part of the primary key.
    """

    name: str
    key: str
    key_kind: Kind
    key_source: Source
    items: Sequence[Item]
    creates: Mapping[str, Condition | None] = field(converter=_names)
    removes: Mapping[str, Condition | None] = field(converter=_names)
    ends: Mapping[str, Condition | None] = field(converter=_names, factory=dict)
    scope: str | None = None
    scope_kind: Kind = Kind.UUID
    scope_source: Source | None = None
    silent: Sequence[str] = field(default=(), converter=_type_names)
    indexes: Sequence[str] = ()
    partition_by: str | None = None

    @property
    def column_names(self) -> Sequence[str]:
        return (self.key, *(item.name for item in self.items))

    def plain(self) -> Iterator[tuple[str, Plain]]:
        """Every column that a fold keeps, parts of composites as `column.part`."""
        for item in self.items:
            if isinstance(item, Composite):
                for part in item.parts:
                    if not isinstance(part, Mean):
                        yield f"{item.name}.{part.name}", part
            elif isinstance(item, Column | Counter | Streak):
                yield item.name, item

    @property
    def event_types(self) -> Sequence[str]:
        """All event types that concern the table, sorted."""
        types = {*self.creates, *self.removing_types}
        for _, column in self.plain():
            types.update(_types_of(column))
        return sorted(types)

    @property
    def removing_types(self) -> frozenset[str]:
        """The event types that end rows."""
        return frozenset((*self.removes, *self.ends))

    @property
    def touching_types(self) -> Sequence[str]:
        """The event types that count as a change of the entity, sorted."""
        return [name for name in self.event_types if name not in self.silent and name not in self.removing_types]

    @property
    def fingerprint(self) -> str:
        """Changes when the definition does: then the stored rows are no longer its fold, and the table is rebuilt."""
        return hashlib.sha256(f"{INTERPRETER_VERSION} {self!r}".encode()).hexdigest()[:16]


INTERPRETER_VERSION = 1
"""Raised when the interpreters begin to read the same definition in another way."""


def _types_of(column: Plain) -> Sequence[str]:
    match column:
        case Column():
            return list(column.sets)
        case Counter():
            return list(column.adds)
        case Streak():
            return [*column.grows, *column.resets]


def kind_of(item: Item) -> Kind:
    """The kind of a table's column."""
    match item:
        case Composite():
            return Kind.JSON
        case Born() | Touched():
            return Kind.TIME
        case TouchedVersion():
            return Kind.INT
        case Column() | Counter() | Streak():
            return item.kind


def same(name: str, *events: EventClass, default: Any = None) -> Mapping[EventClass, Source]:
    """The member of that name, in each of these events."""
    return {event: Field(name, default) for event in events}


def always(value: Any, *events: EventClass) -> Mapping[EventClass, Source]:
    """The same constant for each of these events."""
    return {event: Constant(value) for event in events}
