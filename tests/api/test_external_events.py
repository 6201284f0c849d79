"""E1: events from outside are recorded once, whoever sends them how often."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import trio

from hetuflow.domain import external
from tests.api.client import Answer, Client
from tests.api.memory_rooms import World

SENT = {"type": "file.created", "id": "a-1", "source": "importer", "data": {"path": "/data/input/a.csv", "n": [1]}}


async def test_an_event_is_in_the_feed(world: World) -> None:
    client = world.client
    answer = await client.post("/events", {**SENT, "time": "2026-03-01T12:00:00+01:00"})
    assert answer.status == 200
    position = answer.json["position"]
    assert answer.json == {"id": "a-1", "position": position, "duplicate": False}
    assert answer.headers["x-hetuflow-position"] == str(position)
    for query in (
        "stream=external-importer",
        "stream=external",
        "event_type=file.created",
        "type=ExternalEventReceived",
    ):
        [event] = (await client.get(f"/events?{query}")).json["result"]
        assert (event["position"], event["stream_id"], event["version"]) == (position, "external-importer", 1)
    data = event["data"]
    assert (data["id"], data["source"], data["type"], data["data"]) == ("a-1", "importer", "file.created", SENT["data"])
    assert data["time"] == "2026-03-01T11:00:00Z" and "file.created" in event["summary"]
    assert (await client.get("/events?event_type=file.deleted")).json["result"] == []


async def test_the_same_event_again_is_a_duplicate_and_another_content_is_refused(world: World) -> None:
    first = (await world.client.post("/events", SENT)).json
    head = await world.store.head()
    again = await world.client.post("/events", dict(reversed(SENT.items())))
    assert (again.status, again.json) == (200, {**first, "duplicate": True})
    for other in ({"type": "file.deleted"}, {"data": {}}, {"time": "2026-03-01T12:00:00Z"}):
        answer = await world.client.post("/events", {**SENT, **other})
        assert (answer.reason, answer.json["details"]["position"]) == ("event_id_reused", first["position"])
    assert await world.store.head() == head
    assert (await world.client.post("/events", {**SENT, "source": "other"})).json["duplicate"] is False
    assert (await world.client.post("/events", {**SENT, "id": "a-2"})).json["duplicate"] is False


async def test_what_is_left_out_has_defaults(client: Client) -> None:
    answer = (await client.post("/events", {"type": "x"})).json
    assert UUID(answer["id"]).version == 7
    [event] = (await client.get("/events?stream=external")).json["result"]
    assert (event["data"]["source"], event["data"]["data"]) == ("default", {})
    other = (await client.post("/events", {"type": "x"})).json
    assert other["id"] != answer["id"]


async def test_many_at_once_are_recorded_once(world: World) -> None:
    answers: list[Answer] = []

    async def send(number: int) -> None:
        answers.append(await world.client.post("/events", {**SENT, "id": f"e-{number % 3}"}))

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(send, number)
    assert {answer.status for answer in answers} == {200}
    assert sum(not answer.json["duplicate"] for answer in answers) == 3
    assert len({answer.json["position"] for answer in answers}) == 3


async def test_an_event_is_known_however_long_ago_it_came(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "REMEMBERED_MAX", 2)
    first = [(await world.client.post("/events", {**SENT, "id": str(number)})).json for number in range(5)]
    again = [(await world.client.post("/events", {**SENT, "id": str(number)})).json for number in range(5)]
    assert again == [{**each, "duplicate": True} for each in first]


async def test_a_key_names_an_event_without_an_id(client: Client) -> None:
    async def keyed(body: Any) -> Answer:
        return await client.call("POST", "/events", body, [("Idempotency-Key", "k")])

    first, again = await keyed({"type": "x"}), await keyed({"type": "x"})
    assert first.json == again.json and first.json["duplicate"] is False
    assert again.headers["idempotency-replayed"] == "true"
    assert (await keyed({"type": "y"})).reason == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "type"),
        ({"type": ""}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "task.failed"}, "type"),
        ({"type": "x" * 129}, "type"),
        ({"type": "x", "data": []}, "data"),
        ({"type": "x", "id": ""}, "id"),
        ({"type": "x", "source": "a/b"}, "source"),
        ({"type": "x", "time": "now"}, "time"),
        ({"type": "x", "payload": {}}, "payload"),
    ],
)
async def test_what_is_wrong_with_an_event_is_named(client: Client, body: dict[str, Any], path: str) -> None:
    answer = await client.post("/events", body)
    assert (answer.status, list(answer.problems)) == (422, [path])


async def test_what_belongs_to_hetuflow_begins_with_a_point_only_there(client: Client) -> None:
    assert (await client.post("/events", {"type": "tasks.done"})).status == 200


def test_a_source_is_kept_as_a_snapshot() -> None:
    state = external.ExternalState(7, {"a": "1", "b": "2"})
    text = external.EXTERNAL.dump_state(state)
    assert external.EXTERNAL.load_state(text) == state
    assert json.loads(text)["version"] == 7
