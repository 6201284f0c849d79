"""The HTTP side of the server: from an ASGI request to an endpoint, and from whatever it does to one JSON answer.

The application is a `QuartTrio`, whose HTTP connections are ours: its own request and context machinery costs 0.3 ms of
CPU per request (measured, an empty handler), this path 0.05, and the contract's transport rules (one trailing slash,
ids decoded once, JSON for every error) are plain code here instead of exceptions to a framework's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field
from quart_trio import QuartTrio

from hetuflow.api.agent_socket import serve_agent
from hetuflow.api.call import Call, Reply
from hetuflow.api.endpoints import ROUTES
from hetuflow.api.errors import as_api_error, conflict, internal, invalid
from hetuflow.api.jsontext import read_json, write_json
from hetuflow.api.memory import Memory
from hetuflow.api.problems import Problems
from hetuflow.api.requests import (
    BodyReader,
    Disconnected,
    Doorkeeper,
    Head,
    Receive,
    head_of,
    request_id_of,
    require_json,
)
from hetuflow.api.rooms import Rooms
from hetuflow.api.routing import Match, Router
from hetuflow.api.static_files import StaticFiles
from hetuflow.api.streaming import Outgoing
from hetuflow.api.telemetry import NO_ROUTE

log = logging.getLogger(__name__)

EXPOSED = b"X-Request-Id, X-Hetuflow-Position, Idempotency-Replayed, Retry-After, Allow"
_JSON = b"application/json"
_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
"""The second line tells nginx to pass frames on as they come."""


@define(slots=True)
class _Seen:
    """What is found out about a request on the way to its answer."""

    origin: str | None = None
    """The listed origin that gets CORS answers."""
    route: str = NO_ROUTE


@define(slots=True)
class Api:
    """Everything that outlives a request."""

    rooms: Rooms
    router: Router = field(factory=lambda: Router(ROUTES))
    memory: Memory = field(factory=Memory)
    doorkeeper: Doorkeeper = field(init=False)
    static: StaticFiles | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        identity = self.rooms.identity
        self.doorkeeper = Doorkeeper.of(identity.allowed_hosts, identity.allowed_origins)
        self.static = StaticFiles.load(identity.static_dir) if identity.static_dir else None

    async def respond(self, scope: Mapping[str, Any], receive: Receive, send: Any) -> None:
        """Answer one request. Raises nothing but cancellation."""
        self.memory.requests += 1
        request_id = request_id_of(scope) or str(self.rooms.ids.uuid7())
        reader = BodyReader.of(dict(scope["headers"]), receive, self.memory.bodies)
        seen, started = _Seen(), trio.current_time()
        try:
            reply, error = await self._reply(scope, reader, request_id, seen), None
            status = reply.status
        except Disconnected:
            return
        except Exception as raised:
            error = as_api_error(raised)
            if error is None:
                log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
                error = internal()
            self.memory.errors += 1
            status, reply = error.status, Reply(error.body(request_id))
        finally:
            reader.release()
        self.memory.telemetry.answered(scope["method"], seen.route, status, trio.current_time() - started)
        content = b""
        headers = [(b"x-request-id", request_id.encode()), *reply.headers]
        if reply.body is not None:
            headers.append((b"content-type", reply.content_type))
        elif reply.stream is None:
            content = write_json(reply.value) if reply.content is None else reply.content
            headers += [(b"content-type", reply.content_type), (b"content-length", str(len(content)).encode())]
        else:
            headers += _STREAM
        if reply.position is not None:
            headers.append((b"x-hetuflow-position", str(reply.position).encode()))
        if reply.content_type == _JSON or reply.stream is not None or reply.body is not None:
            headers.append((b"cache-control", b"no-store"))
        if error is not None:
            headers += error.headers
        if seen.origin is not None:
            headers += [
                (b"access-control-allow-origin", seen.origin.encode()),
                (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"Origin"),
            ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        written = reply.stream or reply.body
        if written is not None and scope["method"] != "HEAD":
            await Outgoing(receive, send).run(written, self.memory.streams)
        body = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": body, "more_body": not reader.is_over})
        if not reader.is_over:
            await reader.discard()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _reply(self, scope: Mapping[str, Any], reader: BodyReader, request_id: str, seen: _Seen) -> Reply:
        head = head_of(scope)
        seen.origin = self.doorkeeper.admit(head)
        if head.method == "OPTIONS" and seen.origin is not None and b"access-control-request-method" in head.headers:
            return _preflight()
        if (file := self._static_file(head)) is not None:
            return file
        match = self.router.match(head.method, head.segments)
        if self.rooms.identity.is_read_only and match.endpoint.is_write:
            raise conflict("read_only", "this server only shows a log (read-only): nothing can be changed here")
        seen.route = match.endpoint.path
        has_body = head.method in ("POST", "PUT") and match.endpoint.has_body
        body = await reader.read(match.endpoint.body_bytes_max) if has_body else b""
        call = self._call(head, match, body, request_id)
        return await match.endpoint.handler(call)

    def _static_file(self, head: Head) -> Reply | None:
        if self.static is None or head.method not in ("GET", "HEAD") or head.segments[0] in ("api", "docs", "metrics"):
            return None
        content_type, content = self.static.find(head.segments)
        return Reply(content=content, content_type=content_type)

    def _call(self, head: Head, match: Match, body: bytes, request_id: str) -> Call:
        endpoint = match.endpoint
        entity_id = endpoint.read_id(match.arguments[0]) if endpoint.path_id is not None else ""
        document = None
        if body and not endpoint.takes_bytes:
            require_json(head.text(b"content-type"))
            document = read_json(body)
        problems = Problems()
        query = endpoint.read_query(head.query, problems) if head.query else {}
        call = Call(
            rooms=self.rooms,
            endpoint=endpoint,
            head=head,
            id=entity_id,
            query=query,
            document=document,
            tail=match.arguments[-1] if endpoint.has_tail else "",
            content=body if endpoint.takes_bytes else b"",
            request_id=request_id,
            memory=self.memory,
        )
        if problems:
            raise invalid(list(problems))
        return call


def _preflight() -> Reply:
    return Reply(
        None,
        headers=(
            (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
            (
                b"access-control-allow-headers",
                b"Content-Type, Authorization, X-Request-Id, X-Hetuflow-Min-Position, Idempotency-Key, Last-Event-ID",
            ),
            (b"access-control-max-age", b"600"),
        ),
    )


class _Connection:
    """Quart's ASGI connection, replaced."""

    def __init__(self, app: HetuflowApp, scope: Mapping[str, Any]) -> None:
        self._api, self._scope = app.api, scope

    async def __call__(self, receive: Receive, send: Any) -> None:
        await self._api.respond(self._scope, receive, send)


class _Socket:
    """The same for websockets."""

    def __init__(self, app: HetuflowApp, scope: Mapping[str, Any]) -> None:
        self._api, self._scope = app.api, scope

    async def __call__(self, receive: Receive, send: Any) -> None:
        await serve_agent(self._api.rooms, self._api.doorkeeper, self._scope, receive, send)


class HetuflowApp(QuartTrio):
    """The ASGI application."""

    asgi_http_class = _Connection  # type: ignore[assignment]
    asgi_websocket_class = _Socket  # type: ignore[assignment]
    api: Api


def create_app(rooms: Rooms) -> HetuflowApp:
    """The application over these rooms, to be served by hypercorn's trio worker (or any ASGI server on trio)."""
    app = HetuflowApp("hetuflow", static_folder=None)
    app.api = Api(rooms)
    return app
