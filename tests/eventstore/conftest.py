"""The contract's stores: memory, the embedded PostgreSQL, and the system's PostgreSQL 15 where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from eventstore.memory import MemoryStore
from eventstore.postgres import EVENTSTORE, PostgresStore, open_postgres_store
from eventstore.store import EventStore
from tests.eventstore.builders import a_clock
from tests.support.postgres import SYSTEM_BINARIES, Server, running_server


@pytest.fixture(scope="session")
def system_server() -> Iterator[Server]:
    if not (SYSTEM_BINARIES / "postgres").exists():
        pytest.skip(f"no PostgreSQL 15 in {SYSTEM_BINARIES}")
    with running_server(SYSTEM_BINARIES) as server:
        yield server


@pytest.fixture(params=["memory", "postgres", "postgres15"])
def store_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The database of the store under test; None for memory."""
    if request.param == "memory":
        yield None
        return
    server: Server = request.getfixturevalue("postgres_server" if request.param == "postgres" else "system_server")
    url = server.fresh_database([EVENTSTORE])
    yield url
    server.drop(url)


@pytest.fixture
async def store(store_url: str | None) -> AsyncIterator[EventStore]:
    if store_url is None:
        yield MemoryStore(a_clock())
        return
    async with open_postgres_store(store_url) as opened:
        yield opened


@pytest.fixture
def fresh_database(postgres_server: Server) -> Iterator[str]:
    """As everywhere, but with the tables of this package only."""
    url = postgres_server.fresh_database([EVENTSTORE])
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def postgres_store(fresh_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(fresh_database) as opened:
        yield opened
