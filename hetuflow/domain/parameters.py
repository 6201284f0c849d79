"""Declared parameters (`config.params`): what may be declared, and what fits a declaration.

Values come from the defaults of the declaration, the schedule, and the run or event, later ones winning. A null is "not
given". What does not fit is never passed on: what people ask for is refused, what happens by itself (a fire, an event)
becomes a task that has failed, and says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from hetuflow.domain.enums import ParameterType, ScheduleKind
from hetuflow.domain.patterns import TEXT_LENGTH_MAX, PatternError, pattern

JSON = Mapping[str, Any]

MEMBERS = ("type", "required", "default", "choices", "pattern", "minimum", "maximum", "description")
DECLARED_MAX = 100
CHOICES_MAX = 1000
DESCRIPTION_LENGTH_MAX = 1000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INTEGER_MAX = 2**53 - 1
ORDERED = (ParameterType.INTEGER, ParameterType.NUMBER, ParameterType.DATE, ParameterType.DATETIME)
SCALAR = (*ORDERED, ParameterType.STRING)


@frozen(slots=True)
class Unfit:
    """One value, or one member of a declaration, that does not fit. `path` is dotted, from the object that was looked at."""

    path: str
    message: str
    suggestion: str | None = None


# --- values --------------------------------------------------------------------------------------------------------


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INTEGER_MAX else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _day(value: Any) -> Any:
    try:
        return value if isinstance(value, str) and _DATE.fullmatch(value) and date.fromisoformat(value) else None
    except ValueError:
        return None


def _instant(value: Any) -> Any:
    """In UTC, so that equal instants are one value."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else None
        return None if at is None or at.tzinfo is None else at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
    except (ValueError, OverflowError):
        return None


_READ: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    ParameterType.STRING: (_text, "a string"),
    ParameterType.INTEGER: (_integer, "an integer"),
    ParameterType.NUMBER: (_number, "a number"),
    ParameterType.BOOLEAN: (lambda v: v if isinstance(v, bool) else None, "true or false"),
    ParameterType.DATE: (_day, "a date such as 2026-01-31"),
    ParameterType.DATETIME: (_instant, "an RFC 3339 time with offset, such as 2026-01-31T08:00:00Z"),
    ParameterType.ARRAY: (lambda v: list(v) if isinstance(v, list | tuple) else None, "an array"),
    ParameterType.OBJECT: (lambda v: dict(v) if isinstance(v, Mapping) else None, "an object"),
}


def read(declared: JSON, value: Any) -> tuple[Any, str | None]:
    """The value in the form that is kept, and what is wrong with it (None: nothing).

    Args:
      declared: one declaration, within its bounds.
    """
    parse, phrase = _READ[declared["type"]]
    kept = parse(value)
    if kept is None:
        return None, f"must be {phrase}, got {_shown(value)}"
    choices = declared.get("choices")
    if choices is not None and kept not in [parse(choice) for choice in choices]:
        return None, f"must be one of {', '.join(map(_shown, choices))}, got {_shown(value)}"
    if (rule := declared.get("pattern")) is not None and not pattern(rule).matches(kept):
        return None, f"must match {rule} (and have at most {TEXT_LENGTH_MAX} characters), got {_shown(value)}"
    low, high = declared.get("minimum"), declared.get("maximum")
    if (low is not None and _order(kept) < _order(parse(low))) or (
        high is not None and _order(kept) > _order(parse(high))
    ):
        return None, f"must be {_range(low, high)}, got {_shown(value)}"
    return kept, None


def _order(value: Any) -> Any:
    """Two texts compare as the moments they are."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _range(low: Any, high: Any) -> str:
    if low is not None and high is not None:
        return f"from {_shown(low)} to {_shown(high)}"
    return f"≥ {_shown(low)}" if high is None else f"≤ {_shown(high)}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def effective(
    declared: JSON | None, given: JSON, *, passed: Iterable[str] | None = None
) -> tuple[dict[str, Any], list[Unfit]]:
    """The values of a task with defaults filled in, and all that does not fit; the values are those that do.

    Args:
      declared: `config.params`; None: nothing is declared, and everything passes as it is.
      passed: undeclared names that pass as they are; None: all do.
    """
    if declared is None:
        return dict(given), []
    values: dict[str, Any] = {}
    unfit: list[Unfit] = []
    for name, value in given.items():
        if name in declared:
            continue
        if passed is None or name in passed:
            values[name] = value
        else:
            near = get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f'; the nearest is "{near[0]}"' if near else f"; declared are: {', '.join(declared) or 'none'}"
            unfit.append(Unfit(name, f"is not declared{hint}", near[0] if near else None))
    for name, declaration in declared.items():
        value = given.get(name)
        if value is None:
            value = declaration.get("default")
        if value is not None:
            kept, wrong = read(declaration, value)
            if wrong is None:
                values[name] = kept
            else:
                unfit.append(Unfit(name, wrong))
        elif declaration.get("required"):
            unfit.append(Unfit(name, f"is required by the job: {_READ[declaration['type']][1]}"))
    return values, unfit


def unfit_for_schedule(declared: JSON | None, parameters: JSON, schedule_kind: int) -> list[Unfit]:
    """What does not fit in the parameters of a schedule. What its events or a flow may bring is not missed."""
    _, unfit = effective(declared, parameters, passed=())
    if schedule_kind in (ScheduleKind.EVENT, ScheduleKind.FLOW):
        return [each for each in unfit if parameters.get(each.path) is not None]
    return unfit


def unfit_for_flow(jobs: Sequence[tuple[str, JSON | None]], given: JSON) -> list[Unfit]:
    """What does not fit one of the jobs of a flow, whose tasks all have the same parameters.

    Args:
      jobs: name and declarations of each; a name that none of them declares is refused where all declare some.
    """
    found: dict[str, Unfit] = {}
    for name, declared in jobs:
        for each in effective(declared, given)[1]:
            found.setdefault(each.path, Unfit(each.path, f"{each.message} (job {name})", each.suggestion))
    if all(declared is not None for _, declared in jobs):
        known = {name: declaration for _, declared in jobs for name, declaration in (declared or {}).items()}
        found |= {each.path: each for each in effective(known, given, passed=())[1] if each.path not in known}
    return list(found.values())


# --- declarations --------------------------------------------------------------------------------------------------


def faults(declared: JSON) -> list[Unfit]:
    """What is wrong with the declarations."""
    found: list[Unfit] = []
    if len(declared) > DECLARED_MAX:
        found.append(Unfit("", f"must not declare more than {DECLARED_MAX} parameters"))
    variables: dict[str, str] = {}
    for name, declaration in declared.items():
        other = variables.setdefault(name.upper(), name)
        if not NAME.fullmatch(name):
            found.append(Unfit(name, "is no name of a parameter: letters, digits and _, not a digit first, at most 64"))
        elif other != name:
            found.append(Unfit(name, f"differs from {other} in case only: both would be HETUFLOW_PARAM_{name.upper()}"))
        elif not isinstance(declaration, Mapping):
            found.append(Unfit(name, 'must be an object such as {"type": "string"}'))
        else:
            found += [Unfit(f"{name}.{each.path}", each.message, each.suggestion) for each in _faults(declaration)]
    return found


def _faults(declaration: JSON) -> list[Unfit]:
    found = []
    for name in declaration:
        if name not in MEMBERS:
            near = get_close_matches(name, MEMBERS, n=1)
            found.append(Unfit(name, "unknown member" + (f"; the nearest is {near[0]}" if near else ""), *near))
    kind = declaration.get("type")
    if not isinstance(kind, str) or kind not in _READ:
        known = [str(each) for each in ParameterType]
        near = get_close_matches(str(kind), known, n=1)
        return [*found, Unfit("type", f"must be one of {', '.join(known)}, got {_shown(kind)}", *near)]
    given = {name: value for name, value in declaration.items() if value is not None}
    if not isinstance(given.get("required", False), bool):
        found.append(Unfit("required", "must be true or false"))
    elif given.get("required") and "default" in given:
        found.append(Unfit("required", "has no effect beside a default, with which the parameter is never missing"))
    if not isinstance(given.get("description", ""), str) or len(given.get("description", "")) > DESCRIPTION_LENGTH_MAX:
        found.append(Unfit("description", f"must be a string ≤ {DESCRIPTION_LENGTH_MAX} characters"))
    bounds = _bounds_faults(given)
    if not bounds and "default" in given and (wrong := read(given, given["default"])[1]):
        bounds.append(Unfit("default", wrong))
    return found + bounds


def _bounds_faults(given: JSON) -> list[Unfit]:
    """Of choices, pattern, minimum and maximum."""
    found = []
    kind, (parse, phrase) = given["type"], _READ[given["type"]]
    choices = given.get("choices")
    if choices is not None:
        if kind not in SCALAR:
            found.append(Unfit("choices", f"has no meaning for type {kind}"))
        elif not isinstance(choices, list | tuple) or not 0 < len(choices) <= CHOICES_MAX:
            found.append(Unfit("choices", f"must be an array of 1 to {CHOICES_MAX} values"))
        else:
            wrong = [(n, each) for n, each in enumerate(choices) if parse(each) is None]
            found += [Unfit(f"choices[{n}]", f"must be {phrase}, got {_shown(each)}") for n, each in wrong]
    found += _pattern_faults(given)
    for name in ("minimum", "maximum"):
        if name in given and kind not in ORDERED:
            found.append(Unfit(name, f"has no meaning for type {kind}; it has for {', '.join(ORDERED)}"))
        elif name in given and parse(given[name]) is None:
            found.append(Unfit(name, f"must be {phrase}, got {_shown(given[name])}"))
    if not found and "minimum" in given and "maximum" in given:
        low, high = parse(given["minimum"]), parse(given["maximum"])
        if _order(low) > _order(high):
            found.append(Unfit("maximum", f"must not be below minimum, {_shown(low)}"))
    return found


def _pattern_faults(given: JSON) -> list[Unfit]:
    text = given.get("pattern")
    if text is None:
        return []
    if given["type"] != ParameterType.STRING:
        return [Unfit("pattern", f"has no meaning for type {given['type']}; it has for string")]
    if not isinstance(text, str):
        return [Unfit("pattern", f"must be a string, got {_shown(text)}")]
    try:
        pattern(text)
    except PatternError as wrong:
        return [Unfit("pattern", f"at position {wrong.position + 1}: {wrong}")]
    return []
