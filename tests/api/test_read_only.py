"""A server that only shows a log: it answers reads, refuses writes, and adds nothing to the log."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hetuflow.api.endpoints import ENDPOINTS
from hetuflow.server import serve
from hetuflow.settings import load_server_settings
from tests.api.client import Client
from tests.api.memory_rooms import memory_world
from tests.api.postgres_rooms import postgres_world

ANY_ID = "01900000-0000-7000-8000-000000000000"


async def test_every_write_is_refused_and_every_read_answered() -> None:
    async with memory_world(is_read_only=True) as world:
        for endpoint in ENDPOINTS:
            if endpoint.method == "GET" or 501 in endpoint.also:
                continue
            path = endpoint.path.removeprefix("/api/v1").replace("{id}", ANY_ID)
            answer = await world.client.call(endpoint.method, path, {} if endpoint.method != "DELETE" else None)
            if endpoint.is_write:
                assert (answer.status, answer.reason) == (409, "read_only"), endpoint.number
            else:
                assert answer.status in (200, 422), endpoint.number


@pytest.mark.postgres
async def test_a_log_is_shown_and_stays_as_it_is(fresh_database: str, tmp_path: Path) -> None:
    from hetuflow.api import create_app

    async with postgres_world(fresh_database, tmp_path / "state") as world:
        job = await world.client.made("/jobs/item", {"name": "x"})
        task = await world.client.made(f"/jobs/item/{job}/run", {"scheduled_at": "2026-01-01T00:00:00Z"})
    flags = {
        "database.url": fresh_database,
        "server.http_port": 0,
        "server.websocket_port": 0,
        "server.read_only": True,
        "server.state_dir": str(tmp_path / "other"),
    }
    settings = load_server_settings(None, {"HOME": str(tmp_path)}, flags, read_text=Path.read_text)
    async with trio.open_nursery() as nursery:
        rooms = await nursery.start(serve, settings)
        client = Client(create_app(rooms))
        head = await rooms.store.head()
        health = (await client.get("/system/health")).json
        assert (health["status"], health["checks"]["scheduler"]["problem"]) == ("healthy", None)
        assert (await client.get(f"/tasks/{task}")).json["status"] == 1
        assert (await client.get(f"/tasks/{task}/explain")).json["cause"]["trigger"] == "run"
        assert (await client.post("/tasks/page")).json["page"]["total"] == 1
        assert (await client.post(f"/tasks/{task}/cancel")).reason == "read_only"
        assert await rooms.store.head() == head
        nursery.cancel_scope.cancel()
