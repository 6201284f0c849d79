"""The schemas of an OpenAPI document, generated from the tables of members that requests are read by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hetuflow.api.coded import Code
from hetuflow.api.filter_schemas import NULL, code_name, query_schemas
from hetuflow.api.filters import Collection
from hetuflow.api.kinds import Array, Kind, Refined, ScalarOrObject, Schema
from hetuflow.api.reads import OneOf, PageOf
from hetuflow.api.shapes import ABSENT, Entity, Member, Shape


class Components:
    """Schemas by name, collected while operations refer to them.

    An object inside a request is named `…Input`: its members may be absent, those of an answer may not.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def request(self, shape: Shape | Collection) -> Schema:
        if isinstance(shape, Collection):
            for name, schema in query_schemas(shape).items():
                self.schemas.setdefault(name, schema)
            for known in shape.fields:
                self._in(known.kind)
            return {"$ref": f"#/components/schemas/{shape.title}"}
        self._add(shape.title, lambda: self._request(shape))
        return shape.schema()

    def reply(self, kind: Kind) -> Schema:
        if isinstance(kind, OneOf):
            members = [member for member in kind.entity.members if member.is_returned]
            self._add(kind.entity.title, lambda: self._answer(members, is_open=False, is_sparse=False))
            if isinstance(kind, PageOf):
                self.schemas.setdefault(f"PageOf{kind.entity.title}", _page(kind.entity))
            return kind.schema()
        return self._out(kind)

    def _add(self, name: str, build: Callable[[], Schema]) -> None:
        if name not in self.schemas:
            self.schemas[name] = {}  # a schema may refer to itself
            self.schemas[name] = build()

    def _in(self, kind: Kind) -> Schema:
        """The schema of a kind in a request, and those that it refers to."""
        if isinstance(kind, Array):
            return {**kind.schema(), "items": self._in(kind.of)}
        if isinstance(kind, Refined):
            return self._in(kind.kind)
        if isinstance(kind, ScalarOrObject):
            return {"anyOf": [self._in(kind.scalar), self._in(kind.whole)]}
        if isinstance(kind, Code) and not kind.among:
            self.schemas.setdefault(code_name(kind), kind.schema())
            return {"$ref": f"#/components/schemas/{code_name(kind)}"}
        if (component := getattr(kind, "component", None)) is not None:  # one that refers to itself
            self._add(component, kind.schema)
            return {"$ref": f"#/components/schemas/{component}"}
        if isinstance(kind, Shape):
            name = f"{kind.title}Input"
            self._add(name, lambda: self._request(kind))
            return {"$ref": f"#/components/schemas/{name}"}
        return kind.schema()

    def _out(self, kind: Kind) -> Schema:
        """The same, in an answer."""
        if isinstance(kind, Array):
            return {**kind.schema(), "items": self._out(kind.of)}
        if isinstance(kind, ScalarOrObject):
            return {"anyOf": [self._out(kind.scalar), self._out(kind.whole)]}
        if isinstance(kind, Refined):
            return self._out(kind.kind)
        if isinstance(kind, Shape):
            self._add(kind.title, lambda: self._answer(kind.members, is_open=kind.is_open, is_sparse=kind.is_sparse))
        return kind.schema()

    def _request(self, shape: Shape) -> Schema:
        properties: dict[str, Schema] = {}
        required = [] if shape.is_update else [member for member in shape.members if member.is_required]
        for member in shape.members:
            is_needed = member in required and not member.aliases
            schema = self._in(member.kind)
            schema = _described(schema if is_needed else {"anyOf": [schema, NULL]}, member)
            properties[member.name] = schema if member.default is ABSENT else {**schema, "default": member.default}
            for alias in member.aliases:
                other = {"anyOf": [self._in(alias.kind or member.kind), NULL]}
                properties[alias.name] = {**other, "description": f"another name of `{member.name}`"}
        for name in sorted(shape.ignored - properties.keys()):
            properties[name] = {"description": "accepted, without effect"}
        for name, kind in shape.fixed.items():
            own = {"anyOf": [self._in(kind), NULL]}
            properties[name] = {**own, "description": "cannot change: must equal what is stored"}
        if shape.is_update:
            properties["update_mask"] = _MASK
        choices = [[member.name, *(alias.name for alias in member.aliases)] for member in required if member.aliases]
        choices += [list(names) for names in shape.one_of]
        return {
            "type": "object",
            "properties": properties,
            **({"required": names} if (names := [m.name for m in required if not m.aliases]) else {}),
            **_one_of_each(choices),
            "additionalProperties": shape.is_open,
        }

    def _answer(self, members: Sequence[Member], *, is_open: bool, is_sparse: bool) -> Schema:
        properties: dict[str, Schema] = {}
        for member in members:
            schema = self._out(member.out or member.kind)
            properties[member.name] = _described(_nullable(schema, member), member)
            for alias in member.aliases:
                if alias.shown is not None:
                    schema = _nullable(alias.shown.schema(), member)
                    properties[alias.name] = {**schema, "description": f"`{member.name}` in another form"}
        required = {} if is_sparse or not properties else {"required": list(properties)}
        return {"type": "object", "properties": properties, **required}


def _one_of_each(choices: Sequence[Sequence[str]]) -> Schema:
    """Of each group of members at least one must be given, and not as null."""
    groups = [
        {"anyOf": [{"required": [name], "properties": {name: {"not": NULL}}} for name in names]} for names in choices
    ]
    return {} if not groups else groups[0] if len(groups) == 1 else {"allOf": groups}


def _nullable(schema: Schema, member: Member) -> Schema:
    return {"anyOf": [schema, NULL]} if member.nullable else schema


def _page(entity: Entity) -> Schema:
    page = {
        "type": "object",
        "properties": {
            "total": {"type": ["integer", "null"], "description": "null when `after` was given"},
            "has_more": {"type": "boolean"},
            "next": {"type": ["string", "null"], "description": "cursor of the following rows"},
        },
        "required": ["total", "has_more", "next"],
    }
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{entity.title}"}}
    return {"type": "object", "properties": {"page": page, "result": rows}, "required": ["page", "result"]}


def _described(schema: Schema, member: Member) -> Schema:
    notes = [note for note in (member.doc, schema.get("description")) if note]
    return {**schema, "description": "; ".join(notes)} if notes else schema


_MASK: Schema = {
    "description": "exactly these members are written; one that is absent or null is cleared",
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {
            "type": "object",
            "properties": {"paths": {"type": "array", "items": {"type": "string"}}},
            "required": ["paths"],
            "additionalProperties": False,
        },
        {"type": "object", "additionalProperties": {"type": "boolean"}},
        {"type": "null"},
    ],
}
