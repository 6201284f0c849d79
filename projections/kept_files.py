"""Files that people upload for instances to read, by digest: the same bytes are kept once, until somebody removes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import trio
from attrs import frozen

from eventstore.postgres.database import Connection, Database

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one file: it is in memory as a whole while it is stored."""
PIECE_BYTES: Final = 256 * 1024
LISTED_MAX: Final = 1000


@frozen(slots=True, kw_only=True)
class KeptFile:
    """`sha256` (hex) is its id."""

    sha256: str
    bytes_total: int
    created_at: datetime


class FileStore(Protocol):
    async def keep(self, data: bytes) -> tuple[KeptFile, bool]:
        """Keep a file; False: it was there already."""
        ...

    async def find(self, sha256: str) -> KeptFile | None: ...

    async def newest(self) -> Sequence[KeptFile]:
        """The newest first, at most `LISTED_MAX`."""
        ...

    async def read(self, sha256: str, offset: int, bytes_max: int) -> bytes:
        """The bytes from `offset` on, at most so many."""
        ...

    async def remove(self, sha256: str) -> bool:
        """False: it was not there."""
        ...


def is_digest(text: str) -> bool:
    return len(text) == 64 and all(each in "0123456789abcdef" for each in text)


def _pieces(data: bytes) -> Sequence[bytes]:
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


async def _digest(pieces: Sequence[bytes]) -> bytes:
    """Others have their turn meanwhile: 64 MiB take some 50 ms."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        await trio.lowlevel.checkpoint()
    return digest.digest()


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

_FIND = "SELECT sha256, bytes_total, created_at FROM kept_file WHERE sha256 = $1"
_READ = """
SELECT substr(data, greatest($2::bigint - byte_offset, 0)::int + 1,
              (least(byte_offset + octet_length(data), $2::bigint + $3::bigint) - greatest(byte_offset, $2::bigint))::int)
  FROM kept_file_piece
 WHERE sha256 = $1 AND byte_offset > $2::bigint - $4::bigint AND byte_offset < $2::bigint + $3::bigint
 ORDER BY byte_offset
"""


class PostgresFiles:
    """Files in the tables `kept_file` and `kept_file_piece`; errors are those of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, data: bytes) -> tuple[KeptFile, bool]:
        pieces = _pieces(data)
        digest = await _digest(pieces)

        async def work(connection: Connection) -> tuple[KeptFile, bool]:
            # Two uploads of the same bytes: the second waits here until the first has committed, and adds nothing.
            added = await connection.fetch(
                "INSERT INTO kept_file (sha256, bytes_total) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING *",
                digest,
                len(data),
            )
            if added:
                for number, piece in enumerate(pieces):
                    await connection.execute(
                        "INSERT INTO kept_file_piece (sha256, byte_offset, data) VALUES ($1, $2, $3)",
                        digest,
                        number * PIECE_BYTES,
                        piece,
                    )
            (row,) = added or await connection.fetch(_FIND, digest)
            return _kept(row), bool(added)

        return await self._database.transact(work)

    async def find(self, sha256: str) -> KeptFile | None:
        if not is_digest(sha256):
            return None
        rows = await self._database.fetch(_FIND, bytes.fromhex(sha256))
        return _kept(rows[0]) if rows else None

    async def newest(self) -> Sequence[KeptFile]:
        rows = await self._database.fetch(
            "SELECT sha256, bytes_total, created_at FROM kept_file ORDER BY created_at DESC, sha256 LIMIT $1",
            LISTED_MAX,
        )
        return [_kept(row) for row in rows]

    async def read(self, sha256: str, offset: int, bytes_max: int) -> bytes:
        rows = await self._database.fetch(_READ, bytes.fromhex(sha256), offset, bytes_max, PIECE_BYTES)
        return b"".join(row[0] for row in rows)

    async def remove(self, sha256: str) -> bool:
        if not is_digest(sha256):
            return False
        sql = "DELETE FROM kept_file WHERE sha256 = $1 RETURNING true"
        return bool(await self._database.fetch(sql, bytes.fromhex(sha256)))


def _kept(row: Any) -> KeptFile:
    return KeptFile(sha256=bytes(row["sha256"]).hex(), bytes_total=row["bytes_total"], created_at=row["created_at"])


# --- memory ----------------------------------------------------------------------------------------------------------


class MemoryFiles:
    """The same in memory: for tests and simulation."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[KeptFile, bytes]] = {}

    async def keep(self, data: bytes) -> tuple[KeptFile, bool]:
        digest = hashlib.sha256(data).hexdigest()
        is_new = digest not in self._files
        if is_new:
            at = datetime(2026, 1, 1, tzinfo=UTC)
            self._files[digest] = (KeptFile(sha256=digest, bytes_total=len(data), created_at=at), data)
        return self._files[digest][0], is_new

    async def find(self, sha256: str) -> KeptFile | None:
        found = self._files.get(sha256)
        return None if found is None else found[0]

    async def newest(self) -> Sequence[KeptFile]:
        return [kept for kept, _ in reversed(self._files.values())][:LISTED_MAX]

    async def read(self, sha256: str, offset: int, bytes_max: int) -> bytes:
        return self._files[sha256][1][offset : offset + bytes_max]

    async def remove(self, sha256: str) -> bool:
        return self._files.pop(sha256, None) is not None
