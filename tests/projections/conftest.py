"""Databases for projection tests: migrated ones, on the embedded PostgreSQL and on the system's 15."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from eventstore.postgres import PostgresStore, open_postgres_store
from tests.support.postgres import SYSTEM_BINARIES, Server, running_server


@pytest.fixture(scope="session")
def postgres15_server() -> Iterator[Server]:
    if not (SYSTEM_BINARIES / "postgres").exists():
        pytest.skip(f"no PostgreSQL 15 in {SYSTEM_BINARIES}")
    with running_server(SYSTEM_BINARIES) as server:
        yield server


@pytest.fixture(scope="session", params=["embedded", "15"])
def any_postgres(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("postgres_server" if request.param == "embedded" else "postgres15_server")
    return server


@pytest.fixture
async def store(fresh_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(fresh_database) as opened:
        yield opened


@pytest.fixture
def any_database(any_postgres: Server) -> Iterator[str]:
    """A migrated database on each PostgreSQL."""
    url = any_postgres.fresh_database()
    yield url
    any_postgres.drop(url)


@pytest.fixture
async def any_store(any_database: str) -> AsyncIterator[PostgresStore]:
    """A store on each PostgreSQL."""
    async with open_postgres_store(any_database) as opened:
        yield opened
