"""The sending side of output: what is spooled goes to the server, in order, in a window, until it is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from agent.spool import CHUNK_BYTES_MAX, STREAM_NAMES, Cursor, Owner, Source, header, piece_at
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.messages import Output

WINDOW_BYTES_MAX: Final = 1024 * 1024
"""Of one instance, sent and not yet acknowledged."""
NOTE_BYTES: Final = 256 * 1024
"""Of a spool that the server has stored, between two records of the journal that say how far: so much a later life sends
again at most, beside what was in flight."""
_READ_BYTES: Final = CHUNK_BYTES_MAX + 16 * 1024


@frozen(slots=True)
class _InFlight:
    stream: str
    offset_end: int
    length: int
    cursor_after: Cursor


class Shipment:
    """The sending side of one spool: reads it back, keeps a window in flight, goes back on a new connection.

    `stored`: where an earlier life of the agent has noted that the server has everything before.
    """

    def __init__(self, spool: Source, stored: Cursor | None = None) -> None:
        self._spool = spool
        self.owner = spool.owner
        self._begin = Cursor(len(header(spool.owner)))
        self._sent = self._acked = self._noted = stored or self._begin
        self._ahead: tuple[int, bytes] = (0, b"")
        self._in_flight: deque[_InFlight] = deque()
        self._in_flight_bytes = 0
        self._acked_to = {"stdout": self._acked.stdout, "stderr": self._acked.stderr}
        self.finished = False
        """No more bytes will be spooled."""
        self.broken: str | None = None

    @property
    def waiting_bytes(self) -> int:
        """Of the spool, what no server has stored yet."""
        return 0 if self.broken is not None else max(0, self._spool.end - self._acked.position)

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
        if not (base <= at and (piece := piece_at(data, at - base))):
            try:
                data = self._spool.read(at, _READ_BYTES)
            except DiskError as exc:
                self.broken = str(exc)
                return None
            self._ahead = base, _ = at, data
            piece = piece_at(data, 0)
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

    def take_note(self, bytes_min: int = 1) -> Cursor | None:
        """How far the server has stored it, to be noted; None while that is less than `bytes_min` beyond the last note."""
        if self.done or self._acked.position - self._noted.position < bytes_min:
            return None
        self._noted = self._acked
        return self._noted

    def rewind(self) -> Cursor | None:
        """Another server, which has nothing of it. What is to be noted, if there is another note."""
        self._acked = self._begin
        self._acked_to = {"stdout": 0, "stderr": 0}
        self.restart()
        if self._noted == self._begin:
            return None
        self._noted = self._begin
        return self._noted

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
        """Whether the journal has something that a later life needs: bytes that are not acknowledged, or how far they are."""
        return (self._spool.is_small or self._noted != self._begin) and not self.done


class Shipping:
    """All spools under way. Round robin, so that a flood of one instance does not hold back a line of another."""

    def __init__(self, forget: Callable[[str], None] = lambda error: None) -> None:
        self.note: Callable[[Owner, Cursor], None] = lambda owner, stored: None
        """Remembers for a later life how far the server has stored an output."""
        self._shipments: dict[tuple[str, int], Shipment] = {}
        self._turn: deque[tuple[str, int]] = deque()
        self._complain = forget

    def __len__(self) -> int:
        return len(self._shipments)

    @property
    def waiting_bytes(self) -> int:
        """Spooled output that no server has stored yet."""
        return sum(shipment.waiting_bytes for shipment in self._shipments.values())

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
            self._note(shipment, shipment.take_note(NOTE_BYTES))

    def note_all(self) -> None:
        """This life ends."""
        for shipment in self._shipments.values():
            self._note(shipment, shipment.take_note())

    def rewind(self) -> None:
        """Another server: what is still here is sent from its beginning."""
        for shipment in self._shipments.values():
            self._note(shipment, shipment.rewind())

    def _note(self, shipment: Shipment, stored: Cursor | None) -> None:
        if stored is not None:
            self.note(shipment.owner, stored)

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
