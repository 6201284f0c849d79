"""T9 and `dependencies`: many tasks at once, and tasks that wait for others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.client import API, Client
from tests.api.memory_rooms import World

JSON = [("Content-Type", "application/json")]
UNUSED = "550e8400-e29b-41d4-a716-4466554400ff"
A, B, C = (f"550e8400-e29b-41d4-a716-44665544001{n}" for n in range(3))


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x", "config": {"max_retries": 0}})


async def until_settled(client: Client, task_id: str, count: int) -> list[dict[str, Any]]:
    """The task's events once it was told of so many ends: the log's followers are a moment behind."""
    while True:
        events = (await client.get(f"/tasks/{task_id}/history?limit=100")).json["result"]
        settled = [event for event in events if event["type"] == "TaskDependencySettled"]
        if len(settled) >= count:
            return [event for event in events if event["version"] >= settled[0]["version"]]


async def end(client: Client, task_id: str, status: int) -> None:
    """The task's execution outside the agents ends so."""
    instance = (await client.get(f"/tasks/{task_id}")).json["instance_id"]
    answer = await client.put(f"/task-instances/item/{instance}", {"status": status})
    assert answer.status == 200, answer.json


# --- T9 ---------------------------------------------------------------------------------------------------------------


async def test_a_batch_is_one_commit_in_the_order_of_the_request(world: World, job_id: str) -> None:
    client = world.client
    before = await world.store.head()
    tasks = [{"job_id": job_id, "name": f"t{n}", **({"id": A} if n == 1 else {})} for n in range(3)]
    answer = await client.post("/tasks/batch", {"tasks": tasks})
    assert answer.status == 200
    ids = [each["id"] for each in answer.json["result"]]
    assert [(await client.get(f"/tasks/{each}")).json["name"] for each in ids] == ["t0", "t1", "t2"]
    assert ids[1] == A and int(answer.headers["x-hetuflow-position"]) == before + 3
    events = await world.store.read_all(after=before)
    assert [event.type for event in events[:3]] == ["TaskCreated"] * 3
    assert len({json.loads(event.metadata)["command_id"] for event in events[:3]}) == 1
    assert len({event.recorded_at for event in events[:3]}) == 1


async def test_a_thousand_tasks_in_one_request(world: World, job_id: str) -> None:
    client = world.client
    answer = await client.post("/tasks/batch", {"tasks": [{"job_id": job_id}] * 1000})
    assert answer.status == 200 and len({each["id"] for each in answer.json["result"]}) == 1000
    assert (await client.post("/tasks/query")).json["page"]["total"] == 1000
    head = await world.store.head()
    for tasks in ([], [{"job_id": job_id}] * 1001):
        refused = await client.post("/tasks/batch", {"tasks": tasks})
        assert (refused.status, list(refused.problems)) == (422, ["tasks"])
    assert await world.store.head() == head


async def test_a_batch_may_be_larger_than_other_bodies(client: Client, job_id: str) -> None:
    task = {"job_id": job_id, "parameters": {"blob": "x" * 100_000}}
    body = json.dumps({"tasks": [task] * 30}).encode() + b" " * 13_000_000
    assert 2 * 1024 * 1024 < len(body) < 16 * 1024 * 1024
    assert (await client.send("POST", f"{API}/tasks/create", body, JSON)).status == 413
    assert (await client.send("POST", f"{API}/tasks/batch", body, JSON)).status == 200
    beyond = [*JSON, ("Content-Length", str(16 * 1024 * 1024 + 1))]
    assert (await client.send("POST", f"{API}/tasks/batch", b"{}", beyond)).status == 413


async def test_what_is_wrong_with_every_task_of_a_batch_is_told_and_nothing_is_made(world: World, job_id: str) -> None:
    client = world.client
    tasks = [
        {"job_id": job_id, "status": 10},
        {"job_id": job_id},
        {"name": "n"},
        {"job_id": job_id, "config": {"timout": 5}, "dependencies": {"task_ids": [UNUSED]}},
        {"job_id": job_id, "dependencies": [UNUSED]},
        "no task",
    ]
    head = await world.store.head()
    answer = await client.post("/tasks/batch", {"tasks": tasks})
    assert answer.status == 422
    assert list(answer.problems) == [
        "tasks[0].status",
        "tasks[2].job_id",
        "tasks[3].config.timout",
        "tasks[4].dependencies.task_ids[0]",
        "tasks[5]",
    ]
    missing = await client.post("/tasks/batch", {"tasks": [{"job_id": UNUSED}, {"job_id": job_id}, {"job_id": A}]})
    assert (missing.status, missing.json["details"]["path"]) == (404, "tasks[0].job_id")
    assert [each["path"] for each in missing.json["details"]["all"]] == ["tasks[0].job_id", "tasks[2].job_id"]
    twice = await client.post("/tasks/batch", {"tasks": [{"job_id": job_id, "id": A}, {"job_id": job_id, "id": A}]})
    assert list(twice.problems) == ["tasks[1].id"]
    assert await world.store.head() == head


async def test_one_id_that_is_in_use_refuses_the_whole_batch(world: World, job_id: str) -> None:
    client = world.client
    await client.made("/tasks/create", {"job_id": job_id, "id": A})
    head = await world.store.head()
    for tasks in ([{"id": B}, {"id": A}], [{"id": A}, {"id": B}]):
        answer = await client.post("/tasks/batch", {"tasks": [{"job_id": job_id, **each} for each in tasks]})
        assert (answer.reason, answer.json["details"]["id"]) == ("already_exists", A)
    assert await world.store.head() == head


async def test_a_schedule_that_makes_its_own_tasks_takes_none_by_batch(client: Client, job_id: str) -> None:
    schedule = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_secs": 3600})
    other = await client.made("/jobs/item", {"name": "y"})
    answer = await client.post("/tasks/batch", {"tasks": [{"job_id": job_id, "schedule_id": schedule}]})
    assert (answer.reason, answer.json["details"]["path"]) == ("schedule_not_valid", "tasks[0].schedule_id")
    wrong = await client.post("/tasks/batch", {"tasks": [{"job_id": other, "schedule_id": schedule}]})
    assert list(wrong.problems) == ["tasks[0].schedule_id"]


# --- dependencies -----------------------------------------------------------------------------------------------------


async def test_a_batch_of_tasks_that_wait_for_each_other(client: Client, job_id: str) -> None:
    tasks = [
        {"job_id": job_id, "id": C, "dependencies": {"task_ids": [A, B], "why": "both"}},
        {"job_id": job_id, "id": A},
        {"job_id": job_id, "id": B, "dependencies": [A]},
    ]
    assert (await client.post("/tasks/batch", {"tasks": tasks})).status == 200
    waiting = (await client.get(f"/tasks/{C}")).json
    assert waiting["dependencies"] == {"task_ids": [A, B], "on_failure": "cancel", "why": "both"}
    assert waiting["status"] == 1
    await end(client, A, 100)
    await until_settled(client, B, 1)
    await end(client, B, 100)
    events = await until_settled(client, C, 2)
    assert [(each["data"]["dependency_id"], each["data"]["open_count"]) for each in events] == [(A, 1), (B, 0)]
    assert (await client.get(f"/tasks/{C}")).json["status"] == 1


async def test_a_task_that_waits_for_one_that_fails_is_cancelled_and_so_is_what_waits_for_it(
    client: Client, job_id: str
) -> None:
    tasks = [
        {"job_id": job_id, "id": A},
        {"job_id": job_id, "id": B, "dependencies": [A]},
        {"job_id": job_id, "id": C, "dependencies": [B]},
    ]
    assert (await client.post("/tasks/batch", {"tasks": tasks})).status == 200
    await end(client, A, 90)
    assert (await client.get(f"/tasks/{A}")).json["status"] == 90
    events = await until_settled(client, C, 1)
    cancelled = next(event for event in events if event["type"] == "TaskCancelled")
    assert (cancelled["data"]["cause"], cancelled["data"]["reason"]) == ("dependency", f"task {B} ended Cancelled")
    told = [("X-Hetuflow-Min-Position", str(cancelled["position"]))]
    assert [(await client.get(f"/tasks/{each}", headers=told)).json["status"] for each in (B, C)] == [99, 99]


async def test_a_task_may_run_although_what_it_waits_for_failed(client: Client, job_id: str) -> None:
    first = await client.made("/tasks/create", {"job_id": job_id})
    dependencies = {"task_ids": [first], "on_failure": "RUN"}
    second = await client.made("/tasks/create", {"job_id": job_id, "dependencies": dependencies})
    await client.post(f"/tasks/{first}/cancel")
    [settled] = await until_settled(client, second, 1)
    assert (settled["data"]["status"], settled["data"]["open_count"]) == (99, 0)
    assert (await client.get(f"/tasks/{second}")).json["status"] == 1


async def test_what_has_ended_already_is_not_waited_for(client: Client, job_id: str) -> None:
    first = await client.made("/tasks/create", {"job_id": job_id})
    await end(client, first, 100)
    second = await client.made("/tasks/create", {"job_id": job_id, "dependencies": [first, first]})
    assert len(await until_settled(client, second, 1)) == 1


async def test_a_retry_waits_for_what_is_open_again(client: Client, job_id: str) -> None:
    first = await client.made("/tasks/create", {"job_id": job_id})
    second = await client.made("/tasks/create", {"job_id": job_id, "dependencies": [first]})
    await end(client, first, 90)
    await until_settled(client, second, 1)
    assert (await client.post(f"/tasks/{first}/retry")).status == 200
    assert (await client.post(f"/tasks/{second}/retry")).status == 200
    reopened = (await client.get(f"/tasks/{second}/history")).json["result"][-1]
    assert (reopened["type"], reopened["data"]["waits_for"]) == ("TaskReopened", [first])
    await end(client, first, 100)
    assert (await until_settled(client, second, 2))[-1]["data"]["status"] == 100
    assert (await client.get(f"/tasks/{second}")).json["status"] == 1


async def test_dependencies_may_change_while_the_task_waits(client: Client, job_id: str) -> None:
    first, second, third = [await client.made("/tasks/create", {"job_id": job_id}) for _ in range(3)]
    assert (await client.put(f"/tasks/{third}", {"dependencies": [first]})).status == 200
    task = (await client.get(f"/tasks/{third}")).json
    assert (await client.put(f"/tasks/{third}", task)).status == 200
    assert (await client.get(f"/tasks/{third}")).json == task
    assert (await client.put(f"/tasks/{second}", {"dependencies": [third]})).status == 200
    for ids, path in (([third], "task_ids"), ([second], "task_ids"), ([UNUSED], "task_ids[0]")):
        answer = await client.put(f"/tasks/{third}", {"dependencies": {"task_ids": ids}})
        assert (answer.status, list(answer.problems)) == (422, [f"dependencies.{path}"]), ids
    assert (await client.put(f"/tasks/{third}", {"update_mask": ["dependencies"]})).status == 200
    assert (await client.get(f"/tasks/{third}")).json["dependencies"] is None
    await end(client, third, 100)
    assert (await client.put(f"/tasks/{third}", {"dependencies": [first]})).reason == "already_started"


@pytest.mark.parametrize(
    ("dependencies", "path"),
    [
        ({"task_ids": "x"}, "dependencies.task_ids"),
        ({"task_ids": ["x"]}, "dependencies.task_ids[0]"),
        ([1], "dependencies[0]"),
        ("x", "dependencies"),
        ({"on_failure": "stop"}, "dependencies.on_failure"),
        ({"task_ids": [UNUSED]}, "dependencies.task_ids[0]"),
    ],
)
async def test_what_is_wrong_with_dependencies_is_named(
    client: Client, job_id: str, dependencies: Any, path: str
) -> None:
    answer = await client.post("/tasks/create", {"job_id": job_id, "dependencies": dependencies})
    assert (answer.status, list(answer.problems)) == (422, [path])


async def test_a_circle_within_a_batch_is_refused(client: Client, job_id: str) -> None:
    tasks = [
        {"job_id": job_id, "id": A, "dependencies": [C]},
        {"job_id": job_id, "id": B, "dependencies": [A]},
        {"job_id": job_id, "id": C, "dependencies": [B]},
    ]
    answer = await client.post("/tasks/batch", {"tasks": tasks})
    assert (answer.status, list(answer.problems)) == (422, ["tasks[0].dependencies.task_ids"])
    assert "circle" in answer.json["message"]
