"""The sending side of artifacts: kept files go to the server, in pieces, until it has stored them all.

One file after the other, at most `WINDOW_BYTES_MAX` sent and not acknowledged. The server says how far it has stored a file:
that is where sending goes on, also when it is further than this life of the agent has sent, or less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import structlog
from attrs import define, field, frozen

from hetuflow.ports.disk import Disk, DiskError
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored

log = structlog.get_logger()

PART_BYTES: Final = 128 * 1024
WINDOW_BYTES_MAX: Final = 1024 * 1024
UNANSWERED_MAX: Final = 256
"""Files that were offered and are not stored: many may be small."""
SMALL_BYTES: Final = 512
"""What a piece counts for at least: it has a head."""


@frozen(slots=True, kw_only=True)
class KeptFile:
    """`path`: as the instance had it; `place`: where it is kept. Bytes, and the digest in hex."""

    path: str
    size: int
    sha256: str
    place: str


@frozen(slots=True, kw_only=True)
class KeptFiles:
    """The files of one instance, in a directory of their own."""

    directory: str
    instance_id: str
    task_id: str
    epoch: int
    collected_at: str
    files: Sequence[KeptFile]


@define(slots=True, eq=False)
class _File:
    """One of them on its way: `sent` and `stored` bytes."""

    owner: KeptFiles
    file: KeptFile
    sent: int = 0
    stored: int = 0
    is_offered: bool = False
    """Something of it was sent: a file without bytes needs that too."""

    @property
    def key(self) -> tuple[str, int, str]:
        return self.owner.instance_id, self.owner.epoch, self.file.path

    @property
    def has_more(self) -> bool:
        return self.sent < self.file.size or not self.is_offered


@define(slots=True)
class ArtifactShipping:
    """`settled` is given the directory whose files are all stored: nothing needs it any more."""

    disk: Disk
    settled: Callable[[str], None]
    _files: dict[tuple[str, int, str], _File] = field(factory=dict, init=False)
    _left: dict[str, int] = field(factory=dict, init=False)
    """Directory -> files in it that are not stored."""
    _queue: deque[_File] = field(factory=deque, init=False)
    """Those of which something is to be sent; the first one is being sent."""
    _unanswered: int = field(default=0, init=False)
    """Files that were offered and are not stored; with `_bytes`, what is sent and not stored."""
    _bytes: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._files)

    def add(self, kept: KeptFiles) -> None:
        """Send these; no effect when they are being sent."""
        if kept.directory in self._left:
            return
        self._left[kept.directory] = len(kept.files)
        for each in kept.files:
            file = _File(kept, each)
            self._files[file.key] = file
            self._queue.append(file)
        if not kept.files:
            self._settle(kept.directory)

    def directories(self) -> Iterator[str]:
        """Those that hold what is not stored yet."""
        return iter(self._left)

    def take(self, bytes_max: int) -> list[ArtifactPart]:
        """Pieces to send now, up to about `bytes_max`."""
        parts: list[ArtifactPart] = []
        while bytes_max > 0 and self.has_more:
            part = self._part(self._queue[0])
            if part is not None:
                parts.append(part)
                bytes_max -= max(len(part.data), SMALL_BYTES)
        return parts

    @property
    def has_more(self) -> bool:
        """Whether something may be sent now."""
        return bool(self._queue) and self._bytes < WINDOW_BYTES_MAX and self._unanswered < UNANSWERED_MAX

    def _part(self, file: _File) -> ArtifactPart | None:
        offset, size = file.sent, file.file.size
        try:
            data = self.disk.read_range(file.file.place, offset, min(PART_BYTES, size - offset))
        except DiskError as exc:
            self._give_up(file, str(exc))
            return None
        if not data and size:
            self._give_up(file, f"{file.file.place} ends at byte {offset}, not at {size}")
            return None
        self._unanswered += not file.is_offered
        self._bytes += len(data)
        file.sent, file.is_offered = offset + len(data), True
        if not file.has_more:
            self._queue.popleft()
        return ArtifactPart(
            instance_id=file.owner.instance_id,
            task_id=file.owner.task_id,
            epoch=file.owner.epoch,
            path=file.file.path,
            collected_at=file.owner.collected_at,
            bytes_total=size,
            sha256=file.file.sha256,
            offset=offset,
            data=data,
        )

    def heard(self, told: ArtifactStored) -> None:
        """The server says how far it has stored a file, or that it never will."""
        file = self._files.get((told.instance_id, told.epoch, told.path))
        if file is None:
            return
        if told.problem:
            self._give_up(file, f"the server refuses it: {told.problem}")
        elif told.offset_end >= file.file.size:
            self._done(file)
        elif file.stored <= told.offset_end <= file.sent:
            self._bytes -= told.offset_end - file.stored
            file.stored = told.offset_end
        else:  # it has more than this life of the agent has sent; or less than it said, when a backup was restored
            self._rewind(file, told.offset_end)

    def restart(self) -> None:
        """A new connection: what is not stored is sent again."""
        for file in self._files.values():
            self._forget_sent(file, file.stored)
        self._queue = deque(self._files.values())

    def forget(self, instance_id: str) -> None:
        """The server wants nothing of this instance any more."""
        for file in [file for file in self._files.values() if file.owner.instance_id == instance_id]:
            self._done(file)

    def _rewind(self, file: _File, to: int) -> None:
        is_queued = file.has_more
        self._forget_sent(file, to)
        if not is_queued:
            self._queue.appendleft(file)

    def _forget_sent(self, file: _File, to: int) -> None:
        self._bytes -= file.sent - file.stored
        self._unanswered -= file.is_offered
        file.sent = file.stored = to
        file.is_offered = False

    def _give_up(self, file: _File, why: str) -> None:
        log.error("an artifact is lost", instance_id=file.owner.instance_id, path=file.file.path, error=why)
        self._done(file)

    def _done(self, file: _File) -> None:
        if file.has_more:
            self._queue.remove(file)
        self._forget_sent(file, file.stored)
        del self._files[file.key]
        directory = file.owner.directory
        self._left[directory] -= 1
        if not self._left[directory]:
            self._settle(directory)

    def _settle(self, directory: str) -> None:
        del self._left[directory]
        self.settled(directory)
