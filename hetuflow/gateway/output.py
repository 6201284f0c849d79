"""Output of one connection: stored, then acknowledged. At least once; the store keeps bytes by offset.

What arrives while a write is under way is written together next. The socket is not read while more than a bound waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from hetuflow.actors.patience import Patience
from hetuflow.protocol.messages import Output, OutputAck

log = logging.getLogger(__name__)

WRITE_BYTES_MAX = 1024 * 1024
"""Bytes written at once, so that one flood never holds the database for long."""


class OutputUnavailable(Exception):
    """The output cannot be stored now; the message says why."""


class OutputSink(Protocol):
    """Where output is kept. Idempotent by (instance, stream, offset)."""

    async def store(self, chunks: Sequence[Output]) -> None:
        """Keep the chunks; they are durable when it returns. Raises `OutputUnavailable`."""
        ...


class OutputIntake:
    def __init__(self, sink: OutputSink, acknowledge: Callable[[OutputAck], None], *, bytes_max: int) -> None:
        self._sink = sink
        self._acknowledge = acknowledge
        self._bytes_max = bytes_max
        self._queue: list[Output] = []
        self._bytes = 0
        self._filled = trio.Event()
        self._room = trio.Event()
        self._patience = Patience()

    async def put(self, chunk: Output) -> None:
        """Take a chunk in; waits while too much is not stored yet."""
        while self._bytes and self._bytes + len(chunk.data) > self._bytes_max:
            self._room = trio.Event()
            await self._room.wait()
        self._queue.append(chunk)
        self._bytes += len(chunk.data)
        self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            while chunks := self._take():
                await self._store(chunks)
                self._bytes -= sum(len(chunk.data) for chunk in chunks)
                self._room.set()
                for ack in acks_of(chunks):
                    self._acknowledge(ack)

    def _take(self) -> list[Output]:
        size = count = 0
        for chunk in self._queue:
            if count and size + len(chunk.data) > WRITE_BYTES_MAX:
                break
            size += len(chunk.data)
            count += 1
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    async def _store(self, chunks: Sequence[Output]) -> None:
        while True:
            try:
                await self._sink.store(chunks)
            except OutputUnavailable as problem:
                pause = self._patience.failed("output")
                log.warning("output cannot be stored yet: %s; again in %.1f s", problem, pause)
                await trio.sleep(pause)
            else:
                self._patience.worked("output")
                return


def acks_of(chunks: Sequence[Output]) -> list[OutputAck]:
    """One acknowledgement per instance and stream, up to the furthest byte stored."""
    ends: dict[tuple[str, str], int] = {}
    for chunk in chunks:
        key = (chunk.instance_id, chunk.stream)
        ends[key] = max(ends.get(key, 0), chunk.offset + len(chunk.data))
    return [
        OutputAck(instance_id=instance_id, stream=stream, offset_end=end) for (instance_id, stream), end in ends.items()
    ]
