"""What instances print, on its way from an agent's connection to where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hetuflow.gateway.intake import Intake, StorageUnavailable
from hetuflow.protocol.messages import Message, Output, OutputAck


class OutputUnavailable(StorageUnavailable):
    """The output cannot be stored now; the message says why."""


class OutputSink(Protocol):
    """Where output is kept. Idempotent by (instance, stream, offset)."""

    async def store(self, chunks: Sequence[Output]) -> None:
        """Keep the chunks; they are durable when it returns. Raises `OutputUnavailable`."""
        ...


def output_intake(sink: OutputSink, tell: Callable[[Message], None], *, bytes_max: int) -> Intake[Output]:
    async def store(chunks: Sequence[Output]) -> Sequence[OutputAck]:
        await sink.store(chunks)
        return acks_of(chunks)

    return Intake("output", store, tell, bytes_max=bytes_max)


def acks_of(chunks: Sequence[Output]) -> list[OutputAck]:
    """One acknowledgement per instance and stream, up to the furthest byte stored."""
    ends: dict[tuple[str, str], int] = {}
    for chunk in chunks:
        key = (chunk.instance_id, chunk.stream)
        ends[key] = max(ends.get(key, 0), chunk.offset + len(chunk.data))
    return [
        OutputAck(instance_id=instance_id, stream=stream, offset_end=end) for (instance_id, stream), end in ends.items()
    ]
