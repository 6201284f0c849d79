"""config.retry over the API: kept, refused with its path, obeyed, and explained."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hetuflow.protocol.messages import Dispatch
from tests.api.client import Client
from tests.api.memory_rooms import World
from tests.gateway.scripted import ScriptedAgent


@pytest.mark.parametrize(
    ("policy", "path", "suggestion"),
    [
        ({"strategy": "exponentional"}, "strategy", "exponential"),
        ({"stratgy": "fixed"}, "stratgy", "strategy"),
        ({"factor": 0}, "factor", None),
        ({"jitter": 2}, "jitter", None),
        ({"on": ["lost", "laost"]}, "on[1]", "lost"),
        ({"exit_codes": {"nott": [1]}}, "exit_codes.nott", "not"),
        ({"exit_codes": [-1]}, "exit_codes[0]", None),
        ({"exit_codes": [1], "on": ["lost"]}, "exit_codes", None),
    ],
)
async def test_what_is_wrong_is_named(client: Client, policy: Any, path: str, suggestion: str | None) -> None:
    answer = await client.post("/jobs/item", {"name": "x", "config": {"retry": policy}})
    assert answer.status == 422
    assert answer.json["details"][0]["path"] == f"config.retry.{path}"
    assert answer.json["details"][0]["suggestion"] == suggestion


async def test_names_are_taken_in_any_spelling_and_shown_in_one(client: Client) -> None:
    policy = {"strategy": "Linear", "on": ["EXIT-CODE", "startError"], "factor": None}
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"retry": policy}})
    config = (await client.get(f"/jobs/item/{job_id}")).json["config"]
    assert config["retry"] == {"strategy": "linear", "on": ["exit_code", "start_error"]}


async def test_a_result_that_is_not_retried_is_explained(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect(slots=4)
        config = {"retry": {"exit_codes": {"not": [3]}}}
        job_id = await world.client.made("/jobs/item", {"name": "x", "config": config})
        task_id = await world.client.made(f"/jobs/item/{job_id}/run", {})
        order = await agent.expect(Dispatch)
        end = agent.ended(order, "exit_code", exit_code=3, started_at="2026-01-05T08:00:01Z")
        await agent.say(end)
        await agent.acknowledged(end.sequence)
        found = (await world.client.get(f"/tasks/{task_id}/explain")).json
        assert found["status"] == 90
        assert found["summary"].endswith("Not retried: exit code 3 is excluded by retry.exit_codes.")
        nursery.cancel_scope.cancel()


async def test_why_a_retry_went_elsewhere_and_why_it_came_back_is_explained(world: World) -> None:
    async with trio.open_nursery() as nursery:
        one = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await one.connect(slots=4)
        config = {"retry_interval": 0, "retry": {"prefer_other_agent": True}}
        job_id = await world.client.made("/jobs/item", {"name": "x", "config": config})
        task_id = await world.client.made(f"/jobs/item/{job_id}/run", {})
        order = await one.expect(Dispatch)
        two = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "two")
        await two.connect(slots=4)
        messages = []
        for agent, following in ((one, two), (two, one)):
            end = agent.ended(order, "exit_code", exit_code=3, started_at="2026-01-05T08:00:01Z")
            await agent.say(end)
            order = await following.expect(Dispatch)
            placed = (await world.client.get(f"/tasks/{task_id}/explain")).json["placed"]
            messages.append(placed["message"])
        assert messages == [
            "Agent two had the smallest share of its slots in use of the agents that fit, but for one, where an earlier"
            " attempt ended: 0 of its 4 slots in use.",
            "Agent one, where an earlier attempt ended, was taken all the same: no other agent that fits had a free slot;"
            " 0 of its 4 slots in use.",
        ]
        assert placed["details"]["avoided"] == ["one", "two"]
        nursery.cancel_scope.cancel()
