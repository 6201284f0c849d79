"""Bytes of one connection: stored, then acknowledged. At least once; what is stored again adds nothing.

What arrives while a write is under way is written together next. The socket is not read while more than a bound waits.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from hetuflow.actors.patience import Patience
from hetuflow.protocol.messages import Message

log = logging.getLogger(__name__)

WRITE_BYTES_MAX = 1024 * 1024
"""Bytes written at once, so that one flood never holds the database for long."""


class StorageUnavailable(Exception):
    """It cannot be stored, or read, now; the message says why."""


class HasData(Protocol):
    @property
    def data(self) -> bytes: ...


T = TypeVar("T", bound=HasData)


class Intake(Generic[T]):
    """`store` keeps pieces durably and returns what the agent is told then; it may raise `StorageUnavailable`, and is
    asked again after a pause for as long as the connection lives."""

    def __init__(
        self,
        what: str,
        store: Callable[[Sequence[T]], Awaitable[Sequence[Message]]],
        tell: Callable[[Message], None],
        *,
        bytes_max: int,
    ) -> None:
        self._what = what
        self._store_now = store
        self._tell = tell
        self._bytes_max = bytes_max
        self._queue: list[T] = []
        self._bytes = 0
        self._filled = trio.Event()
        self._room = trio.Event()
        self._patience = Patience()

    async def put(self, piece: T) -> None:
        """Take a piece in; waits while too much is not stored yet."""
        while self._bytes and self._bytes + len(piece.data) > self._bytes_max:
            self._room = trio.Event()
            await self._room.wait()
        self._queue.append(piece)
        self._bytes += len(piece.data)
        self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            while pieces := self._take():
                told = await self._store(pieces)
                self._bytes -= sum(len(piece.data) for piece in pieces)
                self._room.set()
                for message in told:
                    self._tell(message)

    def _take(self) -> list[T]:
        size = count = 0
        for piece in self._queue:
            if count and size + len(piece.data) > WRITE_BYTES_MAX:
                break
            size += len(piece.data)
            count += 1
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    async def _store(self, pieces: Sequence[T]) -> Sequence[Message]:
        while True:
            try:
                told = await self._store_now(pieces)
            except StorageUnavailable as problem:
                pause = self._patience.failed(self._what)
                log.warning("%s cannot be stored yet: %s; again in %.1f s", self._what, problem, pause)
                await trio.sleep(pause)
            else:
                self._patience.worked(self._what)
                return told
