"""What an expression may be: data in, text out. Nothing runs, nothing grows, and other text is left as it is."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.templates import TemplateError, faults, render
from hetuflow.templates.filters import VALUE_LENGTH_MAX

NAMES = {"params": ("day", "n", "list", "object", "items", "missing"), "task": ("nominal_at",)}
PARAMS: dict[str, Any] = {
    "day": "2026-01-31",
    "n": 3,
    "list": ["a", 1, None, {"x": True}],
    "object": {"keys": "k", "inner": {"deep": [1, 2]}},
    "items": "mine",
}
CONTEXT = {"params": PARAMS, "task": {"nominal_at": "2026-03-29T00:30:00Z"}}


def rendered(arg: str) -> str:
    assert faults("echo", [arg], NAMES) == []
    return render("echo", [arg], CONTEXT).args[0]


@pytest.mark.parametrize(
    ("arg", "text"),
    [
        ("day={{ params.day }}.", "day=2026-01-31."),
        ("{{params.day}}{{params.n}}", "2026-01-313"),
        ("{{ params['day'] }}", "2026-01-31"),
        ("{{ params.items }} {{ params.object.keys }}", "mine k"),
        ("{{ params.list[0] }}{{ params.list[-1].x }}", "atrue"),
        ("{{ params.object.inner.deep[1] }}", "2"),
        ("{{ params.list }}", '["a",1,null,{"x":true}]'),
        ("{{ params.missing | default('none') }}", "none"),
        ("{{ params.missing is defined }} {{ params.day is defined }}", "false true"),
        ("{{ 'late' if params.n >= 3 else 'early' }}", "late"),
        ("{{ params.day ~ '/' ~ params.n }}", "2026-01-31/3"),
        ("{{ params.day | days(1) }}", "2026-02-01"),
        ("{{ params.day | days(-31) | date('%d.%m.%Y') }}", "31.12.2025"),
        ("{{ task.nominal_at | date }}", "2026-03-29"),
        ("{{ task.nominal_at | date('%H:%M %z', 'Europe/Berlin') }}", "01:30 +0100"),
        ("{{ task.nominal_at | days(1) }}", "2026-03-30T00:30:00Z"),
        ("{{ params.day | replace('-', '') }}", "20260131"),
        ("{{ ' A ' | trim | lower }}{{ 'ß' | upper }}", "aSS"),
        ("{{ params.object.inner.deep | join(', ') }}", "1, 2"),
        ("{{ params.list | length }}", "4"),
        ("{{ params.day | json }}", '"2026-01-31"'),
        ("{{ '{{' }} }} {% for %} {# x #} ${#a[@]}", "{{ }} {% for %} {# x #} ${#a[@]}"),
        ("{{ '}}' }}\r\n\r", "}}\r\n\r"),
    ],
)
def test_values_and_filters(arg: str, text: str) -> None:
    assert rendered(arg) == text


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "{{" not in text))
def test_text_without_an_expression_is_verbatim(text: str) -> None:
    assert render("echo", [text], {}).args == (text,)


HARMFUL = [
    "'a' * 1000000000",
    "10 ** 10 ** 10",
    "range(1000000000)",
    "params.day.__class__.__mro__",
    "params['__class__']",
    "''.__class__",
    "params.day.upper()",
    "cycler('a')",
    "lipsum(n=100000)",
    "self",
    "namespace()",
    "params.day | attr('upper')",
    "params.list | map('upper')",
    "params.day | format(1)",
    "params.day | default(**params)",
    "params.day | center(1000000000)",
    "[params.day] * 3",
    "{'a': 1}",
    "params[params.day]",
    "params.list[0:2]",
    "params.day is matching('x')",
    "params.day in params.list and loop",
    "for x in params",
    "a = 1",
    "params.day %}{% include 'x'",
    "caller",
    "params.day if",
    "params.day | nosuch",
    "(" * 200 + "1" + ")" * 200,
    "not " * 100 + "1",
    "1" * 490,
]


@pytest.mark.parametrize("source", HARMFUL)
def test_what_could_do_harm_or_is_no_expression_is_refused_at_once_and_costs_nothing(source: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    found = faults("echo", ["{{ " + source + " }}"], NAMES)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if source != "1" * 490:
        assert len(found) == 1 and "position 1: " in found[0].message
    assert seconds < 1 and peak < 20_000_000


@given(st.text("{}'\"()[]|.~%#-+*/ abparamsdyif_0123=<>!,:\\", max_size=40))
def test_whatever_is_written_is_either_refused_or_rendered(source: str) -> None:
    """Never another exception, on any input; and what is allowed has the value that Jinja2 gives it."""
    arg = "{{ " + source + " }}"
    if faults("echo", [arg], NAMES):
        return
    try:
        text = render("echo", [arg], CONTEXT).args[0]
    except TemplateError:
        return
    if "|" not in source and "." not in source and "[" not in source and arg.count("{{") == 1:
        value = jinja2.Environment().compile_expression(source)(**CONTEXT)
        if isinstance(value, str):
            assert text == value


@pytest.mark.parametrize(
    ("arg", "why"),
    [
        ("{{ params.missing }}", "missing has no value"),
        ("{{ params.list[9] }}", "9 has no value"),
        ("{{ params.day.inner.more }}", "inner has no value"),
        ("{{ params.day < params.n }}", "cannot be computed"),
        ("{{ params.n | days(1) }}", "neither a date nor a time"),
        ("{{ params.day | date('%s') }}", "pattern"),
        ("{{ task.nominal_at | date('%H', '../etc/passwd') }}", "not a time zone"),
        ("{{ params.day | days(999999999) }}", "beyond the calendar"),
        ("{{ params.day | replace('', 'x') }}", "empty"),
        ("{{ params.day | join('-') }}", "not an array"),
    ],
)
def test_what_has_no_value_is_said_with_its_place(arg: str, why: str) -> None:
    assert faults("echo", ["-n", "  " + arg], NAMES) == []
    with pytest.raises(TemplateError, match=why) as wrong:
        render("echo", ["-n", "  " + arg], CONTEXT)
    assert str(wrong.value).startswith("args[1]: the expression at position 3: ")


def test_no_value_grows_beyond_its_bound() -> None:
    large = {"params": {"day": "-" * 90_000, "n": "x" * 1000}}
    for arg in ("{{ params.day | replace('-', params.n) }}", "{{ params.day ~ params.day }}"):
        with pytest.raises(TemplateError, match=f"more than {VALUE_LENGTH_MAX} characters"):
            render("echo", [arg], large)
    with pytest.raises(TemplateError, match=f"more than {VALUE_LENGTH_MAX} bytes"):
        render("echo", ["{{ params.day }}"], {"params": {"day": "字" * 40_000}})
    with pytest.raises(TemplateError, match="all values together"):
        render("echo", ["{{ params.day }}"] * 3, large)


def test_a_slip_gets_the_nearest_name() -> None:
    found = faults("echo", ["{{ params.dya }}", "{{ parms.day }}", "{{ params.day | uper }}"], NAMES)
    assert [fault.suggestion for fault in found] == ["day", "params", None]
    assert "upper" in found[2].message
