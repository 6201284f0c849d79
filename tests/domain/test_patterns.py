"""Patterns of parameters mean what `re` means by them, and none takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hetuflow.domain.patterns import TEXT_LENGTH_MAX, PatternError, pattern

ATOMS = st.sampled_from(["a", "b", "-", ".", r"\d", r"\W", r"\.", "[ab]", "[^a]", r"[a-c\]]", r"[\d_-]", "é"])
QUANTIFIERS = st.sampled_from(["", "", "?", "*", "+", "{2}", "{0,2}", "{1,}", "{0}"])
SEQUENCES = st.lists(st.tuples(ATOMS, QUANTIFIERS).map("".join), min_size=1, max_size=4).map("".join)
PATTERNS = st.lists(SEQUENCES, min_size=1, max_size=3).map("|".join)


@given(PATTERNS, st.text("ab-.c1_] é\n", max_size=8))
@example("a|", "")
@example("^a+$", "aa")
def test_a_pattern_means_what_re_means_by_it(text: str, value: str) -> None:
    expected = re.fullmatch(text.removeprefix("^").removesuffix("$"), value, re.DOTALL) is not None
    assert pattern(text).matches(value) == expected


@given(st.text("ab\\[](){}^$|?*+-.,01&~dwz", min_size=1, max_size=12))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        read = pattern(text)
    except PatternError as wrong:
        assert 0 <= wrong.position <= len(text)
    else:
        read.matches("ab")


@pytest.mark.parametrize(
    "text",
    ["", "(a)", "(a+)+", "a(?=b)", r"\1", r"\b", "[b-a]", "[a", "a{2,1}", "a{1000}", "a**", "x" * 201, "[a--b]", "a^b"],
)
def test_what_is_not_of_the_kind_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        pattern(text)


@pytest.mark.parametrize("text", ["a*" * 40 + "b", "[ab]{0,250}c", "a*a*a*a*a*a*b|" * 10 + "c", ".*.*.*.*.*x"])
def test_none_takes_long(text: str) -> None:
    read = pattern(text)
    began = time.perf_counter()
    assert not read.matches("a" * TEXT_LENGTH_MAX)
    assert time.perf_counter() - began < 2
    assert not read.matches("a" * (TEXT_LENGTH_MAX + 1))
