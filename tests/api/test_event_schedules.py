"""Event schedules over the API: created, refused, fired, explained."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.client import Client


async def until(client: Client, schedule_id: str, count: int) -> list[Any]:
    """The schedule's tasks, oldest first, once there are so many."""
    wanted = {"filter": {"schedule_id": {"eq": schedule_id}}, "page": {"order_bys": ["created_at", "id"]}}
    with trio.fail_after(10):
        while len(found := (await client.post("/tasks/page", wanted)).json["result"]) < count:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return list(found)


async def made(client: Client, **members: Any) -> str:
    job_id = await client.made("/jobs/item", {"name": "on-event", "config": {"cmd": "true"}})
    return await client.made("/schedules/item", {"job_id": job_id, "kind": "event", **members})


async def test_the_guides_snippet(client: Client) -> None:
    members = {"event_type": "file.created", "event_filter": {"path": "/data/input/*.csv"}}
    schedule_id = await made(client, **members, parameters={"mode": "fast"})
    shown = (await client.get(f"/schedules/item/{schedule_id}")).json
    assert {name: shown[name] for name in members} == members
    assert (shown["schedule_kind"], shown["kind"], shown["next_run_at"], shown["debounce_seconds"]) == (
        4,
        "event",
        None,
        0,
    )
    positions = {}
    for path in ("/data/input/x/a.csv", "/tmp/a.csv", "/data/input/a.csv"):
        answer = await client.post("/events", {"type": "file.created", "data": {"path": path}})
        positions[path] = answer.json["position"]
    [task] = await until(client, schedule_id, 1)
    assert task["parameters"] == {"path": "/data/input/a.csv", "mode": "fast"}
    assert (task["trigger"], task["schedule_kind"]) == ("event", 4)
    event = task["event"]
    assert (event["type"], event["position"], event["depth"], event["count"]) == (
        "file.created",
        positions["/data/input/a.csv"],
        1,
        None,
    )
    explained = (await client.get(f"/tasks/{task['id']}/explain")).json["cause"]
    assert explained["event_position"] == event["position"]
    assert [each["type"] for each in explained["chain"]] == ["ExternalEventReceived", "ScheduleFired", "TaskCreated"]
    assert (await client.get(f"/schedules/item/{schedule_id}/next")).json["result"] == []
    shown = (await client.get(f"/schedules/item/{schedule_id}")).json
    assert shown["fire_count"] == 1 and shown["last_run_at"] is not None


async def test_the_same_event_again_triggers_nothing(client: Client) -> None:
    schedule_id = await made(client, event_type="again.*")
    sent = {"type": "again.sent", "id": "one", "source": "here", "data": {"n": 1}}
    for duplicate in (False, True, True):
        assert (await client.post("/events", sent)).json["duplicate"] is duplicate
    await client.post("/events", {**sent, "id": "two"})
    assert len(await until(client, schedule_id, 2)) == 2


async def test_a_chain_of_jobs_is_explained_to_its_root(client: Client) -> None:
    first = await made(client, event_type="chain.begin")
    job_id = (await client.get(f"/schedules/item/{first}")).json["job_id"]
    second = await made(client, event_type="task.cancelled", event_filter={"job_id": job_id})
    await client.post("/events", {"type": "chain.begin"})
    [task] = await until(client, first, 1)
    assert (await client.post(f"/tasks/{task['id']}/cancel")).status == 200
    [follower] = await until(client, second, 1)
    assert follower["event"]["depth"] == 2 and follower["parameters"]["task_id"] == task["id"]
    chain = (await client.get(f"/tasks/{follower['id']}/explain")).json["cause"]["chain"]
    assert [each["type"] for each in chain] == [
        "ExternalEventReceived",
        "TaskCreated",
        "TaskCancelled",
        "ScheduleFired",
        "TaskCreated",
    ]


@pytest.mark.parametrize(
    ("members", "path", "suggestion"),
    [
        ({}, "event_type", None),
        ({"event_type": "a b"}, "event_type", None),
        ({"event_type": "task.faild"}, "event_type", "task.failed"),
        ({"event_type": "x", "event_filter": {"size": {"$gtt": 1}}}, "event_filter.size.$gtt", "$gt"),
        ({"event_type": "x", "event_filter": {"size": {"$gt": []}}}, "event_filter.size.$gt", None),
        ({"event_type": "x", "event_filter": {"$amy": []}}, "event_filter.$amy", "$any"),
        ({"event_type": "x", "event_filter": 1}, "event_filter", None),
        ({"event_type": "x", "debounce_seconds": -1}, "debounce_seconds", None),
    ],
)
async def test_mistakes_are_refused_by_name(
    client: Client, members: dict[str, Any], path: str, suggestion: str | None
) -> None:
    answer = await client.post(
        "/schedules/item", {"job_id": "550e8400-e29b-41d4-a716-446655440000", "kind": "event", **members}
    )
    assert answer.status == 422
    assert answer.problems == {path: suggestion}


async def test_what_an_event_was_to_a_schedule_is_explained(client: Client) -> None:
    before = (await client.post("/events", {"type": "why.not", "data": {"size": 50}})).json["position"]
    schedule_id = await made(client, event_type="why.*", event_filter={"size": {"$gt": 10}, "path": "/in/*"})

    async def sent(type_: str, **data: Any) -> int:
        return int((await client.post("/events", {"type": type_, "data": data})).json["position"])

    async def explained(position: int) -> Any:
        return (await client.get(f"/schedules/item/{schedule_id}/match?position={position}")).json

    other = await sent("another", size=50, path="/in/a")
    unfit = await sent("why.not", size=5, path="/in/a")
    fitting = await sent("why.not", size=50, path="/in/a")
    [task] = await until(client, schedule_id, 1)
    found = await explained(fitting)
    assert (found["outcome"], found["decision"]["data"]["task_id"]) == ("fired", task["id"])
    found = await explained(unfit)
    assert (found["outcome"], found["code"]) == ("not_matched", "filter")
    assert found["mismatches"] == [{"path": "size", "wanted": {"$gt": 10}, "found": 5}]
    assert (await explained(other))["code"] == "type"
    assert (await explained(before))["code"] == "other_kind"
    assert (await explained(found["position"] + 2))["code"] in ("own", "type")
    await client.post(f"/schedules/item/{schedule_id}/disable")
    assert (await explained(await sent("why.not", size=50, path="/in/b")))["code"] == "not_enabled"
    for query, status in (("", 200), ("?position=0", 400), ("?position=999999999", 404)):
        assert (await client.get(f"/schedules/item/{schedule_id}/match{query}")).status == status, query


async def test_a_skip_is_explained(client: Client) -> None:
    schedule_id = await made(client, event_type="skip.me")
    job_id = (await client.get(f"/schedules/item/{schedule_id}")).json["job_id"]
    await client.post(f"/jobs/item/{job_id}/disable")
    position = (await client.post("/events", {"type": "skip.me"})).json["position"]
    with trio.fail_after(10):
        while True:
            found = (await client.get(f"/schedules/item/{schedule_id}/match?position={position}")).json
            if found["outcome"] != "undecided":
                break
            await trio.sleep(0.02)
    assert (found["outcome"], found["code"]) == ("skipped", "job_disabled")


async def test_an_event_whose_data_do_not_fit_is_a_task_that_failed_and_says_why(client: Client) -> None:
    params = {"n": {"type": "integer", "required": True}}
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"params": params}})
    event = {"job_id": job_id, "kind": "event", "event_type": "x.y"}
    schedule_id = await client.made("/schedules/item", event)
    await client.post("/events", {"type": "x.y", "data": {"n": "many"}})
    [task] = await until(client, schedule_id, 1)
    found = (await client.get(f"/tasks/{task['id']}/explain")).json
    assert (found["status"], found["ended"]["code"]) == (90, "start_error")
    assert 'not started: parameters.n: must be an integer, got "many"' in found["summary"]
    instances = (await client.post("/task-instances/query", {"filter": {"task_id": {"$eq": task["id"]}}})).json[
        "result"
    ]
    assert [(each["status"], each["reason"], each["agent_id"], each["external"]) for each in instances] == [
        (90, "start_error", None, False)
    ]
