"""Operators of filters (REST contract §6.2) as SQL: one table per type of field, every value a bound parameter.

A condition is true, false or SQL's unknown, and stands under nothing but AND and OR. So a null field, which makes every
operator unknown, satisfies none, negated ones included; where SQL would decide without looking at the field (an empty
list), the condition says so itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from projections.query_fields import FieldType


@define(slots=True)
class Arguments:
    """The bound values of a statement. `folding`: the collation that knows upper and lower case of all scripts."""

    folding: str = "default"
    values: list[Any] = field(factory=list)

    def bind(self, value: Any, type_: str) -> str:
        self.values.append(value)
        return f"${len(self.values)}::{type_}"


Operator = Callable[[str, Any, Arguments], str]
"""(the field as SQL, the operand, where to bind it) -> the condition."""

SQL_TYPES: Final[Mapping[FieldType, str]] = {
    FieldType.STRING: "text",
    FieldType.INTEGER: "bigint",
    FieldType.TIME: "timestamptz",
    FieldType.UUID: "uuid",
    FieldType.BOOLEAN: "boolean",
    FieldType.JSON: "jsonb",
    FieldType.ARRAY: "jsonb",
}


def json_text(value: Any) -> str:
    """What a jsonb parameter takes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# --- all types -------------------------------------------------------------------------------------------------------


def _compare(symbol: str, type_: str) -> Operator:
    encode = json_text if type_ == "jsonb" else _as_it_is
    return lambda it, operand, args: f"{it} {symbol} {args.bind(encode(operand), type_)}"


def _in(type_: str) -> Operator:
    encode = json_text if type_ == "jsonb" else _as_it_is
    return lambda it, operand, args: f"{it} = ANY({args.bind([encode(value) for value in operand], type_ + '[]')})"


def _not_in(type_: str) -> Operator:
    encode = json_text if type_ == "jsonb" else _as_it_is

    def compile_(it: str, operand: Sequence[Any], args: Arguments) -> str:
        if not operand:
            return f"{it} IS NOT NULL"
        return f"{it} <> ALL({args.bind([encode(value) for value in operand], type_ + '[]')})"

    return compile_


def _null(it: str, operand: bool, args: Arguments) -> str:
    return f"{it} IS NULL" if operand else f"{it} IS NOT NULL"


def _as_it_is(value: Any) -> Any:
    return value


def _equality(type_: str) -> Mapping[str, Operator]:
    return {"eq": _compare("=", type_), "not": _compare("<>", type_), "null": _null}


def _lists(type_: str) -> Mapping[str, Operator]:
    return {"in": _in(type_), "notIn": _not_in(type_)}


def _order(type_: str) -> Mapping[str, Operator]:
    symbols = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
    return {name: _compare(symbol, type_) for name, symbol in symbols.items()}


# --- text ------------------------------------------------------------------------------------------------------------

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


def _literal(text: str) -> str:
    """A LIKE pattern of exactly this text."""
    return text.translate(_ESCAPED)


def _whole(pattern: str) -> str:
    """The pattern, a backslash at its end standing for itself: PostgreSQL refuses one that escapes nothing."""
    trailing = len(pattern) - len(pattern.rstrip("\\"))
    return pattern + "\\" if trailing % 2 else pattern


_PATTERNS: Final[Mapping[str, Callable[[str], str]]] = {
    "contains": lambda text: f"%{_literal(text)}%",
    "startsWith": lambda text: f"{_literal(text)}%",
    "endsWith": lambda text: f"%{_literal(text)}",
}


def _like(it: str, pattern: str, args: Arguments) -> str:
    return f"{it} LIKE {args.bind(pattern, 'text')}"


def _like_ci(it: str, pattern: str, args: Arguments) -> str:
    # Not ILIKE: it folds by the column's collation, and "C" knows ASCII alone.
    folding = f'COLLATE "{args.folding}"'
    return f"lower({it} {folding}) LIKE lower({args.bind(pattern, 'text')} {folding})"


def _matching(pattern: Callable[[str], str], like: Operator) -> Operator:
    return lambda it, operand, args: like(it, pattern(operand), args)


def _any(pattern: Callable[[str], str]) -> Operator:
    def compile_(it: str, operand: Sequence[str], args: Arguments) -> str:
        return f"{it} LIKE ANY({args.bind([pattern(text) for text in operand], 'text[]')})" if operand else "false"

    return compile_


def _all(pattern: Callable[[str], str]) -> Operator:
    def compile_(it: str, operand: Sequence[str], args: Arguments) -> str:
        if not operand:
            return f"{it} IS NOT NULL"
        return f"{it} LIKE ALL({args.bind([pattern(text) for text in operand], 'text[]')})"

    return compile_


def _like_or_contains(like: Operator) -> Operator:
    def compile_(it: str, operand: str, args: Arguments) -> str:
        if "%" in operand or "_" in operand:
            return like(it, _whole(operand), args)
        return _like_ci(it, _PATTERNS["contains"](operand), args)

    return compile_


def _negated(positive: Operator) -> Operator:
    def compile_(it: str, operand: Any, args: Arguments) -> str:
        condition = positive(it, operand, args)
        # "false" did not look at the field.
        return f"{it} IS NOT NULL" if condition == "false" else f"NOT ({condition})"

    return compile_


def _not_all(pattern: Callable[[str], str]) -> Operator:
    positive = _all(pattern)
    return lambda it, operand, args: f"NOT ({positive(it, operand, args)})" if operand else "false"


def _empty(it: str, operand: bool, args: Arguments) -> str:
    return f"({it} IS NULL OR {it} = '')" if operand else f"{it} <> ''"


def _text_operators() -> Iterator[tuple[str, Operator]]:
    for stem, pattern in _PATTERNS.items():
        yield stem, _matching(pattern, _like)
        yield f"{stem}Ci", _matching(pattern, _like_ci)
        yield f"{stem}Any", _any(pattern)
    yield "like", _like_or_contains(_like)
    yield "ilike", _like_or_contains(_like_ci)


def negation(name: str) -> str:
    """`contains` -> `notContains`."""
    return f"not{name[0].upper()}{name[1:]}"


_TEXT: Final[Mapping[str, Operator]] = {
    **dict(_text_operators()),
    **{negation(name): _negated(operator) for name, operator in _text_operators()},
    "containsAll": _all(_PATTERNS["contains"]),
    "notContainsAll": _not_all(_PATTERNS["contains"]),
    "empty": _empty,
}


# --- arrays of strings -----------------------------------------------------------------------------------------------


def _array_of(operand: str | Sequence[str]) -> str:
    return json_text([operand] if isinstance(operand, str) else list(operand))


def _has_all(it: str, operand: str | Sequence[str], args: Arguments) -> str:
    return f"{it} @> {args.bind(_array_of(operand), 'jsonb')}"


def _within(it: str, operand: str | Sequence[str], args: Arguments) -> str:
    return f"{it} <@ {args.bind(_array_of(operand), 'jsonb')}"


def _same_set(it: str, operand: str | Sequence[str], args: Arguments) -> str:
    if isinstance(operand, str):
        return _has_all(it, operand, args)
    return f"({_has_all(it, operand, args)} AND {_within(it, operand, args)})"


def _has_one(it: str, operand: str | Sequence[str], args: Arguments) -> str:
    return f"{it} ?| {args.bind([operand] if isinstance(operand, str) else list(operand), 'text[]')}"


# --- the tables ------------------------------------------------------------------------------------------------------


def _comparable(type_: str) -> Mapping[str, Operator]:
    return {**_equality(type_), **_lists(type_), **_order(type_)}


OPERATORS: Final[Mapping[FieldType, Mapping[str, Operator]]] = {
    FieldType.STRING: {**_comparable("text"), **_TEXT},
    FieldType.INTEGER: _comparable("bigint"),
    FieldType.TIME: _comparable("timestamptz"),
    FieldType.UUID: _comparable("uuid"),
    FieldType.BOOLEAN: _equality("boolean"),
    FieldType.JSON: {**_equality("jsonb"), **_lists("jsonb"), "contains": _compare("@>", "jsonb")},
    FieldType.ARRAY: {
        "eq": _same_set,
        "not": _negated(_same_set),
        "contains": _has_all,
        "contained": _within,
        "in": _has_one,
        "null": _null,
    },
}
"""Type of field -> canonical operator (camelCase, without `$`) -> its SQL."""

FOLDS_CASE: Final = frozenset(name for name in _TEXT if name.endswith(("Ci", "like", "Like", "Ilike")))
"""Operators that may ignore case: only they need `Arguments.folding`."""
