"""A client that speaks ASGI to the application in this process: exact bytes in, status, headers and JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import trio
from attrs import frozen

from hetuflow.api import HetuflowApp

API = "/api/v1"


@frozen(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes
    answered_at: float
    """When the last byte was there; the application may still read after it."""

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problems(self) -> dict[str, Any]:
        """Path -> suggestion of each field problem."""
        return {problem["path"]: problem["suggestion"] for problem in self.json["details"]}

    @property
    def reason(self) -> str:
        return str(self.json["details"]["reason"])


class Client:
    def __init__(self, app: HetuflowApp, address: str = "127.0.0.1") -> None:
        self._app = app
        self.address = address
        self.unread = 0
        """Pieces of the last request's body that the application has not read."""

    async def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        *,
        chunks: Sequence[bytes] | None = None,
        host: str | None = "localhost:8080",
        stall: bool = False,
    ) -> Answer:
        """`target` is the raw request target. `stall`: the body never ends."""
        path, _, query = target.encode().partition(b"?")
        lines = [(b"host", host.encode())] if host is not None else []
        lines += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if body and not any(name == b"content-length" for name, _ in lines):
            lines.append((b"content-length", str(len(body)).encode()))
        if chunks is not None or stall:
            lines.append((b"transfer-encoding", b"chunked"))
        pieces = [body] if chunks is None else list(chunks)
        incoming = [
            {"type": "http.request", "body": piece, "more_body": stall or index < len(pieces) - 1}
            for index, piece in enumerate(pieces)
        ]
        sent: list[Mapping[str, Any]] = []
        answered_at = trio.current_time()

        async def receive() -> Mapping[str, Any]:
            if incoming:
                return incoming.pop(0)
            await trio.sleep_forever()
            raise AssertionError

        async def collect(message: Mapping[str, Any]) -> None:
            nonlocal answered_at
            sent.append(message)
            if message.get("body"):
                answered_at = trio.current_time()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": lines,
            "client": (self.address, 50000),
            "server": ("127.0.0.1", 8080),
            "state": {},
            "extensions": {},
        }
        await self._app(scope, receive, collect)
        self.unread = len(incoming)
        start, *rest = sent
        content = b"".join(message.get("body", b"") for message in rest)
        decoded = {name.decode(): value.decode() for name, value in start["headers"]}
        assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]
        return Answer(start["status"], decoded, content, answered_at)

    async def call(
        self, method: str, path: str, value: Any = None, headers: Sequence[tuple[str, str]] = (), **options: Any
    ) -> Answer:
        """A request of the API with a JSON body; None = without one."""
        if value is None:
            return await self.send(method, API + path, b"", headers, **options)
        body = json.dumps(value).encode()
        return await self.send(method, API + path, body, [("Content-Type", "application/json"), *headers], **options)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, value: Any = None, **options: Any) -> Answer:
        return await self.call("POST", path, value, **options)

    async def put(self, path: str, value: Any = None, **options: Any) -> Answer:
        return await self.call("PUT", path, value, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.call("DELETE", path, **options)

    async def made(self, path: str, value: Any) -> str:
        """The id of what this create call made."""
        answer = await self.post(path, value)
        assert answer.status == 200, answer.json
        return str(answer.json["id"])
