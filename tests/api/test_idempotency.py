"""The same request under the same key has one effect, whoever repeats it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.api.client import Answer, Client
from tests.api.memory_rooms import World

KEY = ("Idempotency-Key", "once-please")


async def keyed(client: Client, path: str, body: Any, key: str = KEY[1]) -> Answer:
    return await client.call("POST", path, body, [("Idempotency-Key", key)])


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/jobs/item", {"name": "x"}, {"name": "y"}),
        ("/jobs/item/{job}/run", {"parameters": {"a": 1}}, {"parameters": {"a": 2}}),
        (
            "/schedules/item",
            {"job_id": "{job}", "kind": "interval", "interval_secs": 5},
            {"job_id": "{job}", "kind": "interval", "interval_secs": 6},
        ),
        ("/schedules/item/{schedule}/execute", {}, {"priority": 1}),
        ("/tasks/create", {"job_id": "{job}"}, {"job_id": "{job}", "name": "n"}),
        ("/tasks/batch", {"tasks": [{"job_id": "{job}"}] * 2}, {"tasks": [{"job_id": "{job}"}]}),
        ("/agents/create", {"name": "a"}, {"name": "b"}),
    ],
)
async def test_a_repeated_request_gets_the_first_answer(world: World, path: str, body: Any, other: Any) -> None:
    client = world.client
    job = await client.made("/jobs/item", {"name": "x"})
    schedule = await client.made("/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 60})
    path = path.replace("{job}", job).replace("{schedule}", schedule)
    body, other = (json.loads(json.dumps(each).replace("{job}", job)) for each in (body, other))
    first = await keyed(client, path, body)
    assert first.status == 200 and "idempotency-replayed" not in first.headers
    head = await world.store.head()
    second = await keyed(client, path, dict(reversed(body.items())))
    assert second.json == first.json
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-hetuflow-position"] == first.headers["x-hetuflow-position"]
    conflict = await keyed(client, path, other)
    assert (conflict.status, conflict.reason) == (409, "idempotency_key_reused")
    assert await world.store.head() == head
    assert (await keyed(client, path, body, "another-key")).json != first.json


async def test_a_key_survives_the_servers_memory(world: World) -> None:
    first = await keyed(world.client, "/jobs/item", {"name": "x"})
    api = world.client._app.api
    api.memory = type(api.memory)()
    assert (await keyed(world.client, "/jobs/item", {"name": "x"})).json == first.json
    assert (await keyed(world.client, "/jobs/item", {"name": "y"})).reason == "idempotency_key_reused"


async def test_the_scope_is_method_and_path(world: World) -> None:
    client = world.client
    jobs = [await client.made("/jobs/item", {"name": "x"}) for _ in range(2)]
    tasks = {(await keyed(client, f"/jobs/item/{job}/run", {})).json["id"] for job in jobs}
    assert len(tasks) == 2
    again = await client.send("POST", f"/api/v1/jobs/item/{jobs[0]}/run/", b"", [KEY])
    assert again.json["id"] in tasks


async def test_a_replay_does_not_need_what_it_was_made_of(world: World) -> None:
    client = world.client
    job = await client.made("/jobs/item", {"name": "x"})
    first = await keyed(client, f"/jobs/item/{job}/run", {})
    await client.delete(f"/jobs/item/{job}?cascade=cancel")
    assert (await keyed(client, f"/jobs/item/{job}/run", {})).json == first.json


async def test_a_request_that_was_refused_does_not_use_up_the_key(world: World) -> None:
    assert (await keyed(world.client, "/jobs/item", {"nmae": "x"})).status == 422
    assert (await keyed(world.client, "/jobs/item", {"name": "x"})).status == 200


async def test_calls_at_the_same_time_have_one_effect(world: World) -> None:
    answers: list[Answer] = []

    async def one() -> None:
        answers.append(await keyed(world.client, "/jobs/item", {"name": "x"}))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    done = [answer for answer in answers if answer.status == 200]
    assert len({answer.json["id"] for answer in done}) == 1
    assert {answer.reason for answer in answers if answer.status != 200} <= {"idempotency_in_progress"}
    assert (await world.client.post("/jobs/page")).json["page"]["total"] == 1


async def test_a_chosen_id_with_a_key(world: World) -> None:
    body = {"id": "550e8400-e29b-41d4-a716-446655440000", "name": "x"}
    assert (await keyed(world.client, "/jobs/item", body)).status == 200
    assert (await keyed(world.client, "/jobs/item", body)).headers["idempotency-replayed"] == "true"
    assert (await world.client.post("/jobs/item", body)).reason == "already_exists"
    other = {**body, "id": "550e8400-e29b-41d4-a716-446655440001"}
    assert (await keyed(world.client, "/jobs/item", other)).reason == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ü"])
async def test_malformed_keys_are_400(world: World, key: str) -> None:
    answer = await keyed(world.client, "/jobs/item", {"name": "x"}, key)
    assert (answer.status, list(answer.problems)) == (400, ["header.Idempotency-Key"])
