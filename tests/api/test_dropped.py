"""What retention has dropped: 410 where it was, and never a claim that it had not been there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from hetuflow.protocol.messages import Dispatch
from tests.api.memory_rooms import World
from tests.api.test_logs import AT, printed
from tests.gateway.scripted import ScriptedAgent


async def ended(world: World, *parts: tuple[str, bytes], **said: Any) -> str:
    """An instance that was given up before it began, after all that its agent may have said of it."""
    instance_id = await printed(world, *parts)
    task = next(row for row in (await world.client.post("/tasks/page")).json["result"])["id"]
    assert (await world.client.post(f"/tasks/{task}/cancel")).status == 200
    return instance_id


@pytest.fixture
def later(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Everything older than tomorrow was dropped."""

    def drop() -> None:
        async def dropped_before() -> datetime:
            return world.rooms.clock.now() + timedelta(days=1)

        for store in (world.rooms.output, world.rooms.artifacts):
            monkeypatch.setattr(store, "dropped_before", dropped_before)

    return drop


async def test_what_is_here_is_shown_whatever_the_horizon(world: World, later: Any) -> None:
    instance_id = await ended(world, ("stdout", b"kept\n"))
    later()
    logs = await world.client.get(f"/task-instances/item/{instance_id}/logs")
    assert (logs.status, logs.json["result"][0]["text"]) == (200, "kept\n")
    shown = await world.client.get(f"/task-instances/item/{instance_id}")
    assert (shown.json["output"], shown.json["output_truncated"]) == ("kept\n", False)


async def test_what_never_printed_has_an_empty_log(world: World, later: Any) -> None:
    """It never ran, which the log of events knows: there is nothing that could have been dropped."""
    instance_id = await ended(world)
    later()
    assert (await world.client.get(f"/task-instances/item/{instance_id}/logs")).json["result"] == []
    shown = await world.client.get(f"/task-instances/item/{instance_id}")
    assert (shown.json["output"], shown.json["output_truncated"]) == (None, False)


async def test_what_has_not_ended_is_not_too_old(world: World, later: Any) -> None:
    instance_id = await printed(world)
    later()
    assert (await world.client.get(f"/task-instances/item/{instance_id}/logs")).status == 200
    assert (await world.client.get(f"/task-instances/item/{instance_id}/artifacts/x")).status == 404


async def ran(world: World, output: Any, artifacts: tuple[Any, ...] = ()) -> str:
    """An instance that its agent says to have printed and left this; nothing of it is stored."""
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery)
        await agent.connect()
        job = await world.client.made("/jobs/item", {"name": "x", "config": {"max_retries": 0}})
        await world.client.made(f"/jobs/item/{job}/run", {})
        order = await agent.expect(Dispatch)
        report = attrs.evolve(agent.ended(order, None, output=output, started_at=AT), artifacts=artifacts)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
        nursery.cancel_scope.cancel()
    return order.instance_id


PRINTED = {"stdout": {"bytes": 2, "kept": 2, "shipped": 2, "sha256": "0" * 64}, "dropped": 0}
LEFT = ({"path": "out/a", "bytes": 5, "sha256": "ab" * 32}, {"path": "*.log", "problem": "no file fits"})


async def test_what_was_printed_and_dropped_is_gone(world: World, later: Any) -> None:
    instance_id = await ran(world, PRINTED)
    path = f"/task-instances/item/{instance_id}"
    assert (await world.client.get(f"{path}/logs")).json["complete"] is False  # its agent may still send it
    later()
    for query in ("", "?stream=stderr", "?follow=true"):
        answer = await world.client.get(f"{path}/logs{query}")
        assert (answer.status, answer.json["code"]) == (410, "GONE")
        assert answer.json["details"]["dropped_before"].endswith("Z")
    shown = (await world.client.get(path)).json
    assert (shown["output"], shown["output_truncated"]) == (None, True)
    (row,) = (await world.client.post("/task-instances/page")).json["result"]
    assert (row["output"], row["output_truncated"]) == (None, True)


async def test_what_printed_nothing_is_not_gone(world: World, later: Any) -> None:
    nothing = {"stdout": {"bytes": 0, "kept": 0, "shipped": 0, "sha256": "0" * 64}, "dropped": 0}
    instance_id = await ran(world, nothing)
    later()
    assert (await world.client.get(f"/task-instances/item/{instance_id}/logs")).status == 200


async def test_files_that_were_dropped_are_listed_and_gone(world: World, later: Any) -> None:
    instance_id = await ran(world, PRINTED, LEFT)
    base = f"/task-instances/item/{instance_id}/artifacts"
    coming = (await world.client.get(base)).json
    assert coming["complete"] is False
    assert [(row["path"], row["problem"]) for row in coming["result"]] == [("*.log", "no file fits"), ("out/a", None)]
    assert (await world.client.get(f"{base}/out/a")).reason == "artifact_incomplete"
    later()
    listed = (await world.client.get(base)).json
    assert listed["complete"] is True and listed["result"][1]["problem"] == "dropped by retention"
    assert (await world.client.get(f"{base}/out/a")).status == 410
    assert (await world.client.get(f"{base}/never")).status == 404
