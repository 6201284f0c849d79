"""G2 on the HTTP port: the agents' WebSocket, so that an address derived from the HTTP base URL works too.

Straight ASGI: Quart's own websocket raises KeyError on an empty binary message and copies every one through a signal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from hetuflow.api.errors import ApiError, as_api_error, internal
from hetuflow.api.jsontext import write_json
from hetuflow.api.kinds import is_name_id
from hetuflow.api.requests import Doorkeeper, Receive, head_of, request_id_of
from hetuflow.api.rooms import Rooms
from hetuflow.ports.network import ConnectionLost

SEGMENTS = ("api", "v1", "gateway", "ws")
CLOSE_SECONDS_MAX = 2.0

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class AsgiMessageStream:
    """`MessageStream` over an accepted ASGI websocket."""

    def __init__(self, receive: Receive, send: Send, peer: str, query: str) -> None:
        self._receive, self._send = receive, send
        self._peer, self._query = peer, query
        self._is_over = False

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def query(self) -> str:
        return self._query

    async def send(self, frame: bytes) -> None:
        if self._is_over:
            raise ConnectionLost
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionLost(None, repr(exc)) from exc

    async def receive(self) -> bytes:
        if self._is_over:
            raise ConnectionLost
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._is_over = True
            raise ConnectionLost(message.get("code"))
        data: bytes | None = message.get("bytes")
        return data if data is not None else str(message.get("text") or "").encode()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self._is_over:
            return
        self._is_over = True
        short = reason.encode()[:120].decode(errors="ignore")
        with trio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
            await self._send({"type": "websocket.close", "code": int(code), "reason": short})


async def serve_agent(
    rooms: Rooms, doorkeeper: Doorkeeper, scope: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """One handshake, and the agent's connection to its end."""
    if (await receive())["type"] != "websocket.connect":
        return
    try:
        head = head_of(scope)
        doorkeeper.admit(head)
        if head.segments != SEGMENTS:
            raise ApiError(404, f"there is no WebSocket at {head.path}; agents connect to /{'/'.join(SEGMENTS)}")
        if not is_name_id(dict(head.query).get("agent_id", "")):
            raise ApiError(400, "the address must name the agent: ?agent_id=…")
    except ApiError as refused:
        await _refuse(refused, request_id_of(scope) or str(rooms.ids.uuid7()), send)
        return
    await send({"type": "websocket.accept"})
    client = scope.get("client")
    peer = f"{client[0]}:{client[1]}" if client else "local"
    await rooms.agents.serve_connection(AsgiMessageStream(receive, send, peer, scope["query_string"].decode("latin-1")))


async def _refuse(error: Exception, request_id: str, send: Send) -> None:
    refused = as_api_error(error) or internal()
    content = write_json(refused.body(request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "websocket.http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": content})
