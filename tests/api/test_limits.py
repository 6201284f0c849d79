"""config.limits over the API: kept as sent, refused with its path, obeyed, and explained with who holds what."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hetuflow.protocol.messages import Dispatch
from tests.api.client import Client
from tests.api.memory_rooms import World
from tests.api.test_explain import codes, explained
from tests.gateway.scripted import ScriptedAgent


@pytest.mark.parametrize(
    ("limits", "path", "suggestion"),
    [
        ({"concurrency": 0}, "concurrency", None),
        ({"concurency": 1}, "concurency", "concurrency"),
        ({"keys": "db"}, "keys", None),
        ({"keys": ["a b"]}, "keys[0]", None),
        ({"keys": [{"concurrency": 1}]}, "keys[0].name", None),
        ({"keys": [{"name": "a", "concurency": 1}]}, "keys[0].concurency", "concurrency"),
        ({"keys": ["a", {"name": "a"}]}, "keys[1]", None),
        ({"rate": {"count": 1}}, "rate.per_seconds", None),
        ({"rate": {"count": 0, "per_seconds": 1}}, "rate.count", None),
        ({"rate": {"count": 1001, "per_seconds": 1}}, "rate.count", None),
    ],
)
async def test_what_is_wrong_is_named(client: Client, limits: Any, path: str, suggestion: str | None) -> None:
    answer = await client.post("/jobs/item", {"name": "x", "config": {"limits": limits}})
    assert answer.status == 422, answer.json
    assert answer.json["details"][0]["path"] == f"config.limits.{path}"
    assert answer.json["details"][0]["suggestion"] == suggestion


async def test_a_run_may_have_limits_of_its_own(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"limits": {"concurrency": 3}}})
    task_id = await client.made(f"/jobs/item/{job_id}/run", {"config": {"limits": {"keys": ["db"]}}})
    task = (await client.get(f"/tasks/{task_id}")).json
    assert task["config"]["limits"] == {"keys": ["db"]}, "a member as a whole, as any other of config"


async def test_the_limit_that_is_waited_for_is_explained(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect(slots=9)

        async def job(name: str, **limits: Any) -> str:
            return await world.client.made("/jobs/item", {"name": name, "config": {"limits": limits}})

        async def run(job_id: str) -> str:
            return await world.client.made(f"/jobs/item/{job_id}/run", {})

        alone = await job("alone", concurrency=1)
        keyed, other = await job("keyed", keys=["db"]), await job("other", keys=[{"name": "db", "concurrency": 7}])
        rated = await job("rated", rate={"count": 1, "per_seconds": 3600})
        holders = {each: await run(each) for each in (alone, keyed, rated)}
        sent = {(await agent.expect(Dispatch)).task_id for _ in holders}
        assert sent == set(holders.values())
        waiting = {each: await run(each) for each in (alone, other, rated)}

        found = await explained(world, waiting[alone])
        assert codes(found) == ["limit_reached"]
        assert found["waiting_for"][0]["details"] == {
            "kind": "job",
            "name": alone,
            "limit": 1,
            "running": 1,
            "task_ids": [holders[alone]],
        }
        assert (
            found["summary"] == f"Waiting: 1 task runs for its job, which is the limit of 1 (held by {holders[alone]})."
        )

        found = await explained(world, waiting[other])
        details = found["waiting_for"][0]["details"]
        assert (details["kind"], details["name"], details["limit"]) == ("key", "db", 1)
        assert details["task_ids"] == [holders[keyed]]

        found = await explained(world, waiting[rated])
        reason = found["waiting_for"][0]
        assert codes(found) == ["limit_reached"] and reason["until"] > found["at"]
        assert reason["details"] == {"kind": "rate", "name": rated, "limit": 1, "per_seconds": 3600}
        past = await explained(world, waiting[rated], f"?as_of={found['position']}")
        assert past["waiting_for"] == found["waiting_for"], "the past says the same"

        await world.client.post(f"/tasks/{waiting[alone]}/cancel")
        assert (await explained(world, waiting[alone]))["ended"]["code"] == "cancelled_by_user"
        nursery.cancel_scope.cancel()
