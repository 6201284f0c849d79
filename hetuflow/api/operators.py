"""The operators of filters (REST contract §6.2): their names, which fields they are for, and the shape of their value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from attrs import frozen


class FieldType(Enum):
    """What a field holds, as far as operators care."""

    STRING = "string"
    INTEGER = "integer"
    TIME = "time"
    UUID = "uuid"
    BOOLEAN = "boolean"
    JSON = "JSON"
    ARRAY = "array"


class Operand(Enum):
    """What stands behind an operator."""

    ONE = "one value of the field's type"
    MANY = "a list of values of the field's type"
    FLAG = "true or false"
    STRINGS_OR_ONE = "a list of strings, or one string"


@frozen(slots=True)
class Operator:
    name: str
    operand: Operand


_COMPARABLE = (FieldType.STRING, FieldType.INTEGER, FieldType.TIME, FieldType.UUID)


def _text_operators() -> Iterator[Operator]:
    for stem in ("contains", "startsWith", "endsWith"):
        for name, operand in ((stem, Operand.ONE), (f"{stem}Ci", Operand.ONE), (f"{stem}Any", Operand.MANY)):
            yield Operator(name, operand)
    yield Operator("containsAll", Operand.MANY)
    yield Operator("like", Operand.ONE)
    yield Operator("ilike", Operand.ONE)


def negation(name: str) -> str:
    """`contains` -> `notContains`."""
    return f"not{name[0].upper()}{name[1:]}"


def _operators() -> dict[FieldType, dict[str, Operator]]:
    table: dict[FieldType, dict[str, Operator]] = {kind: {} for kind in FieldType}

    def add(operator: Operator, *kinds: FieldType) -> None:
        for kind in kinds:
            table[kind][operator.name] = operator

    scalars = (*_COMPARABLE, FieldType.BOOLEAN, FieldType.JSON)
    add(Operator("eq", Operand.ONE), *scalars)
    add(Operator("not", Operand.ONE), *scalars)
    add(Operator("in", Operand.MANY), *_COMPARABLE, FieldType.JSON)
    add(Operator("notIn", Operand.MANY), *_COMPARABLE, FieldType.JSON)
    for name in ("lt", "lte", "gt", "gte"):
        add(Operator(name, Operand.ONE), *_COMPARABLE)
    for operator in _text_operators():
        add(operator, FieldType.STRING)
        add(Operator(negation(operator.name), operator.operand), FieldType.STRING)
    add(Operator("empty", Operand.FLAG), FieldType.STRING)
    add(Operator("contains", Operand.ONE), FieldType.JSON)
    for name in ("eq", "not", "contains", "contained", "in"):
        add(Operator(name, Operand.STRINGS_OR_ONE), FieldType.ARRAY)
    add(Operator("null", Operand.FLAG), *FieldType)
    return table


OPERATORS: Final[Mapping[FieldType, Mapping[str, Operator]]] = _operators()

_SNAKE = re.compile(r"_([a-z])")
_SPELLINGS: Final = {"notIlike": "notIlike", "notILike": "notIlike", "iLike": "ilike"}


def canonical(name: str) -> str:
    """The operator's name without `$`, in camelCase; the name itself when it is not written in either style."""
    bare = name[1:] if name.startswith("$") else name
    camel = _SNAKE.sub(lambda match: match[1].upper(), bare) if bare == bare.lower() else bare
    return _SPELLINGS.get(camel, camel)
