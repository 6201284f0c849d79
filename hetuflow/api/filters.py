"""Pages and filters (REST contract §6): the request's JSON into a query that projections execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from attrs import field, frozen

from hetuflow.api.coded import Code
from hetuflow.api.jsontext import shown
from hetuflow.api.kinds import INVALID, Boolean, Integer, Kind, Text, Time, Uuid, text_fault
from hetuflow.api.objects import AnyJson
from hetuflow.api.operators import OPERATORS, FieldType, Operand, Operator, canonical
from hetuflow.api.problems import Problems

LIST_MAX = 5000
ALTERNATIVES_MAX = 20
CONDITIONS_MAX = 1000
"""In all alternatives together: each binds a parameter or two, and a statement has at most 32767."""
LIMIT_MAX = 5000
LIMIT_DEFAULT = 20
OFFSET_MAX = 2**53 - 1


Enumeration = type[IntEnum]


@frozen(slots=True, kw_only=True)
class Field:
    """One field of a collection. `also`: more names of the enum's codes."""

    name: str
    type: FieldType
    enum: Enumeration | None = None
    also: Mapping[str, int] = field(factory=dict)
    aliases: Sequence[str] = ()

    @property
    def kind(self) -> Kind:
        if self.enum is not None:
            return Code(self.enum, self.also)
        return _KINDS[self.type]

    @property
    def is_sortable(self) -> bool:
        return self.type not in (FieldType.JSON, FieldType.ARRAY)


_KINDS: Mapping[FieldType, Kind] = {
    FieldType.STRING: Text(),
    FieldType.INTEGER: Integer(None),
    FieldType.TIME: Time(),
    FieldType.UUID: Uuid(),
    FieldType.BOOLEAN: Boolean(),
    FieldType.JSON: AnyJson(),
    FieldType.ARRAY: Text(),
}


@frozen(slots=True)
class Comparison:
    """One condition: field, canonical operator, typed value. `path`: names inside a JSON field."""

    field: Field
    operator: str
    value: Any
    path: tuple[str, ...] = ()


@frozen(slots=True)
class Order:
    field: Field
    is_descending: bool


@frozen(slots=True, kw_only=True)
class PageRequest:
    """What a page's request asks for: alternatives of ANDed comparisons (none at all = everything)."""

    alternatives: Sequence[Sequence[Comparison]]
    orders: Sequence[Order]
    limit: int = LIMIT_DEFAULT
    offset: int = 0
    after: str | None = None


@frozen(slots=True)
class Collection:
    """The fields one can filter and sort by."""

    name: str
    fields: Sequence[Field]
    names: Mapping[str, Field] = field(init=False, repr=False)

    @names.default
    def _names(self) -> Mapping[str, Field]:
        names = {known.name: known for known in self.fields}
        for known in self.fields:
            names.update(dict.fromkeys(known.aliases, known))
        return names

    @property
    def title(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("_")) + "Query"

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self, document: Mapping[str, Any], problems: Problems) -> PageRequest:
        """The request; every problem is added, none raised."""
        alternatives: Sequence[Sequence[Comparison]] = ()
        page: Mapping[str, Any] = {}
        for name, value in document.items():
            if name == "filter":
                alternatives = self._filter(value, problems)
            elif name == "page":
                if value is not None and not isinstance(value, dict):
                    problems.add("page", f"must be an object, got {shown(value)}")
                page = value if isinstance(value, dict) else {}
            else:
                problems.unknown(name, name, ("filter", "page"))
        count = sum(map(len, alternatives))
        if count > CONDITIONS_MAX:
            problems.add("filter", f"must have at most {CONDITIONS_MAX} conditions in all, has {count}")
        return self._page(page, alternatives, problems)

    def _filter(self, value: Any, problems: Problems) -> Sequence[Sequence[Comparison]]:
        if value is None:
            return ()
        if isinstance(value, dict):
            return (self._alternative(value, "filter", problems),)
        if not isinstance(value, list):
            problems.add("filter", f"must be an object or an array of objects, got {shown(value)}")
            return ()
        if len(value) > ALTERNATIVES_MAX:
            problems.add("filter", f"must have at most {ALTERNATIVES_MAX} alternatives, has {len(value)}")
            return ()
        found = []
        for index, element in enumerate(value):
            if isinstance(element, dict):
                found.append(self._alternative(element, f"filter[{index}]", problems))
            else:
                problems.add(f"filter[{index}]", f"must be an object, got {shown(element)}")
        return found

    def _alternative(self, value: Mapping[str, Any], path: str, problems: Problems) -> Sequence[Comparison]:
        comparisons: list[Comparison] = []
        for name, conditions in value.items():
            where = f"{path}.{_printable(name)}"
            known = self.names.get(name)
            inside: tuple[str, ...] = ()
            if known is None and "." in name:
                head, *rest = name.split(".")
                known, inside = self.names.get(head), tuple(rest)
                if known is not None and (known.type is not FieldType.JSON or not all(rest)):
                    known = None
            if known is None:
                problems.unknown(where, name, self.names, "field")
            elif conditions is None or conditions == {}:
                continue
            elif not isinstance(conditions, dict):
                problems.add(where, f'must be an object of operators: use {{"$eq": {shown(conditions)}}}')
            elif len(conditions) == 1 and None in conditions.values():
                problems.add(f"{where}.{_printable(next(iter(conditions)))}", 'null is no value: use {"$null": true}')
            else:
                comparisons += self._conditions(known, inside, conditions, where, problems)
        return comparisons

    def _conditions(
        self, known: Field, inside: tuple[str, ...], conditions: Mapping[str, Any], path: str, problems: Problems
    ) -> Sequence[Comparison]:
        allowed = OPERATORS[known.type]
        found = []
        for name, value in conditions.items():
            where = f"{path}.{_printable(name)}"
            operator = allowed.get(canonical(name))
            if operator is None:
                problems.unknown(
                    where, name, [f"${each}" for each in allowed], f"operator for a {known.type.value} field"
                )
            elif value is not None:
                parsed = _operand(known, operator, value, where, problems)
                if parsed is not INVALID:
                    found.append(Comparison(known, operator.name, parsed, inside))
        return found

    def _page(
        self, page: Mapping[str, Any], alternatives: Sequence[Sequence[Comparison]], problems: Problems
    ) -> PageRequest:
        numbers: dict[str, int] = {}
        orders: Sequence[Order] | None = None
        after: str | None = None
        first_order = ""
        for name, value in page.items():
            where, member = f"page.{_printable(name)}", _ALIASES.get(name, name)
            if value is None and member in _PAGE_MEMBERS:
                continue
            if member in PAGE_RANGES:
                number = _number(member, value, where, problems)
                if number is not None and numbers.setdefault(member, number) != number:
                    problems.add(where, "limit and page_size are two names of one member and have different values")
            elif member == "order_bys":
                found = self._orders(value, where, problems)
                if orders is not None and found != orders:
                    problems.add(where, f"{first_order} and {name} are two names of one member and differ")
                orders, first_order = found, name
            elif member == "after":
                after = _cursor(value, where, problems)
            else:
                problems.unknown(where, name, _PAGE_MEMBERS)
        limit, number = numbers.get("limit", LIMIT_DEFAULT), numbers.get("page", 1)
        offset = numbers.get("offset", (number - 1) * limit)
        if after is not None and ("offset" in numbers or number > 1):
            problems.add("page.after", "cannot be given together with offset or page > 1", status=400)
        return PageRequest(
            alternatives=alternatives,
            orders=orders or (),
            limit=limit,
            offset=min(offset, OFFSET_MAX),  # beyond that there is nothing: it fits the database's integers
            after=after,
        )

    def _orders(self, value: Any, path: str, problems: Problems) -> Sequence[Order]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            problems.add(path, f"must be a string or an array of strings, got {shown(value)}")
            return ()
        orders: list[Order] = []
        for index, text in enumerate(texts):
            name, is_descending = _direction(text)
            known = self.names.get(name)
            where = path if isinstance(value, str) else f"{path}[{index}]"
            if known is None:
                problems.unknown(where, name, [n for n, f in self.names.items() if f.is_sortable], "field")
            elif not known.is_sortable:
                problems.add(where, f"cannot be sorted by {name}: it is {known.type.value}")
            elif all(order.field is not known for order in orders):
                orders.append(Order(known, is_descending))
        return orders


PAGE_RANGES = {"page": (1, OFFSET_MAX), "limit": (1, LIMIT_MAX), "offset": (0, OFFSET_MAX)}
_ALIASES = {"page_size": "limit", "order_by": "order_bys"}
_PAGE_MEMBERS = ("page", "limit", "page_size", "offset", "order_bys", "order_by", "after")


def _number(member: str, value: Any, path: str, problems: Problems) -> int | None:
    low, high = PAGE_RANGES[member]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        problems.add(path, f"must be an integer from {low} to {high}, got {shown(value)}")
        return None
    if not low <= value <= high:
        problems.add(path, f"must be from {low} to {high}, got {shown(value)}", status=400)
        return None
    return value


def _cursor(value: Any, path: str, problems: Problems) -> str | None:
    if isinstance(value, str) and value and text_fault(value) is None:
        return value
    problems.add(path, "must be a cursor from page.next", status=400 if isinstance(value, str) else 422)
    return None


def _direction(text: str) -> tuple[str, bool]:
    """The field and whether it is descending: `name`, `!name`, `-name`, `name asc`, `name desc`."""
    text = text.strip()
    if text[:1] in ("!", "-"):
        return text[1:].strip(), True
    name, _, word = text.partition(" ")
    word = word.strip().lower()
    return (name, word == "desc") if word in ("asc", "desc") else (text, False)


def _operand(known: Field, operator: Operator, value: Any, path: str, problems: Problems) -> Any:
    match operator.operand:
        case Operand.FLAG:
            return Boolean().parse(value, path, problems)
        case Operand.ONE:
            return known.kind.parse(value, path, problems)
        case Operand.STRINGS_OR_ONE if isinstance(value, str):
            return known.kind.parse(value, path, problems)
    if not isinstance(value, list):
        problems.add(path, f"must be {operator.operand.value}, got {shown(value)}")
        return INVALID
    if len(value) > LIST_MAX:
        problems.add(path, f"must hold at most {LIST_MAX} values, holds {len(value)}")
        return INVALID
    kind = known.kind
    parsed = [kind.parse(element, f"{path}[{i}]", problems) for i, element in enumerate(value)]
    return INVALID if any(element is INVALID for element in parsed) else parsed


def _printable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
