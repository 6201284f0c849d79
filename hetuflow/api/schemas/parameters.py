"""`config.params`: declared parameters. What is allowed is the domain's; here it is read, and described."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from hetuflow.api.kinds import INVALID, Schema, refuse
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems
from hetuflow.domain.enums import ParameterType
from hetuflow.domain.parameters import CHOICES_MAX, DECLARED_MAX, DESCRIPTION_LENGTH_MAX, NAME, faults

_DECLARATION: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": [str(kind) for kind in ParameterType]},
        "required": {"type": ["boolean", "null"], "description": "a task without it is refused; not beside a default"},
        "default": {"description": "the value of a task that is given none"},
        "choices": {
            "type": ["array", "null"],
            "minItems": 1,
            "maxItems": CHOICES_MAX,
            "description": "the values allowed",
        },
        "minimum": {"description": "of integer, number, date and datetime; included"},
        "maximum": {"description": "of integer, number, date and datetime; included"},
        "description": {"type": ["string", "null"], "maxLength": DESCRIPTION_LENGTH_MAX},
    },
    "required": ["type"],
    "additionalProperties": False,
}


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
