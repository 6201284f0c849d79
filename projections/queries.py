"""Reading the tables: a page of rows by filter and order, one row by its id, counts by value.

A query is a value; here it becomes one statement for the rows, and one for the count where the rows do not tell it.
The pages after the first are found by the sort keys of the last row shown (`cursors`), not by counting rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from attrs import frozen

from eventstore.errors import SqlError
from eventstore.postgres.database import Asked, Database
from projections import cursors
from projections.cursors import CursorError
from projections.definition import Kind
from projections.query_fields import COLLECTIONS, Collection, Field, FieldType
from projections.query_operators import FOLDS_CASE, OPERATORS, SQL_TYPES, Arguments

__all__ = ["COLLECTIONS", "Condition", "CursorError", "Order", "Page", "Query", "fetch", "get", "page", "tally"]

Row = dict[str, Any]
"""By column name: uuids as text, times aware, JSON decoded."""


@frozen(slots=True)
class Condition:
    """One comparison of a field with a value of its type.

    `operator` is canonical: camelCase, without `$`. `path` names members inside a JSON field, from outside in.
    """

    field: str
    operator: str
    value: Any
    path: Sequence[str] = ()


@frozen(slots=True)
class Order:
    field: str
    is_descending: bool = False


NEWEST_FIRST: Final = (Order("created_at", True),)


@frozen(slots=True, kw_only=True)
class Query:
    """Rows for which all conditions of at least one alternative hold; no alternatives: all rows.

    Args:
      order: of the rows; the id decides what it leaves open, in the direction of its last field. Empty: newest first.
        Nulls come last.
      limit: rows, at least 1.
      offset: rows to skip; has no place together with `after`.
      after: `Page.next` of the page before, of the same alternatives and order.
    """

    any_of: Sequence[Sequence[Condition]] = ()
    order: Sequence[Order] = ()
    limit: int = 20
    offset: int = 0
    after: str | None = None


@frozen(slots=True)
class Page:
    """`total` counts all matches, None when the query had a cursor; `next` is the cursor, None when no row follows."""

    rows: Sequence[Row]
    total: int | None
    has_more: bool
    next: str | None


async def page(database: Asked, collection: str | Collection, query: Query) -> Page:
    """The rows that a query asks for; `collection`: its name, or one over another table of the same columns.

    Raises:
      CursorError: `after` is malformed, or of another filter or order.
      ValueError: the query names a field or operator that the collection does not have.
      StoreUnavailable, StoreTimeout: the database could not be asked, or took too long.
    """
    known = COLLECTIONS[collection] if isinstance(collection, str) else collection
    keys = _keys(known, query.order)
    arguments = Arguments(await _folding(database, query))
    where = _where(known, query.any_of, arguments)
    counted = list(arguments.values)
    print_ = cursors.fingerprint(known.name, _canonical(query.any_of), [(k.field.name, k.is_descending) for k in keys])
    after = None
    if query.after is not None:
        after = _after(keys, cursors.decode(query.after, print_, [key.field for key in keys]), arguments)

    records = await fetch(database, _rows_statement(known, keys, [where, after], query, arguments), *arguments.values)
    found, has_more = records[: query.limit], len(records) > query.limit
    total = None
    if query.after is None:
        total = query.offset + len(found)
        if has_more or (query.offset and not found):
            count = await fetch(database, f"SELECT count(*) FROM {_table(known)}{_clause([where])}", *counted)
            # Rows may have gone or come between the two statements; never fewer than are shown.
            total = max(count[0][0], total + 1) if has_more else count[0][0]
    width = len(known.columns)
    following = cursors.encode(print_, found[-1][width:]) if has_more else None
    return Page([_row(known, record) for record in found], total, has_more, following)


async def get(database: Asked, collection: str | Collection, id: str) -> Row | None:
    """The row of that id, or None.

    Raises:
      StoreUnavailable, StoreTimeout.
    """
    known = COLLECTIONS[collection] if isinstance(collection, str) else collection
    if known.table.key_kind is Kind.UUID:
        try:
            UUID(id)
        except ValueError:
            return None
    type_ = known.table.key_kind.value
    records = await fetch(database, f'{_select(known)} WHERE "{known.table.key}" = $1::{type_}', id)
    return _row(known, records[0]) if records else None


async def tally(database: Database, collection: str, field: str) -> Mapping[Any, int]:
    """How many rows have each value of a field; raises what `page` raises."""
    known = COLLECTIONS[collection]
    sql = known.field(field).sql
    counts = await fetch(database, f"SELECT {sql}, count(*) FROM {_table(known)} GROUP BY 1")
    return {str(value) if isinstance(value, UUID) else value: count for value, count in counts}


# --- statements ------------------------------------------------------------------------------------------------------


@frozen(slots=True)
class _Key:
    """A field that rows are sorted by."""

    field: Field
    is_descending: bool

    @property
    def sql(self) -> str:
        return f'{self.field.sql} COLLATE "C"' if self.field.type is FieldType.STRING else self.field.sql

    @property
    def order(self) -> str:
        # "NULLS LAST" only where it says something: with it no index serves a descending order.
        nulls = " NULLS LAST" if self.field.nullable else ""
        return f"{self.sql} DESC{nulls}" if self.is_descending else self.sql


def _keys(known: Collection, order: Sequence[Order]) -> Sequence[_Key]:
    """The sort keys; the id is the last, and nothing after it could decide anything."""
    keys: list[_Key] = []
    for each in order or NEWEST_FIRST:
        field = known.field(each.field)
        if not field.is_sortable:
            raise ValueError(f"{known.name} cannot be sorted by {field.name}")
        if all(key.field is not field for key in keys):
            keys.append(_Key(field, each.is_descending))
        if field.name == known.table.key:
            return keys
    return [*keys, _Key(known.field(known.table.key), keys[-1].is_descending)]


def _table(known: Collection) -> str:
    return f'"{known.table.name}"'


def _select(known: Collection, more: Sequence[str] = ()) -> str:
    listed = ", ".join([*(f'"{column}"' for column in known.columns), *more])
    return f"SELECT {listed} FROM {_table(known)}"


def _rows_statement(
    known: Collection, keys: Sequence[_Key], conditions: Sequence[str | None], query: Query, arguments: Arguments
) -> str:
    """One row more than the limit is read: it tells whether there are more."""
    order = ", ".join(key.order for key in keys)
    limit = arguments.bind(query.limit + 1, "bigint")
    offset = f" OFFSET {arguments.bind(query.offset, 'bigint')}" if query.offset else ""
    select = _select(known, [key.field.sql for key in keys])
    return f"{select}{_clause(conditions)} ORDER BY {order} LIMIT {limit}{offset}"


def _clause(conditions: Sequence[str | None]) -> str:
    given = [f"({condition})" for condition in conditions if condition is not None]
    return f" WHERE {' AND '.join(given)}" if given else ""


def _where(known: Collection, any_of: Sequence[Sequence[Condition]], arguments: Arguments) -> str | None:
    """The filter, None when everything passes."""
    if not all(any_of):
        return None  # an alternative without conditions
    alternatives = [" AND ".join(f"({_condition(known, each, arguments)})" for each in all_of) for all_of in any_of]
    return " OR ".join(f"({each})" for each in alternatives) or None


def _condition(known: Collection, condition: Condition, arguments: Arguments) -> str:
    field = known.field(condition.field)
    operator = OPERATORS[field.type].get(condition.operator)
    if operator is None:
        raise ValueError(f"a {field.type.value} field has no operator {condition.operator!r}")
    it = field.sql
    if field.type is FieldType.JSON:
        inside = f"({it} #> {arguments.bind(list(condition.path), 'text[]')})" if condition.path else it
        it = f"nullif({inside}, 'null'::jsonb)"
    elif condition.path:
        raise ValueError(f"{field.name} is no JSON: there is nothing inside it")
    elif field.type is FieldType.STRING:
        it = f'({it} COLLATE "C")'
    return operator(it, condition.value, arguments)


def _canonical(any_of: Sequence[Sequence[Condition]]) -> Any:
    """The filter, in an order that does not depend on how it was written down."""
    alternatives = (
        sorted(
            json.dumps([each.field, list(each.path), each.operator, each.value], sort_keys=True, default=str)
            for each in all_of
        )
        for all_of in any_of
    )
    return sorted(alternatives)


def _after(keys: Sequence[_Key], values: Sequence[Any], arguments: Arguments) -> str:
    """The rows that follow the one with these key values, in the order of the keys."""
    bound = [
        None if value is None else arguments.bind(value, SQL_TYPES[key.field.type])
        for key, value in zip(keys, values, strict=True)
    ]
    directions = {key.is_descending for key in keys}
    if len(directions) == 1 and not any(key.field.nullable for key in keys):
        # One comparison of rows: an index on these columns starts right there.
        left, right = ", ".join(key.sql for key in keys), ", ".join(each or "" for each in bound)
        return f"({left}) {'<' if directions.pop() else '>'} ({right})"
    branches, equal = [], list[str]()
    for key, value in zip(keys, bound, strict=True):
        if value is None:
            equal.append(f"{key.sql} IS NULL")  # nulls are last: none comes after in this key
            continue
        beyond = f"{key.sql} {'<' if key.is_descending else '>'} {value}"
        if key.field.nullable:
            beyond = f"({beyond} OR {key.sql} IS NULL)"
        branches.append(" AND ".join([*equal, beyond]))
        equal.append(f"{key.sql} = {value}")
    follows = " OR ".join(f"({branch})" for branch in branches)
    if bound[0] is None or keys[0].field.nullable:
        return follows
    # Follows from the rest, but in a form that an index on the first key can start from.
    return f"{keys[0].sql} {'<=' if keys[0].is_descending else '>='} {bound[0]} AND ({follows})"


# --- reading ---------------------------------------------------------------------------------------------------------

_GONE: Final = frozenset({"42P01", "0A000"})
"""The table was renamed away; a prepared statement's result has changed its type."""
_INTERNAL: Final = "XX000"
_GONE_WHILE_READ: Final = ("could not open relation", "cache lookup failed")


def _met_a_swap(error: SqlError) -> bool:
    """Did the statement meet the moment in which a rebuilt table takes the place of the old one?"""
    return error.sqlstate in _GONE or (error.sqlstate == _INTERNAL and error.message.startswith(_GONE_WHILE_READ))


async def fetch(database: Asked, sql: str, *args: Any) -> Sequence[Any]:
    """Rows of one statement over the tables, also while a rebuilt table takes the place of the old one.

    Raises what `Database.fetch` raises.
    """
    try:
        return await database.fetch(sql, *args)
    except SqlError as error:
        if not _met_a_swap(error):
            raise
    return await database.fetch(sql, *args)  # the swap is one transaction: it has happened


_CONVERTERS: Final[Mapping[Kind, Callable[[Any], Any]]] = {Kind.UUID: str, Kind.JSON: json.loads}


def _row(known: Collection, record: Sequence[Any]) -> Row:
    row = dict(zip(known.columns, record, strict=False))  # the sort keys follow the columns
    for name, kind in known.encoded:
        if row[name] is not None:
            row[name] = _CONVERTERS[kind](row[name])
    return row


# --- upper and lower case --------------------------------------------------------------------------------------------

FOLDING: Final = ("pg_c_utf8", "C.utf8", "und-x-icu", "default")
"""Collations that know upper and lower case of all scripts, best first: built in since PostgreSQL 17, of the system, of
ICU. The last is the database's own, which may know ASCII alone."""

_foldings: WeakKeyDictionary[Asked, str] = WeakKeyDictionary()


async def _folding(database: Asked, query: Query) -> str:
    """The collation to fold case with; the database is asked once."""
    if not any(each.operator in FOLDS_CASE for all_of in query.any_of for each in all_of):
        return FOLDING[-1]
    known = _foldings.get(database)
    if known is None:
        sql = (
            "SELECT collname FROM pg_collation WHERE collname = ANY($1::text[]) AND pg_collation_is_visible(oid)"
            " AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))"
            " ORDER BY array_position($1::text[], collname::text) LIMIT 1"
        )
        known = (await database.fetch(sql, list(FOLDING)))[0][0]
        _foldings[database] = known
    return known
