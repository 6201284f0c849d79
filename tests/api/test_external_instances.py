"""I2, I4-I6: executions outside the agents, told over the API; and what their task makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import Client

OWN = "550e8400-e29b-41d4-a716-4466554400aa"
UNUSED = "550e8400-e29b-41d4-a716-4466554400ff"
METRICS = {"cpu_time": 1.5, "memory_peak": 9, "disk_read": 1, "disk_write": 2, "network_in": 3, "network_out": 4}
ITEM = "/task-instances/item"


@pytest.fixture
async def task_id(client: Client) -> str:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"max_retries": 1, "retry_interval": 60}})
    return await client.made("/tasks/create", {"job_id": job_id})


async def own_instance(client: Client, task_id: str) -> str:
    return str((await client.get(f"/tasks/{task_id}")).json["instance_id"])


async def statuses(client: Client, task_id: str, instance_id: str) -> tuple[int, int]:
    task = (await client.get(f"/tasks/{task_id}")).json
    return task["status"], (await client.get(f"{ITEM}/{instance_id}")).json["status"]


async def types(client: Client, task_id: str) -> list[str]:
    return [event["type"] for event in (await client.get(f"/tasks/{task_id}/history?limit=100")).json["result"]]


# --- the task's own instance ------------------------------------------------------------------------------------------


async def test_a_task_follows_an_execution_outside_step_by_step(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    for sent, expected in (
        ({"status": "dispatched", "agent_id": "elsewhere"}, (5, 5)),
        ({"status": 10, "started_at": "2026-03-01T12:00:00Z"}, (10, 10)),
        ({"status": 30}, (10, 30)),
        ({"status": "Running"}, (10, 10)),
        ({"error_message": "slow", "metrics": METRICS}, (10, 10)),
        ({"status": 100, "output": "done\n", "completed_at": "2026-03-01T12:00:05Z"}, (100, 100)),
    ):
        answer = await client.put(f"{ITEM}/{instance_id}", sent)
        assert (answer.status, answer.json) == (200, None), sent
        assert await statuses(client, task_id, instance_id) == expected
    instance = (await client.get(f"{ITEM}/{instance_id}")).json
    assert {name: instance[name] for name in ("agent_id", "external", "epoch", "attempt", "exit_code", "reason")} == {
        "agent_id": "elsewhere",
        "external": True,
        "epoch": 1,
        "attempt": 1,
        "exit_code": 0,
        "reason": None,
    }
    assert (instance["started_at"], instance["completed_at"]) == ("2026-03-01T12:00:00Z", "2026-03-01T12:00:05Z")
    assert (instance["metrics"], instance["output"], instance["output_truncated"]) == (METRICS, "done\n", False)
    assert (await types(client, task_id))[-3:] == ["InstanceReported", "InstanceSucceeded", "TaskSucceeded"]
    logs = (await client.get(f"{ITEM}/{instance_id}/logs")).json
    assert ([each["text"] for each in logs["result"]], logs["complete"], logs["page"]["total"]) == (["done\n"], True, 5)
    page = (await client.post("/task-instances/page", {"filter": {"external": {"eq": True}}})).json["result"]
    assert page == [instance]
    assert (await client.post("/agents/query")).json["page"]["total"] == 0


async def test_skipping_ahead_sets_what_the_status_implies(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    assert (await client.put(f"{ITEM}/{instance_id}", {"status": 100})).status == 200
    instance = (await client.get(f"{ITEM}/{instance_id}")).json
    assert instance["started_at"] == instance["completed_at"] is not None
    assert await types(client, task_id) == [
        "TaskCreated",
        "InstanceTakenOver",
        "InstanceDispatched",
        "InstanceStarted",
        "InstanceSucceeded",
        "TaskSucceeded",
    ]


async def test_a_failure_outside_is_retried_on_the_agents(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    sent = {"status": "failed", "error_message": "no disk", "exit_code": 3}
    assert (await client.post(f"{ITEM}/{instance_id}/update", sent)).status == 200
    task = (await client.get(f"/tasks/{task_id}")).json
    assert (task["status"], task["retry_count"], task["attempt"]) == (15, 1, 2)
    instance = (await client.get(f"{ITEM}/{instance_id}")).json
    assert (instance["status"], instance["reason"], instance["exit_code"]) == (90, "exit_code", 3)
    assert instance["error_message"] == "no disk"
    following = (await client.get(f"{ITEM}/{task['instance_id']}")).json
    assert (following["status"], following["external"]) == (1, False)


@pytest.mark.parametrize(
    ("status", "task_status", "reason"), [(20, 15, "timeout"), (40, 99, "cancelled"), (99, 99, "cancelled")]
)
async def test_every_end_is_known(client: Client, task_id: str, status: int, task_status: int, reason: str) -> None:
    instance_id = await own_instance(client, task_id)
    assert (await client.put(f"{ITEM}/{instance_id}", {"status": status})).status == 200
    assert await statuses(client, task_id, instance_id) == (task_status, status)
    assert (await client.get(f"{ITEM}/{instance_id}")).json["reason"] == reason


async def test_what_is_taken_over_is_cancelled_at_once(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    await client.put(f"{ITEM}/{instance_id}", {"status": 10})
    assert (await client.post(f"/tasks/{task_id}/cancel")).status == 200
    assert await statuses(client, task_id, instance_id) == (99, 99)


async def test_it_goes_forward_only_and_the_end_is_the_end(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    await client.put(f"{ITEM}/{instance_id}", {"status": 30})
    for wanted in (1, 5):
        answer = await client.put(f"{ITEM}/{instance_id}", {"status": wanted})
        assert answer.json["details"] == {"reason": "transition_not_allowed", "from": 30, "to": wanted}
    await client.put(f"{ITEM}/{instance_id}", {"status": 100})
    for sent in ({"status": 90}, {"error_message": "x"}):
        assert (await client.put(f"{ITEM}/{instance_id}", sent)).reason == "already_terminal"
    instance = (await client.get(f"{ITEM}/{instance_id}")).json
    assert (await client.put(f"{ITEM}/{instance_id}", instance)).status == 200
    assert (await client.get(f"{ITEM}/{instance_id}")).json == instance


async def test_the_end_of_a_long_output_is_kept(client: Client, task_id: str) -> None:
    instance_id = await own_instance(client, task_id)
    await client.put(f"{ITEM}/{instance_id}", {"status": 10, "output": "a" + "é" * 40_000})
    instance = (await client.get(f"{ITEM}/{instance_id}")).json
    assert (instance["output"], instance["output_truncated"]) == ("é" * 32_768, True)
    [paged] = (await client.post("/task-instances/page")).json["result"]
    assert (paged["output"], paged["output_truncated"]) == ("é" * 2_048, True)
    await client.put(f"{ITEM}/{instance_id}", {"update_mask": ["output"]})
    assert (await client.get(f"{ITEM}/{instance_id}")).json["output"] is None


# --- records beside it ------------------------------------------------------------------------------------------------


async def test_the_clients_conformance_row(client: Client, task_id: str) -> None:
    """7.3, row 14."""
    job_id = (await client.get(f"/tasks/{task_id}")).json["job_id"]
    answer = await client.post(ITEM, {"job_id": job_id, "task_id": task_id, "status": 1, "config": {"a": 1}})
    assert answer.status == 200 and isinstance(answer.json, str)
    instance_id = answer.json
    assert (await client.post(f"{ITEM}/update", {"id": instance_id, "status": 10})).json is None
    assert await statuses(client, task_id, instance_id) == (1, 10)
    missing = await client.post(f"{ITEM}/update", {"status": 10})
    assert (missing.status, missing.json["code"]) == (400, "BAD_REQUEST")
    assert (await client.post(f"{ITEM}/update?id={instance_id}", {"status": 100, "id": None})).status == 200
    both = await client.post(f"{ITEM}/update?id={instance_id}", {"id": UNUSED})
    assert (both.status, list(both.problems)) == (422, ["id"])


async def test_a_record_changes_nothing_about_the_task(client: Client, task_id: str) -> None:
    before = (await client.get(f"/tasks/{task_id}")).json
    sent = {"id": OWN, "task_id": task_id, "status": 10, "agent_id": "elsewhere"}
    assert (await client.post(ITEM, sent)).json == OWN
    record = (await client.get(f"{ITEM}/{OWN}")).json
    assert (record["status"], record["external"], record["agent_id"], record["attempt"]) == (10, True, "elsewhere", 1)
    assert record["started_at"] is not None
    assert (await client.put(f"{ITEM}/{OWN}", {"status": 90, "metrics": METRICS, "output": "x"})).status == 200
    record = (await client.get(f"{ITEM}/{OWN}")).json
    assert (record["status"], record["reason"], record["metrics"], record["output"]) == (90, "exit_code", METRICS, "x")
    assert record["completed_at"] is not None
    assert (await client.get(f"/tasks/{task_id}")).json == before
    assert (await client.put(f"{ITEM}/{OWN}", {"status": 100})).reason == "already_terminal"


async def test_an_instance_is_recorded_once(client: Client, task_id: str) -> None:
    other = await client.made("/jobs/item", {"name": "y"})
    other_task = await client.made("/tasks/create", {"job_id": other})
    assert (await client.post(ITEM, {"id": OWN, "task_id": task_id})).status == 200
    own = await own_instance(client, task_id)
    for instance_id in (OWN, own):
        for task in (task_id, other_task):
            assert (await client.post(ITEM, {"id": instance_id, "task_id": task})).reason == "already_exists"
    mismatch = await client.post(ITEM, {"task_id": task_id, "job_id": other})
    assert (mismatch.status, list(mismatch.problems)) == (422, ["job_id"])
    missing = await client.post(ITEM, {"task_id": UNUSED})
    assert (missing.status, missing.json["details"]["path"]) == (404, "task_id")
    key = [("Idempotency-Key", "k")]
    first = await client.call("POST", ITEM, {"task_id": task_id}, key)
    again = await client.call("POST", ITEM, {"task_id": task_id}, key)
    assert first.json == again.json and again.headers["idempotency-replayed"] == "true"
    assert (await client.call("POST", ITEM, {"task_id": task_id, "status": 5}, key)).reason == "idempotency_key_reused"
    await client.post(f"/tasks/{task_id}/cancel")
    assert (await client.post(ITEM, {"task_id": task_id})).reason == "already_terminal"


async def test_what_has_ended_can_be_deleted(client: Client, task_id: str) -> None:
    own = await own_instance(client, task_id)
    await client.post(ITEM, {"id": OWN, "task_id": task_id})
    for instance_id in (own, OWN):
        assert (await client.delete(f"{ITEM}/{instance_id}")).reason == "not_terminal"
        await client.put(f"{ITEM}/{instance_id}", {"status": 40})
        answer = await client.delete(f"{ITEM}/{instance_id}")
        assert (answer.status, answer.json) == (200, None)
        assert (await client.get(f"{ITEM}/{instance_id}")).status == 404
        assert (await client.delete(f"{ITEM}/{instance_id}")).status == 404
        assert (await client.put(f"{ITEM}/{instance_id}", {"status": 1})).status == 404
    assert (await client.post(f"/tasks/{task_id}/retry")).status == 200
    [left] = (await client.post("/task-instances/page")).json["result"]
    assert (left["attempt"], left["status"]) == (2, 1)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["task_id"]),
        ({"task_id": UNUSED, "status": 30}, ["status"]),
        ({"task_id": UNUSED, "status": "doing"}, ["status"]),
        ({"task_id": "x", "agent_id": "a/b"}, ["task_id", "agent_id"]),
        ({"task_id": UNUSED, "output": "x"}, ["output"]),
    ],
)
async def test_what_is_wrong_with_a_record_is_named(client: Client, body: dict[str, Any], paths: list[str]) -> None:
    answer = await client.post(ITEM, body)
    assert (answer.status, list(answer.problems)) == (422, paths)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"metrics": {"cpu_time": 1}}, "metrics.memory_peak"),
        ({"metrics": {**METRICS, "disk_read": -1}}, "metrics.disk_read"),
        ({"exit_code": "0"}, "exit_code"),
        ({"task_id": UNUSED}, "task_id"),
        ({"update_mask": ["status"]}, "status"),
        ({"stdout": "x"}, "stdout"),
    ],
)
async def test_what_is_wrong_with_a_report_is_named(client: Client, task_id: str, body: Any, path: str) -> None:
    answer = await client.put(f"{ITEM}/{await own_instance(client, task_id)}", body)
    assert answer.status == 422 and path in answer.problems
    assert (await client.put(f"{ITEM}/{UNUSED}", {"status": 10})).status == 404
