"""C1-C9."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from tests.api.client import Client

ID = "550e8400-e29b-41d4-a716-446655440000"
OTHER = "550e8400-e29b-41d4-a716-446655440009"


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x"})


async def show(client: Client, schedule_id: str) -> Any:
    return (await client.get(f"/schedules/item/{schedule_id}")).json


async def test_the_guides_interval(client: Client, job_id: str) -> None:
    sent = {
        "job_id": job_id,
        "name": "every-minute",
        "kind": "interval",
        "cron_expression": None,
        "interval_seconds": 60,
        "enabled": True,
        "start_time": None,
        "end_time": None,
    }
    schedule = await show(client, await client.made("/schedules/item", sent))
    assert (schedule["schedule_kind"], schedule["kind"], schedule["status"], schedule["enabled"]) == (
        2,
        "interval",
        100,
        True,
    )
    assert schedule["interval_secs"] == schedule["interval_seconds"] == 60
    created, first = (datetime.fromisoformat(schedule[name]) for name in ("created_at", "next_run_at"))
    assert abs(first - created - timedelta(seconds=60)) < timedelta(seconds=1)
    assert (schedule["misfire_policy"], schedule["misfire_grace_seconds"], schedule["overlap_policy"]) == (
        "fire_once",
        60,
        "allow",
    )
    assert (schedule["parameters"], schedule["priority"], schedule["fire_count"], schedule["created_by"]) == (
        {},
        0,
        0,
        1,
    )


async def test_the_guides_cron_in_a_zone(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "cron", "cron_expression": "0 0 12 * * ?", "timezone": "Asia/Shanghai"}
    schedule = await show(client, await client.made("/schedules/item", sent))
    assert schedule["next_run_at"].endswith("T04:00:00Z")
    assert schedule["schedule_kind"] == 1


async def test_the_guides_interval_with_a_start(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 300, "start_time": "2024-01-01T00:00:00Z"}
    schedule = await show(client, await client.made("/schedules/item", sent))
    first = datetime.fromisoformat(schedule["next_run_at"])
    assert first > datetime.fromisoformat(schedule["created_at"])
    assert (first - datetime.fromisoformat("2024-01-01T00:00:00Z")).total_seconds() % 300 == 0


async def test_an_own_id_and_all_values_are_kept(client: Client, job_id: str) -> None:
    sent = {"id": ID, "job_id": job_id, "schedule_kind": 2, "interval_secs": 60, "max_count": 3, "status": 100}
    assert await client.made("/schedules/item", sent) == ID
    schedule = await show(client, ID)
    assert {name: schedule[name] for name in sent} == sent
    assert (await client.post("/schedules/item", sent)).reason == "already_exists"


async def test_a_schedule_needs_its_job(client: Client) -> None:
    answer = await client.post("/schedules/item", {"job_id": ID, "kind": "interval", "interval_seconds": 60})
    assert answer.status == 404
    assert answer.json["details"] == {"kind": "job", "id": ID, "path": "job_id"}


async def test_all_problems_are_listed_together(client: Client) -> None:
    body = {"kind": "cron", "cron_expression": "0 0 32 * *", "max_count": 0, "job_id": "x", "intervall": 5}
    answer = await client.post("/schedules/item", body)
    assert answer.status == 422
    assert list(answer.problems) == ["cron_expression", "max_count", "job_id", "intervall"]
    assert "position" in answer.json["details"][0]["message"]


async def test_schedulable_are_the_enabled_ones(client: Client, job_id: str) -> None:
    schedule_id = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_seconds": 60})

    async def listed() -> list[str]:
        return [schedule["id"] for schedule in (await client.get("/schedules/schedulable")).json]

    assert await listed() == [schedule_id]
    assert (await client.post(f"/schedules/item/{schedule_id}/disable")).json is None
    assert await listed() == []
    assert (await show(client, schedule_id))["next_run_at"] is None
    assert (await client.post(f"/schedules/item/{schedule_id}/enable", {})).json is None
    assert await listed() == [schedule_id]


async def test_a_fetched_schedule_can_be_sent_back(client: Client, job_id: str) -> None:
    schedule_id = await client.made(
        "/schedules/item", {"job_id": job_id, "kind": "cron", "cron_expression": "0 12 * * *"}
    )
    path = f"/schedules/item/{schedule_id}"
    fetched = await show(client, schedule_id)
    assert (await client.put(path, fetched)).status == 200
    assert (await show(client, schedule_id))["version"] == 1
    assert (await client.put(path, {**fetched, "status": 99})).status == 200
    assert (await show(client, schedule_id))["enabled"] is False
    assert (await client.put(path, {**(await show(client, schedule_id)), "enabled": True})).status == 200
    assert (await show(client, schedule_id))["status"] == 100
    assert (await client.put(path, {**fetched, "job_id": OTHER})).status == 422
    assert (await client.put(path, {**fetched, "kind": "interval"})).problems == {"interval_secs": None}
    assert (await client.put(path, {"kind": "interval", "interval_seconds": 10})).status == 200
    changed = await show(client, schedule_id)
    assert (changed["schedule_kind"], changed["cron_expression"]) == (2, "0 12 * * *")
    assert (
        await client.put(path, {"start_time": "2030-01-01T00:00:00Z", "end_time": "2029-01-01T00:00:00Z"})
    ).status == 422


async def test_execute_starts_from_the_schedule(client: Client, job_id: str) -> None:
    await client.post(f"/jobs/item/{job_id}/disable")
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "parameters": {"a": 1, "b": 1}, "priority": 7}
    schedule_id = await client.made("/schedules/item", {**sent, "enabled": False})
    task_id = await client.made(f"/schedules/item/{schedule_id}/execute", {"parameters": {"b": 2}})
    task = (await client.get(f"/tasks/{task_id}")).json
    assert (task["schedule_id"], task["job_id"], task["trigger"]) == (schedule_id, job_id, "execute")
    assert (task["parameters"], task["priority"], task["schedule_kind"], task["status"]) == ({"a": 1, "b": 2}, 7, 2, 1)
    assert (await client.delete(f"/schedules/item/{schedule_id}")).json is None
    assert (await client.get(f"/tasks/{task_id}")).json["status"] == 1


async def test_delete_may_cancel_the_open_tasks(client: Client, job_id: str) -> None:
    schedule_id = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_seconds": 60})
    task_id = await client.made(f"/schedules/item/{schedule_id}/execute", {})
    other_id = await client.made(f"/jobs/item/{job_id}/run", {})
    assert (await client.delete(f"/schedules/item/{schedule_id}?cascade=cancel")).json is None
    assert (await client.get(f"/tasks/{task_id}")).json["status"] == 99
    assert (await client.get(f"/tasks/{other_id}")).json["status"] == 1
    assert (await client.get(f"/schedules/item/{schedule_id}")).status == 404


async def test_jitter_is_stored_and_shown(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "jitter_seconds": 20}
    schedule_id = await client.made("/schedules/item", sent)
    assert (await show(client, schedule_id))["jitter_seconds"] == 20
    assert (await client.put(f"/schedules/item/{schedule_id}", {"jitter_seconds": 5})).status == 200
    assert (await show(client, schedule_id))["jitter_seconds"] == 5


async def test_a_maximum_age_is_stored_shown_and_taken_off(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "max_age_seconds": 3600}
    schedule_id = await client.made("/schedules/item", sent)
    assert (await show(client, schedule_id))["max_age_seconds"] == 3600
    cleared = {"update_mask": ["max_age_seconds"], "max_age_seconds": None}
    assert (await client.put(f"/schedules/item/{schedule_id}", cleared)).status == 200
    assert (await show(client, schedule_id))["max_age_seconds"] is None


async def test_a_fixed_delay_skips_by_default_and_refuses_an_allow_that_is_asked_for(
    client: Client, job_id: str
) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "interval_mode": "fixed_delay"}
    shown = await show(client, await client.made("/schedules/item", sent))
    assert (shown["interval_mode"], shown["overlap_policy"]) == ("fixed_delay", "skip")
    refused = await client.post("/schedules/item", {**sent, "overlap_policy": "allow"})
    assert refused.status == 422
    assert [problem["path"] for problem in refused.json["details"]] == ["overlap_policy"]
    assert "must be skip with interval_mode fixed_delay" in refused.json["details"][0]["message"]


async def test_a_change_to_a_fixed_delay_takes_the_default_along_and_the_way_back_is_free(
    client: Client, job_id: str
) -> None:
    schedule_id = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_seconds": 60})
    path = f"/schedules/item/{schedule_id}"
    assert (await client.put(path, {"interval_mode": "fixed_delay"})).status == 200
    shown = await show(client, schedule_id)
    assert (shown["interval_mode"], shown["overlap_policy"]) == ("fixed_delay", "skip")
    assert (await client.put(path, {"overlap_policy": "queue"})).status == 422
    assert (await client.put(path, {**shown, "name": "sent back"})).status == 200
    assert (await client.put(path, {"interval_mode": "fixed_rate", "overlap_policy": "allow"})).status == 200


async def test_a_note_says_why_a_schedule_was_switched(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60}
    schedule_id = await client.made("/schedules/item", sent)
    path = f"/schedules/item/{schedule_id}"
    for body in ({"note": "the disk is full"}, None, {}):
        assert (await client.post(f"{path}/disable", body)).json is None
        shown = await show(client, schedule_id)
        assert (shown["status"], shown["status_note"]) == (99, "the disk is full")
    assert (await client.post(f"{path}/enable", {"note": "a new disk"})).json is None
    assert (await show(client, schedule_id))["status_note"] == "a new disk"
    assert list((await client.post(f"{path}/disable", {"note": "x" * 1001})).problems) == ["note"]
    events = (await client.get(f"/events?stream=schedule-{schedule_id}")).json["result"]
    assert any("Disabled (the disk is full)" in event["summary"] for event in events)


async def test_failures_that_pause_are_stored_and_shown(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "pause_on_failures": 3}
    shown = await show(client, await client.made("/schedules/item", sent))
    assert (shown["pause_on_failures"], shown["consecutive_failures"], shown["status_note"]) == (3, 0, None)
    refused = await client.post("/schedules/item", {**sent, "max_count": 3})
    assert [problem["path"] for problem in refused.json["details"]] == ["pause_on_failures"]


async def test_overlap_policies_are_stored_and_shown(client: Client, job_id: str) -> None:
    for policy in ("allow", "skip", "queue", "cancel_previous"):
        sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60, "overlap_policy": policy}
        assert (await show(client, await client.made("/schedules/item", sent)))["overlap_policy"] == policy


# --- C12 --------------------------------------------------------------------------------------------------------------


async def explained(client: Client, schedule_id: str, at: str) -> Any:
    answer = await client.get(f"/schedules/item/{schedule_id}/explain?at={at}")
    assert answer.status == 200, answer.json
    return answer.json


async def over(client: Client, schedule_id: str) -> None:
    """Once, created late: decided by the scheduler at once."""
    while (await show(client, schedule_id))["status"] != 98:  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_a_fire_is_explained_with_its_task_and_its_decision(client: Client, job_id: str) -> None:
    at = "2026-01-05T08:00:00Z"
    schedule_id = await client.made("/schedules/item", {"job_id": job_id, "kind": "once", "start_time": at})
    await over(client, schedule_id)
    found = await explained(client, schedule_id, at)
    assert (found["outcome"], found["nominal"]["at"], found["decision"]["type"]) == ("fired", at, "ScheduleFired")
    assert found["task"] == {"id": found["decision"]["data"]["task_id"], "status": 1}
    assert found["task"]["id"] in found["summary"]
    between = await explained(client, schedule_id, "2026-01-05T08:00:01Z")
    assert (between["outcome"], between["code"], between["decision"]) == ("no_nominal_time", "not_created", None)


async def test_a_skip_is_explained_with_its_reason(client: Client, job_id: str) -> None:
    at = "2026-01-05T08:00:00Z"
    sent = {"job_id": job_id, "kind": "once", "start_time": at, "max_age_seconds": 60}
    schedule_id = await client.made("/schedules/item", sent)
    await over(client, schedule_id)
    found = await explained(client, schedule_id, at)
    assert (found["outcome"], found["code"], found["task"]) == ("skipped", "max_age", None)
    assert found["summary"].endswith(": older than the maximum age when it was decided.")
    assert found["decision"]["type"] == "ScheduleSkipped"


async def test_what_is_to_come_is_explained_with_what_keeps_it(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "cron", "cron_expression": "30 2 * * *", "timezone": "Europe/Berlin"}
    schedule_id = await client.made("/schedules/item", sent)
    gap = "2060-03-28T01:00:00Z"
    found = await explained(client, schedule_id, gap)
    assert (found["outcome"], found["nominal"]["note"], found["due_at"]) == ("will_fire", "gap", gap)
    assert found["before"]["at"] == "2060-03-27T01:30:00Z" and found["after"]["at"] == "2060-03-29T00:30:00Z"
    near = await explained(client, schedule_id, "2060-03-28T00:00:00+01:00")
    assert (near["outcome"], near["after"]["at"]) == ("no_nominal_time", gap)
    await client.post(f"/jobs/item/{job_id}/disable", {"note": "broken"})
    assert "Disabled (broken)" in (await explained(client, schedule_id, gap))["summary"]
    await client.post(f"/schedules/item/{schedule_id}/disable", {"note": "holidays"})
    found = await explained(client, schedule_id, gap)
    assert (found["outcome"], found["code"]) == ("will_not_fire", "schedule_disabled")
    assert "(holidays)" in found["summary"]
    assert (await client.get("/schedules/item/01900000-0000-7000-8000-000000000000/explain")).status == 404
    assert list((await client.get(f"/schedules/item/{schedule_id}/explain?at=noon")).problems) == ["query.at"]
