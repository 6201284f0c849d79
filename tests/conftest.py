"""Fixtures of every room: PostgreSQL, started when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.postgres import Server, test_server

settings.register_profile("hetuflow", deadline=None)  # the machine is shared: a slow example is not a failure
settings.load_profile("hetuflow")


# Servers, agents and commands that tests start: without bytecode each compiles this whole program again, half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The PostgreSQL server of this session."""
    with test_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: Server) -> str:
    """The URL of the server's own database: without a schema, shared by all tests."""
    return postgres_server.url


@pytest.fixture
def fresh_database(postgres_server: Server) -> Iterator[str]:
    """The URL of a new migrated database, dropped after the test."""
    url = postgres_server.fresh_database()
    yield url
    postgres_server.drop(url)
