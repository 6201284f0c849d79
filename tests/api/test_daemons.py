"""Daemons over the API: what is stored, how the seats stand now and then, and what is said of a task that has ended."""

from __future__ import annotations

from typing import Any

import trio

from hetuflow.domain.daemon_rules import DEFAULTS
from hetuflow.protocol.messages import Dispatch, Stop
from tests.api.memory_rooms import World
from tests.gateway.scripted import ScriptedAgent


async def a_daemon(world: World, **daemon: Any) -> str:
    job_id = await world.client.made("/jobs/item", {"name": "web", "config": {"retry_interval": 5}})
    return await world.client.made("/schedules/item", {"job_id": job_id, "kind": "daemon", "daemon": daemon})


async def seats(world: World, schedule_id: str, query: str = "") -> Any:
    answer = await world.client.get(f"/schedules/item/{schedule_id}/seats{query}")
    assert answer.status == 200, answer.json
    return answer.json


async def test_the_member_is_shown_complete_replaced_as_a_whole_and_cleared(world: World) -> None:
    schedule_id = await a_daemon(world, instances=2, restart_limit=3)
    path = f"/schedules/item/{schedule_id}"
    stored = (await world.client.get(path)).json
    assert stored["daemon"] == {**DEFAULTS, "instances": 2, "restart_limit": 3}
    assert (stored["kind"], stored["schedule_kind"], stored["enabled"]) == ("daemon", 3, True)
    assert (await world.client.put(path, stored)).status == 200, "what was fetched can be sent back"
    assert (await world.client.put(path, {"daemon": {"instances": 4}})).status == 200
    assert (await world.client.get(path)).json["daemon"] == {**DEFAULTS, "instances": 4}
    assert (await world.client.put(path, {"update_mask": ["daemon"]})).status == 200
    assert (await world.client.get(path)).json["daemon"] == DEFAULTS
    assert (await world.client.get(f"{path}/next")).json["result"] == []


async def test_what_does_not_fit_is_refused_with_its_path(world: World) -> None:
    job_id = await world.client.made("/jobs/item", {"name": "web"})
    sent: dict[str, Any] = {
        "job_id": job_id,
        "kind": "daemon",
        "daemon": {"instnaces": 1, "backoff_factor": 11, "max_unavailable": 0},
    }
    refused = await world.client.post("/schedules/item", sent)
    assert refused.status == 422
    assert set(refused.problems) == {"daemon.instnaces", "daemon.backoff_factor", "daemon.max_unavailable"}
    sent["daemon"] = {"backoff_initial_seconds": 10, "backoff_max_seconds": 5}
    refused = await world.client.post("/schedules/item", sent)
    assert set(refused.problems) == {"daemon.backoff_max_seconds"}


async def test_the_seats_now_and_then_and_what_follows_the_end_of_a_task(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery)
        await agent.connect()
        schedule_id = await a_daemon(world, instances=2, ready_after_seconds=0)
        orders = [await agent.expect(Dispatch) for _ in range(2)]
        await agent.say(*(agent.started(order) for order in orders))
        await trio.sleep(1)
        found = await seats(world, schedule_id)
        assert found["summary"] == "2 of 2 running." and found["available"] == 2
        assert [(each["seat"], each["state"], each["agent_id"]) for each in found["result"]] == [
            (0, "ready", "agent-1"),
            (1, "ready", "agent-1"),
        ]
        explained = (await world.client.get(f"/schedules/item/{schedule_id}/explain")).json
        assert explained["summary"].endswith("has no times of its own. Now: 2 of 2 running.")
        then = found["position"]

        ended = next(order for order in orders if order.environment["HETUFLOW_SEAT"] == "1")
        await agent.say(agent.ended(ended, "exit_code", exit_code=3))
        await trio.sleep(1)
        waiting = await seats(world, schedule_id)
        assert waiting["summary"].startswith("1 of 2 running. Seat 1 starts again at 20")
        told = (await world.client.get(f"/tasks/{ended.task_id}/explain")).json
        assert "Seat 1 starts again at 20" in told["summary"] and told["ended"]["code"] == "exit_code"
        assert (await seats(world, schedule_id, f"?as_of={then}"))["summary"] == "2 of 2 running."

        follower = await agent.expect(Dispatch)
        told = (await world.client.get(f"/tasks/{ended.task_id}/explain")).json
        assert told["summary"].endswith(f"Seat 1 of its daemon went on with task {follower.task_id}.")
        chain = (await world.client.get(f"/tasks/{follower.task_id}/explain")).json["cause"]["chain"]
        assert [event["type"] for event in chain][-2:] == ["SeatStarted", "TaskCreated"]
        retried = await world.client.post(f"/tasks/{ended.task_id}/retry")
        assert (retried.status, retried.reason) == (409, "not_retryable")
        nursery.cancel_scope.cancel()


async def test_one_that_gave_up_says_so_everywhere(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery)
        await agent.connect()
        schedule_id = await a_daemon(world, restart_limit=0)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order, "exit_code", exit_code=1))
        await trio.sleep(1)
        stored = (await world.client.get(f"/schedules/item/{schedule_id}")).json
        assert stored["enabled"] is False and "1 restarts within 3600 s, more than 0" in stored["status_note"]
        found = await seats(world, schedule_id)
        assert found["gave_up"] == stored["status_note"] and "enable it to start again" in found["summary"]
        told = (await world.client.get(f"/tasks/{order.task_id}/explain")).json
        assert "Its daemon gave up" in told["summary"]
        nursery.cancel_scope.cancel()


async def test_cascading_deletes_end_it_for_good(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery)
        await agent.connect()
        await a_daemon(world, instances=1, backoff_initial_seconds=0)
        order = await agent.expect(Dispatch)
        job_id = order.job_id
        assert (await world.client.delete(f"/jobs/item/{job_id}")).reason == "has_open_tasks"
        nursery.start_soon(_stop_obediently, agent, order)
        await agent.say(agent.started(order))
        assert (await world.client.delete(f"/jobs/item/{job_id}?cascade=cancel")).status == 200
        with trio.fail_after(30):
            while not await _have_all_ended(world):  # noqa: ASYNC110
                await trio.sleep(0.05)
        await trio.sleep(2)  # its back-off is none: what would start again starts at once
        assert await _have_all_ended(world)
        nursery.cancel_scope.cancel()


async def _have_all_ended(world: World) -> bool:
    page = (await world.client.post("/tasks/query", {})).json
    assert page["result"]
    return all(task["status"] >= 90 for task in page["result"])


async def _stop_obediently(agent: ScriptedAgent, order: Dispatch) -> None:

    await agent.expect(Stop)
    await agent.say(agent.ended(order, "cancelled", signal=15))


async def test_a_schedule_of_another_kind_has_no_seats(world: World) -> None:
    job_id = await world.client.made("/jobs/item", {"name": "x"})
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 60}
    schedule_id = await world.client.made("/schedules/item", sent)
    found = await seats(world, schedule_id)
    assert (found["result"], found["wanted"]) == ([], 0) and "not of kind daemon" in found["summary"]
    assert (await world.client.get("/schedules/item/01900000-0000-7000-8000-000000000000/seats")).status == 404
