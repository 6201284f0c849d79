"""Every decision of a life is taken again from its recorded command, and comes out the same."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trio
from attrs import evolve
from hypothesis import HealthCheck, given, settings

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryStore
from hetuflow.domain import commands
from hetuflow.domain.commands import DeleteTask, UpdateTask
from hetuflow.history.recorded_commands import COMMAND_BYTES_MAX, COMMANDS, CommandUnknown, read, record
from hetuflow.history.replay import Replay, appends, changes
from tests.api.memory_rooms import World, memory_world
from tests.api.test_as_of import Recorder, lives

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def lived(steps: Sequence[tuple[str, int]]) -> MemoryStore:
    """The log of a life with these steps."""
    async with memory_world() as world, trio.open_nursery() as nursery:
        await live(world, nursery, steps)
        nursery.cancel_scope.cancel()
    assert isinstance(world.store, MemoryStore)
    return world.store


async def live(world: World, nursery: trio.Nursery, steps: Sequence[tuple[str, int]]) -> None:
    recorder = Recorder(world, nursery)
    for operation, pick in steps:
        await recorder.act(operation, pick)
    job = await world.client.made("/jobs/item", {"name": "edited", "cron_expr": "0 0 * * *"})
    await world.client.put(f"/jobs/item/{job}", {"name": "again", "environment": {"A": "b"}})
    task = await world.client.made(f"/jobs/item/{job}/run", {"scheduled_at": "2030-01-01T00:00:00Z"})
    await world.client.post("/tasks/batch", {"tasks": [{"job_id": job}, {"job_id": job, "dependencies": [task]}]})
    instance = (await world.client.get(f"/tasks/{task}")).json["instance_id"]
    await world.client.put(f"/tasks/{task}", {"scheduled_at": "2031-01-01T00:00:00Z", "name": "later"})
    await world.client.put(f"/task-instances/item/{instance}", {"status": 10})


def loader(store: MemoryStore) -> Any:
    async def load(stream_id: str, position: int) -> Sequence[RecordedEvent]:
        return [event for event in store.log.streams.get(stream_id, []) if event.position <= position]

    return load


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=lives)
def test_every_decision_comes_out_the_same_with_few_states_in_memory_too(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        store = await lived(steps)
        for most in (100_000, 2):
            replay = Replay(loader(store), states_max=most)
            await replay.check(store.log.events)
            tally = replay.tally
            assert tally.differences == []
            assert (tally.unrecorded, tally.events) == (0, len(store.log.events))
            assert tally.same == tally.decisions > 0

    trio.run(main)


@pytest.fixture
async def store() -> MemoryStore:
    return await lived([("job", 0), ("run", 1), ("cancel", 0)])


async def test_a_decision_that_would_differ_is_reported_with_what_differs(store: MemoryStore) -> None:
    events = list(store.log.events)
    at = next(i for i, event in enumerate(events) if event.type == "TaskCreated")
    data = json.loads(events[at].data)
    events[at] = evolve(events[at], data=json.dumps({**data, "priority": 7}))
    replay = Replay(loader(store))
    await replay.check(events)
    first = replay.tally.differences[0]
    assert (first.position, first.command) == (events[at].position, "CreateTask")
    assert first.message == "TaskCreated.priority: recorded 7, today 1"


async def test_a_refusal_and_a_fold_that_fails_are_differences_too(store: MemoryStore) -> None:
    events = list(store.log.events)
    at = next(i for i, event in enumerate(events) if event.type in ("TaskCancelled", "InstanceCancelled"))
    metadata = json.loads(events[at].metadata)
    command = {"type": "DeleteTask", "data": {}, "now": metadata["command"]["now"]}
    events[at] = evolve(events[at], metadata=json.dumps({**metadata, "command": command}))
    replay = Replay(loader(store))
    await replay.check(events)
    assert "today it is refused (has_open_tasks)" in replay.tally.differences[0].message


async def test_older_events_without_a_command_are_counted_and_folded(store: MemoryStore) -> None:
    events = [
        evolve(event, metadata=json.dumps({k: v for k, v in json.loads(event.metadata).items() if k != "command"}))
        for event in store.log.events
    ]
    replay = Replay(loader(store))
    await replay.check(events)
    assert (replay.tally.unrecorded, replay.tally.different) == (replay.tally.decisions, 0)


async def test_conversations_and_people_are_told_by_the_metadata(store: MemoryStore) -> None:
    """What the system does by itself continues what a person or a tick began, and names its cause."""
    async with memory_world() as world, trio.open_nursery() as nursery:
        recorder = Recorder(world, nursery)
        await recorder._connect()
        job = await world.client.made("/jobs/item", {"name": "x"})
        task = await world.client.made(f"/jobs/item/{job}/run", {})
        with trio.fail_after(30):
            while (await world.client.get(f"/tasks/{task}")).json["status"] != 100:  # noqa: ASYNC110
                await trio.sleep(0.01)  # the scripted agent's time
        events = await world.store.read_stream(f"task-{task}")
        told = [json.loads(event.metadata) for event in events]
        assert {each["correlation_id"] for each in told} == {told[0]["correlation_id"]}
        by = {event.type: each["principal"] for event, each in zip(events, told, strict=True)}
        assert (by["TaskCreated"], by["TaskSucceeded"]) == ("user:1", "agent:worker-1")
        begun = next(each for event, each in zip(events, told, strict=True) if event.type == "InstanceStarted")
        assert begun["causation_id"] in {str(event.event_id) for event in events}
        for event in await world.store.read_all(limit=10_000):
            metadata = json.loads(event.metadata)
            names = {"correlation_id", "causation_id", "command_id", "principal", "request_id"}
            assert names <= metadata.keys() and metadata["correlation_id"] and metadata["principal"]
        nursery.cancel_scope.cancel()


def test_every_command_of_the_catalogue_is_known() -> None:
    own = {name for name, cls in vars(commands).items() if getattr(cls, "__module__", "").startswith(commands.__name__)}
    assert set(COMMANDS) == own - {"JobSnapshot", "CalendarSnapshot"}


def test_a_command_is_compact_and_a_large_one_is_only_named() -> None:
    assert stored(DeleteTask()) == {"type": "DeleteTask", "data": {}, "now": "2026-03-01T12:00:00Z"}
    large = record(UpdateTask(changes={"parameters": {"x": "y" * COMMAND_BYTES_MAX}}), NOW)
    assert large == {"type": "UpdateTask", "now": NOW}
    for kept in (None, {"type": "Nothing"}, large, {"type": "DeleteTask", "data": {"cascade": 7}, "now": "x"}):
        with pytest.raises(CommandUnknown):
            read(kept, lambda _id, _version: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_command_that_json_cannot_say_is_only_named(number: float) -> None:
    """msgspec writes such numbers as null, which a decision taken again would take for none."""
    assert stored(UpdateTask(changes={"parameters": {"x": [1.5, number]}})) == {
        "type": "UpdateTask",
        "now": "2026-03-01T12:00:00Z",
    }
    assert stored(UpdateTask(changes={"parameters": {"x": [1.5, None]}}))["data"] == {
        "changes": {"parameters": {"x": [1.5, None]}}
    }


def stored(command: object) -> Any:
    """As a reader of the log finds it."""
    return json.loads(msgspec.json.encode(record(command, NOW)))


def test_appends_are_the_events_of_one_command() -> None:
    assert list(appends([])) == []
    assert changes({"a": {"b": 1}}, {"a": {"b": 2}, "c": None}).keys() == {"a.b", "c"}
