"""Pages and filters: the whole grammar of §6, and what is said of mistakes in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.api.collections import AGENTS, COLLECTIONS, JOBS, SCHEDULES, SERVERS, TASKS
from hetuflow.api.filters import Collection, PageRequest
from hetuflow.api.operators import OPERATORS, FieldType, canonical
from hetuflow.api.problems import Problems
from projections import queries, query_fields, query_operators
from tests.api.client import Client

Problem = tuple[str, int, str | None]


def parse(collection: Collection, document: dict[str, Any]) -> tuple[PageRequest, list[Problem]]:
    problems = Problems()
    request = collection.read(document, problems)
    return request, [(each.path, each.status, each.suggestion) for each in problems.in_order_of(list(document))]


def condition(collection: Collection, field: str, operators: Any) -> list[tuple[str, str, Any]]:
    request, problems = parse(collection, {"filter": {field: operators}})
    assert not problems
    [alternative] = request.alternatives
    return [(each.field.name, each.operator, each.value) for each in alternative]


@pytest.mark.parametrize("document", [{}, {"filter": None, "page": None}, {"filter": {}, "page": {}}])
def test_nothing_given_is_the_first_page_of_everything(document: dict[str, Any]) -> None:
    request, problems = parse(JOBS, document)
    assert not problems
    assert not any(request.alternatives)
    assert (request.limit, request.offset, request.after, list(request.orders)) == (20, 0, None, [])


@pytest.mark.parametrize("spelling", ["$notIn", "$not_in", "not_in", "notIn"])
def test_operators_have_four_spellings(spelling: str) -> None:
    assert condition(JOBS, "name", {spelling: ["x"]}) == [("name", "notIn", ["x"])]


@pytest.mark.parametrize("kind", list(FieldType))
def test_every_operator_is_found_in_snake_and_camel_case(kind: FieldType) -> None:
    for name in OPERATORS[kind]:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        assert canonical(f"${name}") == canonical(snake) == canonical(name) == name


def test_every_text_operator_has_a_negation() -> None:
    text = OPERATORS[FieldType.STRING]
    for name in ("contains", "startsWithCi", "endsWithAny", "containsAll", "like", "ilike"):
        assert f"not{name[0].upper()}{name[1:]}" in text


def test_values_take_the_type_of_the_field() -> None:
    assert condition(TASKS, "status", {"$in": ["Running", 15, "doing", "90"]}) == [("status", "in", [10, 15, 10, 90])]
    [(_, _, at)] = condition(TASKS, "created_at", {"$gte": "2026-01-01T01:00:00+01:00"})
    assert at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert condition(SCHEDULES, "kind", {"eq": "cron"}) == [("schedule_kind", "eq", 1)]
    assert condition(TASKS, "config.cmd", {"$eq": "bash"}) == [("task_config", "eq", "bash")]
    assert condition(SERVERS, "bind_namespaces", {"$contains": "a"}) == [("bind_namespaces", "contains", "a")]
    assert condition(AGENTS, "labels", {"$contains": {"gpu": "true"}}) == [("labels", "contains", {"gpu": "true"})]


def test_a_path_inside_a_json_field_is_kept() -> None:
    request, problems = parse(TASKS, {"filter": {"task_config.environment.A": {"$eq": "b"}}})
    assert not problems
    assert request.alternatives[0][0].path == ("environment", "A")


def test_null_is_no_condition_but_alone_it_is_a_mistake() -> None:
    assert condition(JOBS, "name", {"$eq": "x", "$not": None}) == [("name", "eq", "x")]
    assert condition(JOBS, "name", None) == condition(JOBS, "name", {}) == []
    assert parse(JOBS, {"filter": {"name": {"$eq": None}}})[1] == [("filter.name.$eq", 422, None)]


@pytest.mark.parametrize(
    ("filter_", "problem"),
    [
        ({"nam": {"$eq": "x"}}, ("filter.nam", 422, "name")),
        ({"name": {"$lke": "x"}}, ("filter.name.$lke", 422, "$like")),
        ({"status": {"$eqq": 1}}, ("filter.status.$eqq", 422, "$eq")),
        ({"name": "x"}, ("filter.name", 422, None)),
        ({"name": {"$in": "x"}}, ("filter.name.$in", 422, None)),
        ({"name": {"$in": ["x"] * 5001}}, ("filter.name.$in", 422, None)),
        ({"name": {"$in": ["x", 5]}}, ("filter.name.$in[1]", 422, None)),
        ({"name": {"$null": "yes"}}, ("filter.name.$null", 422, None)),
        ({"status": {"$eq": "Enabeld"}}, ("filter.status.$eq", 422, "Enabled")),
        ({"status": {"$contains": "x"}}, ("filter.status.$contains", 422, "$notIn")),
        ({"created_at": {"$gt": "2026-01-01"}}, ("filter.created_at.$gt", 422, None)),
        ({"id": {"$eq": "nope"}}, ("filter.id.$eq", 422, None)),
        ({"name.x": {"$eq": "nope"}}, ("filter.name.x", 422, "name")),
        ("name", ("filter", 422, None)),
        ([{}] * 21, ("filter", 422, None)),
        ([{}, 5], ("filter[1]", 422, None)),
        ([{}, {"nam": {}}], ("filter[1].nam", 422, "name")),
    ],
)
def test_mistakes_in_a_filter_are_named(filter_: Any, problem: Problem) -> None:
    assert parse(JOBS, {"filter": filter_})[1] == [problem]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ({"limit": 5001}, ("page.limit", 400, None)),
        ({"limit": 0}, ("page.limit", 400, None)),
        ({"page": 0}, ("page.page", 400, None)),
        ({"offset": -1}, ("page.offset", 400, None)),
        ({"limit": "5"}, ("page.limit", 422, None)),
        ({"limit": 5, "page_size": 6}, ("page.page_size", 422, None)),
        ({"limt": 5}, ("page.limt", 422, "limit")),
        ({"order_bys": ["nam"]}, ("page.order_bys[0]", 422, "name")),
        ({"order_bys": "nam"}, ("page.order_bys", 422, "name")),
        ({"order_bys": ["config"]}, ("page.order_bys[0]", 422, None)),
        ({"order_bys": 5}, ("page.order_bys", 422, None)),
        ({"after": "x", "page": 2}, ("page.after", 400, None)),
        ({"after": "x", "offset": 0}, ("page.after", 400, None)),
        ({"after": ""}, ("page.after", 400, None)),
        ([], ("page", 422, None)),
    ],
)
def test_mistakes_in_a_page_are_named(page: Any, problem: Problem) -> None:
    assert parse(JOBS, {"page": page})[1] == [problem]


async def test_a_filter_has_a_bounded_number_of_conditions_and_all_of_them_can_be_asked(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"owner": "me"}})
    some = {"config.owner": {"$eq": "me"}, **{f"config.free{n}": {"$eq": n} for n in range(499)}}
    full = [
        {"id": {"$eq": job_id}},
        {**some, "name": {"$eq": "x"}},
        {f"config.free{n}": {"$eq": n} for n in range(498)},
    ]
    answer = await client.post("/jobs/page", {"filter": full})
    assert (answer.status, [job["id"] for job in answer.json["result"]]) == (200, [job_id])
    full[2]["config.one_more"] = {"$eq": 1}
    for filter_ in (full, {f"config.free{n}": {"$eq": n} for n in range(40_000)}):
        answer = await client.post("/jobs/page", {"filter": filter_})
        assert (answer.status, list(answer.problems)) == (422, ["filter"])


def test_offset_wins_over_page_and_page_size_is_limit() -> None:
    assert parse(JOBS, {"page": {"page": 3, "page_size": 10}})[0].offset == 20
    assert parse(JOBS, {"page": {"page": 3, "limit": 10, "page_size": 10, "offset": 5}})[0].offset == 5
    assert parse(JOBS, {"page": {"after": "x", "page": 1}})[0].after == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("name", False), ("!name", True), ("-name", True), ("name asc", False), ("name DESC", True), ("name desc", True)],
)
def test_five_ways_to_order(text: str, expected: bool) -> None:
    for value in (text, [text]):
        [order] = parse(JOBS, {"page": {"order_bys": value}})[0].orders
        assert (order.field.name, order.is_descending) == ("name", expected)


def test_all_problems_of_a_query_come_in_order() -> None:
    document = {"page": {"limit": 0}, "filter": {"nam": {}, "name": {"$x": 1}}, "filtr": {}}
    assert [path for path, _, _ in parse(JOBS, document)[1]] == ["page.limit", "filter.nam", "filter.name.$x", "filtr"]


def test_the_tables_know_every_field_and_operator() -> None:
    """The two tables of fields and operators, the parser's and the queries', are one contract."""
    assert COLLECTIONS.keys() == queries.COLLECTIONS.keys()
    for name, collection in COLLECTIONS.items():
        executed = queries.COLLECTIONS[name]
        for known, field in collection.names.items():
            there = executed.field(known)
            assert (there.name, there.type.value, there.is_sortable) == (
                field.name,
                field.type.value,
                field.is_sortable,
            )
    for kind in FieldType:
        assert set(OPERATORS[kind]) == set(query_operators.OPERATORS[query_fields.FieldType(kind.value)]), kind


@given(
    st.sampled_from(sorted(COLLECTIONS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["name", "$eq", "$in", "status"]), v),
        max_leaves=10,
    ),
)
def test_no_document_raises(name: str, value: Any) -> None:
    collection = COLLECTIONS[name]
    for document in (
        {"filter": value},
        {"page": value},
        {"page": {"order_bys": value, "after": value, "limit": value}},
    ):
        parse(collection, document)
    for field in collection.names:
        parse(collection, {"filter": {field: value}})
