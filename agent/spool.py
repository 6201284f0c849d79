"""Output of one instance on the disk, until the server has stored it all.

    spool  = header, then one piece per read, in order of arrival
    header = u32 length, JSON {task_id, instance_id, epoch}
    piece  = u8 stream, f64 arrival (seconds since 1970), u32 length, bytes        (big-endian)

A spool begins in the journal, one record per piece: a task that prints a line costs no file (creating and removing one
stalled the agent for 1-3 ms on ext4 beside fsyncs). Beyond `SMALL_BYTES_MAX` it moves to a file of its own. That lies beside
the instance's directory, not in it: the process cannot damage it by cleaning up after itself; and not on the journal's
disk: a flood cannot stop the journal. An agent that starts again ships the spools it finds.

A piece is a chunk: what is sent again, also by a later life of the agent, has the same offset, length and `seq`. A later
life goes on from the last `Cursor` in the journal, and without one begins anew.
Memory per instance is constant: the shipper reads the spool back, and at most `WINDOW_BYTES_MAX` are in flight.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from attrs import define, frozen

from hetuflow.ports.disk import AppendFile, Disk, DiskError

STREAM_NAMES: Final = {1: "stdout", 2: "stderr"}
CHUNK_BYTES_MAX: Final = 48 * 1024
"""Of data in one piece, and so in one `Output` message; five fit into a frame."""
SMALL_BYTES_MAX: Final = 8 * 1024
"""Of a spool in the journal."""
SPOOL_SUFFIX: Final = ".out"
NOTHING_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEADER_BYTES_MAX: Final = 4096
BLOCK_BYTES: Final = 1024 * 1024
"""Read at once of a spool that was found; more than any piece."""
PIECE: Final = struct.Struct(">BdI")


@frozen(slots=True, kw_only=True)
class Owner:
    """Whose output it is."""

    task_id: str
    instance_id: str
    epoch: int

    def spool_path(self, work_dir: str) -> str:
        return spool_path(work_dir, self.instance_id, self.epoch)


@frozen(slots=True)
class Cursor:
    """A place in a spool, at the beginning of a piece, and what precedes it: bytes of each stream, and pieces."""

    position: int
    stdout: int = 0
    stderr: int = 0
    seq: int = 0

    def offset(self, stream: int) -> int:
        return self.stdout if stream == 1 else self.stderr

    def advanced(self, stream: int, length: int, position: int) -> Cursor:
        return Cursor(
            position,
            self.stdout + (length if stream == 1 else 0),
            self.stderr + (length if stream == 2 else 0),
            self.seq + 1,
        )


def spool_path(work_dir: str, instance_id: str, epoch: int) -> str:
    return f"{work_dir}/{instance_id}.{epoch}{SPOOL_SUFFIX}"


def _sha256() -> Any:
    """Imported with the first output: the library takes 4 MB of a keeper that has nothing to keep."""
    from hashlib import sha256

    return sha256()


@define(slots=True)
class StreamTally:
    """One stream, as the process wrote it and as it was kept."""

    written: int = 0
    kept: int = 0
    shipped: int = 0
    digest: Any = None

    def write(self, data: bytes) -> None:
        if self.digest is None:
            self.digest = _sha256()
        self.digest.update(data)
        self.written += len(data)

    def summary(self) -> Mapping[str, Any]:
        digest = self.digest.hexdigest() if self.digest is not None else NOTHING_SHA256
        return {"bytes": self.written, "kept": self.kept, "shipped": self.shipped, "sha256": digest}


class SmallSpools(Protocol):
    """Where spools begin. Raises `DiskError`."""

    def captured(self, owner: Owner, data: bytes) -> None:
        """Add to the owner's spool."""
        ...

    def spilled(self, owner: Owner) -> None:
        """The owner's spool is in its file now."""
        ...


class Spool:
    """The bytes of one spool, written by the `Capture` and read by the `Shipment`."""

    def __init__(self, disk: Disk, path: str, owner: Owner, small: SmallSpools) -> None:
        self._disk, self.path, self.owner, self._journal = disk, path, owner, small
        self._small: bytes | None = b""
        self._file: AppendFile | None = None
        self.end = 0
        """Length in bytes."""

    @property
    def is_small(self) -> bool:
        """Whether the journal holds it; else a file of its own does."""
        return self._small is not None

    def append(self, data: bytes) -> None:
        """Raises `DiskError`; nothing may be appended afterwards."""
        if not self.end:
            data = header(self.owner) + data
        if self._small is not None and self.end + len(data) <= SMALL_BYTES_MAX:
            self._journal.captured(self.owner, data)
            self._small += data
        else:
            self._append_to_file(data)
        self.end += len(data)

    def _append_to_file(self, data: bytes) -> None:
        if self._small is not None:
            self._spill(self._small + data)
            return
        assert self._file is not None
        self._file.append(data)

    def _spill(self, data: bytes) -> None:
        self._file = self._disk.open_append(self.path)
        try:
            self._file.append(data)
        except DiskError:  # what the journal holds is whole, what the file holds is not
            self.close()
            self._disk.remove(self.path)
            raise
        self._small = None
        self._journal.spilled(self.owner)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, at: int, length: int) -> bytes:
        """Raises `DiskError`."""
        if self._small is not None:
            return self._small[at : at + length]
        return self._disk.read_range(self.path, at, length)

    def remove(self) -> None:
        if self._small is None:
            self._disk.remove(self.path)


class Source(Protocol):
    """A spool, as its shipment sees it."""

    @property
    def owner(self) -> Owner: ...
    @property
    def path(self) -> str: ...
    @property
    def is_small(self) -> bool: ...
    @property
    def end(self) -> int: ...
    def read(self, at: int, length: int) -> bytes: ...
    def remove(self) -> None: ...


class FoundSpool:
    """A spool that an earlier life left; see `Source`. Raises `DiskError` when it is none.

    `small`: its bytes when no file has them. A file is read block by block: it may be larger than memory.
    """

    def __init__(self, disk: Disk, path: str, small: bytes | None = None) -> None:
        self._disk, self.path, self._small = disk, path, small
        self.owner = _parse_header(path, self.read(0, HEADER_BYTES_MAX))
        self.end = max((end for _, _, end in self._pieces()), default=len(header(self.owner)))

    @property
    def is_small(self) -> bool:
        return self._small is not None

    def read(self, at: int, length: int) -> bytes:
        return self._disk.read_range(self.path, at, length) if self._small is None else self._small[at : at + length]

    def remove(self) -> None:
        if self._small is None:
            self._disk.remove(self.path)

    def tallies(self) -> Mapping[int, StreamTally]:
        """By stream. Reads, and digests, everything."""
        found = {number: StreamTally() for number in STREAM_NAMES}
        for stream, payload, _ in self._pieces():
            tally = found[stream]
            tally.write(payload)
            tally.kept += len(payload)
            tally.shipped += len(payload)
        return found

    def summary(self) -> Mapping[str, Any]:
        """As `Capture.summary`; what the process wrote beyond it is not known."""
        return {**{STREAM_NAMES[number]: tally.summary() for number, tally in self.tallies().items()}, "dropped": 0}

    def _pieces(self) -> Iterator[tuple[int, bytes, int]]:
        """(stream, bytes, offset of its end in the spool) of every whole piece."""
        at = base = len(header(self.owner))
        block = b""
        while True:
            piece = piece_at(block, at - base)
            if piece is None:
                base, block = at, self.read(at, BLOCK_BYTES)
                piece = piece_at(block, 0)
            if piece is None:
                return
            stream, _, payload, end = piece
            at = base + end
            yield stream, payload, at


def header(owner: Owner) -> bytes:
    body = json.dumps({"task_id": owner.task_id, "instance_id": owner.instance_id, "epoch": owner.epoch}).encode()
    return len(body).to_bytes(4, "big") + body


def _parse_header(path: str, data: bytes) -> Owner:
    try:
        found = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
        return Owner(task_id=found["task_id"], instance_id=found["instance_id"], epoch=int(found["epoch"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise DiskError(f"{path} is not an output spool") from exc


def piece_at(data: bytes, at: int) -> tuple[int, float, bytes, int] | None:
    """(stream, arrival, bytes, offset of the next piece) of the whole piece at `at`, if there is one."""
    if len(data) < at + PIECE.size:
        return None
    stream, arrived, length = PIECE.unpack_from(data, at)
    end = at + PIECE.size + length
    if stream not in STREAM_NAMES or len(data) < end:
        return None
    return stream, arrived, data[at + PIECE.size : end], end
