"""The operators of an `event_filter`, those of the REST contract's filters (§6.2), over JSON values.

A value that is null or absent satisfies none but `null` and `empty`, negated ones included; one of another type than the
operator is for satisfies none of the positive ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from attrs import frozen

Test = Callable[[Any], bool]
"""(value, never null) -> whether it fits."""


class Operand(Enum):
    """What stands behind an operator."""

    ANY = "any JSON value"
    SCALAR = "a number or a string"
    LIST = "a list"
    TEXT = "a string"
    TEXTS = "a list of strings"
    FLAG = "true or false"

    def accepts(self, value: Any) -> bool:
        match self:
            case Operand.SCALAR:
                return is_number(value) or isinstance(value, str)
            case Operand.LIST:
                return isinstance(value, list)
            case Operand.TEXT:
                return isinstance(value, str)
            case Operand.TEXTS:
                return isinstance(value, list) and all(isinstance(each, str) for each in value)
            case Operand.FLAG:
                return isinstance(value, bool)
            case _:
                return True


@frozen(slots=True)
class Operator:
    """`test` is made once of the operand."""

    operand: Operand
    test: Callable[[Any], Test]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(left: Any, right: Any) -> bool:
    """JSON equality: 1 and 1.0 are the same number, true and 1 are not the same."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if is_number(left) and is_number(right):
        return bool(left == right)
    return type(left) is type(right) and bool(left == right)


def holds(whole: Any, part: Any) -> bool:
    """JSON containment: an object has at least these members, a list at least these elements."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and holds(whole[name], part[name]) for name in part)
    if isinstance(whole, list):
        wanted = part if isinstance(part, list) else [part]
        scalars = {_key(each) for each in whole if not isinstance(each, dict | list)}
        others = [each for each in whole if isinstance(each, dict | list)]
        return all(
            (not isinstance(one, dict | list) and _key(one) in scalars) or any(holds(each, one) for each in others)
            for one in wanted
        )
    return equal(whole, part)


def _key(scalar: Any) -> tuple[str, Any]:
    """Two scalars that are `equal`, and no others, have the same: long lists are compared without trying each with each."""
    return ("number" if is_number(scalar) else type(scalar).__name__), scalar


def _comparing(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def made(operand: Any) -> Test:
        if isinstance(operand, str):
            return lambda value: isinstance(value, str) and compare(value, operand)
        return lambda value: is_number(value) and compare(value, operand)

    return made


def _one_of(operand: Sequence[Any]) -> Test:
    return lambda value: any(equal(value, each) for each in operand)


def _negated(made: Callable[[Any], Test]) -> Callable[[Any], Test]:
    def negated(operand: Any) -> Test:
        test = made(operand)
        return lambda value: not test(value)

    return negated


# --- text ------------------------------------------------------------------------------------------------------------

_Text = Callable[[str, str], bool]


def _on_text(compare: _Text) -> Callable[[Any], Test]:
    return lambda operand: lambda value: isinstance(value, str) and compare(value, operand)


def _ignoring_case(compare: _Text) -> Callable[[Any], Test]:
    def made(operand: str) -> Test:
        folded = operand.lower()
        return lambda value: isinstance(value, str) and compare(value.lower(), folded)

    return made


def _any_text(compare: _Text) -> Callable[[Any], Test]:
    return lambda operand: lambda value: isinstance(value, str) and any(compare(value, each) for each in operand)


def _all_texts(operand: Sequence[str]) -> Test:
    return lambda value: isinstance(value, str) and all(each in value for each in operand)


def _contains(operand: Any) -> Test:
    return lambda value: (
        isinstance(operand, str) and operand in value if isinstance(value, str) else holds(value, operand)
    )


def _contained(operand: Any) -> Test:
    return lambda value: isinstance(value, list) and holds(operand, value)


def _like(ignores_case: bool) -> Callable[[Any], Test]:
    def made(pattern: str) -> Test:
        if "%" not in pattern and "_" not in pattern:
            return _ignoring_case(lambda value, text: text in value)(pattern)
        expression = re.compile(_like_expression(pattern), re.DOTALL | (re.IGNORECASE if ignores_case else 0))
        return lambda value: isinstance(value, str) and expression.fullmatch(value) is not None

    return made


def _like_expression(pattern: str) -> str:
    """SQL LIKE as a regular expression. A run is possessive up to its next literal: no backtracking across runs."""
    pieces: list[list[str]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            pieces.append([])
        elif character == "_":
            pieces[-1].append(".")
        else:
            pieces[-1].append(re.escape(next(characters, "\\") if character == "\\" else character))
    first, *rest = ("".join(piece) for piece in pieces)
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"


def _text_operators() -> Iterator[tuple[str, Operator]]:
    stems: Mapping[str, _Text] = {
        "contains": lambda value, text: text in value,
        "startsWith": str.startswith,
        "endsWith": str.endswith,
    }
    for stem, compare in stems.items():
        if stem != "contains":
            yield stem, Operator(Operand.TEXT, _on_text(compare))
        yield f"{stem}Ci", Operator(Operand.TEXT, _ignoring_case(compare))
        yield f"{stem}Any", Operator(Operand.TEXTS, _any_text(compare))
    yield "containsAll", Operator(Operand.TEXTS, _all_texts)
    yield "like", Operator(Operand.TEXT, _like(False))
    yield "ilike", Operator(Operand.TEXT, _like(True))


def _operators() -> Iterator[tuple[str, Operator]]:
    yield "eq", Operator(Operand.ANY, lambda operand: lambda value: equal(value, operand))
    yield "not", Operator(Operand.ANY, lambda operand: lambda value: not equal(value, operand))
    yield "in", Operator(Operand.LIST, _one_of)
    yield "notIn", Operator(Operand.LIST, _negated(_one_of))
    yield "lt", Operator(Operand.SCALAR, _comparing(lambda value, operand: value < operand))
    yield "lte", Operator(Operand.SCALAR, _comparing(lambda value, operand: value <= operand))
    yield "gt", Operator(Operand.SCALAR, _comparing(lambda value, operand: value > operand))
    yield "gte", Operator(Operand.SCALAR, _comparing(lambda value, operand: value >= operand))
    yield "contained", Operator(Operand.LIST, _contained)
    for name, operator in (("contains", Operator(Operand.ANY, _contains)), *_text_operators()):
        yield name, operator
        yield f"not{name[0].upper()}{name[1:]}", Operator(operator.operand, _negated(operator.test))


OPERATORS: Final[Mapping[str, Operator]] = dict(_operators())
"""Canonical name (camelCase, without `$`) -> operator."""

NULL: Final = "null"
EMPTY: Final = "empty"
FLAGS: Final = (NULL, EMPTY)
"""The two that also speak of what is null or absent."""

NAMES: Final = tuple(f"${name}" for name in (*OPERATORS, *FLAGS))

_SNAKE = re.compile(r"_([a-z])")
_SPELLINGS: Final = {"notILike": "notIlike", "iLike": "ilike"}


def canonical(name: str) -> str:
    """The operator's name without `$`, in camelCase; the name itself when it is written in neither style."""
    bare = name.removeprefix("$")
    camel = _SNAKE.sub(lambda match: match[1].upper(), bare) if bare == bare.lower() else bare
    return _SPELLINGS.get(camel, camel)
