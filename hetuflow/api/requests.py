"""One HTTP request as the endpoints see it, and what it may look like before anybody looks at its content."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

import trio
from attrs import define, field, frozen

from hetuflow.api.errors import ApiError
from hetuflow.ports.admission import Admission, Foreign

BODY_BYTES_MAX = 2 * 1024 * 1024
BODY_SECONDS_MAX = 30.0
HEADER_BYTES_MAX = 16 * 1024
REQUEST_LINE_BYTES_MAX = 8 * 1024

BODIES_BYTES_MAX = 256 * 1024 * 1024
"""Of all requests together: a hundred connections that each send a large body slowly do not exhaust the memory."""

DISCARDED_BYTES_MAX = 64 * 1024 * 1024
"""A body that nobody wants is read and thrown away up to this, after the answer: a client that is still sending when
the connection is closed under it sees a reset instead of the answer (curl does)."""
DISCARD_PAUSE_SECONDS_MAX = 1.0
"""A client that sends nothing for so long has seen the answer; its connection is closed."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

Headers = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """The client has gone: nobody is left to answer."""


@frozen(slots=True)
class Head:
    """What is known before the body: `segments` are the path's parts, decoded once; `query` in the order sent."""

    method: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    headers: Headers
    scheme: str
    client: str
    target_bytes: int
    header_bytes: int

    @property
    def path(self) -> str:
        return "/" + "/".join(self.segments)

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """The client's own request id, when it is one that is kept."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _REQUEST_ID.fullmatch(value) else None
    return None


def head_of(scope: Mapping[str, Any]) -> Head:
    """Parse an ASGI scope.

    Raises:
      ApiError: 431, or 400 for a path or query that is not percent-encoded UTF-8.
    """
    headers: dict[bytes, bytes] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value) + 4
        headers[name] = headers[name] + b", " + value if name in headers else value
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    raw_query: bytes = scope["query_string"]
    target = len(raw_path) + len(raw_query) + 1
    if size > HEADER_BYTES_MAX:
        raise ApiError(431, f"the headers have {size} bytes, at most {HEADER_BYTES_MAX} are allowed")
    if target > REQUEST_LINE_BYTES_MAX:
        raise ApiError(431, f"the request line is longer than {REQUEST_LINE_BYTES_MAX} bytes")
    client = scope.get("client")
    return Head(
        method=scope.get("method", "GET").upper(),
        segments=_segments(raw_path),
        query=_query(raw_query),
        headers=headers,
        scheme=scope.get("scheme", "http"),
        client=client[0] if client else "local",
        target_bytes=target,
        header_bytes=size,
    )


def _segments(raw_path: bytes) -> tuple[str, ...]:
    if not raw_path.startswith(b"/"):  # absolute form: http://host/path
        raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
    parts = raw_path[1:].split(b"/")
    if len(parts) > 1 and parts[-1] == b"":
        parts.pop()
    return tuple(_decoded(part, "path") for part in parts)


def _query(raw: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_decoded(name.replace(b"+", b" "), "query"), _decoded(value.replace(b"+", b" "), "query")))
    return tuple(pairs)


def _decoded(part: bytes, where: str) -> str:
    try:
        if b"%" not in part:
            return part.decode()
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise ApiError(400, f"the {where} is not percent-encoded UTF-8") from None


@define(slots=True)
class BodyMemory:
    """Bytes of bodies that are being read or parsed, of all requests together."""

    most: int = BODIES_BYTES_MAX
    held: int = 0

    def take(self, count: int) -> None:
        """Raises `ApiError` 503: others hold too much."""
        if self.held + count > self.most:
            raise ApiError(503, "too many large requests at once; try again")
        self.held += count


@define(slots=True)
class BodyReader:
    """The request's body, as it arrives."""

    receive: Receive
    declared_bytes: int | None
    is_expected: bool
    memory: BodyMemory = field(factory=BodyMemory)
    _held: int = field(default=0, init=False)
    _done: bool = field(default=False, init=False)

    @classmethod
    def of(cls, headers: Headers, receive: Receive, memory: BodyMemory) -> BodyReader:
        declared = headers.get(b"content-length")
        length = int(declared) if declared is not None and declared.isdigit() else None
        return cls(receive, length, bool(length) or b"transfer-encoding" in headers, memory)

    async def read(self, bytes_max: int = BODY_BYTES_MAX, seconds: float = BODY_SECONDS_MAX) -> bytes:
        """The whole body.

        Raises:
          ApiError: 413, 408; 503, there is no memory for it now.
          Disconnected.
        """
        if not self.is_expected:
            return b""
        if self.declared_bytes is not None and self.declared_bytes > bytes_max:
            raise self._too_large(bytes_max)
        body = bytearray()
        with trio.move_on_after(seconds) as scope:
            while (chunk := await self._next()) is not None:
                self.memory.take(len(chunk))
                self._held += len(chunk)
                body += chunk
                if len(body) > bytes_max:
                    raise self._too_large(bytes_max)
        if scope.cancelled_caught:
            self._done = True
            raise ApiError(408, f"the body did not arrive within {seconds:g} s", headers=[(b"connection", b"close")])
        return bytes(body)

    def release(self) -> None:
        """The body is needed no more."""
        self.memory.held -= self._held
        self._held = 0

    @property
    def is_over(self) -> bool:
        """Nothing of the body is still to come."""
        return self._done or not self.is_expected

    async def discard(self, seconds: float = BODY_SECONDS_MAX) -> None:
        """Read what is still coming and drop it, within bounds. For after the answer."""
        if (self.declared_bytes or 0) > DISCARDED_BYTES_MAX:
            return
        dropped = 0
        with trio.move_on_after(seconds), suppress(Disconnected):
            while not self.is_over and dropped <= DISCARDED_BYTES_MAX:
                with trio.move_on_after(DISCARD_PAUSE_SECONDS_MAX) as pause:
                    dropped += len(await self._next() or b"")
                if pause.cancelled_caught:
                    return

    async def _next(self) -> bytes | None:
        """The next piece; None after the last."""
        if self._done:
            return None
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self._done = True
            raise Disconnected
        self._done = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self, bytes_max: int) -> ApiError:
        return ApiError(413, f"the body is larger than {bytes_max} bytes", {"bytes_max": bytes_max})


_JSON_TYPE = re.compile(r"application/(?:[\w.!#$&^-]+\+)?json", re.IGNORECASE)
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii", "unicode-1-1-utf-8"})


def require_json(content_type: str | None) -> None:
    """Raises 415 unless the media type is JSON in UTF-8."""
    media, _, parameters = (content_type or "").partition(";")
    if _JSON_TYPE.fullmatch(media.strip()) is None:
        named = f"not {content_type}" if content_type else "none was sent"
        raise ApiError(415, f"a body needs Content-Type: application/json, {named}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF8:
            raise ApiError(415, f"the body must be UTF-8, not {value.strip()}")


@frozen(slots=True)
class Doorkeeper:
    """Which `Host` names this server answers to, and which origins a browser may come from."""

    admission: Admission

    @classmethod
    def of(cls, hosts: Sequence[str], origins: Sequence[str]) -> Doorkeeper:
        return cls(Admission.of(hosts, origins))

    def admit(self, head: Head) -> str | None:
        """The listed origin that must get CORS answers, or None.

        Raises:
          ApiError: 403, a foreign `Host` or `Origin`.
        """
        host = head.text(b"host") or head.text(b":authority") or ""
        try:
            return self.admission.check(host, head.text(b"origin"), head.scheme)
        except Foreign as exc:
            raise ApiError(403, str(exc), {exc.header: exc.value}) from None
