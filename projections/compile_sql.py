"""The SQL interpreter of a definition: one set-based statement per table and range of positions.

The shape, a pivot:

* `ev`     the events of the range that concern the table, with their row's key;
* `cuts`   per row (or scope), the last removal in the range;
* `lives`  per row, the position from which events count: 0 when the row is there already, else its first creation
           after the last removal;
* `pivot`  one aggregate per key and *slot* (event type and condition): the newest event of that slot, carried as
           `array[position, data]`, whose maximum is the newest one. No sorting, and it aggregates in parallel.
* then every column is taken from the slot with the greatest position among those that set it, else from the old row.

`max` of an array of jsonb is built in and compares the positions first; they are unique, so data are never compared.
An aggregate per column, or a custom "last value" aggregate, was rejected: half as fast with the width of our tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from projections.ddl import conflict_columns, create_table_statements
from projections.definition import (
    BIRTH,
    Born,
    Column,
    Composite,
    Condition,
    Counter,
    Item,
    Kind,
    Mean,
    Metadata,
    Plain,
    Source,
    Streak,
    Table,
    Touched,
    TouchedVersion,
    When,
    kind_of,
)
from projections.expressions import (
    RAW_EVENT,
    any_of,
    is_event,
    literal,
    quoted,
    read,
    source_sql,
    text_literal,
    types,
)
from projections.slot import Slot, parts_of, sources_of

__all__ = [
    "FOLD_SETTINGS",
    "CompiledTable",
    "compile_table",
    "create_table_statements",
    "fold_statement",
    "removals_statement",
]


@frozen(slots=True)
class CompiledTable:
    """The statements of a table. `apply` and `remove` take the range as `$1` (excluded) and `$2` (included).

    `remove` runs first, in the same transaction; it is needed only when the range holds one of `removing_types`, and
    neither is needed when it holds none of `event_types`.
    """

    table: Table
    target: str
    apply: str
    remove: str
    event_types: frozenset[str]
    removing_types: frozenset[str]


def compile_table(table: Table, target: str | None = None) -> CompiledTable:
    """Compile the live statements of a table; `target` is the table they write (default: the definition's name)."""
    target = target or quoted(table.name)
    return CompiledTable(
        table,
        target,
        _apply_statement(table, target),
        _remove_statement(table, target),
        frozenset(table.event_types),
        table.removing_types,
    )


FOLD_SETTINGS = {"work_mem": "256MB", "enable_nestloop": "off"}
"""For folds of a whole log. The planner takes rare types for rarer than they are, and would then read the log once per
row; nothing in such a fold is served by a nested loop."""


def fold_statement(table: Table, *, until: int, events: str = "events", removals: bool = True) -> str:
    """A SELECT of the table's rows, folded from all events up to and including a position.

    `removals` false promises that these hold no removal of the table: one join less over the whole log. Run it under
    `FOLD_SETTINGS`.
    """
    return _Fold(table, f"position <= {until:d}", None, events, removals=removals).select()


def removals_statement(table: Table, *, until: int) -> str:
    """A SELECT of one boolean, for `fold_statement`: do the events up to a position hold one that ends rows?"""
    if not table.removing_types:
        return "SELECT false"
    return f"SELECT EXISTS (SELECT FROM events WHERE position <= {until:d} AND {types(sorted(table.removing_types))})"


# --- the fold ------------------------------------------------------------------------------------------------------


class _Fold:
    """Builds the query of one table over one range; `old` is the table with the rows before it, None for none."""

    def __init__(self, table: Table, range_: str, old: str | None, events: str, *, removals: bool = True) -> None:
        self.table, self.range, self.old, self.events = table, range_, old, events
        self.removals = removals and bool(table.removing_types)
        self.metadata = any(isinstance(part, Metadata) for source in sources_of(table) for part in parts_of(source))
        # Sums need to know each row's life before they add up. The newest event of a slot does not: whether it came
        # after the row's creation is seen afterwards, which spares the whole log a join.
        self.late = old is None and all(isinstance(column, Column) for _, column in table.plain())
        self.slots: dict[tuple[str, Condition | None], Slot] = {}
        self.aggregates: list[str] = []
        self.items = [self._item(item) for item in table.items]

    def select(self) -> str:
        """The rows after the range, of all keys that the range concerns; with `old` None, of all keys."""
        shown = ", ".join([_shown(self.table.key, self.table.key_kind), *self._assembled()])
        return f"{self._with()}\nSELECT {shown}\nFROM (\n{self._values()}\n) AS v"

    # -- common table expressions

    def _with(self) -> str:
        kept = "MATERIALIZED" if self.old else "NOT MATERIALIZED"
        parts = [f"ev AS {kept} (\n{self._events()}\n)"]
        if self.removals and self.table.removes:
            parts.append(
                f"cuts AS (SELECT scope, max(position) AS cut FROM ev WHERE {any_of(self.table.removes)} GROUP BY scope)"
            )
        if self.removals and self.table.ends:
            parts.append(
                f"ended AS (SELECT key, max(position) AS ended FROM ev WHERE {any_of(self.table.ends)} GROUP BY key)"
            )
        if not self.late:
            parts.append(f"lives AS (\n{self._lives()}\n)")
        parts.append(f"pivot AS (\n{self._pivot()}\n)")
        return "WITH " + ",\n".join(parts)

    def _events(self) -> str:
        table = self.table
        columns = [f"{source_sql(table.key_source, table.key_kind, RAW_EVENT)} AS key"]
        if self.removals:
            scope_source = table.scope_source or table.key_source
            scope_kind = table.scope_kind if table.scope else table.key_kind
            columns.append(f"{source_sql(scope_source, scope_kind, RAW_EVENT)} AS scope")
        columns += ["position", "recorded_at", "version", "type", "data", "stream_id"]
        if self.metadata:  # commands make it as large as the data: carried only where a column reads it
            columns.append("metadata")
        listed = ", ".join(columns)
        return f"  SELECT {listed}\n  FROM {self.events} WHERE {self.range} AND {types(table.event_types)}"

    def _lives(self) -> str:
        table = self.table
        creation = any_of(table.creates)
        cut, after = self._after_cut()
        if self.old is None:
            return (
                f"  SELECT key, min(position) AS base, min(recorded_at) AS born FROM ev{cut}\n"
                f"  WHERE key IS NOT NULL AND {creation} AND {after} GROUP BY key"
            )
        key = quoted(table.key)
        return (
            f"  SELECT k.key, CASE WHEN o.{key} IS NULL THEN k.base ELSE 0 END AS base, k.born\n"
            f"  FROM (SELECT key, min(position) FILTER (WHERE {creation}) AS base,\n"
            f"          min(recorded_at) FILTER (WHERE {creation}) AS born\n"
            f"        FROM ev{cut} WHERE key IS NOT NULL AND {after} GROUP BY key) AS k\n"
            f"  {self._old_row('k', [self.table.key])}\n"
            f"  WHERE o.{key} IS NOT NULL OR k.base IS NOT NULL"
        )

    def _after_cut(self) -> tuple[str, str]:
        if not self.removals:
            return "", "true"
        joins, cuts = "", []
        if self.table.removes:
            joins += " LEFT JOIN cuts USING (scope)"
            cuts.append("cut")
        if self.table.ends:
            joins += " LEFT JOIN ended USING (key)"
            cuts.append("ended.ended")
        return joins, f"position > coalesce(greatest({', '.join(cuts)}), 0)"

    def _pivot(self) -> str:
        touching = types(self.table.touching_types)
        creation = any_of(self.table.creates)
        first = f"FILTER (WHERE {creation})"
        births = [f"min(position) {first} AS base", f"min(recorded_at) {first} AS born"]
        stamps = (
            *(births if self.late else ["min(born) AS born"]),
            f"max(recorded_at) FILTER (WHERE {touching}) AS touched_at",
            f"max(version) FILTER (WHERE {touching}) AS version",
        )
        slots = [
            f"max({slot.newest()}) FILTER (WHERE {is_event(type_, condition)}) AS {slot.name}"
            for (type_, condition), slot in self.slots.items()
        ]
        listed = ",\n    ".join(["key", *stamps, *slots, *self.aggregates])
        if self.late:
            cut, after = self._after_cut()
            having = f"HAVING min(position) FILTER (WHERE {creation}) IS NOT NULL"
            return f"  SELECT {listed}\n  FROM ev{cut} WHERE key IS NOT NULL AND {after} GROUP BY key {having}"
        return f"  SELECT {listed}\n  FROM ev JOIN lives USING (key)\n  WHERE position >= base GROUP BY key"

    # -- columns

    def _values(self) -> str:
        """Every kept column under its own name, from the slots and the old row."""
        inner = ", ".join(
            [
                "key, born, touched_at, version",
                *(slot.unpacked(late=self.late) for slot in self.slots.values()),
                *(aggregate.rpartition(" AS ")[2] for aggregate in self.aggregates),
            ]
        )
        key = quoted(self.table.key)
        listed = ",\n    ".join([f"s.key AS {key}", *(column for item in self.items for column in item)])
        # OFFSET 0 keeps the planner from computing each position again wherever it is used.
        query = f"  SELECT {listed}\n  FROM (SELECT {inner} FROM pivot OFFSET 0) AS s"
        return query if self.old is None else f"{query}\n  {self._old_row('s', self.table.column_names)}"

    def _old_row(self, other: str, columns: Sequence[str]) -> str:
        """Join the row there was. LIMIT makes it a look-up per key whatever the planner believes: a plan for unknown
        ranges expects thousands of keys and would read the whole table."""
        key = quoted(self.table.key)
        listed = ", ".join(f"o.{quoted(name)}" for name in columns)
        row = f"SELECT {listed} FROM {self.old} AS o WHERE o.{key} = {other}.key LIMIT 1"
        return f"LEFT JOIN LATERAL ({row}) AS o ON true"

    def _item(self, item: Item) -> Sequence[str]:
        name = quoted(item.name)
        match item:
            case Composite(parts=parts):
                return [
                    f"{self._plain(part, item.name)} AS {quoted(f'{item.name}.{part.name}')}"
                    for part in parts
                    if not isinstance(part, Mean)
                ]
            case Born():
                return [f"{self._or_old(name, 's.born')} AS {name}"]
            case Touched():
                return [f"coalesce(s.touched_at, {self._or_old(name, 's.born')}) AS {name}"]
            case TouchedVersion():
                return [f"coalesce(s.version, {self._or_old(name, 'NULL')}) AS {name}"]
            case Column() | Counter() | Streak():
                return [f"{self._plain(item)} AS {name}"]

    def _plain(self, column: Plain, composite: str | None = None) -> str:
        match column:
            case Column():
                return self._column(column, composite)
            case Counter():
                amount = self._aggregate(f"coalesce({_sum(column)}, 0)::{column.kind.value}", column.name)
                return f"({self._old(column, composite, '0')} + s.{amount})"
            case Streak():
                at = self._aggregate(
                    f"max(position) FILTER (WHERE {any_of(column.resets)})", f"{column.name} was reset"
                )
                grown = self._aggregate(f"array_agg(position) FILTER (WHERE {any_of(column.grows)})", column.name)
                count = f"(SELECT count(*) FROM unnest(s.{grown}) AS at WHERE at > coalesce(s.{at}, 0))"
                return f"(CASE WHEN s.{at} IS NULL THEN {self._old(column, composite, '0')} ELSE 0 END + {count})"

    def _column(self, column: Column, composite: str | None) -> str:
        initial = "s.born" if column.initial is BIRTH else literal(column.initial, column.kind)
        fallback = self._old(column, composite, initial)
        rules = [self._rule(type_, source, column.kind) for type_, source in sorted(column.sets.items())]
        if not rules:
            return fallback
        if len(rules) == 1:
            at, value = rules[0]
            return f"CASE WHEN {at} IS NOT NULL THEN {value} ELSE {fallback} END"
        newest = ", ".join(at for at, _ in rules)
        cases = " ".join(f"WHEN {at} THEN {value}" for at, value in rules)
        return f"CASE greatest({newest}) {cases} ELSE {fallback} END"

    def _rule(self, type_: str, source: Source | When, kind: Kind) -> tuple[str, str]:
        condition = source.condition if isinstance(source, When) else None
        plain = source.source if isinstance(source, When) else source
        new = Slot(f"e{len(self.slots)}", metadata=self.metadata)
        slot = self.slots.setdefault((type_, condition), new)
        return f"s.{slot.name}_at", source_sql(plain, kind, slot.reading(plain))

    def _old(self, column: Plain, composite: str | None, initial: str) -> str:
        if composite is None:
            return self._or_old(quoted(column.name), initial)
        return self._or_old(read(f"o.{quoted(composite)}", (column.name,), column.kind), initial, raw=True)

    def _or_old(self, column: str, initial: str, *, raw: bool = False) -> str:
        if self.old is None:
            return initial
        old = column if raw else f"o.{column}"
        if initial.startswith("NULL"):
            return old
        return f"CASE WHEN o.{quoted(self.table.key)} IS NULL THEN {initial} ELSE {old} END"

    def _aggregate(self, expression: str, name: str) -> str:
        alias = quoted(f"sum of {name}")
        self.aggregates.append(f"{expression} AS {alias}")
        return alias

    def _assembled(self) -> Iterator[str]:
        for item in self.table.items:
            if isinstance(item, Composite):
                parts = (f"{text_literal(part.name)}, {_part(item, part)}" for part in item.parts)
                yield f"jsonb_build_object({', '.join(parts)}) AS {quoted(item.name)}"
            else:
                yield _shown(item.name, kind_of(item))


def _shown(name: str, kind: Kind) -> str:
    return f'v.{quoted(name)} COLLATE "C" AS {quoted(name)}' if kind is Kind.TEXT else f"v.{quoted(name)}"


def _sum(counter: Counter) -> str:
    cases = []
    for type_, add in counter.adds.items():
        amount = str(add.amount) if isinstance(add.amount, int) else source_sql(add.amount, Kind.BIGINT, RAW_EVENT)
        cases.append(f"WHEN {is_event(type_, add.when)} THEN {amount}")
    return f"sum(CASE {' '.join(cases)} END)"


def _part(composite: Composite, part: Column | Counter | Streak | Mean) -> str:
    if not isinstance(part, Mean):
        return f"v.{quoted(f'{composite.name}.{part.name}')}"
    count = " + ".join(f"v.{quoted(f'{composite.name}.{name}')}" for name in part.counts)
    total = f"v.{quoted(f'{composite.name}.{part.total}')}"
    return f"CASE WHEN {count} = 0 THEN 0 ELSE {total}::double precision / ({count}) END"


def _apply_statement(table: Table, target: str) -> str:
    fold = _Fold(table, "position > $1 AND position <= $2", target, "events")
    columns = ", ".join(quoted(name) for name in table.column_names)
    conflict = conflict_columns(table)
    sets = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in table.column_names if n not in conflict)
    return (
        f"INSERT INTO {target} AS t ({columns})\n{fold.select()}\n"
        f"ON CONFLICT ({', '.join(quoted(name) for name in conflict)}) DO UPDATE SET {sets}"
    )


def _remove_statement(table: Table, target: str) -> str:
    source = table.scope_source or table.key_source
    kind = table.scope_kind if table.scope else table.key_kind
    scopes = (
        f"SELECT {source_sql(source, kind, RAW_EVENT)} FROM events"
        f" WHERE position > $1 AND position <= $2 AND {any_of(table.removes)}"
    )
    gone = f"t.{quoted(table.scope or table.key)} = ANY(ARRAY({scopes}))"
    if table.ends:
        keys = (
            f"SELECT {source_sql(table.key_source, table.key_kind, RAW_EVENT)} FROM events"
            f" WHERE position > $1 AND position <= $2 AND {any_of(table.ends)}"
        )
        gone += f" OR t.{quoted(table.key)} = ANY(ARRAY({keys}))"
    return f"DELETE FROM {target} AS t WHERE {gone}"
