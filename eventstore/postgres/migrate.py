"""Forward-only migrations of this and other packages, under one advisory lock.

A source is a named directory of `NNNN_what.sql`, numbered from 1 without gaps, each applied once in a transaction of
its own and recorded with its checksum. A released file is never changed: the checksum of an applied one must match.
A database that knows more than the program is refused, not guessed at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from eventstore.errors import (
    DatabaseNotMigrated,
    DatabaseTooNew,
    DatabaseUnreachable,
    StartError,
    StoreUnavailable,
)
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.connection import connect
from eventstore.postgres.errors import address, translated
from eventstore.postgres.settings import PostgresSettings

Source = tuple[str, Path]
"""(name of the package, directory of its migrations)."""

EVENTSTORE: Source = ("eventstore", Path(__file__).with_name("migrations"))

STATEMENT_SECONDS_MAX = 3600.0
"""A migration may rewrite a table."""

_LOCK = 7403013
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_TABLE = """
create table if not exists schema_migrations (
  source     text        not null,
  number     int         not null,
  name       text        not null,
  checksum   text        not null,
  applied_at timestamptz not null default now(),
  primary key (source, number)
)
"""


@frozen(slots=True)
class Migration:
    source: str
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.source} {self.number:04d} {self.name}"


def migrations(source: Source) -> Sequence[Migration]:
    """The migrations of a source, in order.

    Raises:
      StartError: a file is not named `NNNN_what.sql`, or a number is missing or double.
    """
    name, directory = source
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise StartError(f"{path.name} of {name} is not named NNNN_what.sql")
        found.append(Migration(name, int(match[1]), match[2], path.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise StartError(f"the migrations of {name} are not numbered from 1 without gaps")
    return found


async def migrate(
    url: str, sources: Sequence[Source] = (EVENTSTORE,), *, settings: PostgresSettings | None = None
) -> Sequence[Migration]:
    """Bring the database up to this program; return what was applied (nothing when it was up to date).

    Sources are applied in the given order. Safe to run from several processes at once.

    Raises:
      StartError: unreachable, too old, migrated by a newer program, or a released migration was changed.
      SqlError: a migration failed; those before it stay, it left no trace.
    """
    async with Bridge() as bridge:
        try:
            return await bridge.call(partial(_migrate, url, sources, settings or PostgresSettings()))
        except StoreUnavailable as exc:
            raise DatabaseUnreachable(str(exc)) from exc


async def _migrate(url: str, sources: Sequence[Source], settings: PostgresSettings) -> Sequence[Migration]:
    applied = []
    connection = await connect(url, settings, "migrate", statement_seconds_max=STATEMENT_SECONDS_MAX)
    try:
        with translated():
            await connection.execute("set lock_timeout = '60s'")
            for source in sources:
                for migration in migrations(source):
                    if await _apply(connection, migration):
                        applied.append(migration)
            await check(connection, sources, url)
    finally:
        connection.terminate()
    return applied


async def _apply(connection: Any, migration: Migration) -> bool:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        # One schema, named: functions keep this path (`set search_path from current`), with pg_temp last as
        # security definer functions need it.
        schema = await connection.fetchval("select quote_ident(current_schema())")
        await connection.execute(f"set local search_path = {schema}, pg_temp")
        await connection.execute("set local client_min_messages = warning")  # "already exists, skipping"
        await connection.execute(_TABLE)
        known = await connection.fetchval(
            "select checksum from schema_migrations where source = $1 and number = $2",
            *(migration.source, migration.number),
        )
        if known is not None:
            return False  # a changed one is found by `check`
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migrations (source, number, name, checksum) values ($1, $2, $3, $4)",
            *(migration.source, migration.number, migration.name, migration.checksum),
        )
        return True


async def check(connection: Any, sources: Sequence[Source], url: str) -> None:
    """In the thread: does the database have exactly the migrations of this program?

    Raises:
      DatabaseNotMigrated, DatabaseTooNew, StartError.
    """
    where = address(url)
    present = await connection.fetchval("select to_regclass('schema_migrations') is not null")
    rows = await connection.fetch("select source, number, checksum from schema_migrations") if present else []
    recorded = {(row["source"], row["number"]): row["checksum"] for row in rows}
    for source in sources:
        ours = migrations(source)
        for migration in ours:
            checksum = recorded.pop((migration.source, migration.number), None)
            if checksum is None:
                raise DatabaseNotMigrated(
                    f"the database at {where} lacks migration {migration}: run `hetuflow migrate`"
                )
            if checksum != migration.checksum:
                raise StartError(
                    f"migration {migration} was applied to the database at {where} with another content: "
                    "use the program that made it, or restore the file"
                )
        newer = [number for name, number in recorded if name == source[0]]
        if newer:
            raise DatabaseTooNew(
                f"the database at {where} has migration {max(newer)} of {source[0]}, this program knows {len(ours)}: "
                "start the newer version of hetuflow"
            )
