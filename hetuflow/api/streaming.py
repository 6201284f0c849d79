"""Server-Sent Events: how many streams may be open, what a frame looks like, and the answer that goes on.

A stream holds one frame at a time: the producer waits until the listener has taken it, so a slow reader costs no memory
here. One that takes nothing at all is disconnected by the listener (`serving.DRAIN_SECONDS_MAX`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import trio
from attrs import define, field, frozen

from hetuflow.api.errors import ApiError
from hetuflow.api.jsontext import write_json

log = logging.getLogger(__name__)

STREAMS_MAX = 200
"""Open at once in this process."""

PULSE_SECONDS = 15.0
"""The longest silence: proxies and clients take a longer one for a dead connection."""

COMMENT = b": still here\n\n"

Write = Callable[[bytes], Awaitable[None]]
Produce = Callable[[Write], Awaitable[None]]
"""Writes frames until the stream is over; cancelled when the client has gone."""


def frame(event: str, data: Any, id: object = None) -> bytes:
    """One event. `data` is written as JSON on one line; `id` is what a client sends as `Last-Event-ID`."""
    head = b"" if id is None else b"id: %s\n" % str(id).encode()
    return head + b"event: %s\ndata: %s\n\n" % (event.encode(), write_json(data))


@define(slots=True)
class OpenStreams:
    """The streams that are open now."""

    most: int = STREAMS_MAX
    _scopes: set[trio.CancelScope] = field(factory=set)
    _is_closed: bool = False

    def __len__(self) -> int:
        return len(self._scopes)

    def require_room(self) -> None:
        """Raises `ApiError`: 429, too many are open; 503, the server is stopping."""
        if self._is_closed:
            raise ApiError(503, "the server is stopping")
        if len(self._scopes) >= self.most:
            raise ApiError(
                429, f"{self.most} streams are open, which is the limit; close one, or try again", {"limit": self.most}
            )

    @contextmanager
    def opened(self) -> Iterator[trio.CancelScope]:
        """Counts for the duration of the block, which `close` cancels."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._is_closed:
                    scope.cancel()
                yield scope
            finally:
                self._scopes.discard(scope)

    def close(self) -> None:
        """End all streams and open no other: the server is stopping."""
        self._is_closed = True
        for scope in list(self._scopes):
            scope.cancel()


@frozen(slots=True)
class Outgoing:
    """The answer's body, as a producer's writes; ends when the producer does, the client goes, or the server stops."""

    receive: Callable[[], Awaitable[Mapping[str, Any]]]
    send: Callable[[Mapping[str, Any]], Awaitable[None]]

    async def run(self, produce: Produce, streams: OpenStreams) -> None:
        """Raises nothing but cancellation: what goes wrong ends the stream, and the client resumes."""
        with streams.opened() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, scope)
                    await produce(self._write)
                    nursery.cancel_scope.cancel()
            except* Exception:
                log.exception("an event stream ended")

    async def _write(self, content: bytes) -> None:
        await self.send({"type": "http.response.body", "body": content, "more_body": True})

    async def _watch(self, scope: trio.CancelScope) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()
