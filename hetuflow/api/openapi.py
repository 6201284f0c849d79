"""The OpenAPI 3.1 document, generated from the table of endpoints and the tables of members that requests are read by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hetuflow.api.errors import CODES
from hetuflow.api.filters import Collection
from hetuflow.api.kinds import Array, Kind, NameId, Schema, Supported, Uuid
from hetuflow.api.reads import OneOf, PageOf
from hetuflow.api.routing import NO_BODY, Endpoint, PathId
from hetuflow.api.shapes import ABSENT, Entity, Member, Shape

HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "also in the log and in the metadata of events"},
    "X-Hetuflow-Position": {
        "schema": {"type": "integer"},
        "description": "of a write: position of its last event; of a read: position the answer reflects",
    },
}

TAGS: Mapping[str, str] = {
    "jobs": "What to run and how.",
    "schedules": "When a job runs.",
    "tasks": "One due moment, or one run by hand.",
    "task instances": "One try of a task on an agent, and its output.",
    "agents": "The machines that run things.",
    "servers": "The servers of this cluster.",
    "events": "The log of everything that happened.",
    "system": "How the server does.",
    "gateway": "Connections of agents.",
    "authentication": "Comes later.",
    "documentation": "This page.",
}


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The whole document."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        for index, (method, path) in enumerate(((endpoint.method, endpoint.path), *endpoint.aliases)):
            operation = _operation(endpoint, path, components, is_alias=index > 0)
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hetuflow",
            "version": version,
            "summary": "A distributed task scheduler whose every state transition is an event",
            "description": (
                "Every answer outside 2xx has the shape `Error`. Unknown members and query parameters are refused. "
                "A read that starts after a write was acknowledged shows it."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, "Problem": _PROBLEM, **components.schemas}},
    }


class Components:
    """Schemas by name, collected while operations refer to them.

    An object inside a request is named `…Input`: its members may be absent, those of an answer may not.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def request(self, shape: Shape | Collection) -> Schema:
        if isinstance(shape, Collection):
            self.schemas.setdefault(shape.title, shape.schema())
            self.schemas.setdefault(f"{shape.title}Filter", shape.filter_schema())
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
        if isinstance(kind, Supported):
            return self._in(kind.kind)
        if isinstance(kind, Array):
            return {**kind.schema(), "items": self._in(kind.of)}
        if isinstance(kind, Shape):
            name = f"{kind.title}Input"
            self._add(name, lambda: self._request(kind))
            return {"$ref": f"#/components/schemas/{name}"}
        return kind.schema()

    def _out(self, kind: Kind) -> Schema:
        """The same, in an answer."""
        if isinstance(kind, Array):
            return {**kind.schema(), "items": self._out(kind.of)}
        if isinstance(kind, Shape):
            self._add(kind.title, lambda: self._answer(kind.members, is_open=kind.is_open, is_sparse=kind.is_sparse))
        return kind.schema()

    def _request(self, shape: Shape) -> Schema:
        properties: dict[str, Schema] = {}
        for member in shape.members:
            schema = _described({"anyOf": [self._in(member.kind), _NULL]}, member)
            properties[member.name] = schema if member.default is ABSENT else {**schema, "default": member.default}
            for alias in member.aliases:
                other = {"anyOf": [self._in(alias.kind or member.kind), _NULL]}
                properties[alias.name] = {**other, "description": f"another name of `{member.name}`"}
        for name in sorted(shape.ignored - properties.keys()):
            properties[name] = {"description": "accepted, without effect"}
        for name, kind in shape.fixed.items():
            own = {"anyOf": [self._in(kind), _NULL]}
            properties[name] = {**own, "description": "cannot change: must equal what is stored"}
        if shape.is_update:
            properties["update_mask"] = _MASK
        required = [m.name for m in shape.members if m.is_required and not m.aliases and not shape.is_update]
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
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


_NULL: Schema = {"type": "null"}


def _nullable(schema: Schema, member: Member) -> Schema:
    return {"anyOf": [schema, _NULL]} if member.nullable else schema


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
        {"type": "object", "properties": {"paths": {"type": "array", "items": {"type": "string"}}}},
        {"type": "object", "additionalProperties": {"type": "boolean"}},
        {"type": "null"},
    ],
}


def _operation(endpoint: Endpoint, path: str, components: Components, is_alias: bool) -> dict[str, Any]:
    suffix = f"_{path.strip('/').replace('/', '_').replace('{id}', 'id')}" if is_alias else ""
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.number}{suffix}",
        "summary": endpoint.summary + (" (alias)" if is_alias else ""),
        "tags": [endpoint.tag],
        "parameters": list(_parameters(endpoint)),
        "responses": _responses(endpoint, components),
    }
    if endpoint.body is not None and endpoint.method in ("POST", "PUT"):
        required = isinstance(endpoint.body, Shape) and any(
            member.is_required for member in endpoint.body.members if not endpoint.body.is_update
        )
        nothing: Schema = {"type": "object", "maxProperties": 0}
        schema = nothing if endpoint.body is NO_BODY else components.request(endpoint.body)
        content: dict[str, Any] = {"schema": schema if required else {"anyOf": [schema, _NULL]}}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    return operation


def _parameters(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    if endpoint.path_id is not None:
        kind: Kind = Uuid() if endpoint.path_id is PathId.UUID else NameId()
        yield {"name": "id", "in": "path", "required": True, "schema": kind.schema()}
    for parameter in endpoint.parameters:
        schema = parameter.kind.schema()
        if parameter.is_repeatable:
            schema = {"type": "array", "items": schema}
        yield {"name": parameter.name, "in": "query", "schema": schema, "description": parameter.doc}
    if endpoint.is_keyed:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            "description": "the same request again under the same key has no second effect",
        }
    if endpoint.is_stream or endpoint.may_stream:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "schema": {"type": "string"},
            "description": "resume after the event with this `id`; goes before `after`",
        }
    if (endpoint.method == "GET" or isinstance(endpoint.body, Collection)) and endpoint.is_positioned:
        yield {
            "name": "X-Hetuflow-Min-Position",
            "in": "header",
            "schema": {"type": "integer", "minimum": 0},
            "description": "wait until this position is visible",
        }


_EVENT_STREAM: Schema = {
    "type": "string",
    "description": "Server-Sent Events: `id`, `event` and `data` of each; a comment at least every 15 s",
}


def _responses(endpoint: Endpoint, components: Components) -> dict[str, Any]:
    media = "text/html" if endpoint.number == "D1" else "application/json"
    responses: dict[str, Any] = {}
    if 501 not in endpoint.also:
        schema = components.reply(endpoint.reply)
        answers: dict[str, Any] = {} if endpoint.is_stream else {media: {"schema": schema}}
        if endpoint.is_stream or endpoint.may_stream:
            answers["text/event-stream"] = {"schema": _EVENT_STREAM}
        responses["200"] = {"description": "done", "headers": HEADERS, "content": answers}
    usual = [400, 403, 422, 500, 503, 504]
    if endpoint.body is not None:
        usual += [413, 415]
    if endpoint.path_id is not None:
        usual.append(404)
    for status in sorted({*usual, *endpoint.also}):
        responses[str(status)] = {
            "description": CODES[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return responses


_PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "message": {"type": "string"},
        "suggestion": {"type": ["string", "null"]},
    },
    "required": ["path", "message", "suggestion"],
}
_DETAIL: Schema = {
    "anyOf": [
        {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
        {"type": "object"},
        {"type": "null"},
    ]
}
_ERROR: Schema = {
    "type": "object",
    "properties": {
        "err_code": {"type": "integer", "description": "the HTTP status"},
        "err_msg": {"type": "string"},
        "message": {"type": "string"},
        "code": {"type": "string", "enum": [*dict.fromkeys(CODES.values()), "PROJECTION_BEHIND"]},
        "detail": _DETAIL,
        "details": _DETAIL,
        "request_id": {"type": "string"},
    },
    "required": ["err_code", "err_msg", "message", "code", "detail", "details", "request_id"],
}
