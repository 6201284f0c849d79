"""Files between agents and the server: what instances leave behind comes in, what they are given goes out.

Both ways in pieces that the agent paces: it waits for acknowledgements of what it sends, and asks for each piece that it
wants. So a large file costs no memory here, and a connection that is lost goes on with the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio
from attrs import evolve

from hetuflow.gateway.intake import Intake, StorageUnavailable
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored, FetchPart, FilePart, Message

log = logging.getLogger(__name__)

FETCHED_BYTES_MAX: Final = 192 * 1024
"""In one answer, whatever was asked for: it fits into a frame."""
WANTED_MAX: Final = 64
"""Pieces that one connection may ask for before it is answered; an agent has a few under way."""


class FileRoom(Protocol):
    """Where artifacts are kept, and where the files of the server are read."""

    async def keep(self, parts: Sequence[ArtifactPart]) -> Sequence[ArtifactStored]:
        """Keep these, in order; durable when it returns. Raises `StorageUnavailable`."""
        ...

    async def part(self, url: str, offset: int, length: int) -> FilePart:
        """Bytes of the file at this path of the server, or why there are none. Raises `StorageUnavailable`."""
        ...


class NoFiles:
    """A server that keeps none."""

    async def keep(self, parts: Sequence[ArtifactPart]) -> Sequence[ArtifactStored]:
        return [
            ArtifactStored(
                instance_id=part.instance_id,
                epoch=part.epoch,
                path=part.path,
                offset_end=0,
                problem="this server keeps no artifacts",
            )
            for part in parts
        ]

    async def part(self, url: str, offset: int, length: int) -> FilePart:
        return FilePart(token=0, problem="this server keeps no files")


def artifact_intake(room: FileRoom, tell: Callable[[Message], None], *, bytes_max: int) -> Intake[ArtifactPart]:
    async def store(parts: Sequence[ArtifactPart]) -> Sequence[ArtifactStored]:
        told = {(each.instance_id, each.epoch, each.path): each for each in await room.keep(parts)}
        return list(told.values())  # of several pieces of a file the last word counts

    return Intake("artifacts", store, tell, bytes_max=bytes_max)


class Fetching:
    """Answers one connection's `FetchPart`s, one after the other."""

    def __init__(self, room: FileRoom, tell: Callable[[Message], None]) -> None:
        self._room, self._tell = room, tell
        self._wanted: deque[FetchPart] = deque()
        self._asked = trio.Event()

    def put(self, wanted: FetchPart) -> None:
        """Never waits: an agent that asks for too much at once is told so."""
        if len(self._wanted) >= WANTED_MAX:
            self._tell(FilePart(token=wanted.token, problem="too many pieces are asked for at once", is_coming=True))
            return
        self._wanted.append(wanted)
        self._asked.set()

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            while self._wanted:
                self._tell(await self._answer(self._wanted.popleft()))

    async def _answer(self, wanted: FetchPart) -> FilePart:
        length = max(1, min(wanted.length, FETCHED_BYTES_MAX))
        try:
            part = await self._room.part(wanted.url, max(0, wanted.offset), length)
        except StorageUnavailable as problem:
            log.warning("a file for an agent cannot be read yet: %s", problem)
            part = FilePart(token=0, problem=f"the server cannot read it now: {problem}", is_coming=True)
        return evolve(part, token=wanted.token)
