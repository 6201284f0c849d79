"""What filters, orders and cursors mean, said a second time and slowly: over rows in memory, without SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import Any

from projections.queries import Condition, Order, Row
from projections.query_fields import Collection, Field, FieldType


def folded(text: str) -> str:
    """Lower case, character by character: PostgreSQL's mapping is the simple one."""
    return "".join(each.lower() if len(each.lower()) == 1 else each for each in text)


def like(text: str, pattern: str) -> bool:
    """SQL LIKE with `\\` as the escape; a lone one at the end stands for itself."""
    regex, at = "", 0
    while at < len(pattern):
        each = pattern[at]
        if each == "\\" and at + 1 < len(pattern):
            at += 1
            regex += re.escape(pattern[at])
        else:
            regex += {"%": ".*", "_": "."}.get(each, re.escape(each))
        at += 1
    return re.fullmatch(regex, text, re.DOTALL) is not None


def _like(text: str, pattern: str) -> bool:
    if "%" in pattern or "_" in pattern:
        return like(text, pattern)
    return folded(pattern) in folded(text)


def _ilike(text: str, pattern: str) -> bool:
    return _like(folded(text), folded(pattern))


def json_equal(left: Any, right: Any) -> bool:
    """As jsonb: `1` is `1.0`, and neither is `true`."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return type(left) in _COMPARABLE[type(right)] and bool(left == right)


_COMPARABLE: Mapping[type, tuple[type, ...]] = {
    int: (int, float),
    float: (int, float),
    str: (str,),
    type(None): (type(None),),
    dict: (),
    list: (),
}


def json_contains(outer: Any, inner: Any) -> bool:
    """As `@>`: an array also contains a scalar, but only outermost."""
    if isinstance(outer, list) and not isinstance(inner, (list, dict)):
        return any(json_equal(each, inner) for each in outer)
    return _contains(outer, inner)


def _contains(outer: Any, inner: Any) -> bool:
    if isinstance(outer, dict) and isinstance(inner, dict):
        return all(name in outer and _contains(outer[name], inner[name]) for name in inner)
    if isinstance(outer, list) and isinstance(inner, list):
        return all(any(_contains(each, wanted) for each in outer) for wanted in inner)
    return json_equal(outer, inner)


def _set(operand: str | Sequence[str]) -> set[str]:
    return {operand} if isinstance(operand, str) else set(operand)


Check = Callable[[Any, Any], bool]

_EQUALITY: Mapping[str, Check] = {"eq": lambda it, x: it == x, "not": lambda it, x: it != x}
_COMPARISONS: Mapping[str, Check] = {
    **_EQUALITY,
    "in": lambda it, x: it in x,
    "notIn": lambda it, x: it not in x,
    "lt": lambda it, x: it < x,
    "lte": lambda it, x: it <= x,
    "gt": lambda it, x: it > x,
    "gte": lambda it, x: it >= x,
}
_TEXT: Mapping[str, Check] = {
    "contains": lambda it, x: x in it,
    "startsWith": lambda it, x: it.startswith(x),
    "endsWith": lambda it, x: it.endswith(x),
    "containsCi": lambda it, x: folded(x) in folded(it),
    "startsWithCi": lambda it, x: folded(it).startswith(folded(x)),
    "endsWithCi": lambda it, x: folded(it).endswith(folded(x)),
    "containsAny": lambda it, x: any(each in it for each in x),
    "startsWithAny": lambda it, x: any(it.startswith(each) for each in x),
    "endsWithAny": lambda it, x: any(it.endswith(each) for each in x),
    "containsAll": lambda it, x: all(each in it for each in x),
    "like": _like,
    "ilike": _ilike,
}


def _not(check: Check) -> Check:
    return lambda it, x: not check(it, x)


CHECKS: Mapping[FieldType, Mapping[str, Check]] = {
    FieldType.STRING: {
        **_COMPARISONS,
        **_TEXT,
        **{f"not{name[0].upper()}{name[1:]}": _not(check) for name, check in _TEXT.items()},
    },
    FieldType.INTEGER: _COMPARISONS,
    FieldType.TIME: _COMPARISONS,
    FieldType.UUID: _COMPARISONS,
    FieldType.BOOLEAN: _EQUALITY,
    FieldType.JSON: {
        "eq": json_equal,
        "not": _not(json_equal),
        "in": lambda it, x: any(json_equal(it, each) for each in x),
        "notIn": lambda it, x: not any(json_equal(it, each) for each in x),
        "contains": json_contains,
    },
    FieldType.ARRAY: {
        "eq": lambda it, x: x in it if isinstance(x, str) else set(it) == set(x),
        "not": lambda it, x: x not in it if isinstance(x, str) else set(it) != set(x),
        "contains": lambda it, x: set(it) >= _set(x),
        "contained": lambda it, x: set(it) <= _set(x),
        "in": lambda it, x: bool(set(it) & _set(x)),
    },
}


def value_of(field: Field, row: Row, path: Sequence[str] = ()) -> Any:
    match field.name:
        case "enabled":
            return row["status"] == 100
        case "labels":
            value = (row["capabilities"] or {}).get("labels")
        case "task_config":
            value = row["config"]
        case name:
            value = row[name]
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def holds(collection: Collection, condition: Condition, row: Row) -> bool:
    field = collection.field(condition.field)
    it = value_of(field, row, condition.path)
    if condition.operator == "null":
        return (it is None) is condition.value
    if condition.operator == "empty":
        return (it is None or it == "") is condition.value
    return it is not None and CHECKS[field.type][condition.operator](it, condition.value)


def passes(collection: Collection, any_of: Sequence[Sequence[Condition]], row: Row) -> bool:
    return not any_of or any(all(holds(collection, each, row) for each in all_of) for all_of in any_of)


def in_order(collection: Collection, order: Sequence[Order], rows: Sequence[Row]) -> Sequence[Row]:
    """Nulls last in both directions; the id, in the direction of the last field, decides the rest."""
    order = order or (Order("created_at", True),)
    keys = [*order, Order(collection.table.key, order[-1].is_descending)]

    def compare(left: Row, right: Row) -> int:
        for key in keys:
            field = collection.field(key.field)
            one, other = value_of(field, left), value_of(field, right)
            if one == other:
                continue
            if one is None or other is None:
                return 1 if one is None else -1
            return (1 if one > other else -1) * (-1 if key.is_descending else 1)
        return 0

    return sorted(rows, key=cmp_to_key(compare))
