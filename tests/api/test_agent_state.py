"""A10-A12, I10, I11: how an agent does, its log, what its instances use; and that it is believed about nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from hetuflow.api import agent_state
from hetuflow.gateway import usage
from hetuflow.gateway.questions import OPEN_MAX
from hetuflow.protocol.messages import (
    Command,
    Condition,
    Dispatch,
    Heartbeat,
    HeartbeatAck,
    InstanceUsage,
    LogLines,
    Ping,
    Pong,
    Usage,
    UsagePoint,
)
from tests.api.memory_rooms import World
from tests.api.test_connected_agents import running
from tests.gateway.scripted import ScriptedAgent


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(agent_state, "ANSWER_SECONDS_MAX", 0.1)


async def until_kept(world: World, path: str, count: int) -> Any:
    """The answer, when it has so many results: they are stored beside all else."""
    with trio.fail_after(30):
        while True:
            answer = (await world.client.get(path)).json
            if len(answer["result"]) >= count:
                return answer
            await trio.sleep(0.01)


async def agent_of(world: World, nursery: trio.Nursery, agent_id: str = "agent-1", **members: Any) -> ScriptedAgent:
    agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery, agent_id)
    await agent.connect(**members)
    return agent


async def heard(agent: ScriptedAgent) -> None:
    """All that the agent has said so far."""
    await agent.say(Ping(token="heard?"))
    await agent.expect(Pong)


def a_usage(order: Dispatch, *points: tuple[float, float], epoch: int | None = None) -> Usage:
    """(elapsed, CPU seconds) each; the last is the latest too."""
    told = [
        UsagePoint(elapsed_seconds=elapsed, cpu_seconds=cpu, memory_bytes=1000, memory_peak_bytes=2000, processes=3)
        for elapsed, cpu in points
    ]
    epoch = order.epoch if epoch is None else epoch
    return Usage(
        instances=(InstanceUsage(instance_id=order.instance_id, epoch=epoch, latest=told[-1], points=tuple(told)),)
    )


async def test_state_tells_what_the_agent_says_of_itself_and_what_it_runs(world: World, nursery: trio.Nursery) -> None:
    agent = await agent_of(world, nursery, labels={"zone": "a", "sys.os": "linux"}, protected_labels=("zone",))
    await agent.say(Condition(facts={"isolation": "cgroup2", "policy": {"max_memory_mb": 512}}))
    await agent.say(Heartbeat(sequence=1, metrics={"cpu_usage": 12.5, "load": 0.5, "slots": 4}))
    await agent.expect(HeartbeatAck)
    order = await running(world.client, agent)
    await agent.say(a_usage(order, (10.0, 5.0), (12.0, 8.0)))
    await heard(agent)
    await world.client.post("/agents/agent-1/update", {"labels": {"zone": "b", "gpu": "true"}})
    state = (await world.client.get("/agents/agent-1/state")).json
    assert (state["connected"], state["incarnation"], state["version"], state["host"]) == (True, 1, "1", "host")
    assert state["labels"] == {"zone": "a", "sys.os": "linux", "gpu": "true"}
    assert state["facts"] == {"isolation": "cgroup2", "policy": {"max_memory_mb": 512}}
    assert [each["metrics"]["cpu_usage"] for each in state["heartbeats"]] == [12.5]
    [run] = state["running"]
    assert (run["instance_id"], run["agent_id"], run["epoch"]) == (order.instance_id, "agent-1", order.epoch)
    assert (run["usage"]["cpu"], run["usage"]["memory"], run["usage"]["processes"]) == (
        pytest.approx(8 / 12, abs=0.001),
        1000,
        3,
    )
    shown = (await world.client.get("/agents/agent-1")).json
    assert shown["metrics"]["load"] == 0.5 and shown["metrics"]["slots"] == 4


async def test_an_instance_has_its_figures_over_time_and_now(world: World, nursery: trio.Nursery) -> None:
    agent = await agent_of(world, nursery)
    order = await running(world.client, agent)
    path = f"/task-instances/item/{order.instance_id}/metrics"
    assert (await world.client.get(path)).json == {"latest": None, "result": []}
    await agent.say(a_usage(order, (0.5, 0.25), (10.0, 9.75), (20.0, 14.75)))
    await heard(agent)
    listed = (await world.client.get("/task-instances/usage")).json["result"]
    assert [(each["instance_id"], each["agent_id"]) for each in listed] == [(order.instance_id, "agent-1")]
    found = await until_kept(world, path, 3)
    assert (found["latest"]["elapsed"], found["latest"]["cpu_time"]) == (20.0, 14.75)
    assert [(each["elapsed"], each["cpu"]) for each in found["result"]] == [(0.5, 0.5), (10.0, 1.0), (20.0, 0.5)]
    end = agent.ended(order)
    await agent.say(end)
    await agent.acknowledged(end.sequence)
    found = (await world.client.get(path)).json
    assert found["latest"] is None and len(found["result"]) == 3
    assert (await world.client.get("/task-instances/usage")).json == {"result": []}
    assert (await world.client.get("/task-instances/item/01900000-0000-7000-8000-000000000000/metrics")).status == 404


async def test_an_agent_is_not_believed_about_what_it_does_not_run(world: World, nursery: trio.Nursery) -> None:
    agent = await agent_of(world, nursery)
    order = await running(world.client, agent)
    other = await agent_of(world, nursery, "agent-2")
    await other.say(a_usage(order, (1.0, 1.0)))
    await agent.say(a_usage(order, (1.0, 1.0), epoch=order.epoch + 1))
    await heard(agent)
    await heard(other)
    assert (await world.client.get("/task-instances/usage")).json == {"result": []}
    await agent.say(a_usage(order, (7.0, 1.0)))
    found = await until_kept(world, f"/task-instances/item/{order.instance_id}/metrics", 1)
    assert [each["elapsed"] for each in found["result"]] == [7.0] and found["latest"]["elapsed"] == 7.0


async def test_an_agent_has_a_point_a_minute(world: World, nursery: trio.Nursery) -> None:
    agent = await agent_of(world, nursery, slots=2)
    for sequence in range(3):
        await agent.say(
            Heartbeat(sequence=sequence, metrics={"cpu_usage": float(sequence), "active_tasks": 1, "slots": 2})
        )
        await agent.expect(HeartbeatAck)
    points = (await until_kept(world, "/agents/agent-1/metrics", 1))["result"]
    assert [(each["cpu_usage"], each["active_tasks"], each["slots"]) for each in points] == [(0.0, 1, 2)]
    assert (await world.client.get("/agents/nobody/metrics")).status == 404


async def test_the_log_is_asked_of_the_agent(world: World, nursery: trio.Nursery) -> None:
    agent = await agent_of(world, nursery)
    answers: list[Any] = []

    async def ask(query: str = "") -> None:
        answers.append(await world.client.get(f"/agents/agent-1/log{query}"))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask, "?lines=2&after=40")
        told = await agent.expect(Command)
        assert (told.kind, told.payload) == (8, {"lines": 2, "after": 40})
        await agent.say(LogLines(id="somebody else's", first=1, lines=("x",)))
        await agent.say(LogLines(id=told.id, first=41, lines=("one", "two\0")))
    assert answers.pop().json == {"first": 41, "lines": ["one", "two\ufffd"], "next": 42}
    async with trio.open_nursery() as asking:
        asking.start_soon(ask, "?after=42")
        told = await agent.expect(Command)
        await agent.say(LogLines(id=told.id, first=43))
    assert answers.pop().json == {"first": 43, "lines": [], "next": 42}
    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        told = await agent.expect(Command)
        await agent.say(LogLines(id=told.id, problem="refused by this agent's policy (policy.allowed_commands): no"))
    refused = answers.pop()
    assert refused.status == 409 and "policy.allowed_commands" in refused.json["message"]


async def test_an_agent_that_does_not_answer_or_is_away_is_said_so(world: World, nursery: trio.Nursery) -> None:
    await agent_of(world, nursery)
    silent = await world.client.get("/agents/agent-1/log")
    assert silent.status == 504 and "did not answer within 0.1 s" in silent.json["message"]
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await world.client.get("/agents/agent-1/log")).status)

    async with trio.open_nursery() as asking:
        for _ in range(OPEN_MAX + 1):
            asking.start_soon(ask)
    assert statuses == [504] * (OPEN_MAX + 1)
    await world.client.made("/agents/create", {"id": "elsewhere"})
    away = await world.client.get("/agents/elsewhere/log")
    assert away.status == 409 and away.json["detail"]["reason"] == "not_connected"
    assert (await world.client.get("/agents/nobody/log")).status == 404
    assert (await world.client.get("/agents/agent-1/log?lines=0")).status == 400
    state = (await world.client.get("/agents/elsewhere/state")).json
    assert (state["connected"], state["session"], state["facts"], state["running"]) == (False, None, {}, [])


async def test_the_log_is_not_asked_for_as_a_command(world: World, nursery: trio.Nursery) -> None:
    await agent_of(world, nursery)
    answer = await world.client.post("/gateway/command", {"agent_id": "agent-1", "command": "fetch_log"})
    assert answer.status == 422 and "server's own" in answer.json["message"] + str(answer.json["detail"])
