"""B1-B4: backfills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.api.client import Client

WINDOW = {"from": "2026-01-05T08:00:00Z", "to": "2026-01-05T08:04:00Z"}
ABSENT = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
async def schedule_id(client: Client) -> str:
    job_id = await client.made("/jobs/item", {"name": "x"})
    sent = {"job_id": job_id, "kind": "cron", "cron_expression": "* * * * *", "enabled": False, "priority": 4}
    return await client.made("/schedules/item", {**sent, "parameters": {"p": 1}})


async def until(client: Client, backfill_id: str, condition: Callable[[Any], bool]) -> Any:
    """The scheduler carries it on."""
    while True:
        row = (await client.get(f"/backfills/item/{backfill_id}")).json
        if condition(row):
            return row
        await trio.sleep(0.01)


async def test_a_window_becomes_tasks_a_few_at_once(client: Client, schedule_id: str) -> None:
    path = f"/schedules/item/{schedule_id}/backfill"
    backfill_id = await client.made(path, {**WINDOW, "max_concurrent": 2, "note": "the outage"})
    row = await until(client, backfill_id, lambda row: row["made"] == 2)
    assert (row["status"], row["total"], row["left_out"], row["note"]) == ("running", 5, 0, "the outage")
    assert (row["from_at"], row["until_at"], row["cursor_at"]) == (
        "2026-01-05T08:00:00Z",
        "2026-01-05T08:04:00Z",
        "2026-01-05T08:01:00Z",
    )
    found = (await client.post("/tasks/page", {"filter": {"backfill_id": {"$eq": backfill_id}}})).json["result"]
    assert {task["backfill_id"] for task in found} == {backfill_id}
    assert {(task["trigger"], task["priority"], task["parameters"]["p"]) for task in found} == {("backfill", 4, 1)}
    listed = (await client.post("/backfills/page", {"filter": {"schedule_id": {"$eq": schedule_id}}})).json["result"]
    assert [each["id"] for each in listed] == [backfill_id]
    assert (await client.post("/backfills/page", {"filter": {"status": {"$eq": "finished"}}})).json["result"] == []

    assert (await client.post(f"/tasks/{found[0]['id']}/cancel")).json is None
    row = await until(client, backfill_id, lambda row: row["made"] == 3)
    assert row["cancelled"] == 1

    assert (await client.post(f"/backfills/item/{backfill_id}/cancel", {"note": "wrong data"})).json is None
    row = await until(client, backfill_id, lambda row: row["finished_at"] is not None)
    assert (row["status"], row["made"], row["cancelled"]) == ("cancelled", 3, 3)
    assert (await client.post(f"/backfills/item/{backfill_id}/cancel")).json is None


async def test_a_moment_that_was_backfilled_is_explained(client: Client, schedule_id: str) -> None:
    one = {"from": WINDOW["from"], "to": WINDOW["from"]}
    backfill_id = await client.made(f"/schedules/item/{schedule_id}/backfill", one)
    await until(client, backfill_id, lambda row: row["made"] == 1)
    found = (await client.get(f"/schedules/item/{schedule_id}/explain?at={WINDOW['from']}")).json
    assert f"Backfill {backfill_id} made task {found['task']['id']} for it, which is pending." in found["summary"]
    again = await client.made(f"/schedules/item/{schedule_id}/backfill", one)
    row = await until(client, again, lambda row: row["finished_at"] is not None)
    assert (row["made"], row["left_out"], row["status"]) == (0, 1, "finished")


async def test_an_interval_before_its_schedule_is_explained_to_the_second(client: Client, schedule_id: str) -> None:
    job_id = (await client.get(f"/schedules/item/{schedule_id}")).json["job_id"]
    hourly = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_secs": 3600})
    one = {"from": "2026-01-05T08:00:00Z", "to": "2026-01-05T08:59:59.999999Z"}
    backfill_id = await client.made(f"/schedules/item/{hourly}/backfill", one)
    row = await until(client, backfill_id, lambda row: row["made"] == 1)
    [task] = (await client.post("/tasks/page", {"filter": {"backfill_id": {"$eq": backfill_id}}})).json["result"]
    second = row["cursor_at"][:19] + "Z"
    found = (await client.get(f"/schedules/item/{hourly}/explain?at={second}")).json
    assert found["code"] == "not_created" and found["task"]["id"] == task["id"]
    assert f"Backfill {backfill_id} made task {task['id']}" in found["summary"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"from": None}, "from"),
        ({"to": "2026-01-05T07:00:00Z"}, "to"),
        ({"to": "2036-01-05T07:00:00Z", "from": "2035-01-05T07:00:00Z"}, "from"),
        ({"from": "2020-01-05T07:00:00Z"}, "to"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"since": "2020-01-05T07:00:00Z"}, "since"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, schedule_id: str, changes: dict[str, Any], path: str) -> None:
    sent = {name: value for name, value in {**WINDOW, **changes}.items() if value is not None}
    answer = await client.post(f"/schedules/item/{schedule_id}/backfill", sent)
    assert (answer.status, list(answer.problems)) == (422, [path]), answer.json


async def test_what_does_not_exist_is_404(client: Client) -> None:
    assert (await client.post(f"/schedules/item/{ABSENT}/backfill", WINDOW)).status == 404
    assert (await client.get(f"/backfills/item/{ABSENT}")).status == 404
    assert (await client.post(f"/backfills/item/{ABSENT}/cancel")).status == 404
