"""`config.params`: declared parameters. What is allowed is the domain's; here it is read, and described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from hetuflow.api.filter_schemas import NULL
from hetuflow.api.jsontext import INTEGER_MAX
from hetuflow.api.kinds import INVALID, Schema, refuse
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems
from hetuflow.domain.enums import ParameterType
from hetuflow.domain.parameters import (
    CHOICES_MAX,
    DECLARED_MAX,
    DESCRIPTION_LENGTH_MAX,
    NAME,
    ORDERED,
    SCALAR,
    faults,
)
from hetuflow.domain.patterns import PATTERN_LENGTH_MAX

_VALUES: Mapping[ParameterType, Schema] = {
    ParameterType.STRING: {"type": "string"},
    ParameterType.INTEGER: {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX},
    ParameterType.NUMBER: {"type": "number"},
    ParameterType.BOOLEAN: {"type": "boolean"},
    ParameterType.DATE: {"type": "string", "format": "date"},
    ParameterType.DATETIME: {"type": "string", "format": "date-time"},
    ParameterType.ARRAY: {"type": "array", "items": {}},
    ParameterType.OBJECT: {"type": "object", "additionalProperties": True},
}


def _declaration(kind: ParameterType) -> Schema:
    """An object of that type, with the members that have a meaning for it."""
    value = {"anyOf": [_VALUES[kind], NULL]}
    members: dict[str, Schema] = {
        "type": {"type": "string", "const": str(kind)},
        "required": {"type": ["boolean", "null"], "description": "a task without it is refused; not beside a default"},
        "default": {**value, "description": "the value of a task that is given none"},
        "description": {"type": ["string", "null"], "maxLength": DESCRIPTION_LENGTH_MAX},
    }
    if kind in SCALAR:
        choices = {"type": "array", "minItems": 1, "maxItems": CHOICES_MAX, "items": _VALUES[kind]}
        members["choices"] = {"anyOf": [choices, NULL], "description": "the values allowed"}
    if kind is ParameterType.STRING:
        members["pattern"] = {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": PATTERN_LENGTH_MAX,
            "description": "of the whole value: characters, classes, `? * + {n,m}`, alternatives; no groups",
        }
    if kind in ORDERED:
        members["minimum"] = {**value, "description": "included"}
        members["maximum"] = {**value, "description": "included"}
    return {"type": "object", "properties": members, "required": ["type"], "additionalProperties": False}


_DECLARATION: Schema = {"anyOf": [_declaration(kind) for kind in ParameterType]}


@frozen(slots=True)
class DeclaredParameters:
    """An object of declarations by name."""

    phrase: str = "an object of declared parameters"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        if not check_free(value, path, problems):
            return INVALID
        found = faults(value)
        for fault in found:
            problems.add(f"{path}.{fault.path}".rstrip("."), fault.message, fault.suggestion)
        return INVALID if found else value

    def schema(self) -> Schema:
        return {
            "type": "object",
            "maxProperties": DECLARED_MAX,
            "propertyNames": {"pattern": f"^{NAME.pattern}$"},
            "additionalProperties": _DECLARATION,
        }
