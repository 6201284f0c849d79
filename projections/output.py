"""What processes print: kept by (instance, stream, offset), read in order of arrival or by offset.

The agent sends every piece at least once, until it is acknowledged; here each byte is kept once, whatever is sent
again and however it is cut. Two implementations of one contract: PostgreSQL, and memory for tests and simulation.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import trio
from attrs import field, frozen

from eventstore.errors import SqlError, StoreTimeout
from eventstore.postgres.database import Database
from projections.retention import Horizon

log = logging.getLogger(__name__)

STREAMS: Final[Mapping[str, int]] = {"stdout": 1, "stderr": 2}
_NAMES: Final = {number: name for name, number in STREAMS.items()}

CHUNKS_MAX: Final = 1000
"""Chunks read at once: a process that writes byte by byte has many in few bytes."""

DAYS_AHEAD: Final = 2
OFFSET_MAX: Final = 2**62


class Piece(Protocol):
    """Captured bytes as the agent sends them: `data` begins at byte `offset` of the stream; `seq` orders both streams.

    `hetuflow.protocol.messages.Output` is one.
    """

    @property
    def instance_id(self) -> str: ...

    @property
    def stream(self) -> str: ...

    @property
    def offset(self) -> int: ...

    @property
    def seq(self) -> int: ...

    @property
    def at(self) -> str:
        """RFC 3339."""
        ...

    @property
    def data(self) -> bytes: ...


@frozen(slots=True, kw_only=True)
class Chunk:
    """Kept bytes of one stream, from `offset` on; `seq` is their place in the order of arrival, `at` its time."""

    stream: str
    offset: int
    seq: int
    at: datetime
    data: bytes = field(repr=lambda data: f"{len(data)} bytes")

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@frozen(slots=True, kw_only=True)
class Tail:
    """The end of what an instance printed, both streams in order of arrival; `is_whole`: nothing came before."""

    data: bytes
    is_whole: bool


class InvalidOutput(ValueError):
    """A piece that cannot be kept: no UUID, no stream of that name, an offset or time out of range. Nothing was kept."""


class Arrivals:
    """Wakes whoever follows the output of an instance. A hint: what another process stores is not announced here."""

    def __init__(self) -> None:
        self._next: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()

    def next(self, instance_id: str) -> trio.Event:
        """Set when more of that instance is stored. Take it before reading, so that nothing falls in between."""
        event = self._next.get(instance_id)
        if event is None:
            event = self._next[instance_id] = trio.Event()
        return event

    def announce(self, instance_ids: Iterable[str]) -> None:
        for instance_id in instance_ids:
            event = self._next.pop(instance_id, None)
            if event is not None:
                event.set()


class OutputStore(Protocol):
    """The captured output of instances. Reading never loads more than was asked for."""

    @property
    def arrivals(self) -> Arrivals: ...

    async def dropped_before(self) -> datetime | None:
        """What is older was dropped by retention; None: nothing was."""
        ...

    async def store(self, chunks: Sequence[Piece]) -> None:
        """Keep the bytes that are not kept yet; they are durable when it returns.

        Raises:
          InvalidOutput: nothing of the call was kept, and nothing will be when it is repeated.
          StoreUnavailable, StoreTimeout: perhaps it was kept; repeat.
        """
        ...

    async def tail(self, instance_id: str, bytes_max: int) -> Tail | None:
        """The last bytes of an instance, None when it has printed nothing."""
        ...

    async def tails(self, instance_ids: Sequence[str], bytes_max: int) -> Mapping[str, Tail]:
        """The last bytes of each; an instance without output is absent."""
        ...

    async def totals(self, instance_id: str) -> Mapping[str, int]:
        """How far each stream goes: the offset after its last byte. A stream without output is absent."""
        ...

    async def chunks(
        self, instance_id: str, *, stream: str | None, offset: int, after_seq: int | None, bytes_max: int
    ) -> Sequence[Chunk]:
        """At least one chunk, if any follows, and then as many as fit into `bytes_max` (and `CHUNKS_MAX`).

        Of one stream: by offset, from byte `offset` on (negative: from the end); a first chunk that does not fit is
        cut, not inside a character of UTF-8 if that is possible. Of both (`stream` None): in order of arrival, what
        comes after `after_seq`; chunks stay whole, since their `seq` is where to go on.
        """
        ...


# --- what both do in the same way ------------------------------------------------------------------------------------


@frozen(slots=True)
class _Kept:
    instance_id: str
    chunk: Chunk


def _parsed(piece: Piece) -> _Kept:
    try:
        instance_id, at = str(UUID(piece.instance_id)), datetime.fromisoformat(piece.at)
    except ValueError as error:
        raise InvalidOutput(f"output of {piece.instance_id!r} at {piece.at!r}: {error}") from None
    if piece.stream not in STREAMS or at.tzinfo is None or not 0 <= piece.offset <= OFFSET_MAX:
        raise InvalidOutput(f"output of {instance_id}: stream {piece.stream!r}, offset {piece.offset}, at {piece.at}")
    if not -OFFSET_MAX <= piece.seq <= OFFSET_MAX:
        raise InvalidOutput(f"output of {instance_id}: seq {piece.seq}")
    data = bytes(piece.data)
    return _Kept(instance_id, Chunk(stream=piece.stream, offset=piece.offset, seq=piece.seq, at=at, data=data))


class _Streams:
    """Chunks by instance and stream, in order of offset, without overlap."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[str, str], list[Chunk]] = defaultdict(list)

    def add(self, new: _Kept) -> Sequence[_Kept]:
        """Keep the bytes that are not kept yet; return them."""
        chunk = new.chunk
        kept = self._chunks[new.instance_id, chunk.stream]
        if not chunk.data:
            return []
        if not kept or kept[-1].end <= chunk.offset:
            kept.append(chunk)
            return [new]
        fresh, at = [], chunk.offset
        for lo, hi in [*((each.offset, each.end) for each in kept), (chunk.end, chunk.end)]:
            if at < min(lo, chunk.end):
                fresh.append(_part(chunk, at, min(lo, chunk.end)))
            at = max(at, hi)
        for part in fresh:
            insort(kept, part, key=lambda each: each.offset)
        return [_Kept(new.instance_id, part) for part in fresh]

    def of(self, instance_id: str, stream: str) -> Sequence[Chunk]:
        return self._chunks.get((instance_id, stream), ())


def _part(chunk: Chunk, lo: int, hi: int) -> Chunk:
    data = chunk.data[lo - chunk.offset : hi - chunk.offset]
    return Chunk(stream=chunk.stream, offset=lo, seq=chunk.seq, at=chunk.at, data=data)


def _cut(chunk: Chunk, bytes_max: int) -> Chunk:
    """At most so many bytes from its beginning, whole characters of UTF-8 if one fits."""
    if len(chunk.data) <= bytes_max:
        return chunk
    length = bytes_max
    while length and length > bytes_max - 4 and chunk.data[length] & 0xC0 == 0x80:  # would begin inside a character
        length -= 1
    if not length or chunk.data[length] & 0xC0 == 0x80:
        length = bytes_max
    return _part(chunk, chunk.offset, chunk.offset + length)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

_STORE = "SELECT store_task_output($1, $2, $3, $4, $5, $6)"

_TAILS = """
SELECT i.id, t.data, t.is_whole
  FROM unnest($1::uuid[]) AS i(id) CROSS JOIN LATERAL task_output_tail(i.id, $2::int) AS t
 WHERE t.data IS NOT NULL
"""

_TOTALS = """
SELECT s.stream, o.byte_offset + octet_length(o.data) AS total
  FROM unnest(ARRAY[1, 2]::smallint[]) AS s(stream) CROSS JOIN LATERAL (
    SELECT o.byte_offset, o.data FROM task_output AS o
     WHERE o.instance_id = $1::uuid AND o.stream = s.stream ORDER BY o.byte_offset DESC LIMIT 1
  ) AS o
"""

# $1 instance, $2 stream, $3 offset, $4 bytes, $5 chunks. `visible` is what of a chunk lies at or after the offset. One
# byte more than asked for is taken of a first chunk that does not fit: it tells whether a character ends there.
_OF_ONE_STREAM = """
WITH place AS (
  SELECT CASE WHEN $3::bigint >= 0 THEN $3::bigint ELSE greatest(0, $3::bigint + coalesce((
    SELECT o.byte_offset + octet_length(o.data) FROM task_output AS o
     WHERE o.instance_id = $1::uuid AND o.stream = $2::smallint ORDER BY o.byte_offset DESC LIMIT 1), 0)) END AS at
), found AS (
  SELECT o.byte_offset, o.seq, o.at, o.data, least(octet_length(o.data), o.byte_offset + octet_length(o.data) - p.at)
           AS visible
    FROM place AS p CROSS JOIN LATERAL (
      SELECT * FROM task_output AS o
       WHERE o.instance_id = $1::uuid AND o.stream = $2::smallint
         AND o.byte_offset >= coalesce((
               SELECT b.byte_offset FROM task_output AS b
                WHERE b.instance_id = $1::uuid AND b.stream = $2::smallint AND b.byte_offset <= p.at
                ORDER BY b.byte_offset DESC LIMIT 1), 0)
       ORDER BY o.byte_offset LIMIT $5::bigint + 1
    ) AS o
   WHERE o.byte_offset + octet_length(o.data) > p.at
   ORDER BY o.byte_offset LIMIT $5::bigint
), summed AS (
  SELECT *, sum(visible) OVER upto AS bytes, row_number() OVER upto AS place
    FROM found WINDOW upto AS (ORDER BY byte_offset)
)
SELECT $2::smallint AS stream, byte_offset + octet_length(data) - visible AS byte_offset, seq, at,
       substr(data, (octet_length(data) - visible)::int + 1, least(visible, $4::bigint + 1)::int) AS data
  FROM summed WHERE bytes <= $4::bigint OR place = 1 ORDER BY byte_offset
"""

# $1 instance, $2 after this seq, $3 bytes, $4 chunks. The parts of one piece share its seq, and stay together.
_IN_ORDER_OF_ARRIVAL = """
WITH found AS (
  SELECT * FROM task_output WHERE instance_id = $1::uuid AND seq > $2::bigint
   ORDER BY seq FETCH FIRST ($4::bigint) ROWS WITH TIES
), summed AS (
  SELECT *, sum(octet_length(data)) OVER upto AS bytes, first_value(seq) OVER upto AS first
    FROM found WINDOW upto AS (ORDER BY seq)
)
SELECT stream, byte_offset, seq, at, data FROM summed
 WHERE bytes <= $3::bigint OR seq = first ORDER BY seq, stream, byte_offset
"""


class PostgresOutput:
    """Output in the table `task_output`; errors of reads are those of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._day: date | None = None
        self.arrivals = Arrivals()
        self._horizon = Horizon(database, "output")

    async def dropped_before(self) -> datetime | None:
        return await self._horizon.read()

    async def store(self, chunks: Sequence[Piece]) -> None:
        streams = _Streams()
        new = [kept for piece in chunks for kept in streams.add(_parsed(piece))]
        if not new:
            return
        await self._extend(max(kept.chunk.at for kept in new).date())
        await self._database.fetch(
            _STORE,
            [kept.instance_id for kept in new],
            [STREAMS[kept.chunk.stream] for kept in new],
            [kept.chunk.offset for kept in new],
            [kept.chunk.seq for kept in new],
            [kept.chunk.at for kept in new],
            [kept.chunk.data for kept in new],
        )
        self.arrivals.announce({kept.instance_id for kept in new})

    async def tail(self, instance_id: str, bytes_max: int) -> Tail | None:
        return next(iter((await self.tails([instance_id], bytes_max)).values()), None)

    async def tails(self, instance_ids: Sequence[str], bytes_max: int) -> Mapping[str, Tail]:
        if not instance_ids:
            return {}
        rows = await self._database.fetch(_TAILS, list(instance_ids), bytes_max)
        return {str(row["id"]): Tail(data=row["data"], is_whole=row["is_whole"]) for row in rows}

    async def totals(self, instance_id: str) -> Mapping[str, int]:
        rows = await self._database.fetch(_TOTALS, instance_id)
        return {_NAMES[row["stream"]]: row["total"] for row in rows}

    async def chunks(
        self, instance_id: str, *, stream: str | None, offset: int, after_seq: int | None, bytes_max: int
    ) -> Sequence[Chunk]:
        if stream is None:
            after = -OFFSET_MAX - 1 if after_seq is None else after_seq
            rows = await self._database.fetch(_IN_ORDER_OF_ARRIVAL, instance_id, after, bytes_max, CHUNKS_MAX)
            return [_chunk(row) for row in rows]
        args = instance_id, STREAMS[stream], offset, bytes_max, CHUNKS_MAX
        found = [_chunk(row) for row in await self._database.fetch(_OF_ONE_STREAM, *args)]
        return [_cut(found[0], bytes_max), *found[1:]] if found else found

    async def _extend(self, day: date) -> None:
        """Make the partitions of the coming days, once a day: what is late goes to the default one."""
        if day == self._day:
            return
        self._day = day
        try:
            await self._database.fetch("SELECT extend_task_output($1)", DAYS_AHEAD)
        except (SqlError, StoreTimeout) as problem:
            log.warning("no partition of task_output was made for %s: %s", day, problem)


def _chunk(row: Any) -> Chunk:
    stream = _NAMES[row["stream"]]
    return Chunk(stream=stream, offset=row["byte_offset"], seq=row["seq"], at=row["at"], data=row["data"])


# --- memory ----------------------------------------------------------------------------------------------------------


class MemoryOutput:
    """The same in memory: for tests and simulation."""

    def __init__(self) -> None:
        self._streams = _Streams()
        self.arrivals = Arrivals()
        self.horizon: datetime | None = None

    async def dropped_before(self) -> datetime | None:
        return self.horizon

    async def store(self, chunks: Sequence[Piece]) -> None:
        parsed = [_parsed(piece) for piece in chunks]
        for kept in parsed:
            self._streams.add(kept)
        self.arrivals.announce({kept.instance_id for kept in parsed})

    async def tail(self, instance_id: str, bytes_max: int) -> Tail | None:
        data = b"".join(chunk.data for chunk in self._arrived(instance_id))
        return Tail(data=data[-bytes_max:], is_whole=len(data) <= bytes_max) if data else None

    async def tails(self, instance_ids: Sequence[str], bytes_max: int) -> Mapping[str, Tail]:
        found = {instance_id: await self.tail(instance_id, bytes_max) for instance_id in instance_ids}
        return {instance_id: tail for instance_id, tail in found.items() if tail is not None}

    async def totals(self, instance_id: str) -> Mapping[str, int]:
        kept = {stream: self._streams.of(instance_id, stream) for stream in STREAMS}
        return {stream: chunks[-1].end for stream, chunks in kept.items() if chunks}

    async def chunks(
        self, instance_id: str, *, stream: str | None, offset: int, after_seq: int | None, bytes_max: int
    ) -> Sequence[Chunk]:
        if stream is not None:
            return self._of_one_stream(self._streams.of(instance_id, stream), offset, bytes_max)
        found: list[Chunk] = []
        size = 0
        following = [each for each in self._arrived(instance_id) if after_seq is None or each.seq > after_seq]
        for seq in dict.fromkeys(chunk.seq for chunk in following):
            parts = [chunk for chunk in following if chunk.seq == seq]
            size += sum(len(chunk.data) for chunk in parts)
            if found and (size > bytes_max or len(found) >= CHUNKS_MAX):
                break
            found += parts
        return found

    def _of_one_stream(self, kept: Sequence[Chunk], offset: int, bytes_max: int) -> Sequence[Chunk]:
        if offset < 0:
            offset = max(0, offset + kept[-1].end) if kept else 0
        following = [_part(each, max(offset, each.offset), each.end) for each in kept if each.end > offset]
        found: list[Chunk] = []
        size = 0
        for chunk in following[:CHUNKS_MAX]:
            size += len(chunk.data)
            if found and size > bytes_max:
                break
            found.append(chunk)
        return [_cut(found[0], bytes_max), *found[1:]] if found else found

    def _arrived(self, instance_id: str) -> Sequence[Chunk]:
        both = [chunk for stream in STREAMS for chunk in self._streams.of(instance_id, stream)]
        return sorted(both, key=lambda chunk: (chunk.seq, STREAMS[chunk.stream], chunk.offset))
