"""Strict JSON: what is refused is refused with its place, everything else reads as Python's own reader has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.api.jsontext import NESTING_MAX, MalformedJson, json_digest, read_json, write_json

SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]))
def test_what_was_written_is_read(value: Any, indent: Any) -> None:
    assert read_json(json.dumps(value, indent=indent).encode()) == value


@given(st.binary(max_size=40))
def test_any_bytes_give_a_value_or_a_place(body: bytes) -> None:
    try:
        read_json(body)
    except MalformedJson as error:
        assert error.line >= 1 and error.column >= 1


@pytest.mark.parametrize(
    ("body", "line", "column", "word"),
    [
        (b'{"a": 1,\n "a": 2}', 2, 2, "duplicate"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', 1, 16, "duplicate"),
        (b"[1, NaN]", 1, 5, "NaN"),
        (b'{"a": -Infinity}', 1, 7, "Infinity"),
        (b'{"NaN": "NaN", "x": Infinity}', 1, 21, "Infinity"),
        (b'{"a": 1} // no', 1, 10, "malformed"),
        (b"/* c */ {}", 1, 1, "malformed"),
        (b'{"a": }', 1, 7, "malformed"),
        (b"{'a': 1}", 1, 2, "malformed"),
        (b'["\xff"]', 1, 3, "UTF-8"),
        (b'["a\nb"]', 1, 4, "malformed"),
        (b"", 1, 1, "malformed"),
        (b"[01]", 1, 3, "malformed"),
    ],
)
def test_a_mistake_is_named_with_its_place(body: bytes, line: int, column: int, word: str) -> None:
    with pytest.raises(MalformedJson) as caught:
        read_json(body)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert word in caught.value.message


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded_and_brackets_in_strings_do_not_count(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]
    deepest = opening * NESTING_MAX + "1" + closing * NESTING_MAX
    assert read_json(deepest.encode()) is not None
    with pytest.raises(MalformedJson, match="nested"):
        read_json((opening + deepest + closing).encode())
    with pytest.raises(MalformedJson, match="nested"):
        read_json(("[" * 200_000).encode())
    assert read_json(json.dumps(["[{" * 1000]).encode()) == ["[{" * 1000]


def test_an_integer_of_any_length_is_read_in_no_time() -> None:
    assert read_json(b"9" * 1_000_000) > 2**53
    assert read_json(b"-" + b"9" * 5000) < -(2**53)


def test_times_are_utc_with_six_digits_or_none() -> None:
    whole = datetime(2026, 1, 31, 8, 0, 0, tzinfo=UTC)
    assert (
        write_json([whole, whole.replace(microsecond=5)]) == b'["2026-01-31T08:00:00Z","2026-01-31T08:00:00.000005Z"]'
    )


@given(st.dictionaries(st.text(), st.integers()))
def test_the_digest_ignores_order_and_spacing(value: dict[str, int]) -> None:
    other = dict(reversed(value.items()))
    assert json_digest(value) == json_digest(other)
    assert json_digest({"x": value}) != json_digest({"y": value})
