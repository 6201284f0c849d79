"""P1, P2: how the tables do, and computing one anew while it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.api.memory_rooms import World

NAMES = {"jobs", "schedules", "tasks", "task_instances", "agents", "servers", "calendars"}


async def test_every_table_is_there_and_live(world: World) -> None:
    await world.client.made("/jobs/item", {"name": "x"})
    answer = await world.client.get("/projections")
    page = answer.json
    assert {row["name"] for row in page["result"]} >= NAMES
    assert page["page"] == {"total": len(page["result"]), "has_more": False, "next": None}
    for row in page["result"]:
        assert (row["status"], row["error"], row["rebuild"]) == ("live", None, None)
        assert row["position"] <= row["head"] and row["lag_events"] == row["head"] - row["position"]


async def test_an_unknown_table_is_404_and_a_body_422(world: World) -> None:
    assert (await world.client.post("/projections/task/rebuild")).status == 404
    assert (await world.client.post("/projections/tasks/rebuild", {"x": 1})).status == 422


async def test_one_rebuild_at_a_time(world: World) -> None:
    first = await world.client.post("/projections/jobs/rebuild")
    assert first.status == 200 and set(first.json) == {"id"}
    second = await world.client.post("/projections/jobs/rebuild")
    assert (second.status, second.reason) == (409, "rebuild_running")
    [row] = [row for row in (await world.client.get("/projections")).json["result"] if row["name"] == "jobs"]
    assert row["status"] in ("rebuilding", "live")
    assert row["rebuild"] is None or row["rebuild"]["id"] == first.json["id"]


@pytest.mark.postgres
async def test_a_damaged_table_is_found_and_mended_under_a_running_server(fresh_database: str, tmp_path: Path) -> None:
    from projections.verify import verify
    from tests.api.postgres_rooms import postgres_world

    async with postgres_world(fresh_database, tmp_path / "state") as world:
        job = await world.client.made("/jobs/item", {"name": "x"})
        gone = await world.client.made("/jobs/item", {"name": "y"})
        database = world.rooms.rows.database  # type: ignore[attr-defined]
        assert all(each.is_same for each in await verify(database))
        await database.fetch("update sched_job set name = 'wrong' where id = $1::text::uuid", job)
        await database.fetch("delete from sched_job where id = $1::text::uuid", gone)
        [found] = await verify(database, ["jobs"])
        assert (found.missing, found.unexpected, found.rows) == (2, 1, 1)
        assert set(found.examples) == {job, gone}
        await world.client.post("/projections/jobs/rebuild")
        with trio.fail_after(60):
            while [row for row in (await world.client.get("/projections")).json["result"] if row["rebuild"]]:  # noqa: ASYNC110
                await trio.sleep(0.01)  # the database's own time
        [mended] = await verify(database, ["jobs"])
        assert mended.is_same and mended.digest != found.digest
        assert (await world.client.get(f"/jobs/item/{gone}")).json["name"] == "y"


@pytest.mark.postgres
async def test_an_instance_deleted_alone_is_gone_from_folds_too(fresh_database: str, tmp_path: Path) -> None:
    from projections.verify import verify
    from tests.api.postgres_rooms import postgres_world

    async with postgres_world(fresh_database, tmp_path / "state") as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        instance = (await client.get(f"/tasks/{await client.made(f'/jobs/item/{job}/run', {})}")).json["instance_id"]
        assert (await client.put(f"/task-instances/item/{instance}", {"status": 100})).status == 200
        there = await world.store.head()
        assert (await client.delete(f"/task-instances/item/{instance}")).status == 200
        assert (await client.get(f"/task-instances/item/{instance}")).status == 404  # the table has seen it
        [found] = await verify(world.rooms.rows.database, ["task_instances"])  # type: ignore[attr-defined]
        assert (found.missing, found.unexpected, found.rows) == (0, 0, 0)
        gone = await world.store.head()
        for position, total in ((there, 1), (gone, 0)):
            page = (await client.post(f"/task-instances/page?as_of={position}", {})).json
            assert page["page"]["total"] == total
