"""The OpenAPI 3.1 document, generated from the table of endpoints and the tables of members that requests are read by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hetuflow.api.errors import CODES
from hetuflow.api.filter_schemas import NULL
from hetuflow.api.filters import Collection
from hetuflow.api.kinds import Kind, NameId, Schema, Uuid
from hetuflow.api.prose import description
from hetuflow.api.reads import media_of
from hetuflow.api.routing import NO_BODY, Endpoint, PathId
from hetuflow.api.schema_components import Components
from hetuflow.api.shapes import Shape

HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "also in the log and in the metadata of events"},
    "X-Hetuflow-Position": {
        "schema": {"type": "integer"},
        "description": "of a write: position of its last event; of a read: position the answer reflects",
    },
}

RETRY_AFTER: Schema = {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}

TAGS: Mapping[str, str] = {
    "jobs": "What to run and how.",
    "schedules": "When a job runs.",
    "calendars": "When schedules do not run: exclusion calendars that they refer to.",
    "tasks": "One due moment, or one run by hand.",
    "task instances": "One try of a task on an agent, and its output.",
    "files": "What people upload for task instances to read.",
    "agents": "The machines that run things.",
    "servers": "The servers of this cluster.",
    "events": "The log of everything that happened.",
    "projections": "The tables that are computed from the log.",
    "system": "How the server does.",
    "gateway": "Connections of agents.",
    "authentication": "Comes later.",
    "documentation": "This page.",
}


MADE: Mapping[str, str] = {
    "J2": "/api/v1/jobs/item/{id}",
    "C2": "/api/v1/schedules/item/{id}",
    "K2": "/api/v1/calendars/item/{id}",
    "J8": "/api/v1/tasks/{id}",
    "C9": "/api/v1/tasks/{id}",
    "B2": "/api/v1/backfills/item/{id}",
    "T3": "/api/v1/tasks/{id}",
    "A2": "/api/v1/agents/{id}",
}
"""What the id in the answer of a create is good for: the operations on that path and below it."""

NEEDS_JOB = ("C2", "T3")
"""Creates that name a job in their body."""


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The whole document."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        for index, (method, path) in enumerate(((endpoint.method, endpoint.path), *endpoint.aliases)):
            operation = _operation(endpoint, path, components, is_alias=index > 0)
            if index == 0 and endpoint.number in MADE:
                operation["responses"]["200"]["links"] = dict(_links(endpoint, endpoints))
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hetuflow",
            "version": version,
            "summary": "A distributed task scheduler whose every state transition is an event",
            "description": description(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "Problem": _PROBLEM, **components.schemas},
            "responses": _errors(),
        },
    }


def _links(endpoint: Endpoint, endpoints: Sequence[Endpoint]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Where the new id leads."""
    path = MADE[endpoint.number]
    for other in endpoints:
        if other.path == path or other.path.startswith(f"{path}/"):
            yield other.number, {"operationId": other.number, "parameters": {"id": "$response.body#/id"}}
        elif endpoint.number == "J2" and other.number in NEEDS_JOB:
            yield other.number, {"operationId": other.number, "requestBody": {"job_id": "$response.body#/id"}}


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
        required = isinstance(endpoint.body, Shape) and endpoint.body.needs_members
        nothing: Schema = {"type": "object", "maxProperties": 0}
        schema = nothing if endpoint.body is NO_BODY else components.request(endpoint.body)
        content: dict[str, Any] = {"schema": schema if required else {"anyOf": [schema, NULL]}}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    if endpoint.takes_bytes:
        operation["requestBody"] = {"required": False, "content": {"application/octet-stream": {"schema": {}}}}
    return operation


def _parameters(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    if endpoint.path_id is not None:
        kind: Kind = Uuid() if endpoint.path_id is PathId.UUID else NameId()
        yield {"name": "id", "in": "path", "required": True, "schema": kind.schema()}
    if endpoint.has_tail:
        yield {
            "name": endpoint.path.rpartition("{")[2].rstrip("}"),
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "description": "the rest of the path; its slashes may be sent as they are",
        }
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
    responses: dict[str, Any] = {}
    if endpoint.number == "G2":
        responses["101"] = {"description": "a WebSocket of the agent protocol"}
    elif 501 not in endpoint.also:
        schema = components.reply(endpoint.reply)
        answers: dict[str, Any] = {} if endpoint.is_stream else {media_of(endpoint.reply): {"schema": schema}}
        if endpoint.is_stream or endpoint.may_stream:
            answers["text/event-stream"] = {"schema": _EVENT_STREAM}
        responses["200"] = {"description": "done", "headers": HEADERS, "content": answers}
        if 416 in endpoint.also:
            responses["206"] = {"description": "the range that was asked for", "headers": HEADERS, "content": answers}
    usual = [400, 403, 422, 431, 500, 503, 504]
    if endpoint.body is not None:
        usual += [408, 413, 415]
    elif endpoint.takes_bytes:
        usual += [408, 413]
    if endpoint.path_id is not None:
        usual.append(404)
    for status in sorted({*usual, *endpoint.also}):
        responses[str(status)] = {"$ref": f"#/components/responses/{CODES[status]}"}
    return responses


def _errors() -> Mapping[str, Schema]:
    """The answers outside 2xx, by code."""
    return {
        code: {
            "description": f"{status}, `{code}`" + (" or `PROJECTION_BEHIND`" if status == 503 else ""),
            "headers": {
                "X-Request-Id": HEADERS["X-Request-Id"],
                **({"Retry-After": RETRY_AFTER} if status in (429, 503) else {}),
            },
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, code in CODES.items()
    }


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
