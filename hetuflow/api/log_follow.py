"""I7 with `follow=true`: the output of an instance as it is printed, as Server-Sent Events.

Woken by what this process stores; where the agent is connected to another server, looked for often. Every byte once and
in order: the id of a frame says how far each stream was told, so that a client that resumes misses and repeats nothing,
also where a character was cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from hetuflow.api.streaming import COMMENT, PULSE_SECONDS, Write, frame
from hetuflow.scheduler.alarm import Alarm
from projections.output import Chunk, OutputStore

READ_BYTES = 65_536
LOOK_SECONDS = 0.15
"""Between two looks for what another server stores."""

STRAGGLERS_SECONDS_MAX = 10.0
"""After the end of an instance: its agent still ships what it has kept."""

CHARACTER_BYTES_MAX = 4
_TOKEN = re.compile(r"(-?\d{1,18})(?:\.o(\d{1,18}))?(?:\.e(\d{1,18}))?")
_LETTERS = {"o": "stdout", "e": "stderr"}


@frozen(slots=True)
class Place:
    """How far a client is: after `seq` in order of arrival, but for the bytes of a stream from `pending` on, which were
    held back because they begin a character. Of one stream: `seq` is the byte that follows."""

    seq: int = -(2**60)
    pending: Mapping[str, int] = field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """None when it is no id of a frame, and no cursor of a page."""
        found = _TOKEN.fullmatch(text)
        if found is None:
            return None
        held = {"stdout": found[2], "stderr": found[3]}
        return cls(int(found[1]), {name: int(offset) for name, offset in held.items() if offset is not None})

    def __str__(self) -> str:
        held = (f".{letter}{self.pending[name]}" for letter, name in _LETTERS.items() if name in self.pending)
        return f"{self.seq}{''.join(held)}"


@frozen(slots=True, kw_only=True)
class Ending:
    """What is known of an instance that has ended. `shipped`: bytes per stream that are to come; None: nobody knows."""

    status: int
    exit_code: int | None
    dropped: int
    sha256: Mapping[str, Any] | None
    shipped: Mapping[str, int] | None


@define(slots=True, kw_only=True)
class Following:
    """One client that follows one instance. `look` says whether it has ended; `unfinished` how many bytes at the end of
    some are the beginning of a character; `rendered` makes a LogChunk."""

    output: OutputStore
    instance_id: str
    stream: str | None
    place: Place
    look: Callable[[], Awaitable[Ending | None]]
    unfinished: Callable[[bytes], int]
    rendered: Callable[[Chunk], Mapping[str, Any]]
    write: Write
    _alarm: Alarm = field(factory=Alarm)
    _silent_since: float = field(factory=trio.current_time)
    _held: dict[str, Chunk] = field(factory=dict)

    async def run(self) -> None:
        """Until the instance has ended and all of its output was told, or its agent cannot be waited for any longer."""
        await self._send(COMMENT)
        await self._take_up()
        ended_at: float | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            while True:
                ending = await self.look()  # before reading: what it has printed by then is all there is
                is_all = await self._is_all_there(ending)
                await self._catch_up()
                now = trio.current_time()
                if ending is not None:
                    ended_at = now if ended_at is None else ended_at
                    if is_all or now >= ended_at + STRAGGLERS_SECONDS_MAX:
                        await self._end(ending)
                        break
                if now >= self._silent_since + PULSE_SECONDS:
                    await self._send(COMMENT)
                await self._alarm.wait(LOOK_SECONDS)
            nursery.cancel_scope.cancel()

    def wake(self) -> None:
        """Look now: something has happened to the instance."""
        self._alarm.ring()

    async def _hear(self) -> None:
        while True:
            arrived = self.output.arrivals.next(self.instance_id)
            await arrived.wait()
            self._alarm.ring()

    async def _take_up(self) -> None:
        """What was held back from a client that resumes is held back again."""
        for name, offset in self.place.pending.items():
            found = await self.output.chunks(
                self.instance_id, stream=name, offset=offset, after_seq=None, bytes_max=CHARACTER_BYTES_MAX
            )
            parts = [chunk for chunk in found if chunk.seq <= self.place.seq]
            if parts:
                self._held[name] = evolve(parts[0], data=b"".join(part.data for part in parts))

    async def _catch_up(self) -> None:
        while chunks := await self._read():
            for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
                # Parts of one piece share its seq: resumed after one of them, the others would be missed.
                await self._tell(chunk, is_place=following is None or following.seq != chunk.seq)

    async def _read(self) -> Sequence[Chunk]:
        if self.stream is None:
            offset, after = 0, self.place.seq
        else:
            held = self._held.get(self.stream)
            offset, after = (self.place.seq if held is None else held.end), None
        return await self.output.chunks(
            self.instance_id, stream=self.stream, offset=offset, after_seq=after, bytes_max=READ_BYTES
        )

    async def _tell(self, chunk: Chunk, is_place: bool) -> None:
        """Send the chunk, but for a character that it only begins: that is told with the chunk which ends it."""
        held = self._held.pop(chunk.stream, None)
        if held is not None and held.end == chunk.offset:
            chunk = evolve(chunk, offset=held.offset, data=held.data + chunk.data)
        elif held is not None:
            await self._send(frame("log", self.rendered(held)))
        if rest := self.unfinished(chunk.data):
            self._held[chunk.stream] = evolve(chunk, offset=chunk.end - rest, data=chunk.data[-rest:])
        told = evolve(chunk, data=chunk.data[: len(chunk.data) - rest])
        if self.stream is None:
            self.place = Place(chunk.seq, {name: kept.offset for name, kept in self._held.items()})
        else:
            self.place = Place(told.end)
        if told.data:
            await self._send(frame("log", self.rendered(told), self.place if is_place else None))

    async def _is_all_there(self, ending: Ending | None) -> bool:
        if ending is None or ending.shipped is None:
            return False
        totals = await self.output.totals(self.instance_id)
        return all(totals.get(name, 0) >= end for name, end in ending.shipped.items())

    async def _end(self, ending: Ending) -> None:
        for held in self._held.values():  # nothing will end these characters
            await self._send(frame("log", self.rendered(held)))
        data = {
            "status": ending.status,
            "exit_code": ending.exit_code,
            "dropped": ending.dropped,
            "sha256": ending.sha256,
        }
        await self._send(frame("end", data))

    async def _send(self, content: bytes) -> None:
        await self.write(content)
        self._silent_since = trio.current_time()
