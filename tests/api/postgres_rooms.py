"""The API of a whole server over a real PostgreSQL, spoken to without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hetuflow.api import create_app
from hetuflow.server import serve
from hetuflow.settings import load_server_settings
from tests.api.client import Client
from tests.api.memory_rooms import World


@asynccontextmanager
async def postgres_world(url: str, state_dir: Path, pool_size: int = 4) -> AsyncIterator[World]:
    flags = {
        "database.url": url,
        "database.pool_size": pool_size,
        "server.http_port": 0,
        "server.websocket_port": 0,
        "server.id": "server-1",
        "server.state_dir": str(state_dir),
    }
    settings = load_server_settings(None, {"HOME": str(state_dir)}, flags, read_text=Path.read_text)
    async with trio.open_nursery() as nursery:
        rooms = await nursery.start(serve, settings)
        yield World(Client(create_app(rooms)), rooms.store, rooms)
        nursery.cancel_scope.cancel()
