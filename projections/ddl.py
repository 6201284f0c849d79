"""A definition as DDL: the table, its primary key, its default partition, its indexes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from projections.definition import Kind, Table, kind_of
from projections.expressions import quoted

_USING = re.compile(r"USING \w+ \((\w+) \w+\)")


def create_table_statements(table: Table, schema: str = "") -> Sequence[str]:
    """DDL of the table, its primary key, its default partition and its indexes."""
    name = _qualified(table.name, schema)
    if table.partition_by is None:
        create = [f"CREATE TABLE {name} ({_columns(table)}) WITH (fillfactor = 80)"]
    else:
        default = _qualified(default_partition(table), schema)
        create = [
            create_parent_statement(table, schema),
            f"CREATE TABLE {default} PARTITION OF {name} DEFAULT WITH (fillfactor = 80)",
        ]
    return [*create, *index_statements(table, schema)]


def create_parent_statement(table: Table, schema: str = "") -> str:
    """DDL of a partitioned table alone, without partitions."""
    partitioning = f"PARTITION BY RANGE ({quoted(table.partition_by or '')})"
    return f"CREATE TABLE {_qualified(table.name, schema)} ({_columns(table)}) {partitioning}"


def default_partition(table: Table) -> str:
    return f"{table.name}_default"


def index_statements(table: Table, schema: str = "") -> Sequence[str]:
    """DDL of the table's primary key and indexes."""
    name = _qualified(table.name, schema)
    key = ", ".join(quoted(column) for column in conflict_columns(table))
    indexes = [f"CREATE INDEX {quoted(index_name(table, each))} ON {name} {_method(each)}" for each in table.indexes]
    return [f"ALTER TABLE {name} ADD CONSTRAINT {quoted(table.name + '_pkey')} PRIMARY KEY ({key})", *indexes]


def index_name(table: Table, columns: str) -> str:
    """A name that people's own indexes (`idx_sched_…`) do not take."""
    if (found := _USING.fullmatch(columns)) is not None:
        return f"{table.name}_within_{found[1]}"
    return f"{table.name}_by_{'_'.join(part.split()[0] for part in columns.split(','))}"


def _method(columns: str) -> str:
    return columns if _USING.fullmatch(columns) else f"({columns})"


def conflict_columns(table: Table) -> Sequence[str]:
    return (table.key,) if table.partition_by is None else (table.key, table.partition_by)


def _columns(table: Table) -> str:
    columns = [(table.key, table.key_kind), *((item.name, kind_of(item)) for item in table.items)]
    return ", ".join(f"{quoted(name)} {_column_type(kind)}" for name, kind in columns)


def _qualified(name: str, schema: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def _column_type(kind: Kind) -> str:
    return 'text COLLATE "C"' if kind is Kind.TEXT else kind.value
