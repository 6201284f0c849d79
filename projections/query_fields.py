"""The fields that pages filter and sort by, as data: REST contract §6.3, over the columns of the definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen

from projections.definition import Kind, Table, kind_of
from projections.tables import LIVE_TABLES


class FieldType(Enum):
    """What a field holds, as far as operators care."""

    STRING = "string"
    INTEGER = "integer"
    TIME = "time"
    UUID = "uuid"
    BOOLEAN = "boolean"
    JSON = "JSON"
    ARRAY = "array"


@frozen(slots=True, kw_only=True)
class Field:
    """One field. `sql` computes it from a row; `nullable`: it can be null, which costs its cursors a wider condition."""

    name: str
    type: FieldType
    sql: str
    nullable: bool = True
    aliases: Sequence[str] = ()

    @property
    def is_sortable(self) -> bool:
        return self.type not in (FieldType.JSON, FieldType.ARRAY)


@frozen(slots=True)
class Collection:
    """A table and its fields."""

    name: str
    table: Table
    fields: Sequence[Field]
    columns: Mapping[str, Kind] = field(init=False, repr=False)
    """Of a row, in its order."""
    encoded: Sequence[tuple[str, Kind]] = field(init=False, repr=False)
    """The columns that do not come out of the database as rows have them."""
    _by_name: Mapping[str, Field] = field(init=False, repr=False)

    @columns.default
    def _columns(self) -> Mapping[str, Kind]:
        return {self.table.key: self.table.key_kind, **{item.name: kind_of(item) for item in self.table.items}}

    @encoded.default
    def _encoded(self) -> Sequence[tuple[str, Kind]]:
        return [(name, kind) for name, kind in self.columns.items() if kind in (Kind.UUID, Kind.JSON)]

    @_by_name.default
    def _names(self) -> Mapping[str, Field]:
        return {name: known for known in self.fields for name in (known.name, *known.aliases)}

    def field(self, name: str) -> Field:
        """The field of that name or alias.

        Raises:
          ValueError: there is none.
        """
        known = self._by_name.get(name)
        if known is None:
            raise ValueError(f"{self.name} have no field {name!r}")
        return known


def _columns(kind: FieldType, names: str) -> Iterator[Field]:
    """Fields that are columns of the same name; `name?` can be null, `name=other` has another name too."""
    for text in names.split():
        name, _, alias = text.partition("=")
        column = name.rstrip("?")
        yield Field(
            name=column,
            type=kind,
            sql=f'"{column}"',
            nullable=name.endswith("?"),
            aliases=(alias,) if alias else (),
        )


def _collection(name: str, *groups: Iterator[Field] | Sequence[Field]) -> Collection:
    return Collection(name, LIVE_TABLES[name], [each for group in groups for each in group])


COLLECTIONS: Final[Mapping[str, Collection]] = {
    collection.name: collection
    for collection in (
        _collection(
            "jobs",
            _columns(FieldType.STRING, "name namespace_id description? agent_id?"),
            _columns(FieldType.INTEGER, "status"),
            _columns(FieldType.TIME, "created_at updated_at=last_heartbeat_at"),
            _columns(FieldType.UUID, "id"),
            _columns(FieldType.JSON, "config? upstream?"),
        ),
        _collection(
            "schedules",
            _columns(FieldType.STRING, "name? cron_expression? timezone event_type?"),
            _columns(FieldType.INTEGER, "schedule_kind=kind status priority interval_secs? max_count?"),
            _columns(FieldType.TIME, "start_time? end_time? next_run_at? last_run_at? created_at updated_at"),
            _columns(FieldType.UUID, "id job_id"),
            (Field(name="enabled", type=FieldType.BOOLEAN, sql='("status" = 100)', nullable=False),),
            _columns(FieldType.ARRAY, "exclude_calendars"),
        ),
        _collection(
            "tasks",
            _columns(FieldType.STRING, "name? namespace_id trigger"),
            _columns(FieldType.INTEGER, "status schedule_kind priority retry_count attempt"),
            _columns(FieldType.TIME, "scheduled_at completed_at? locked_at? next_retry_at? created_at updated_at"),
            _columns(FieldType.UUID, "id job_id schedule_id? flow_run_id? backfill_id?"),
            (Field(name="task_config", type=FieldType.JSON, sql='"config"', aliases=("config",)),),
            _columns(FieldType.JSON, "parameters?"),
        ),
        _collection(
            "task_instances",
            _columns(FieldType.STRING, "agent_id? error_message? reason?"),
            _columns(FieldType.INTEGER, "status exit_code? attempt"),
            _columns(FieldType.TIME, "started_at? completed_at? created_at updated_at"),
            _columns(FieldType.UUID, "id task_id job_id"),
            _columns(FieldType.BOOLEAN, "external"),
        ),
        _collection(
            "agents",
            _columns(FieldType.STRING, "id name address namespace_id description?"),
            _columns(FieldType.INTEGER, "status"),
            _columns(FieldType.TIME, "last_heartbeat_at created_at updated_at"),
            _columns(FieldType.BOOLEAN, "draining"),
            (Field(name="labels", type=FieldType.JSON, sql="(\"capabilities\" -> 'labels')"),),
        ),
        _collection(
            "servers",
            _columns(FieldType.STRING, "id name address description?"),
            _columns(FieldType.INTEGER, "status"),
            _columns(FieldType.TIME, "last_heartbeat_at created_at updated_at"),
            _columns(FieldType.ARRAY, "bind_namespaces?"),
        ),
        _collection(
            "calendars",
            _columns(FieldType.STRING, "id description? timezone"),
            _columns(FieldType.TIME, "imported_until_at? created_at updated_at"),
        ),
        _collection(
            "flows",
            _columns(FieldType.STRING, "name namespace_id trigger"),
            _columns(FieldType.INTEGER, "status task_count"),
            _columns(FieldType.TIME, "nominal_at? completed_at? retried_at? created_at updated_at"),
            _columns(FieldType.UUID, "id job_id schedule_id?"),
            _columns(FieldType.JSON, "parameters?"),
        ),
        _collection(
            "backfills",
            _columns(FieldType.STRING, "status"),
            _columns(FieldType.INTEGER, "total made left_out succeeded failed cancelled"),
            _columns(FieldType.TIME, "from_at until_at created_at updated_at finished_at?"),
            _columns(FieldType.UUID, "id schedule_id job_id"),
        ),
    )
}
