"""A client that speaks ASGI to the application in this process: exact bytes in, status, headers and JSON out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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


@frozen(slots=True)
class Frame:
    """One server-sent event."""

    event: str
    id: str | None
    data: Any


class Stream:
    """An answer that goes on. `frames` are read one by one; comments are counted."""

    def __init__(
        self, status: int, headers: Mapping[str, str], receive: trio.MemoryReceiveChannel[Mapping[str, Any]]
    ) -> None:
        self.status, self.headers, self._receive = status, headers, receive
        self._text = ""
        self.comments = 0

    async def frame(self) -> Frame:
        """The next event. Raises `trio.EndOfChannel` when the stream is over."""
        while True:
            part, end, rest = self._text.partition("\n\n")
            if not end:
                message = await self._receive.receive()
                self._text += message.get("body", b"").decode()
                continue
            self._text = rest
            lines = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":"))
            if lines:
                return Frame(lines["event"], lines.get("id"), json.loads(lines["data"]))
            self.comments += 1

    async def comment(self) -> None:
        """Wait for the next comment."""
        before = self.comments
        while self.comments == before:
            message = await self._receive.receive()
            self._text += message.get("body", b"").decode()
            while self._text.startswith(":") and "\n\n" in self._text:
                self._text = self._text.partition("\n\n")[2]
                self.comments += 1

    async def rest(self) -> list[Frame]:
        """All frames until the stream is over."""
        frames = []
        try:
            while True:
                frames.append(await self.frame())
        except trio.EndOfChannel:
            return frames


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

        scope = self._scope(method, path, query, lines)
        await self._app(scope, receive, collect)
        self.unread = len(incoming)
        start, *rest = sent
        content = b"".join(message.get("body", b"") for message in rest)
        decoded = {name.decode(): value.decode() for name, value in start["headers"]}
        assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]
        return Answer(start["status"], decoded, content, answered_at)

    def _scope(self, method: str, path: bytes, query: bytes, lines: Sequence[tuple[bytes, bytes]]) -> Mapping[str, Any]:
        return {
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

    @asynccontextmanager
    async def follow(self, path: str, headers: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Stream]:
        """An event stream of the API; the client goes when the block ends."""
        raw, _, query = (API + path).encode().partition(b"?")
        lines = [(b"host", b"localhost:8080"), *((name.lower().encode(), value.encode()) for name, value in headers)]
        send, receive = trio.open_memory_channel[Mapping[str, Any]](0)
        gone = trio.Event()
        began = False

        async def listen() -> Mapping[str, Any]:
            nonlocal began
            if not began:
                began = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            async with send:
                await self._app(self._scope("GET", raw, query, lines), listen, send.send)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            start = await receive.receive()
            yield Stream(start["status"], {n.decode(): v.decode() for n, v in start["headers"]}, receive)
            gone.set()
            async for _ in receive:  # what was under way; it ends by itself
                pass

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
