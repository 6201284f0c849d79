"""PostgreSQL for the tests: one server per session (and per xdist worker), a fresh migrated database per test.

The server is the embedded one (`fsync` off: a test may kill the server, but not the machine), or the one named by
HETUFLOW_TEST_DATABASE_URL, whose user must be allowed to create databases.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import trio

from eventstore.postgres import EVENTSTORE, Source, migrate, open_postgres_store
from eventstore.postgres.bridge import Bridge
from hetuflow.embedded.postgres import EmbeddedPostgres

OUTSIDE_URL = "HETUFLOW_TEST_DATABASE_URL"
SYSTEM_BINARIES = Path("/usr/lib/postgresql/15/bin")
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}

FAST_BYTES_MIN = 2 * 1024**3

_PROJECTIONS = Path(__file__).parents[2] / "projections" / "migrations"
SOURCES: Sequence[Source] = (EVENTSTORE, *([("projections", _PROJECTIONS)] if _PROJECTIONS.is_dir() else []))


class Server:
    """A PostgreSQL server for tests; databases are copies of a migrated template."""

    def __init__(self, url: str, process: EmbeddedPostgres | None = None) -> None:
        self.url = url
        self.process = process
        self._numbers = itertools.count(1)
        self._prefix = f"hetuflow_test_{os.getpid()}"
        self._templates: dict[tuple[Source, ...], str] = {}

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def empty_database(self) -> str:
        """The URL of a new database without any schema."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self.execute(f"create database {name}")
        return self.url_of(name)

    def fresh_database(self, sources: Sequence[Source] = SOURCES) -> str:
        """The URL of a new database, migrated by those packages; the tables as they are once a server has started."""
        key = tuple(sources)
        if key not in self._templates:
            url = self.empty_database()
            trio.run(lambda: migrate(url, sources))
            if any(name == "projections" for name, _ in sources):
                trio.run(lambda: _prepared(url, sources))
            self._templates[key] = urlsplit(url).path.lstrip("/")
        name = f"{self._prefix}_{next(self._numbers)}"
        self.execute(f"create database {name} template {self._templates[key]}")
        return self.url_of(name)

    def drop(self, url: str) -> None:
        self.execute(f"drop database if exists {urlsplit(url).path.lstrip('/')} with (force)")

    def execute(self, sql: str, *args: Any) -> None:
        run_sql(self.url, sql, *args)


async def _prepared(url: str, sources: Sequence[Source]) -> None:
    """A table whose definition has changed since its migration is made anew, as at every first start."""
    from projections.rebuild import prepare

    async with open_postgres_store(url, sources=sources) as store:
        await prepare(store.database)


def run_sql(url: str, sql: str, *args: Any) -> list[Any]:
    """As `query`, for code outside trio (fixtures)."""
    rows: list[Any] = trio.run(lambda: query(url, sql, *args))
    return rows


async def query(url: str, sql: str, *args: Any) -> list[Any]:
    """Rows of one statement, or of none when it gives none, on a connection of its own."""

    async def work() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async with Bridge() as bridge:
        return await bridge.call(work)


@contextmanager
def running_server(binaries: Path | None = None) -> Iterator[Server]:
    """An embedded server in a temporary directory, with the wheel's binaries or others."""
    directory = Path(tempfile.mkdtemp(prefix="hetuflow-test-", dir=fast_directory()))
    process = EmbeddedPostgres(directory / "pg", binaries=binaries, settings=SETTINGS)
    try:
        process.start()
        yield Server(process.url, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.pid:
                os.kill(process.pid, signal.SIGQUIT)  # nobody needs what is in it: no checkpoint
        process.stop()
        shutil.rmtree(directory, ignore_errors=True)


def fast_directory() -> str | None:
    """Memory where there is plenty: a database is a thousand small files, on a busy disk half a second each to copy."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > FAST_BYTES_MIN:
        return str(memory)
    return None


@contextmanager
def test_server() -> Iterator[Server]:
    """The server of the session."""
    outside = os.environ.get(OUTSIDE_URL)
    if outside:
        yield Server(outside)
        return
    with running_server() as server:
        yield server


test_server.__test__ = False  # type: ignore[attr-defined]
