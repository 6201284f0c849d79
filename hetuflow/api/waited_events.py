"""Kinds of the two members that say which events a schedule waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import frozen

from hetuflow.api.kinds import INVALID, Schema, Text
from hetuflow.api.objects import FreeObject
from hetuflow.api.problems import Problems, nearest
from hetuflow.domain.event_filter import COMBINATORS, CONDITIONS_MAX
from hetuflow.domain.event_filter import faults as filter_faults
from hetuflow.domain.event_operators import FLAGS, OPERATORS, Operand
from hetuflow.domain.event_types import PATTERN, RULE
from hetuflow.domain.event_types import fault_of as type_fault


def _add(problems: Problems, path: str, message: str, near: str | None) -> None:
    problems.add(path, message if near is None else f'{message}; the nearest is "{near}"', near)


@frozen(slots=True)
class EventType:
    phrase: str = f"{RULE}, such as file.created or task.*"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        text = Text(128, 1).parse(value, path, problems)
        if text is INVALID:
            return INVALID
        fault = type_fault(text)
        if fault is None:
            return text
        _add(problems, path, fault[0], nearest(text, fault[1]))
        return INVALID

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{PATTERN}$", "description": self.phrase}


@frozen(slots=True)
class EventFilter:
    phrase: str = "an object"
    component: str = "EventFilter"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if FreeObject().parse(value, path, problems) is INVALID:
            return INVALID
        found = filter_faults(value, path)
        for fault in found:
            _add(problems, fault.path, fault.message, None if fault.name is None else nearest(fault.name, fault.known))
        return INVALID if found else value

    def schema(self) -> Schema:
        """It refers to itself by the name of `component`."""
        inner = {"type": "array", "minItems": 1, "items": {"$ref": f"#/components/schemas/{self.component}"}}
        return {
            "type": "object",
            "maxProperties": CONDITIONS_MAX,
            "properties": dict.fromkeys(COMBINATORS, inner),
            "patternProperties": {"^[^$.][^.]*(\\.[^.]+)*$": _WANTED},
            "additionalProperties": False,
        }


# --- what may stand at a path ----------------------------------------------------------------------------------------

_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
_OPERANDS: Final[Mapping[Operand, Schema]] = {
    Operand.ANY: {},
    Operand.SCALAR: {"type": ["string", "number"]},
    Operand.LIST: {"type": "array"},
    Operand.TEXT: {"type": "string"},
    Operand.TEXTS: {"type": "array", "items": {"type": "string"}},
    Operand.FLAG: {"type": "boolean"},
}


def _spellings(names: Iterable[str]) -> str:
    """`notIn` also as `not_in`, each also with `$`."""
    found = [spelled for name in names for spelled in dict.fromkeys((name, _snake(name)))]
    return f"^\\$?({'|'.join(found)})$"


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _operators() -> Schema:
    by_operand: dict[Operand, list[str]] = {Operand.FLAG: list(FLAGS)}
    for name, operator in OPERATORS.items():
        by_operand.setdefault(operator.operand, []).append(name)
    return {
        "type": "object",
        "minProperties": 1,
        "patternProperties": {_spellings(names): _OPERANDS[operand] for operand, names in by_operand.items()},
        "additionalProperties": False,
    }


_WANTED: Final[Schema] = {
    "description": "a string is a glob, another scalar is equal, an array is any of these, an object is operators",
    "anyOf": [_SCALAR, {"type": "array", "minItems": 1, "items": _SCALAR}, _operators()],
}
