"""Files that instances leave behind: kept in order and without gaps, read from any byte on.

The agent sends every piece at least once, until it is told how far the file is stored; here each byte is kept once. Two
implementations of one contract: PostgreSQL, and memory for tests and simulation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final, Protocol
from uuid import UUID

from attrs import evolve, field, frozen

from eventstore.errors import SqlError, StoreTimeout
from eventstore.postgres.database import Database
from projections.output import Arrivals
from projections.retention import Horizon

log = logging.getLogger(__name__)

PATH_BYTES_MAX: Final = 1000
PIECE_BYTES_MAX: Final = 256 * 1024
BYTES_MAX: Final = 2**53
DAYS_AHEAD: Final = 2


class Piece(Protocol):
    """Bytes of an artifact as the agent sends them. `hetuflow.protocol.messages.ArtifactPart` is one."""

    @property
    def instance_id(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def collected_at(self) -> str:
        """RFC 3339; the same for all pieces of a file."""
        ...

    @property
    def bytes_total(self) -> int: ...
    @property
    def sha256(self) -> str:
        """Of the whole file, in hex."""
        ...

    @property
    def offset(self) -> int: ...
    @property
    def data(self) -> bytes: ...


@frozen(slots=True, kw_only=True)
class Artifact:
    """One file of an instance; `stored` bytes of it are here, from its beginning."""

    path: str
    collected_at: datetime
    bytes_total: int
    sha256: str
    stored: int

    @property
    def is_complete(self) -> bool:
        return self.stored >= self.bytes_total


@frozen(slots=True, kw_only=True)
class Stored:
    """How far a file is stored."""

    instance_id: str
    path: str
    end: int


class InvalidArtifact(ValueError):
    """A piece that can never be kept, and why. Nothing was kept."""


class ArtifactStore(Protocol):
    @property
    def arrivals(self) -> Arrivals: ...

    async def dropped_before(self) -> datetime | None:
        """What is older was dropped by retention; None: nothing was."""
        ...

    async def store(self, pieces: Sequence[Piece]) -> Sequence[Stored]:
        """Keep the bytes that continue what is stored; say of each piece's file how far it goes then.

        Raises:
          InvalidArtifact: nothing of the call was kept, and nothing will be when it is repeated.
          StoreUnavailable, StoreTimeout: perhaps it was kept; repeat.
        """
        ...

    async def of(self, instance_id: str) -> Sequence[Artifact]:
        """The instance's files, by path; of a path that came twice the later one."""
        ...

    async def find(self, instance_id: str, path: str) -> Artifact | None: ...

    async def read(self, instance_id: str, artifact: Artifact, offset: int, bytes_max: int) -> bytes:
        """The stored bytes from `offset` on, at most so many; b"" beyond the end."""
        ...


@frozen(slots=True, kw_only=True)
class _Parsed:
    instance_id: str
    path: str
    collected_at: datetime
    bytes_total: int
    sha256: bytes
    offset: int
    data: bytes = field(repr=False)


def _parsed(piece: Piece) -> _Parsed:
    try:
        instance_id, digest = str(UUID(piece.instance_id)), bytes.fromhex(piece.sha256)
        at, path = datetime.fromisoformat(piece.collected_at), piece.path.encode()
    except ValueError as error:
        raise InvalidArtifact(f"artifact {piece.path!r} of {piece.instance_id!r}: {error}") from None
    data, end = bytes(piece.data), piece.offset + len(piece.data)
    what = f"artifact {piece.path!r} of {instance_id}"
    if problem := path_problem(piece.path):
        raise InvalidArtifact(f"{what}: the path {problem}")
    if len(digest) != 32 or at.tzinfo is None:
        raise InvalidArtifact(f"{what}: sha256 {piece.sha256!r}, collected at {piece.collected_at!r}")
    if not 0 <= piece.offset <= end <= piece.bytes_total <= BYTES_MAX or len(data) > PIECE_BYTES_MAX:
        raise InvalidArtifact(f"{what}: bytes {piece.offset} to {end} of {piece.bytes_total}")
    if not data and piece.bytes_total:
        raise InvalidArtifact(f"{what}: a piece without bytes")
    return _Parsed(
        instance_id=instance_id,
        path=path.decode(),
        collected_at=at,
        bytes_total=piece.bytes_total,
        sha256=digest,
        offset=piece.offset,
        data=data,
    )


def path_problem(path: str) -> str | None:
    """Why this cannot be the path of an artifact, as a predicate; None if it can."""
    if not 1 <= len(path.encode()) <= PATH_BYTES_MAX:
        return f"has not 1 to {PATH_BYTES_MAX} bytes"
    if "\0" in path:
        return "contains a NUL character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "is not relative, or has a part that is empty, . or .."
    return None


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

_STORE = "SELECT instance_id, path, stored FROM store_task_artifact($1, $2, $3, $4, $5, $6, $7)"

_FILES = """
SELECT DISTINCT ON (f.path) f.path, f.collected_at, f.bytes_total, f.sha256, l.stored
  FROM task_artifact AS f CROSS JOIN LATERAL (
    SELECT a.byte_offset + octet_length(a.data) AS stored FROM task_artifact AS a
     WHERE a.instance_id = f.instance_id AND a.path = f.path AND a.collected_at = f.collected_at
     ORDER BY a.byte_offset DESC LIMIT 1
  ) AS l
 WHERE f.instance_id = $1::uuid AND f.byte_offset = 0 AND ($2::text IS NULL OR f.path = $2::text)
 ORDER BY f.path, f.collected_at DESC
"""

# $4 offset, $5 bytes, $6 the most bytes that a piece has: what begins earlier cannot reach so far.
_READ = """
SELECT substr(data, greatest($4::bigint - byte_offset, 0)::int + 1,
              (least(byte_offset + octet_length(data), $4::bigint + $5::bigint) - greatest(byte_offset, $4::bigint))::int)
  FROM task_artifact
 WHERE instance_id = $1::uuid AND path = $2::text AND collected_at = $3::timestamptz
   AND byte_offset > $4::bigint - $6::bigint AND byte_offset < $4::bigint + $5::bigint
   AND byte_offset + octet_length(data) > $4::bigint
 ORDER BY byte_offset
"""


class PostgresArtifacts:
    """Artifacts in the table `task_artifact`; errors are those of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._day: date | None = None
        self.arrivals = Arrivals()
        self._horizon = Horizon(database, "artifacts")

    async def dropped_before(self) -> datetime | None:
        return await self._horizon.read()

    async def store(self, pieces: Sequence[Piece]) -> Sequence[Stored]:
        new = [_parsed(piece) for piece in pieces]
        if not new:
            return []
        await self._extend(max(each.collected_at for each in new).date())
        rows = await self._database.fetch(
            _STORE,
            [each.instance_id for each in new],
            [each.path for each in new],
            [each.collected_at for each in new],
            [each.bytes_total for each in new],
            [each.sha256 for each in new],
            [each.offset for each in new],
            [each.data for each in new],
        )
        self.arrivals.announce(dict.fromkeys(each.instance_id for each in new))
        return [Stored(instance_id=str(row[0]), path=row[1], end=row[2]) for row in rows]

    async def of(self, instance_id: str) -> Sequence[Artifact]:
        return [_artifact(row) for row in await self._database.fetch(_FILES, instance_id, None)]

    async def find(self, instance_id: str, path: str) -> Artifact | None:
        if path_problem(path):
            return None
        rows = await self._database.fetch(_FILES, instance_id, path)
        return _artifact(rows[0]) if rows else None

    async def read(self, instance_id: str, artifact: Artifact, offset: int, bytes_max: int) -> bytes:
        rows = await self._database.fetch(
            _READ, instance_id, artifact.path, artifact.collected_at, offset, bytes_max, PIECE_BYTES_MAX
        )
        return b"".join(row[0] for row in rows)

    async def _extend(self, day: date) -> None:
        """Make the partitions of the coming days, once a day: what is late goes to the default one."""
        if day == self._day:
            return
        self._day = day
        try:
            await self._database.fetch("SELECT extend_task_artifact($1)", DAYS_AHEAD)
        except (SqlError, StoreTimeout) as problem:
            log.warning("no partition of task_artifact was made for %s: %s", day, problem)


def _artifact(row: Any) -> Artifact:
    return Artifact(
        path=row["path"],
        collected_at=row["collected_at"],
        bytes_total=row["bytes_total"],
        sha256=bytes(row["sha256"]).hex(),
        stored=row["stored"],
    )


# --- memory ----------------------------------------------------------------------------------------------------------


class MemoryArtifacts:
    """The same in memory: for tests and simulation."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str, datetime], tuple[Artifact, bytearray]] = {}
        self.arrivals = Arrivals()
        self.horizon: datetime | None = None

    async def dropped_before(self) -> datetime | None:
        return self.horizon

    async def store(self, pieces: Sequence[Piece]) -> Sequence[Stored]:
        stored = []
        for new in [_parsed(piece) for piece in pieces]:
            key = (new.instance_id, new.path, new.collected_at)
            if key not in self._files and new.offset == 0:
                artifact = Artifact(
                    path=new.path,
                    collected_at=new.collected_at,
                    bytes_total=new.bytes_total,
                    sha256=new.sha256.hex(),
                    stored=0,
                )
                self._files[key] = (artifact, bytearray())
            _, data = self._files.get(key, (None, bytearray()))
            if new.offset <= len(data):
                data += new.data[len(data) - new.offset :]
            stored.append(Stored(instance_id=new.instance_id, path=new.path, end=len(data)))
        self.arrivals.announce(dict.fromkeys(each.instance_id for each in stored))
        return stored

    async def of(self, instance_id: str) -> Sequence[Artifact]:
        found: dict[str, Artifact] = {}
        for (owner, path, _), (artifact, data) in sorted(self._files.items(), key=lambda item: item[0]):
            if owner == instance_id:
                found[path] = evolve(artifact, stored=len(data))
        return list(found.values())

    async def find(self, instance_id: str, path: str) -> Artifact | None:
        return next((each for each in await self.of(instance_id) if each.path == path), None)

    async def read(self, instance_id: str, artifact: Artifact, offset: int, bytes_max: int) -> bytes:
        _, data = self._files[instance_id, artifact.path, artifact.collected_at]
        return bytes(data[offset : offset + bytes_max])
