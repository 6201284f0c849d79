"""T10: why a task exists, what it waits for, why it ran there and how it ended, for every code there is."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hetuflow.protocol.messages import Condition, Dispatch, Ping, Pong, Stop
from tests.api.memory_rooms import World
from tests.gateway.scripted import ScriptedAgent


async def explained(world: World, task: str, query: str = "") -> Any:
    answer = await world.client.get(f"/tasks/{task}/explain{query}")
    assert answer.status == 200, answer.json
    return answer.json


def codes(explanation: Any) -> list[str]:
    return [each["code"] for each in explanation["waiting_for"]]


async def a_run(world: World, run: Any = None, **job: Any) -> tuple[str, str]:
    job_id = await world.client.made("/jobs/item", {"name": "nightly", **job})
    return job_id, await world.client.made(f"/jobs/item/{job_id}/run", run or {})


async def test_one_that_nobody_can_take_yet(world: World) -> None:
    _, task = await a_run(world)
    found = await explained(world, task)
    assert codes(found) == ["no_agent_connected"]
    assert found["summary"] == "Waiting: no agent is connected."
    assert (found["status"], found["ended"], found["placed"], found["agents"]) == (1, None, None, [])
    cause = found["cause"]
    assert (cause["trigger"], cause["principal"], cause["schedule_id"]) == ("run", "user:1", None)
    assert cause["request_id"] and [event["type"] for event in cause["chain"]] == ["TaskCreated"]
    assert (await world.client.get("/tasks/01900000-0000-7000-8000-000000000000/explain")).status == 404


async def test_labels_pins_draining_and_full_agents(world: World) -> None:
    async with trio.open_nursery() as nursery:
        one = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await one.connect(slots=1, labels={"zone": "a"})
        two = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "two")
        await two.connect(slots=1, labels={"gpu": "false"})

        _, labelled = await a_run(world, config={"labels": {"gpu": "true"}})
        found = await explained(world, labelled)
        assert found["summary"] == "Waiting: no connected agent has label gpu=true."
        assert codes(found) == ["no_agent_with_labels"]
        assert {each["agent_id"]: (each["code"], each["message"]) for each in found["agents"]} == {
            "one": ("labels_differ", "has no label gpu=true"),
            "two": ("labels_differ", "has gpu=false, not true"),
        }
        _, both = await a_run(world, config={"labels": {"gpu": "false", "zone": "a"}})
        assert "has all of the labels gpu=false, zone=a" in (await explained(world, both))["summary"]

        await world.client.post("/agents/create", {"id": "three", "name": "builder"})
        _, pinned = await a_run(world, agent_id="three")
        found = await explained(world, pinned)
        assert codes(found) == ["pinned_agent_offline"]
        assert {each["code"] for each in found["agents"]} == {"not_pinned", "offline"}

        await world.client.post("/agents/one/drain")
        _, drained = await a_run(world, config={"labels": {"zone": "a"}})
        assert codes(await explained(world, drained)) == ["agents_draining"]

        await a_run(world)
        await two.expect(Dispatch)
        _, waiting = await a_run(world)
        found = await explained(world, waiting)
        assert codes(found) == ["agents_full"]
        assert found["waiting_for"][0]["details"] == {"agents": ["two"], "slots": 1}
        assert {each["agent_id"]: each["code"] for each in found["agents"]} == {
            "one": "draining",
            "two": "full",
            "three": "offline",
        }
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "pin, said",
    [
        ("agent-1", "; the nearest known one is agent-01."),
        ("big-builde", "; the nearest known one is x-7 (big-builder)."),
        ("big-builder", ": that is the name of x-7, and an agent's id is wanted."),
        ("nothing-like-it", "."),
    ],
)
async def test_one_that_is_pinned_to_an_agent_that_there_is_not(world: World, pin: str, said: str) -> None:
    for agent_id, name in (("agent-01", "agent-01"), ("x-7", "big-builder")):
        await world.client.post("/agents/create", {"id": agent_id, "name": name})
    _, task = await a_run(world, agent_id=pin)
    found = await explained(world, task)
    assert codes(found) == ["pinned_agent_offline"] and found["waiting_for"][0]["details"] == {"agent_id": pin}
    assert found["waiting_for"][0]["message"] == f"There is no agent {pin}, to which it is pinned{said}"


async def test_agents_that_take_nothing_for_a_reason_of_their_own(world: World) -> None:
    refusal = "disk: 80 MB are free at /w, executor.disk_free_min is 5%"
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect(slots=1)
        await a_run(world)
        await agent.expect(Dispatch)
        await agent.say(Condition(facts={"refusal": refusal}), Ping(token="heard?"))
        await agent.expect(Pong)
        _, task = await a_run(world)
        found = await explained(world, task)
        assert codes(found) == ["agents_refusing"]
        assert found["summary"] == f"Waiting: the agent that fits is taking nothing now: one ({refusal})."
        [answer] = found["agents"]
        assert (answer["code"], answer["message"]) == ("refusing", f"takes nothing now: {refusal}")
        past = await explained(world, task, f"?as_of={await world.store.head()}")
        assert codes(past) == ["agents_full"]  # what an agent says of itself is not in the log
        await agent.say(Condition(facts={}), Ping(token="heard?"))
        await agent.expect(Pong)
        assert codes(await explained(world, task)) == ["agents_full"]
        nursery.cancel_scope.cancel()


async def test_one_that_is_not_due_yet(world: World) -> None:
    _, task = await a_run(world, {"scheduled_at": "2030-01-01T00:00:00Z"})
    found = await explained(world, task)
    assert codes(found) == ["scheduled_later"]
    assert found["waiting_for"][0]["until"] == "2030-01-01T00:00:00Z"
    assert found["summary"] == "Waiting: it is scheduled for 2030-01-01 00:00:00 UTC."
    assert found["agents"] == []


async def test_a_run_is_explained_while_it_runs_is_cancelled_and_afterwards(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect(slots=4)
        _, task = await a_run(world)
        order = await agent.expect(Dispatch)
        sent = await explained(world, task)
        assert codes(sent) == ["agent_executing"] and "has not said yet" in sent["summary"]
        placed = sent["placed"]
        assert (placed["agent_id"], placed["details"]) == ("one", {"fitting": 1, "used": 0, "slots": 4})
        assert placed["message"] == "Agent one was the only connected agent that fits, with 0 of its 4 slots in use."
        assert placed["server_id"] == "server-1"
        report = agent.started(order)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
        then = await world.store.head()
        assert "runs on agent one" in (await explained(world, task))["summary"]

        await world.client.post(f"/tasks/{task}/cancel", {"reason": "too slow"})
        found = await explained(world, task)
        assert codes(found) == ["agent_executing", "cancel_pending"]
        assert found["waiting_for"][1]["details"]["reason"] == "too slow"
        await agent.expect(Stop)
        end = agent.ended(order, "cancelled", started_at="2026-01-05T08:00:01Z")
        await agent.say(end)
        await agent.acknowledged(end.sequence)
        found = await explained(world, task)
        assert (found["ended"]["code"], found["ended"]["principal"]) == ("cancelled_by_user", "user:1")
        assert found["summary"] == "It was cancelled by user:1 (too slow)."
        assert found["waiting_for"] == []

        past = await explained(world, task, f"?as_of={then}")
        assert (past["position"], past["status"], codes(past)) == (then, 10, ["agent_executing"])
        await world.client.delete(f"/tasks/{task}")
        assert (await explained(world, task))["summary"].endswith("It was deleted afterwards.")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "reason, code, sentence",
    [
        (None, "succeeded", "It succeeded."),
        ("timeout", "timeout", "It failed: its only attempt:"),
        ("memory", "memory", "It failed: its only attempt:"),
    ],
)
async def test_how_it_ended(world: World, reason: str | None, code: str, sentence: str) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect()
        _, task = await a_run(world, config={"max_retries": 0})
        order = await agent.expect(Dispatch)
        start = agent.started(order)
        end = agent.ended(order, reason, started_at="2026-01-05T08:00:01Z")
        await agent.say(start, end)
        await agent.acknowledged(end.sequence)
        found = await explained(world, task)
        assert found["ended"]["code"] == code and found["summary"].startswith(sentence)
        assert found["ended"]["instance_id"] == order.instance_id
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reason, sentence", [(None, "It succeeded."), ("output", "It failed: its only attempt:")])
async def test_that_its_output_was_cut(world: World, reason: str | None, sentence: str) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect()
        _, task = await a_run(world, config={"max_retries": 0})
        order = await agent.expect(Dispatch)
        start = agent.started(order)
        output = {"stdout": {"bytes": 5000, "kept": 100}, "stderr": {"bytes": 7, "kept": 7}, "dropped": 4900}
        end = agent.ended(order, reason, started_at="2026-01-05T08:00:01Z", output=output)
        await agent.say(start, end)
        await agent.acknowledged(end.sequence)
        found = await explained(world, task)
        assert (found["ended"]["output_bytes"], found["ended"]["output_dropped"]) == (5007, 4900)
        assert found["summary"].startswith(sentence)
        assert found["summary"].endswith(" Its output was cut at its limit: 4900 of 5007 bytes are missing.")
        nursery.cancel_scope.cancel()


async def test_a_retry_is_awaited(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect()
        _, task = await a_run(world, config={"max_retries": 3, "retry_interval": 10 * 365 * 86400})
        order = await agent.expect(Dispatch)
        start = agent.started(order)
        end = agent.ended(order, "exit_code", exit_code=1, started_at="2026-01-05T08:00:01Z")
        await agent.say(start, end)
        await agent.acknowledged(end.sequence)
        found = await explained(world, task)
        assert codes(found) == ["retry_later"]
        assert found["summary"].startswith("Waiting: retry 1 of 3 runs at ")
        assert found["waiting_for"][0]["until"] is not None
        nursery.cancel_scope.cancel()


async def test_a_fire_is_the_cause_and_skipped_moments_are_told(world: World) -> None:
    client = world.client
    job = await client.made("/jobs/item", {"name": "nightly"})
    past = "2026-01-01T00:00:00Z"
    schedule = await client.made(
        "/schedules/item",
        {"job_id": job, "kind": "once", "start_time": past, "misfire_policy": "fire_once", "priority": 3},
    )
    found_by = {"filter": {"schedule_id": {"eq": schedule}}}
    with trio.fail_after(30):
        while not (page := (await client.post("/tasks/page", found_by)).json)["result"]:  # noqa: ASYNC110
            await trio.sleep(0.01)  # the ticker decides when
    [row] = page["result"]
    found = await explained(world, row["id"])
    cause = found["cause"]
    assert (cause["trigger"], cause["schedule_id"], cause["nominal_at"]) == ("schedule", schedule, past)
    assert [event["type"] for event in cause["chain"]] == ["ScheduleFired", "TaskCreated"]
    assert cause["principal"] == "system"
    assert found["skipped"] == []


async def test_the_limit_of_the_cluster(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect()
        world.rooms.scheduler._agenda.tasks_max = 1  # type: ignore[attr-defined]
        await a_run(world)
        await agent.expect(Dispatch)
        _, task = await a_run(world)
        found = await explained(world, task)
        assert codes(found) == ["limit_reached"]
        assert found["waiting_for"][0]["details"] == {"kind": "cluster", "limit": 1, "running": 1}
        assert [each["eligible"] for each in found["agents"]] == [True]
        nursery.cancel_scope.cancel()


async def test_one_that_waits_for_others(world: World) -> None:
    _, first = await a_run(world)
    job = await world.client.made("/jobs/item", {"name": "after"})
    task = await world.client.made("/tasks/create", {"job_id": job, "dependencies": {"task_ids": [first]}})
    found = await explained(world, task)
    assert codes(found) == ["dependency_open"]
    assert found["waiting_for"][0]["details"] == {"task_ids": [first]}
    assert (found["summary"], found["agents"]) == (f"Waiting: task {first} has not ended, after which it runs.", [])


async def test_one_that_is_driven_over_the_api(world: World) -> None:
    _, task = await a_run(world)
    instance = (await world.client.get(f"/tasks/{task}")).json["instance_id"]
    answer = await world.client.put(f"/task-instances/item/{instance}", {"status": 10})
    assert answer.status == 200, answer.json
    found = await explained(world, task)
    assert codes(found) == ["agent_executing"] and "driven over the API" in found["summary"]


async def test_one_that_did_not_start_in_time(world: World) -> None:
    run = {"scheduled_at": "2020-01-01T00:00:00Z"}
    _, task = await a_run(world, run, config={"start_deadline_seconds": 60})
    with trio.fail_after(60):
        async with world.store.subscribe(after=0) as batches:
            async for batch in batches:
                if any(event.type == "TaskCancelled" for event in batch):
                    break
    found = await explained(world, task)
    assert found["ended"]["code"] == "expired"
    assert found["summary"] == "It expired (not started within 60 s of its scheduled time)."
    shown = (await world.client.get(f"/tasks/{task}")).json
    assert (shown["status"], shown["config"]["start_deadline_seconds"]) == (99, 60)


async def test_a_label_that_the_agent_protects_cannot_be_changed_over_the_api_and_that_is_told(world: World) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "one")
        await agent.connect(slots=1, labels={"env": "production", "sys.os": "linux"}, protected_labels=("env", "zone*"))
        await world.client.post("/agents/one/update", {"labels": {"env": "staging", "zone-b": "x", "gpu": "true"}})
        shown = (await world.client.get("/agents/one")).json
        assert shown["capabilities"]["labels"] == {"env": "staging", "zone-b": "x", "gpu": "true"}
        assert (shown["reported_labels"], shown["protected_labels"]) == (
            {"env": "production", "sys.os": "linux"},
            ["env", "zone*"],
        )
        _, staged = await a_run(world, config={"labels": {"env": "staging", "gpu": "true"}})
        _, zoned = await a_run(world, config={"labels": {"zone-b": "x"}})
        for task in (staged, zoned):
            found = await explained(world, task)
            assert codes(found) == ["no_agent_with_labels"]
            assert (
                "Set over the API they do not count for one, which protects them." in found["waiting_for"][0]["message"]
            )
        await a_run(world, config={"labels": {"env": "production", "gpu": "true", "sys.os": "linux"}})
        await agent.expect(Dispatch)
        nursery.cancel_scope.cancel()


async def test_one_that_no_agent_can_run(world: World) -> None:
    async with trio.open_nursery() as nursery:
        plain = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "plain")
        await plain.connect(features=("manners",))
        _, task = await a_run(world, config={"resource_limits": {"max_memory_mb": 5}, "stdin": "x"})
        found = await explained(world, task)
        assert codes(found) == ["no_agent_with_labels"]
        assert found["summary"] == (
            "Waiting: no connected agent can do what the job asks for: none has the feature limits."
        )
        [agent] = found["agents"]
        assert agent["message"] == "cannot do what the job asks for: it has not the feature limits"
        able = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "able")
        await able.connect(features=("manners", "limits"))
        order = await able.expect(Dispatch)
        assert (order.memory_bytes_max, order.stdin) == (5 * 1024 * 1024, b"x")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("config", "says"),
    [({"on_disconnect": "continue"}, "its return is waited for"), ({}, "when its lease is over, the instance is lost")],
)
async def test_one_whose_agent_is_away(world: World, config: dict[str, str], says: str) -> None:
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, "a")
        await agent.connect(features=("policies",))
        _, task = await a_run(world, config=config)
        order = await agent.expect(Dispatch)
        await agent.say(started := agent.started(order))
        await agent.acknowledged(started.sequence)
        assert "is not connected" not in (await explained(world, task))["summary"]
        await agent.drop()
        with trio.fail_after(10):
            while "is not connected" not in (found := await explained(world, task))["summary"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert codes(found) == ["agent_executing"] and says in found["summary"] and "last heard at" in found["summary"]
        nursery.cancel_scope.cancel()
