"""The worlds that endpoint tests run in: the memory store, and a whole server over PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.client import Client
from tests.api.memory_rooms import World, memory_world


@pytest.fixture
def database_of_world(request: pytest.FixtureRequest, store_of_world: str) -> str | None:
    return request.getfixturevalue("fresh_database") if store_of_world == "postgres" else None


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_of_world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def world(database_of_world: str | None, tmp_path: Path) -> AsyncIterator[World]:
    if database_of_world is None:
        async with memory_world() as opened:
            yield opened
    else:
        from tests.api.postgres_rooms import postgres_world

        async with postgres_world(database_of_world, tmp_path / "state") as opened:
            yield opened


@pytest.fixture
def client(world: World) -> Client:
    return world.client
