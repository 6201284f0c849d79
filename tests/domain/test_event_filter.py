"""Filters of events: globs against a regular expression, filters against a reference that reads them naively."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given as having
from hypothesis import strategies as st

from hetuflow.domain.event_filter import CONDITIONS_MAX, NESTED_MAX, VALUES_MAX, condition, faults, globs_at, value_at
from hetuflow.domain.event_types import OWN_TYPES, TypePattern, fault_of
from hetuflow.glob import Glob


def fits(filter_: Any, data: dict[str, Any]) -> bool:
    assert not faults(filter_)
    return condition(filter_)(data)


# --- globs -------------------------------------------------------------------------------------------------------------


def _as_expression(pattern: str) -> str:
    pieces = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(pieces.get(piece, re.escape(piece)) for piece in re.findall(r"\*\*|.", pattern, re.DOTALL))


@having(st.text("ab/*?.", max_size=12), st.text("ab/.", max_size=12))
def test_a_glob_is_the_regular_expression_that_it_stands_for(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) == (re.fullmatch(_as_expression(pattern), text, re.DOTALL) is not None)


@having(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
def test_without_slashes_a_glob_is_that_of_a_shell(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) == fnmatchcase(text, pattern)


def test_no_pattern_makes_a_glob_slow() -> None:
    began = time.perf_counter()
    assert not Glob("*a" * 60 + "b").matches("a" * 20_000)
    assert time.perf_counter() - began < 2


# --- filters -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "a.b", "a.0", "c.d.e"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.0, 2.5]), st.text("ab/*", max_size=4)
)
LEAVES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abde"), inner, max_size=3),
    max_leaves=6,
)
DATA = st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3)
OPERATIONS = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$not", "not", "$contains"]), LEAVES, min_size=1, max_size=2),
    st.dictionaries(
        st.sampled_from(["$gt", "lte", "$lt", "gte"]),
        st.integers(-3, 3) | st.text("ab", max_size=3),
        min_size=1,
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["$in", "not_in", "$notIn"]), st.lists(LEAVES, max_size=3), min_size=1, max_size=2),
    st.dictionaries(
        st.sampled_from(["$startsWith", "ends_with_ci", "$notContainsCi"]),
        st.text("aAb", max_size=2),
        min_size=1,
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["$null", "empty"]), st.booleans(), min_size=1, max_size=2),
)
WANTED = st.one_of(SCALARS, st.lists(SCALARS, min_size=1, max_size=3), OPERATIONS)
FILTERS = st.recursive(
    st.dictionaries(NAMES, WANTED, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["$any", "$all"]), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2
    ),
    max_leaves=5,
)


def _kind(value: Any) -> str:
    return (
        "number" if isinstance(value, float) else {bool: "bool", int: "number"}.get(type(value), type(value).__name__)
    )


def _same(left: Any, right: Any) -> bool:
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, dict):
        return set(left) == set(right) and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)


def _holds(whole: Any, part: Any) -> bool:
    if isinstance(whole, list):
        return all(any(_holds(each, one) for each in whole) for one in (part if isinstance(part, list) else [part]))
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and _holds(whole[name], part[name]) for name in part)
    return _same(whole, part)


def _operator(name: str, operand: Any, value: Any) -> bool:
    plain = name.removeprefix("$").replace("_", "").lower()
    if plain == "null":
        return (value is None) == operand
    if plain == "empty":
        return (value in (None, "") and not isinstance(value, list)) == operand
    if value is None:
        return False
    if plain in ("not", "notin", "notcontainsci"):
        return not _operator({"not": "eq", "notin": "in", "notcontainsci": "containsci"}[plain], operand, value)
    if plain in ("gt", "lt", "gte", "lte"):
        if _kind(value) != _kind(operand) or _kind(value) not in ("number", "str"):
            return False
        return bool(
            {"gt": value > operand, "lt": value < operand, "gte": value >= operand, "lte": value <= operand}[plain]
        )
    match plain:
        case "eq":
            return _same(value, operand)
        case "in":
            return any(_same(value, each) for each in operand)
        case "contains" if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        case "contains":
            return _holds(value, operand)
        case "startswith":
            return isinstance(value, str) and value[: len(operand)] == operand
        case "endswithci":
            return isinstance(value, str) and value.lower().endswith(operand.lower())
        case "containsci":
            return isinstance(value, str) and operand.lower() in value.lower()
    raise AssertionError(plain)


def _expected(filter_: dict[str, Any], data: Any) -> bool:
    for name, wanted in filter_.items():
        if name == "$any":
            fine = any(_expected(each, data) for each in wanted)
        elif name == "$all":
            fine = all(_expected(each, data) for each in wanted)
        else:
            value = data
            for step in name.split("."):
                if isinstance(value, list) and step == "0" and value:
                    value = value[0]
                else:
                    value = value.get(step) if isinstance(value, dict) else None
            alternatives = wanted if isinstance(wanted, list) else [wanted]
            if isinstance(wanted, dict):
                fine = all(_operator(each, operand, value) for each, operand in wanted.items())
            else:
                fine = any(
                    isinstance(value, str) and re.fullmatch(_as_expression(each), value, re.DOTALL) is not None
                    if isinstance(each, str)
                    else _same(value, each)
                    for each in alternatives
                )
        if not fine:
            return False
    return True


@having(FILTERS, DATA)
def test_a_filter_means_what_it_says(filter_: dict[str, Any], data: dict[str, Any]) -> None:
    assert fits(filter_, data) == _expected(filter_, data)


def test_no_filter_fits_everything() -> None:
    assert condition(None)({"a": 1}) and condition({})({}) and condition({})({"a": 1})


def test_what_users_write() -> None:
    data = {"path": "/data/in/a.csv", "size": 2048, "tags": ["new", "large"], "owner": {"name": "Ada"}, "ok": True}
    for filter_ in (
        {"path": "/data/in/*.csv"},
        {"path": "/data/**", "size": {"$gt": 1024, "lte": 2048.0}},
        {"path": ["*.txt", "/data/*/?.csv"]},
        {"owner.name": {"$startsWithCi": "a"}, "ok": True, "gone": None},
        {"tags": {"$contains": "new"}, "tags.1": "large"},
        {"$any": [{"size": 1}, {"$all": [{"ok": True}, {"owner.name": "A?a"}]}]},
        {"path": {"$like": "%in/_.csv"}},
        {"owner": {"$eq": {"name": "Ada"}}},
    ):
        assert fits(filter_, data), filter_
    for filter_ in (
        {"path": "/data/*.csv"},
        {"ok": 1},
        {"size": "2048"},
        {"gone": {"$not": 1}},
        {"size": {"$gt": "1"}},
    ):
        assert not fits(filter_, data), filter_


@pytest.mark.parametrize(
    ("filter_", "path", "near"),
    [
        ([], "f", None),
        ({"size": {"$gtt": 1}}, "f.size.$gtt", "$gtt"),
        ({"size": {"$gt": True}}, "f.size.$gt", None),
        ({"size": {"$in": 1}}, "f.size.$in", None),
        ({"size": {"$null": 1}}, "f.size.$null", None),
        ({"size": {}}, "f.size", None),
        ({"size": []}, "f.size", None),
        ({"size": [[1]]}, "f.size[0]", None),
        ({"$ony": [{}]}, "f.$ony", "$ony"),
        ({"$any": []}, "f.$any", None),
        ({"$any": [{"$all": [{"a": {"b": 1}}]}]}, "f.$any[0].$all[0].a.b", "b"),
        ({"a..b": 1}, "f.a..b", None),
        ({"$all": [{"x": 1}] * (CONDITIONS_MAX + 1)}, "f", None),
        ({"x": {"$in": list(range(VALUES_MAX + 1))}}, "f", None),
        ({"x": {"$contains": [[]] * NESTED_MAX}}, "f", None),
    ],
)
def test_mistakes_are_named(filter_: Any, path: str, near: str | None) -> None:
    [fault] = faults(filter_, "f")
    assert (fault.path, fault.name) == (path, near)
    assert (near is None) == (not fault.known)


def test_too_deep_is_refused() -> None:
    filter_: dict[str, Any] = {"a": 1}
    for _ in range(20):
        filter_ = {"$all": [filter_]}
    assert len(faults(filter_)) == 1


def test_the_globs_that_a_path_has_to_fit_are_found() -> None:
    assert globs_at({"path": "/a/*"}, "path") == ("/a/*",)
    assert globs_at({"x": 1, "path": ["/a/*", "/b"]}, "path") == ("/a/*", "/b")
    assert globs_at({"$any": [{"path": "/a"}, {"path": "/b"}]}, "path") == ("/a", "/b")
    assert globs_at({"$any": [{"path": "/a"}, {"x": 1}]}, "path") == ()
    assert globs_at({"$all": [{"x": 1}, {"path": "/a"}]}, "path") == ("/a",)
    assert globs_at({"path": {"$startsWith": "/a"}}, "path") == () == globs_at(None, "path")


def test_a_number_names_an_element() -> None:
    assert value_at({"a": [1, {"b": 2}]}, ["a", "1", "b"]) == 2
    assert value_at({"a": [1]}, ["a", "7"]) is None is value_at({"a": 1}, ["a", "b"])


# --- types -------------------------------------------------------------------------------------------------------------


def test_own_events_have_dotted_names() -> None:
    assert OWN_TYPES["TaskFailed"] == "task.failed"
    assert OWN_TYPES["TaskRetryScheduled"] == "task.retry_scheduled"
    assert len(set(OWN_TYPES.values())) == len(OWN_TYPES)


@pytest.mark.parametrize("text", ["file.created", "file.*", "task.failed", "task.*", "*", "agent.l?st", "x"])
def test_types_that_can_be_asked_for(text: str) -> None:
    assert fault_of(text) is None


@pytest.mark.parametrize("text", ["", "a b", "task.faild", "task.z*", "x" * 129, "file/created"])
def test_types_that_never_come_are_refused(text: str) -> None:
    assert fault_of(text) is not None


def test_a_type_pattern_is_exact_or_a_glob() -> None:
    assert TypePattern("a.b").is_exact and TypePattern("a.b").matches("a.b") and not TypePattern("a.b").matches("a.c")
    assert not TypePattern("a.*").is_exact and TypePattern("a.*").matches("a.b.c")


def test_long_lists_of_scalars_are_not_compared_each_with_each() -> None:
    """A quarter of a megabyte of numbers on both sides: the server that decides stands still for as long as it takes."""
    numbers = list(range(40_000))
    began = time.process_time()
    assert condition({"a": {"$contained": numbers}})({"a": numbers})
    assert condition({"a": {"$contains": numbers}})({"a": [*numbers, "x"]})
    assert not condition({"a": {"$contains": [True, 1.5, "1"]}})({"a": [[1, 1.5], "1"]})
    assert condition({"a": {"$contains": [1.0, None]}})({"a": [[1], None]})
    assert time.process_time() - began < 5
