"""T1-T8, T11, and the instances behind them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import Client

ID = "550e8400-e29b-41d4-a716-446655440001"


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x", "config": {"max_retries": 0}})


@pytest.fixture
async def task_id(client: Client, job_id: str) -> str:
    return await client.made("/tasks/create", {"name": "t", "job_id": job_id})


async def show(client: Client, task_id: str) -> Any:
    return (await client.get(f"/tasks/{task_id}")).json


async def instances(client: Client, task_id: str) -> list[Any]:
    page = await client.post("/task-instances/page", {"filter": {"task_id": {"$eq": task_id}}})
    return list(reversed(page.json["result"]))


async def test_a_new_task_waits_with_one_instance(client: Client, job_id: str, task_id: str) -> None:
    task = await show(client, task_id)
    assert (task["status"], task["retry_count"], task["parameters"], task["max_retries"]) == (1, 0, {}, 0)
    assert (task["trigger"], task["schedule_kind"], task["schedule_id"]) == ("api", 4, None)
    [instance] = await instances(client, task_id)
    assert (instance["id"], instance["status"], instance["agent_id"]) == (task["instance_id"], 1, None)
    assert set(instance) == {
        *("id", "task_id", "job_id", "agent_id", "status", "started_at", "completed_at", "output", "output_truncated"),
        *("error_message", "exit_code", "signal", "reason", "metrics", "attempt", "epoch", "external"),
        *("created_at", "updated_at", "version"),
    }
    shown = (await client.get(f"/task-instances/item/{instance['id']}")).json
    assert shown == instance


async def test_cancel_retry_and_cancel_again(client: Client, task_id: str) -> None:
    assert (await client.post(f"/tasks/{task_id}/cancel", {"reason": "no need"})).json is None
    assert (await show(client, task_id))["status"] == 99
    assert [each["status"] for each in await instances(client, task_id)] == [99]
    again = await client.post(f"/tasks/{task_id}/cancel")
    assert (again.status, again.reason) == (409, "already_terminal")
    assert (await client.post(f"/tasks/{task_id}/retry")).json is None
    assert [each["status"] for each in await instances(client, task_id)] == [99, 1]
    task = await show(client, task_id)
    assert (task["status"], task["attempt"], task["completed_at"]) == (1, 2, None)
    refused = await client.post(f"/tasks/{task_id}/retry")
    assert (refused.status, refused.reason) == (409, "not_retryable")


async def test_a_task_needs_a_job_and_a_schedule_of_it(client: Client, job_id: str) -> None:
    absent = await client.post("/tasks/create", {"job_id": ID})
    assert (absent.status, absent.json["details"]) == (404, {"kind": "job", "id": ID, "path": "job_id"})
    absent = await client.post("/tasks/create", {"job_id": job_id, "schedule_id": ID})
    assert (absent.status, absent.json["details"]["path"]) == (404, "schedule_id")
    other_job = await client.made("/jobs/item", {"name": "y"})
    schedule = await client.made("/schedules/item", {"job_id": other_job, "kind": "interval", "interval_seconds": 60})
    foreign = await client.post("/tasks/create", {"job_id": job_id, "schedule_id": schedule, "schedule_kind": "cron"})
    assert (foreign.status, set(foreign.problems)) == (422, {"schedule_id", "schedule_kind"})
    kind = await client.post("/tasks/create", {"job_id": other_job, "schedule_id": schedule})
    assert (kind.status, kind.reason) == (409, "schedule_not_valid")


async def test_conditions_on_what_a_task_waits_for(client: Client, job_id: str) -> None:
    first, second = [await client.made("/tasks/create", {"job_id": job_id}) for _ in range(2)]
    wanted = {"task_ids": [first, second], "on": {first.upper(): "Failed", second: "finished"}, "match": "ANY"}
    task = await client.made("/tasks/create", {"job_id": job_id, "dependencies": wanted})
    shown = await client.get(f"/tasks/{task}")
    assert shown.json["dependencies"] == {
        "task_ids": [first, second],
        "on_failure": "cancel",
        "on": {first: "failed", second: "finished"},
        "match": "any",
    }
    explained = (await client.get(f"/tasks/{task}/explain")).json
    assert explained["summary"] == (
        f"Waiting: it waits for any one of: task {first} to have failed, task {second} to have finished."
    )
    await client.post(f"/tasks/{first}/cancel")
    await client.post(f"/tasks/{second}/cancel")


@pytest.mark.parametrize(
    ("dependencies", "path", "says"),
    [
        ({"task_ids": [], "match": "some"}, "match", "all"),
        ({"task_ids": [], "on": []}, "on", "object"),
        ({"task_ids": [ID], "on": {ID: "done"}}, f"on.{ID}", "succeeded"),
        ({"task_ids": [], "on": {ID: "failed"}}, f"on.{ID}", "none of the task_ids"),
        ({"task_ids": [], "on": {"x": "failed"}}, "on", "UUID"),
    ],
)
async def test_wrong_conditions_are_refused(client: Client, job_id: str, dependencies, path, says) -> None:
    answer = await client.post("/tasks/create", {"job_id": job_id, "dependencies": dependencies})
    assert answer.status == 422
    [problem] = answer.json["detail"]
    assert problem["path"] == f"dependencies.{path}"
    assert says in problem["message"]


async def test_unknown_dependencies_and_other_statuses_are_refused(client: Client, job_id: str) -> None:
    answer = await client.post("/tasks/create", {"job_id": job_id, "dependencies": [ID], "status": 10})
    assert (answer.status, set(answer.problems)) == (422, {"dependencies.task_ids[0]", "status"})


async def test_a_fetched_task_can_be_sent_back(client: Client, task_id: str) -> None:
    task = await show(client, task_id)
    for method, path in (("POST", f"/tasks/{task_id}/update"), ("PUT", f"/tasks/{task_id}")):
        assert (await client.call(method, path, task)).json is None
    assert (await show(client, task_id))["version"] == task["version"]
    assert (await client.put(f"/tasks/{task_id}", {**task, "max_retries": 4})).status == 200
    changed = await show(client, task_id)
    assert (changed["max_retries"], changed["config"]["max_retries"]) == (4, 4)
    assert changed["version"] == task["version"] + 1 == changed["lock_version"]
    stale = await client.put(f"/tasks/{task_id}", {"name": "n", "lock_version": task["lock_version"]})
    assert (stale.status, stale.reason) == (409, "version_conflict")
    assert (await client.put(f"/tasks/{task_id}", {"max_retries": 5, "config": {"max_retries": 6}})).status == 422


async def test_config_and_environment_of_a_waiting_task_may_change(client: Client, task_id: str) -> None:
    update = {
        "config": {"timeout": 9},
        "environment": {"A": "b"},
        "priority": 3,
        "scheduled_at": "2040-01-01T00:00:00Z",
    }
    assert (await client.put(f"/tasks/{task_id}", update)).status == 200
    task = await show(client, task_id)
    assert (task["config"]["timeout"], task["config"]["max_retries"], task["environment"]) == (9, 0, {"A": "b"})
    assert (task["priority"], task["scheduled_at"]) == (3, "2040-01-01T00:00:00Z")
    await client.post(f"/tasks/{task_id}/cancel")
    refused = await client.put(f"/tasks/{task_id}", {"parameters": {"x": 1}})
    assert (refused.status, refused.reason) == (409, "already_started")
    assert (await client.put(f"/tasks/{task_id}", {"name": "other", "description": "d"})).status == 200


async def test_status_in_an_update_cancels_and_retries(client: Client, task_id: str) -> None:
    path = f"/tasks/{task_id}/update"
    assert (await client.post(path, {"status": 1})).json is None
    assert (await client.post(path, {"status": "cancelled"})).json is None
    assert (await show(client, task_id))["status"] == 99
    assert (await client.post(path, {"status": "Pending"})).json is None
    assert (await show(client, task_id))["attempt"] == 2
    for status in (2, 5, 10, 15, 90, 100):
        answer = await client.post(path, {"status": status})
        assert (answer.status, answer.reason) == (409, "transition_not_allowed")
        assert (answer.json["details"]["from"], answer.json["details"]["to"]) == (1, status)


async def test_delete_needs_an_end_or_a_cascade(client: Client, job_id: str, task_id: str) -> None:
    refused = await client.delete(f"/tasks/{task_id}")
    assert (refused.status, refused.reason) == (409, "has_open_tasks")
    assert (await client.delete(f"/tasks/{task_id}?cascade=cancel")).json is None
    assert (await client.get(f"/tasks/{task_id}")).status == 404
    assert await instances(client, task_id) == []
    history = (await client.get(f"/tasks/{task_id}/history")).json
    assert history["result"][-1]["type"] == "TaskDeleted"


async def test_history_is_the_stream_in_order(client: Client, task_id: str) -> None:
    await client.post(f"/tasks/{task_id}/cancel")
    whole = (await client.get(f"/tasks/{task_id}/history")).json
    assert [event["version"] for event in whole["result"]] == list(range(1, len(whole["result"]) + 1))
    assert whole["result"][0]["type"] == "TaskCreated"
    assert whole["page"] == {"total": None, "has_more": False, "next": None}
    first = (await client.get(f"/tasks/{task_id}/history?limit=1")).json
    assert (first["page"]["has_more"], first["page"]["next"]) == (True, 1)
    rest = (await client.get(f"/tasks/{task_id}/history?after=1")).json
    assert first["result"] + rest["result"] == whole["result"]
    assert (await client.get(f"/tasks/{task_id}/history?after=99")).json["result"] == []
    assert (await client.get(f"/tasks/{task_id}/history?limit=5001")).status == 400
    assert (await client.get(f"/tasks/{task_id}/history?limi=1")).problems == {"query.limi": "limit"}


async def test_logs_of_an_instance_that_printed_nothing(client: Client, task_id: str) -> None:
    instance_id = (await show(client, task_id))["instance_id"]
    logs = (await client.get(f"/task-instances/item/{instance_id}/logs")).json
    assert logs == {
        "page": {"total": 0, "has_more": False, "next": None},
        "result": [],
        "complete": False,
        "dropped": 0,
        "sha256": None,
    }
    base = f"/task-instances/item/{instance_id}/logs"
    for query, status in (
        ("offset=1", 422),
        ("stream=stdin", 400),
        ("limit=0", 400),
        ("after=x", 400),
    ):
        assert (await client.get(f"{base}?{query}")).status == status, query
    assert (await client.get(f"{base}?stream=stdout&offset=-5")).status == 200
