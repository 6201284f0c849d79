"""JSON Schemas of page requests: which fields each collection has, which operators each field, in every spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hetuflow.api.coded import Code
from hetuflow.api.filters import (
    ALTERNATIVES_MAX,
    LIMIT_DEFAULT,
    LIST_MAX,
    PAGE_RANGES,
    Collection,
    Field,
)
from hetuflow.api.kinds import Schema
from hetuflow.api.operators import OPERATORS, FieldType, Operand, Operator

NULL: Schema = {"type": "null"}

_NOT_ONLY_NULL: Schema = {
    "not": {"minProperties": 1, "maxProperties": 1, "additionalProperties": NULL},
    "description": 'operators are ANDed; one that is null is absent, unless it is the only one: use {"$null": true}',
}


def query_schemas(collection: Collection) -> Mapping[str, Schema]:
    """The schemas of a page's request, by component name; the first one is the request's."""
    title = collection.title
    one = {"$ref": f"#/components/schemas/{title}Filter"}
    alternatives = {"type": "array", "items": one, "maxItems": ALTERNATIVES_MAX, "description": "ORed"}
    return {
        title: {
            "type": "object",
            "properties": {
                "filter": {"anyOf": [one, alternatives, NULL]},
                "page": {"anyOf": [{"$ref": f"#/components/schemas/{title}Page"}, NULL]},
            },
            "additionalProperties": False,
        },
        f"{title}Filter": _filter(collection),
        f"{title}Page": _page(collection),
        **{_conditions_name(known): _conditions(known) for known in collection.fields},
    }


def _filter(collection: Collection) -> Schema:
    inside = [name for name, known in collection.names.items() if known.type is FieldType.JSON]
    schema: Schema = {
        "type": "object",
        "description": "fields are ANDed, operators of one field are ANDed",
        "properties": {
            name: {
                "anyOf": [{"$ref": f"#/components/schemas/{_conditions_name(known)}"}, NULL],
                **({} if name == known.name else {"description": f"another name of `{known.name}`"}),
            }
            for name, known in collection.names.items()
        },
        "additionalProperties": False,
    }
    if inside:
        reference = {"$ref": "#/components/schemas/JsonConditions"}
        schema["patternProperties"] = {
            rf"^(?:{'|'.join(inside)})(?:\.[^.]+)+$": {
                "anyOf": [reference, NULL],
                "description": f"a value inside the object, such as `{inside[-1]}.name`",
            }
        }
    return schema


_TYPE_NAMES: Mapping[FieldType, str] = {
    FieldType.STRING: "Text",
    FieldType.INTEGER: "Integer",
    FieldType.TIME: "Time",
    FieldType.UUID: "Uuid",
    FieldType.BOOLEAN: "Boolean",
    FieldType.JSON: "Json",
    FieldType.ARRAY: "Array",
}


def _conditions_name(known: Field) -> str:
    return f"{known.enum.__name__ if known.enum is not None else _TYPE_NAMES[known.type]}Conditions"


def _conditions(known: Field) -> Schema:
    value: Schema = known.kind.schema()
    if isinstance(known.kind, Code) and known.enum is not None:
        value = {"$ref": f"#/components/schemas/{code_name(known.kind)}"}
    many: Schema = {"type": "array", "items": value, "maxItems": LIST_MAX}
    operands: Mapping[Operand, Schema] = {
        Operand.ONE: value,
        Operand.MANY: many,
        Operand.FLAG: {"type": "boolean"},
        Operand.STRINGS_OR_ONE: {"anyOf": [many, value]},
    }
    operators = OPERATORS[known.type].values()
    by_operand: dict[Operand, list[Operator]] = {}
    for operator in operators:
        by_operand.setdefault(operator.operand, []).append(operator)
    return {
        "type": "object",
        **_NOT_ONLY_NULL,
        "properties": {f"${operator.name}": {"anyOf": [operands[operator.operand], NULL]} for operator in operators},
        "patternProperties": {
            _spellings(group): {
                "anyOf": [operands[operand], NULL],
                "description": "the same without `$`, and in snake_case",
            }
            for operand, group in by_operand.items()
        },
        "additionalProperties": False,
    }


def _spellings(operators: Iterable[Operator]) -> str:
    names: dict[str, None] = {}
    for operator in operators:
        names[operator.name] = None
        names[re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", operator.name)] = None
    return rf"^\$?(?:{'|'.join(names)})$"


def code_name(kind: Code) -> str:
    """The component that describes an enum in requests."""
    return f"{kind.enum.__name__}Input"


def _page(collection: Collection) -> Schema:
    sortable = [name for name, known in collection.names.items() if known.is_sortable]
    one_of = "|".join(sortable)
    order: Schema = {
        "type": "string",
        "pattern": f"^(?:[!-]?(?:{one_of})|(?:{one_of}) (?:asc|desc))$",
        "description": "`field` or `field asc`; `!field`, `-field` or `field desc`",
    }
    orders: Schema = {"anyOf": [{"type": "array", "items": order}, order, NULL]}

    def number(name: str) -> Schema:
        low, high = PAGE_RANGES[name]
        return {"type": ["integer", "null"], "minimum": low, "maximum": high}

    return {
        "type": "object",
        "properties": {
            "page": {**number("page"), "default": 1},
            "limit": {**number("limit"), "default": LIMIT_DEFAULT},
            "page_size": {**number("limit"), "description": "another name of `limit`"},
            "offset": {**number("offset"), "description": "wins over `page`"},
            "order_bys": {**orders, "default": ["!created_at", "!id"], "description": "nulls come last"},
            "order_by": {**orders, "description": "another name of `order_bys`"},
            "after": {
                "type": ["string", "null"],
                "minLength": 1,
                "description": "cursor from `page.next`; with the same filter and order, without `page` > 1 or `offset`",
            },
        },
        "additionalProperties": False,
        "description": f"sortable: {', '.join(sortable)}",
    }


def fields_of(collections: Sequence[Collection]) -> Mapping[str, Mapping[str, str]]:
    """Collection -> field -> type, for the description of the API."""
    return {
        collection.name: {
            name: known.enum.__name__ if known.enum is not None else known.type.value
            for name, known in collection.names.items()
        }
        for collection in collections
    }
