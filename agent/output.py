"""Output of processes: on the disk first, then shipped in chunks until the server has stored it.

    spool  = header, then one piece per read, in order of arrival
    header = u32 length, JSON {task_id, instance_id, epoch}
    piece  = u8 stream, f64 arrival (seconds since 1970), u32 length, bytes        (big-endian)

A spool begins in the journal, one record per piece: a task that prints a line costs no file (creating and removing one
stalled the agent for 1-3 ms on ext4 beside fsyncs). Beyond `SMALL_BYTES_MAX` it moves to a file of its own. That lies beside
the instance's directory, not in it: the process cannot damage it by cleaning up after itself; and not on the journal's
disk: a flood cannot stop the journal. An agent that starts again ships the spools it finds.

A piece is a chunk: what is sent again, also by a later life of the agent, has the same offset, length and `seq`.
Memory per instance is constant: the shipper reads the spool back, and at most `WINDOW_BYTES_MAX` are in flight.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from attrs import define, frozen

from hetuflow.ports.disk import AppendFile, Disk, DiskError
from hetuflow.protocol.messages import Output

STREAM_NAMES: Final = {1: "stdout", 2: "stderr"}
CHUNK_BYTES_MAX: Final = 48 * 1024
"""Of data in one `Output` message; five fit into a frame."""
WINDOW_BYTES_MAX: Final = 1024 * 1024
"""Of one instance, sent and not yet acknowledged."""
SMALL_BYTES_MAX: Final = 8 * 1024
"""Of a spool in the journal."""
SPOOL_SUFFIX: Final = ".out"

_PIECE: Final = struct.Struct(">BdI")
_READ_BYTES: Final = CHUNK_BYTES_MAX + 16 * 1024


@frozen(slots=True, kw_only=True)
class Owner:
    """Whose output it is."""

    task_id: str
    instance_id: str
    epoch: int

    def spool_path(self, work_dir: str) -> str:
        return f"{work_dir}/{self.instance_id}.{self.epoch}{SPOOL_SUFFIX}"


@define(slots=True)
class StreamTally:
    """One stream, as the process wrote it and as it was kept."""

    written: int = 0
    kept: int = 0
    shipped: int = 0
    digest: Any = None

    def write(self, data: bytes) -> None:
        if self.digest is None:
            self.digest = hashlib.sha256()
        self.digest.update(data)
        self.written += len(data)

    def summary(self) -> Mapping[str, Any]:
        digest = self.digest or hashlib.sha256()
        return {"bytes": self.written, "kept": self.kept, "shipped": self.shipped, "sha256": digest.hexdigest()}


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
            data = _header(self.owner) + data
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


class Capture:
    """The writing side: one per instance, owned by the task that reads the process's pipes.

    Keeps the first `bytes_max` bytes of both streams together; the rest is counted and part of the digests, and
    `finish` leaves a marker line in the stream that was cut last. What cannot be spooled counts as cut.
    """

    def __init__(self, spool: Spool, *, bytes_max: int, grown: Callable[[], None]) -> None:
        self._spool = spool
        self._bytes_left = bytes_max
        self._grown = grown
        self._last_cut: int | None = None
        self.error: str | None = None
        """Why the spool could not be written."""
        self.dropped = 0
        self.tallies = {number: StreamTally() for number in STREAM_NAMES}

    def write(self, stream: int, data: bytes, at: datetime) -> None:
        tally = self.tallies[stream]
        tally.write(data)
        kept = self._keep(stream, data[: self._bytes_left] if len(data) > self._bytes_left else data, at)
        tally.kept += kept
        self._bytes_left -= kept
        if kept < len(data):
            self.dropped += len(data) - kept
            self._last_cut = stream
            self._bytes_left = 0  # what follows a gap would be shown as if there were none

    def finish(self, at: datetime) -> None:
        """No more output will come: mark a cut and close the file."""
        if self._last_cut is not None:
            self._keep(self._last_cut, f"\n[hetuflow: output cut, {self.dropped} bytes dropped]\n".encode(), at)
        self._spool.close()

    def summary(self) -> Mapping[str, Any]:
        """The `output` member of the instance's final report."""
        return {
            **{STREAM_NAMES[number]: tally.summary() for number, tally in self.tallies.items()},
            "dropped": self.dropped,
        }

    def _keep(self, stream: int, data: bytes, at: datetime) -> int:
        """Bytes that were spooled."""
        done = 0
        while done < len(data) and self.error is None:
            piece = data[done : done + CHUNK_BYTES_MAX]
            try:
                self._spool.append(_PIECE.pack(stream, at.timestamp(), len(piece)) + piece)
            except DiskError as exc:
                self.error = str(exc)
                break
            done += len(piece)
        if done:
            self.tallies[stream].shipped += done
            self._grown()
        return done


@frozen(slots=True)
class _InFlight:
    stream: str
    offset_end: int
    length: int
    cursor_after: _Cursor


@frozen(slots=True)
class _Cursor:
    """A place in the spool, and what precedes it: stream offsets and the number of chunks."""

    position: int
    stdout: int = 0
    stderr: int = 0
    seq: int = 0

    def offset(self, stream: int) -> int:
        return self.stdout if stream == 1 else self.stderr

    def advanced(self, stream: int, length: int, position: int) -> _Cursor:
        return _Cursor(
            position,
            self.stdout + (length if stream == 1 else 0),
            self.stderr + (length if stream == 2 else 0),
            self.seq + 1,
        )


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


class Shipment:
    """The sending side of one spool: reads it back, keeps a window in flight, goes back on a new connection."""

    def __init__(self, spool: Source) -> None:
        self._spool = spool
        self.owner = spool.owner
        self._sent = self._acked = _Cursor(len(_header(spool.owner)))
        self._ahead: tuple[int, bytes] = (0, b"")
        self._in_flight: deque[_InFlight] = deque()
        self._in_flight_bytes = 0
        self._acked_to = {"stdout": 0, "stderr": 0}
        self.finished = False
        """No more bytes will be spooled."""
        self.broken: str | None = None

    @property
    def all_sent(self) -> bool:
        return self.finished and (self.broken is not None or self._sent.position >= self._spool.end)

    @property
    def done(self) -> bool:
        """Everything is acknowledged, or can no longer be read: the spool may go."""
        return self.all_sent and not self._in_flight

    @property
    def has_more(self) -> bool:
        return (
            self.broken is None and self._sent.position < self._spool.end and self._in_flight_bytes < WINDOW_BYTES_MAX
        )

    def next_chunk(self) -> Output | None:
        """The next `Output` to send; None when the window is full or nothing is left."""
        if not self.has_more:
            return None
        piece = self._piece()
        if piece is None:
            return None
        stream, arrived, payload, following = piece
        before = self._sent
        self._sent = before.advanced(stream, len(payload), following)
        name = STREAM_NAMES[stream]
        self._in_flight.append(_InFlight(name, self._sent.offset(stream), len(payload), self._sent))
        self._in_flight_bytes += len(payload)
        return Output(
            instance_id=self.owner.instance_id,
            task_id=self.owner.task_id,
            epoch=self.owner.epoch,
            stream=name,
            offset=before.offset(stream),
            seq=before.seq,
            at=datetime.fromtimestamp(arrived, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            data=payload,
        )

    def _piece(self) -> tuple[int, float, bytes, int] | None:
        """The piece at the cursor, from the read-ahead if it holds it whole."""
        at = self._sent.position
        base, data = self._ahead
        if not (base <= at and (piece := _piece_at(data, at - base))):
            try:
                data = self._spool.read(at, _READ_BYTES)
            except DiskError as exc:
                self.broken = str(exc)
                return None
            self._ahead = base, _ = at, data
            piece = _piece_at(data, 0)
            if piece is None:
                self.broken = f"{self._spool.path}: unreadable at byte {at}"
                return None
        stream, arrived, payload, following = piece
        if base + following >= self._spool.end:
            self._ahead = (0, b"")
        return stream, arrived, payload, base + following

    def acked(self, stream: str, offset_end: int) -> None:
        """All bytes of the stream before `offset_end` are stored."""
        self._acked_to[stream] = max(self._acked_to.get(stream, 0), offset_end)
        while self._in_flight and self._in_flight[0].offset_end <= self._acked_to[self._in_flight[0].stream]:
            first = self._in_flight.popleft()
            self._in_flight_bytes -= first.length
            self._acked = first.cursor_after

    def restart(self) -> None:
        """A new connection: what was not acknowledged is sent again."""
        self._sent = self._acked
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def remove(self) -> None:
        self._spool.remove()

    @property
    def path(self) -> str:
        return self._spool.path

    @property
    def needs_journal(self) -> bool:
        """Whether bytes that are not acknowledged yet are in the journal only."""
        return self._spool.is_small and not self.done


class FoundSpool:
    """A spool that an earlier life of the agent left; see `Source`. Raises `DiskError` when it is none."""

    def __init__(self, disk: Disk, path: str, data: bytes, *, is_small: bool) -> None:
        self._disk, self.path, self.is_small = disk, path, is_small
        self.owner = _parse_header(path, data)
        self._small = data if is_small else b""
        self.end = len(_header(self.owner))
        self.tallies = {number: StreamTally() for number in STREAM_NAMES}
        while piece := _piece_at(data, self.end):
            stream, _, payload, self.end = piece
            tally = self.tallies[stream]
            tally.write(payload)
            tally.kept += len(payload)
            tally.shipped += len(payload)

    def read(self, at: int, length: int) -> bytes:
        return self._small[at : at + length] if self.is_small else self._disk.read_range(self.path, at, length)

    def remove(self) -> None:
        if not self.is_small:
            self._disk.remove(self.path)

    def summary(self) -> Mapping[str, Any]:
        """As `Capture.summary`; what the process wrote beyond it is not known."""
        return {**{STREAM_NAMES[number]: tally.summary() for number, tally in self.tallies.items()}, "dropped": 0}


class Shipping:
    """All spools under way. Round robin, so that a flood of one instance does not hold back a line of another."""

    def __init__(self, forget: Callable[[str], None] = lambda error: None) -> None:
        self._shipments: dict[tuple[str, int], Shipment] = {}
        self._turn: deque[tuple[str, int]] = deque()
        self._complain = forget

    def __len__(self) -> int:
        return len(self._shipments)

    def add(self, shipment: Shipment) -> None:
        key = (shipment.owner.instance_id, shipment.owner.epoch)
        if key not in self._shipments:
            self._shipments[key] = shipment
            self._turn.append(key)

    def take(self, bytes_max: int) -> list[Output]:
        """Chunks to send now, up to about `bytes_max`."""
        chunks: list[Output] = []
        idle = 0
        while bytes_max > 0 and idle < len(self._turn):
            shipment = self._shipments[self._turn[0]]
            self._turn.rotate(-1)
            chunk = shipment.next_chunk()
            if chunk is None:
                idle += 1
                continue
            idle = 0
            bytes_max -= len(chunk.data)
            chunks.append(chunk)
        return chunks

    @property
    def has_more(self) -> bool:
        return any(shipment.has_more for shipment in self._shipments.values())

    def acked(self, instance_id: str, stream: str, offset_end: int) -> None:
        for shipment in [found for found in self._shipments.values() if found.owner.instance_id == instance_id]:
            shipment.acked(stream, offset_end)
            self.settle(shipment)

    def settle(self, shipment: Shipment) -> None:
        """Drop the shipment when nothing is left to do for it."""
        if not shipment.done:
            return
        key = (shipment.owner.instance_id, shipment.owner.epoch)
        if self._shipments.pop(key, None) is not None:
            self._turn.remove(key)
            if shipment.broken:
                self._complain(shipment.broken)
        try:
            shipment.remove()
        except DiskError as exc:
            self._complain(str(exc))

    def forget(self, instance_id: str) -> None:
        """The server wants nothing of this instance any more."""
        for key in [key for key in self._shipments if key[0] == instance_id and self._shipments[key].finished]:
            self._turn.remove(key)
            try:
                self._shipments.pop(key).remove()
            except DiskError as exc:
                self._complain(str(exc))

    def restart(self) -> None:
        for shipment in self._shipments.values():
            shipment.restart()

    def paths(self) -> Iterator[str]:
        for shipment in self._shipments.values():
            yield shipment.path


def _header(owner: Owner) -> bytes:
    body = json.dumps({"task_id": owner.task_id, "instance_id": owner.instance_id, "epoch": owner.epoch}).encode()
    return len(body).to_bytes(4, "big") + body


def _parse_header(path: str, data: bytes) -> Owner:
    try:
        found = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
        return Owner(task_id=found["task_id"], instance_id=found["instance_id"], epoch=int(found["epoch"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise DiskError(f"{path} is not an output spool") from exc


def _piece_at(data: bytes, at: int) -> tuple[int, float, bytes, int] | None:
    """(stream, arrival, bytes, offset of the next piece) of the whole piece at `at`, if there is one."""
    if len(data) < at + _PIECE.size:
        return None
    stream, arrived, length = _PIECE.unpack_from(data, at)
    end = at + _PIECE.size + length
    if stream not in STREAM_NAMES or len(data) < end:
        return None
    return stream, arrived, data[at + _PIECE.size : end], end
