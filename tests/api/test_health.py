"""Health is answered within two seconds whatever the store does, and says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from eventstore.errors import StoreUnavailable
from tests.api.memory_rooms import memory_world
from tests.api.postgres_rooms import postgres_world


async def test_a_store_that_is_away_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_world() as world:

        async def away() -> int:
            raise StoreUnavailable

        monkeypatch.setattr(world.store, "head", away)
        answer = await world.client.get("/system/health")
        assert (answer.status, answer.json["status"]) == (200, "unhealthy")
        assert answer.json["checks"]["database"]["status"] == "failed"
        assert answer.json["database"]["status"] == "disconnected"
        other = await world.client.get("/system/info")
        assert (other.status, other.json["code"], other.headers["retry-after"]) == (503, "SERVICE_UNAVAILABLE", "1")
        monkeypatch.undo()
        assert (await world.client.get("/system/health")).json["status"] == "healthy"


async def test_a_store_that_hangs_is_unhealthy_in_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with memory_world() as world:
        monkeypatch.setattr(world.store, "head", trio.sleep_forever)
        began = trio.current_time()
        answer = await world.client.get("/system/health")
        assert trio.current_time() - began < 2
        assert (answer.status, answer.json["checks"]["database"]["status"]) == (200, "failed")
        monkeypatch.undo()


@pytest.mark.postgres
async def test_connections_are_those_that_are_open(fresh_database: str, tmp_path: Path) -> None:
    """Not those that are configured: of a pool that is hardly used, as many as PostgreSQL knows of."""
    query = (
        "select count(*) from pg_stat_activity"
        " where application_name = 'hetuflow pool' and datname = current_database()"
    )
    async with postgres_world(fresh_database, tmp_path, pool_size=100) as world:
        database = world.store.database  # type: ignore[attr-defined]
        for _ in range(100):  # the server works meanwhile: one may be opened between the two questions
            shown = (await world.client.get("/system/health")).json
            [(known,)] = await database.fetch(query)
            assert 1 <= shown["db_conn_size"] < shown["database"]["pool_size"] == 100
            if shown["db_conn_size"] == known:
                break
        else:
            pytest.fail(f"{shown['db_conn_size']} connections are said to be open, {known} are")


async def test_a_stalled_projection_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_world() as world:
        monkeypatch.setattr(world.rooms.rows, "stall", lambda: "tasks: the event after position 5 cannot be folded")
        answer = (await world.client.get("/system/health")).json
        assert (answer["status"], answer["checks"]["projections"]["status"]) == ("unhealthy", "failed")


async def test_fires_and_skips_are_counted_from_the_log() -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        assert (await client.get("/system/metrics")).json["schedules"]["fired_total"] == 0
        schedule = {
            "job_id": job,
            "kind": "interval",
            "interval_secs": 1,
            "max_count": 1,
            "start_time": "2020-01-01T00:00:00Z",
        }
        with trio.fail_after(30):
            async with world.store.subscribe(after=await world.store.head()) as feed:
                await client.made("/schedules/item", schedule)
                async for batch in feed:
                    if any(event.type == "ScheduleFired" for event in batch):
                        break
        counts = (await client.get("/system/metrics")).json["schedules"]
        assert (counts["fired_total"], counts["enabled"]) == (1, 0)
        assert (await client.get("/system/metrics")).json["schedules"] == counts


async def test_health_says_who_decides_and_what_is_wrong_with_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with memory_world() as world:
        await trio.sleep(3)
        found = (await world.client.get("/system/health")).json["checks"]["scheduler"]
        assert (found["status"], found["role"], found["problem"]) == ("ok", "active", None)
        assert abs(found["clock_offset_ms"]) < 1000
        monkeypatch.setattr(world.store, "beat", _no_answer)
        await trio.sleep(10)
        answer = (await world.client.get("/system/health")).json
        assert answer["status"] == "unhealthy"
        assert "cannot confirm" in answer["checks"]["scheduler"]["problem"]
        monkeypatch.undo()
        await trio.sleep(3)
        assert (await world.client.get("/system/health")).json["status"] == "healthy"


async def _no_answer(*_: object, **__: object) -> None:
    raise StoreUnavailable


async def test_health_says_why_appends_do_not_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads may work while nothing can be written: a full disk."""
    async with memory_world() as world:
        why = "The database has no space left on its disk"
        monkeypatch.setattr(type(world.store), "trouble", property(lambda _: why))
        answer = (await world.client.get("/system/health")).json
        assert answer["status"] == "unhealthy"
        assert answer["checks"]["database"]["problem"] == why
        assert answer["database"]["status"] == "connected"
        monkeypatch.undo()
