"""Pages say what the contract's §6 says: every operator, order and cursor against a naive reading of the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetuflow.api.collections import COLLECTIONS as API_COLLECTIONS
from hetuflow.api.operators import OPERATORS as API_OPERATORS
from projections.queries import Condition, Order, Query, Row, get, page, tally
from projections.query_fields import COLLECTIONS, Collection, Field, FieldType
from projections.query_operators import OPERATORS
from tests.projections.builders import an_id
from tests.projections.naive_queries import CHECKS, in_order, passes
from tests.projections.query_database import ScratchDatabase, a_row, scratch_database
from tests.support.postgres import Server

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(any_postgres: Server) -> Iterator[ScratchDatabase]:
    url = any_postgres.fresh_database()
    with scratch_database(url) as opened:
        yield opened
    any_postgres.drop(url)


# --- the tables of fields and operators are the API's ----------------------------------------------------------------


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_fields_are_those_that_the_api_offers(name: str) -> None:
    ours = {each.name: (each.type.value, tuple(each.aliases)) for each in COLLECTIONS[name].fields}
    theirs = {each.name: (each.type.value, tuple(each.aliases)) for each in API_COLLECTIONS[name].fields}
    assert ours == theirs


def test_the_operators_are_those_that_the_api_offers() -> None:
    ours = {kind.value: set(operators) for kind, operators in OPERATORS.items()}
    assert ours == {kind.value: set(operators) for kind, operators in API_OPERATORS.items()}


# --- every operator, on every pair of a value and an operand --------------------------------------------------------

TEXTS = [
    "", "a", "A", "ab", "aB", "Ab", "b", "%", "_", "\\", "a%b", "a_b", "a\\b", "\\%", "a\nb", "ä", "Ä", "Äb", "ж", "Ж",
    "示例", "é", "e\u0301", "ß", "zz", "Z", "\U0001f600", "\uffff", " a",
]  # fmt: skip
PATTERNS = [
    "a%", "%b", "%B", "a_b", "A_b", "%\\%%", "\\_", "a\\%b", "%\\", "\\\\%", "%\\\\", "__", "%", "_", "Ä%", "%ж", "_\\", "%%",
]  # fmt: skip
NUMBERS = [-(2**31), -1, 0, 1, 10, 100, 2**31 - 1]
TIMES = [START, START + timedelta(microseconds=1), START - timedelta(days=3000), datetime(9999, 12, 31, tzinfo=UTC)]
IDS = [an_id(1), an_id(2), "ffffffff-ffff-ffff-ffff-ffffffffffff", "0a000000-0000-7000-8000-000000000001"]
DOCUMENTS: list[Any] = [
    {}, {"a": 1}, {"a": 1.0, "b": None}, {"a": True}, {"a": "1"}, {"a": [1, 2]}, {"a": {"b": [{"c": 1}, 2]}}, {"a": None},
    {"b": "ä\\\"'"}, {"a": 0}, {"a": False}, {"a": 1e20}, {"a": "x", "b": {"a": [[]]}},
]  # fmt: skip
INNER: list[Any] = [1, 1.0, True, "1", "x", 2, [1], [2], [], {}, {"b": [{}]}, {"b": [2]}, {"c": 1}, [[]], None]
SETS = [[], ["a"], ["b", "a"], ["a", "b"], ["a", "a"], ["A"], ["a", "b", "c"], [""]]

VALUES: Mapping[FieldType, Sequence[Any]] = {
    FieldType.STRING: TEXTS,
    FieldType.INTEGER: NUMBERS,
    FieldType.TIME: TIMES,
    FieldType.UUID: IDS,
    FieldType.BOOLEAN: [True, False],
    FieldType.JSON: DOCUMENTS,
    FieldType.ARRAY: SETS,
}
COLUMNS = {
    FieldType.STRING: ("task_instances", "error_message"),
    FieldType.INTEGER: ("task_instances", "exit_code"),
    FieldType.TIME: ("task_instances", "started_at"),
    FieldType.UUID: ("tasks", "schedule_id"),
    FieldType.BOOLEAN: ("task_instances", "external"),
    FieldType.JSON: ("tasks", "parameters"),
    FieldType.ARRAY: ("servers", "bind_namespaces"),
}


def operands(kind: FieldType, operator: str) -> Sequence[Any]:
    values = VALUES[kind]
    lists: Sequence[Any] = [[], *([each] for each in values), list(values[:3]), list(values)]
    if operator in ("null", "empty"):
        return [True, False]
    if kind is FieldType.ARRAY:
        return ["a", "", "zz", *SETS]
    if operator in ("like", "ilike", "notLike", "notIlike"):
        return [*TEXTS, *PATTERNS]
    if operator in ("in", "notIn") or operator.endswith(("Any", "All")):
        return lists
    if kind is FieldType.INTEGER:
        return [*values, 2**53 - 1]
    return [*values, *INNER[:-1]] if kind is FieldType.JSON else values


def ids_of(rows: Sequence[Row]) -> list[str]:
    return [row["id"] for row in rows]


def check(database: ScratchDatabase, known: Collection, rows: Sequence[Row], condition: Condition) -> None:
    found = database.wait(page(database, known.name, Query(any_of=[[condition]], limit=100)))
    expected = {row["id"] for row in rows if passes(known, [[condition]], row)}
    assert set(ids_of(found.rows)) == expected, condition
    assert found.total == len(expected)


@pytest.mark.parametrize(("kind", "operator"), [(k, o) for k, table in OPERATORS.items() for o in table])
def test_operator_on_each_value_and_null(database: ScratchDatabase, kind: FieldType, operator: str) -> None:
    name, column = COLUMNS[kind]
    known = COLLECTIONS[name]
    rows = [
        a_row(known, id=an_id(number), created_at=START, **{column: value})
        for number, value in enumerate([None, *VALUES[kind]])
    ]
    database.fill(known, rows)
    for operand in operands(kind, operator):
        check(database, known, rows, Condition(column, operator, operand))


@pytest.mark.parametrize("operator", OPERATORS[FieldType.JSON])
def test_operator_inside_a_json_field(database: ScratchDatabase, operator: str) -> None:
    known = COLLECTIONS["tasks"]
    rows = [
        a_row(known, id=an_id(number), created_at=START, config=value)
        for number, value in enumerate([None, *DOCUMENTS, *({"a": each} for each in INNER)])
    ]
    database.fill(known, rows)
    wanted: Sequence[Any] = INNER[:-1]
    if operator == "null":
        wanted = [True, False]
    elif operator in ("in", "notIn"):
        wanted = [[], *([each] for each in INNER), INNER]
    for operand, path in product(wanted, [("a",), ("b",), ("a", "b"), ("b", "a"), ("none",), ("a,b",), ('"a"',)]):
        check(database, known, rows, Condition("task_config", operator, operand, path))


def test_every_operator_has_a_naive_reading() -> None:
    for kind, operators in OPERATORS.items():
        assert set(operators) - {"null", "empty"} == set(CHECKS[kind])


@pytest.mark.parametrize("operator", ["not", "notIn", "notContains", "notContainsAny", "notLike", "notStartsWithCi"])
def test_a_null_satisfies_no_negation(database: ScratchDatabase, operator: str) -> None:
    known = COLLECTIONS["jobs"]
    database.fill(known, [a_row(known, id=an_id(1), created_at=START, name="x", description=None)])
    for operand in ([], ["a"]) if operator in ("notIn", "notContainsAny") else ("a", ""):
        found = database.wait(page(database, "jobs", Query(any_of=[[Condition("description", operator, operand)]])))
        assert found.rows == [] and found.total == 0


def test_case_is_folded_beyond_ascii_though_the_column_sorts_by_code_point(database: ScratchDatabase) -> None:
    known = COLLECTIONS["jobs"]
    database.fill(known, [a_row(known, id=an_id(1), created_at=START, name="ЖÄ")])
    condition = Condition("name", "like", "жä")
    assert ids_of(database.wait(page(database, "jobs", Query(any_of=[[condition]]))).rows) == [an_id(1)]


# --- whole queries ---------------------------------------------------------------------------------------------------

texts = st.sampled_from(["", "a", "A", "ab", "b", "a%", "ä", "示", "\uffff", "\U0001f600"])
instants = st.integers(0, 3).map(lambda seconds: START + timedelta(seconds=seconds))
BASIC: Mapping[FieldType, st.SearchStrategy[Any]] = {
    FieldType.STRING: texts,
    FieldType.INTEGER: st.sampled_from([0, 1, 2, 100]),
    FieldType.TIME: instants,
    FieldType.UUID: st.integers(1, 4).map(an_id),
    FieldType.BOOLEAN: st.booleans(),
    FieldType.JSON: st.sampled_from(DOCUMENTS),
    FieldType.ARRAY: st.sampled_from(SETS),
}


@st.composite
def some_rows(draw: st.DrawFn, known: Collection) -> list[Row]:
    rows = []
    for number in range(draw(st.integers(0, 9))):
        row = a_row(known)
        for each in known.fields:
            value = BASIC[each.type]
            drawn = draw(st.none() | value if each.nullable else value)
            match each.name:
                case "enabled":
                    continue
                case "labels":
                    row["capabilities"] = {"labels": drawn} if draw(st.booleans()) else None
                case "task_config":
                    row["config"] = drawn
                case name:
                    row[name] = drawn
        is_text = known.field("id").type is FieldType.STRING
        row["id"] = "xXyä_0123"[number] + str(number) if is_text else an_id(number)
        rows.append(row)
    return rows


def operand_of(kind: FieldType, operator: str) -> st.SearchStrategy[Any]:
    if operator in ("null", "empty"):
        return st.booleans()
    if kind is FieldType.ARRAY:
        return st.sampled_from([*SETS, "a", "b"])
    value = BASIC[kind]
    if operator in ("in", "notIn") or operator.endswith(("Any", "All")):
        return st.lists(value, max_size=3)
    return st.sampled_from(PATTERNS) | value if "ike" in operator else value


@st.composite
def conditions(draw: st.DrawFn, known: Collection) -> Condition:
    field = draw(st.sampled_from(known.fields))
    operator = draw(st.sampled_from(sorted(OPERATORS[field.type])))
    path = draw(st.sampled_from([(), ("a",), ("a", "b")])) if field.type is FieldType.JSON else ()
    name = draw(st.sampled_from([field.name, *field.aliases]))
    return Condition(name, operator, draw(operand_of(field.type, operator)), path)


@st.composite
def orders(draw: st.DrawFn, known: Collection) -> list[Order]:
    sortable = st.sampled_from([each for each in known.fields if each.is_sortable])
    fields: list[Field] = draw(st.lists(sortable, max_size=3, unique_by=lambda each: each.name))
    return [Order(each.name, draw(st.booleans())) for each in fields]


@pytest.mark.parametrize("name", COLLECTIONS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pages_are_the_filtered_and_sorted_rows_cut_up(
    database: ScratchDatabase, name: str, data: st.DataObject
) -> None:
    known = COLLECTIONS[name]
    rows = data.draw(some_rows(known))
    any_of = data.draw(st.lists(st.lists(conditions(known), max_size=2), max_size=2))
    order = data.draw(orders(known))
    limit = data.draw(st.integers(1, 4))
    database.fill(known, rows)
    expected = ids_of(in_order(known, order, [row for row in rows if passes(known, any_of, row)]))

    seen: list[str] = []
    after: str | None = None
    while True:
        found = database.wait(page(database, name, Query(any_of=any_of, order=order, limit=limit, after=after)))
        seen += ids_of(found.rows)
        assert found.total == (None if after else len(expected))
        assert found.has_more == (len(seen) < len(expected)) == (found.next is not None)
        if found.next is None:
            break
        assert found.next != after
        after = found.next
    assert seen == expected

    offset = data.draw(st.integers(0, len(expected) + 1))
    found = database.wait(page(database, name, Query(any_of=any_of, order=order, limit=limit, offset=offset)))
    assert ids_of(found.rows) == expected[offset : offset + limit]
    assert found.total == len(expected)
    assert found.has_more == (offset + limit < len(expected))


# --- pages ------------------------------------------------------------------------------------------------------------


def some_jobs(count: int) -> list[Row]:
    known = COLLECTIONS["jobs"]
    return [
        a_row(known, id=an_id(number), created_at=START + timedelta(seconds=number // 3), name=f"job {number}")
        for number in range(count)
    ]


def test_newest_first_is_the_default(database: ScratchDatabase) -> None:
    database.fill(COLLECTIONS["jobs"], some_jobs(10))
    found = database.wait(page(database, "jobs", Query(limit=100)))
    assert ids_of(found.rows) == [an_id(number) for number in reversed(range(10))]


def test_a_page_that_holds_everything_needs_no_count(database: ScratchDatabase) -> None:
    database.fill(COLLECTIONS["jobs"], some_jobs(5))
    before = database.statements
    assert database.wait(page(database, "jobs", Query(limit=5))).total == 5
    assert database.statements == before + 1
    assert database.wait(page(database, "jobs", Query(limit=4))).total == 5
    assert database.statements == before + 3
    assert database.wait(page(database, "jobs", Query(limit=4, offset=9))).total == 5


def test_rows_that_come_meanwhile_neither_repeat_nor_hide_others(database: ScratchDatabase) -> None:
    known = COLLECTIONS["jobs"]
    jobs = some_jobs(6)
    database.fill(known, jobs)
    first = database.wait(page(database, "jobs", Query(limit=3)))
    newer = a_row(known, id=an_id(99), created_at=START + timedelta(hours=1), name="newer")
    database.fill(known, [*jobs[:1], *jobs[2:], newer])
    second = database.wait(page(database, "jobs", Query(limit=3, after=first.next)))
    assert ids_of(first.rows) + ids_of(second.rows) == [an_id(number) for number in (5, 4, 3, 2, 0)]


def test_rows_have_python_values(database: ScratchDatabase) -> None:
    known = COLLECTIONS["tasks"]
    config = {"cmd": "bash", "labels": None, "n": 1.5}
    row = a_row(known, id=an_id(7), job_id=an_id(8), created_at=START, config=config, priority=-3, parameters={})
    database.fill(known, [row])
    assert database.wait(get(database, "tasks", an_id(7))) == row
    found = database.wait(page(database, "tasks", Query()))
    assert found.rows == [row]
    assert list(found.rows[0]) == list(known.table.column_names)


@pytest.mark.parametrize("id_", [an_id(8), "nobody", "", "%"])
def test_get_of_an_absent_or_malformed_id_is_none(database: ScratchDatabase, id_: str) -> None:
    database.fill(COLLECTIONS["tasks"], [])
    assert database.wait(get(database, "tasks", id_)) is None
    assert database.wait(get(database, "agents", id_)) is None


def test_tally_counts_by_value(database: ScratchDatabase) -> None:
    known = COLLECTIONS["schedules"]
    rows = [a_row(known, id=an_id(n), created_at=START, status=s) for n, s in enumerate([100, 99, 100, None])]
    database.fill(known, rows)
    assert database.wait(tally(database, "schedules", "status")) == {100: 2, 99: 1, None: 1}
    assert database.wait(tally(database, "schedules", "enabled")) == {True: 2, False: 1, None: 1}


@pytest.mark.parametrize(
    "query",
    [
        Query(any_of=[[Condition("nobody", "eq", 1)]]),
        Query(any_of=[[Condition("status", "contains", "1")]]),
        Query(any_of=[[Condition("name", "eq", "x", ("a",))]]),
        Query(order=[Order("config")]),
        Query(order=[Order("nobody")]),
    ],
)
def test_what_the_collection_does_not_have_is_a_value_error(database: ScratchDatabase, query: Query) -> None:
    with pytest.raises(ValueError, match=r"no|cannot"):
        database.wait(page(database, "jobs", query))


# --- speed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[], [Order("name")], [Order("name", True)]])
@pytest.mark.parametrize("deep", [False, True])
def test_no_page_of_an_indexed_order_sorts(any_postgres: Server, order: list[Order], deep: bool) -> None:
    """An index gives the order, and where the page begins: whatever its depth, the plan reads no more than it shows."""
    url = any_postgres.fresh_database()
    known = COLLECTIONS["jobs"]
    with scratch_database(url) as database:
        database.fill(known, some_jobs(3000))
        database.wait(database.connection.execute("ANALYZE sched_job"))
        after = None
        if deep:
            after = database.wait(page(database, "jobs", Query(order=order, limit=1500))).next
        seen: list[str] = []

        class Explained:
            async def fetch(self, sql: str, *args: Any, **_: Any) -> Sequence[Any]:
                if not sql.startswith("SELECT count"):
                    seen.append((await database.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args))[0][0])
                return await database.fetch(sql, *args)

        database.wait(page(Explained(), "jobs", Query(order=order, limit=20, after=after)))  # type: ignore[arg-type]
    any_postgres.drop(url)
    (plan,) = json.loads(seen[0])
    scan = plan["Plan"]["Plans"][0]
    assert scan["Node Type"] == "Index Scan", scan
    assert scan["Actual Rows"] == 21
    assert scan.get("Rows Removed by Filter", 0) == 0
