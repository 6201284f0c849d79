"""The world that endpoint tests run in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.client import Client
from tests.api.memory_rooms import World, memory_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as opened:
        yield opened


@pytest.fixture
def client(world: World) -> Client:
    return world.client
