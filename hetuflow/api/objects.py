"""Kinds of JSON objects whose member names are the client's own: variables, labels, free data."""

from __future__ import annotations

import math
import re
from typing import Any

from attrs import frozen

from hetuflow.api.jsontext import INTEGER_MAX
from hetuflow.api.kinds import INVALID, Schema, refuse, text_fault
from hetuflow.api.problems import Problems

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def value_fault(value: Any) -> str | None:
    """Why a scalar cannot be kept, or None."""
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return None if abs(value) <= INTEGER_MAX else f"must be an integer within ±{INTEGER_MAX}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    return None


def check_free(value: Any, path: str, problems: Problems) -> bool:
    """Whether any JSON value, to its depth, can be kept; adds a problem for each part that cannot."""
    if isinstance(value, dict):
        fine = True
        for name, inner in value.items():
            if fault := text_fault(name):
                problems.add(path, f"member name {fault}")
                fine = False
            elif not check_free(inner, f"{path}.{name}", problems):
                fine = False
        return fine
    if isinstance(value, list):
        checked = [check_free(inner, f"{path}[{index}]", problems) for index, inner in enumerate(value)]
        return all(checked)
    if fault := value_fault(value):
        problems.add(path, fault)
        return False
    return True


@frozen(slots=True)
class AnyJson:
    phrase: str = "a JSON value"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return value if check_free(value, path, problems) else INVALID

    def schema(self) -> Schema:
        return {}


@frozen(slots=True)
class FreeObject:
    """An object of any members; `null` inside it is a value."""

    phrase: str = "an object"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        return value if check_free(value, path, problems) else INVALID

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": True}


@frozen(slots=True)
class Variables:
    """Environment variables: names of letters, digits and `_`; values string, number or boolean."""

    phrase: str = "an object of variables"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        fine = True
        for name, inner in value.items():
            where = f"{path}.{name}" if not text_fault(name) else path
            if _VARIABLE.fullmatch(name) is None:
                problems.add(where, "the name of a variable must match [A-Za-z_][A-Za-z0-9_]*")
            elif not isinstance(inner, (str, int, float)):
                problems.add(where, "must be a string, number or boolean")
            elif fault := value_fault(inner):
                problems.add(where, fault)
            else:
                continue
            fine = False
        return value if fine else INVALID

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }


@frozen(slots=True)
class StringTable:
    """An object of strings: labels."""

    phrase: str = "an object of strings"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        fine = True
        for name, inner in value.items():
            if fault := text_fault(name):
                problems.add(path, f"member name {fault}")
            elif not isinstance(inner, str):
                problems.add(f"{path}.{name}", "must be a string")
            elif fault := text_fault(inner):
                problems.add(f"{path}.{name}", fault)
            else:
                continue
            fine = False
        return value if fine else INVALID

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": {"type": "string"}}
