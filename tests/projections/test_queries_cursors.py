"""Cursors serve one filter and order and are refused otherwise; a read that meets a table swap is repeated once."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import SqlError, StoreUnavailable
from eventstore.postgres import PostgresStore, open_postgres_store
from eventstore.postgres.database import Connection, Database
from projections import cursors
from projections.compile_sql import create_table_statements, quoted
from projections.queries import Condition, CursorError, Order, Query, get, page
from projections.query_fields import COLLECTIONS
from tests.projections.builders import an_id
from tests.projections.query_database import ScratchDatabase, a_row, scratch_database
from tests.support.postgres import Server

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TASKS = COLLECTIONS["tasks"]
QUERY = Query(
    any_of=[[Condition("status", "in", [1, 10]), Condition("name", "startsWith", "t")]],
    order=[Order("name"), Order("completed_at", True), Order("priority")],
    limit=2,
)


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> Iterator[ScratchDatabase]:
    url = postgres_server.fresh_database()
    with scratch_database(url) as opened:
        rows = [a_row(TASKS, id=an_id(n), created_at=START, status=1, name="t", priority=1) for n in range(5)]
        opened.fill(TASKS, rows)
        yield opened
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def cursor(database: ScratchDatabase) -> str:
    found = database.wait(page(database, "tasks", QUERY)).next
    assert found is not None
    return found


def ask(database: ScratchDatabase, query: Query, after: str) -> Any:
    return database.wait(page(database, "tasks", attrs.evolve(query, after=after)))


def forged(cursor: str, **changes: Any) -> str:
    document = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    document.update(changes)
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def test_a_cursor_is_url_safe_and_serves_its_query_at_any_limit(database: ScratchDatabase, cursor: str) -> None:
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert len(ask(database, attrs.evolve(QUERY, limit=3), cursor).rows) == 3


def test_the_order_in_which_a_filter_is_written_does_not_matter(database: ScratchDatabase, cursor: str) -> None:
    (conditions,) = QUERY.any_of
    turned = attrs.evolve(QUERY, any_of=[tuple(reversed(conditions))])
    assert len(ask(database, turned, cursor).rows) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"any_of": ()},
        {"any_of": [[Condition("status", "in", [1, 15])]]},
        {"order": QUERY.order[:2]},
        {"order": [*QUERY.order[:2], Order("priority", True)]},
        {"order": ()},
    ],
)
def test_a_cursor_of_another_filter_or_order_is_refused(
    database: ScratchDatabase, cursor: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(CursorError, match="another filter or order"):
        ask(database, attrs.evolve(QUERY, **changes), cursor)


def test_a_cursor_of_another_collection_is_refused(database: ScratchDatabase) -> None:
    query = Query(limit=2)
    after = database.wait(page(database, "tasks", query)).next
    with pytest.raises(CursorError, match="another filter or order"):
        database.wait(page(database, "jobs", attrs.evolve(query, after=after)))


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["t", None, 1],
        ["t", None, 1, an_id(1), 1],
        [None, None, 1, None],
        ["t", None, None, an_id(1)],
        [1, None, 1, an_id(1)],
        ["t\0", None, 1, an_id(1)],
        ["\ud800", None, 1, an_id(1)],
        ["t", "2026-03-01T12:00:00", 1, an_id(1)],
        ["t", "0001-01-01T00:00:00+23:00", 1, an_id(1)],
        ["t", 5, 1, an_id(1)],
        ["t", None, 2**63, an_id(1)],
        ["t", None, True, an_id(1)],
        ["t", None, 1.0, an_id(1)],
        ["t", None, 1, "nobody"],
        ["t", None, 1, 7],
        [{"a": 1}, None, 1, an_id(1)],
        "t",
    ],
)
def test_forged_keys_are_refused_before_the_database_sees_them(
    database: ScratchDatabase, cursor: str, keys: Any
) -> None:
    before = database.statements
    with pytest.raises(CursorError, match="is not a cursor"):
        ask(database, QUERY, forged(cursor, k=keys))
    assert database.statements == before


def test_extreme_keys_of_the_right_type_are_a_place_in_the_list(database: ScratchDatabase, cursor: str) -> None:
    for keys in (["", "0001-01-01T00:00:00+00:00", -(2**63), an_id(1)], ["\U0010ffff", None, 2**63 - 1, an_id(1)]):
        ask(database, QUERY, forged(cursor, k=keys))


@given(text=st.text(max_size=40) | st.binary(max_size=40).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        cursors.decode(text, "0123456789abcdef", [TASKS.field("id")])


@pytest.mark.parametrize("document", ["[" * 100_000, "{}", "[]", '{"q": 1}', '{"q": "x", "k": []}', "null"])
def test_documents_that_are_no_cursor_are_refused(document: str) -> None:
    text = base64.urlsafe_b64encode(document.encode()).decode()
    with pytest.raises(CursorError):
        cursors.decode(text, "0123456789abcdef", [TASKS.field("id")])


# --- rebuilds --------------------------------------------------------------------------------------------------------


class Failing:
    """A database whose first statements fail."""

    def __init__(self, database: Database, *errors: Exception) -> None:
        self._database, self._errors = database, list(errors)

    async def fetch(self, sql: str, *args: Any, **_: Any) -> Sequence[Any]:
        if self._errors:
            raise self._errors.pop(0)
        return await self._database.fetch(sql, *args)


UNDEFINED = SqlError("42P01", 'relation "sched_task" does not exist')
STALE = SqlError("0A000", "cached plan must not change result type")
DROPPED = SqlError("XX000", "could not open relation with OID 12345")


@pytest.mark.parametrize("error", [UNDEFINED, STALE, DROPPED])
def test_a_read_that_meets_a_swap_is_repeated_once(database: ScratchDatabase, error: Exception) -> None:
    assert database.wait(get(Failing(database, error), "tasks", an_id(1))) is not None  # type: ignore[arg-type]
    with pytest.raises(SqlError):
        database.wait(get(Failing(database, error, error), "tasks", an_id(1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [SqlError("42703", "column"), SqlError("XX000", "out of luck"), StoreUnavailable()])
def test_other_errors_are_raised_at_once(database: ScratchDatabase, error: Exception) -> None:
    with pytest.raises(type(error)):
        database.wait(get(Failing(database, error), "tasks", an_id(1)))  # type: ignore[arg-type]


@pytest.fixture
async def store(fresh_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(fresh_database) as opened:
        await opened.database.transact(_remake)
        yield opened


async def _remake(connection: Connection) -> None:
    """The tables anew, as a rebuild swaps them in: in one transaction, with one job made an hour ago."""
    for known in COLLECTIONS.values():
        await connection.execute(f"DROP TABLE IF EXISTS {quoted(known.table.name)}")
        for statement in create_table_statements(known.table):
            await connection.execute(statement)
    values = an_id(1), START + timedelta(hours=-1)
    await connection.execute("INSERT INTO sched_job (id, name, created_at) VALUES ($1, 'a', $2)", *values)


async def test_reads_go_on_over_swaps_of_the_real_tables(store: PostgresStore) -> None:
    query = Query(any_of=[[Condition("name", "containsCi", "A")]])
    for _ in range(8):  # beyond the five executions after which PostgreSQL keeps a plan
        found = await page(store.database, "jobs", query)
        assert [row["id"] for row in found.rows] == [an_id(1)] and found.total == 1
        assert await get(store.database, "jobs", an_id(1)) == found.rows[0]
        await store.database.transact(_remake)
