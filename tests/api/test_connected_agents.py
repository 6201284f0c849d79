"""What the API does with agents that are connected: commands to them, work that they hold, and their removal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from hetuflow.protocol.messages import Command, Dispatch, Known
from tests.api.client import Client
from tests.api.memory_rooms import World
from tests.gateway.scripted import ScriptedAgent

COMMAND = "/gateway/command"


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


@pytest.fixture
async def agent(world: World, nursery: trio.Nursery) -> ScriptedAgent:
    return await connected(world, nursery)


async def connected(world: World, nursery: trio.Nursery, agent_id: str = "agent-1", **members: Any) -> ScriptedAgent:
    made = ScriptedAgent(world.rooms.agents.serve_connection, nursery, agent_id)
    await made.connect(**members)
    return made


async def running(client: Client, agent: ScriptedAgent) -> Dispatch:
    """A task that the agent has started."""
    job_id = await client.made("/jobs/item", {"name": "x"})
    await client.made(f"/jobs/item/{job_id}/run", {})
    order = await agent.expect(Dispatch)
    report = agent.started(order)
    await agent.say(report)
    await agent.acknowledged(report.sequence)
    return order


async def now(world: World, path: str) -> Any:
    """The answer as of the head of the log: also what others than this client wrote."""
    head = [("X-Hetuflow-Min-Position", str(await world.store.head()))]
    return (await world.client.get(path, headers=head)).json


# --- G1 ---------------------------------------------------------------------------------------------------------------


async def test_both_forms_reach_the_agent_with_the_id_that_is_answered(client: Client, agent: ScriptedAgent) -> None:
    answer = await client.post(COMMAND, {"agent_id": "agent-1", "command": "fetch_metrics", "args": {"a": 1}})
    told = await agent.expect(Command)
    assert (answer.status, answer.json) == (200, {"id": told.id})
    assert (told.kind, told.payload, told.timestamp > 1_700_000_000_000) == (4, {"a": 1}, True)
    head = {"id": "550e8400-e29b-41d4-a716-4466554400ff", "timestamp": 5, "kind": "ClearCache"}
    sent = {"type": "single", "agent_id": "agent-1", "command": {"head": head, "payload": {"b": 2}}}
    answer = await client.post(COMMAND, sent)
    told = await agent.expect(Command)
    assert answer.json == {"id": head["id"]} == {"id": told.id}
    assert (told.kind, told.payload, told.timestamp) == (3, {"b": 2}, 5)
    everybody = await client.post(COMMAND, {"type": "broadcast", "command": {"head": {"kind": 1}}})
    assert everybody.json == {"id": (await agent.expect(Command)).id}


async def test_nobody_is_not_connected(client: Client) -> None:
    assert (await client.post(COMMAND, {"agent_id": "nobody", "command": "cancel_task"})).status == 404
    assert (await client.post(COMMAND, {"type": "broadcast", "command": {"head": {"kind": 1}}})).status == 200


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["command", "agent_id"]),
        ({"agent_id": "agent-1", "command": "reboot"}, ["command"]),
        ({"agent_id": "agent-1", "command": 5}, ["command"]),
        ({"agent_id": "agent-1", "command": "task_acquired"}, ["command"]),
        ({"agent_id": "agent-1", "command": 1, "type": "single"}, ["type"]),
        ({"agent_id": "agent-1", "command": {"head": {"kind": 1}}}, ["type"]),
        ({"type": "single", "command": {"head": {"kind": 1}}}, ["agent_id"]),
        ({"type": "broadcast", "agent_id": "agent-1", "command": {"head": {"kind": 1}}}, ["agent_id"]),
        ({"type": "broadcast", "command": {"head": {"kind": 6}}}, ["command.head.kind"]),
        ({"type": "broadcast", "command": {"head": {}}}, ["command.head.kind"]),
        ({"type": "all", "command": {"head": {"kind": 1}}}, ["type"]),
        ({"agent_id": "agent-1", "command": "cancel_task"}, ["args"]),
        ({"agent_id": "agent-1", "command": "cancel_task", "args": {"task_id": "x"}}, ["args.task_id"]),
    ],
)
async def test_what_is_wrong_with_a_command_is_named(
    client: Client, agent: ScriptedAgent, body: dict[str, Any], paths: list[str]
) -> None:
    answer = await client.post(COMMAND, body)
    assert (answer.status, sorted(answer.problems)) == (422, sorted(paths))


@pytest.mark.parametrize("by", ["task_id", "instance_id"])
async def test_cancel_task_is_a_cancel(world: World, agent: ScriptedAgent, by: str) -> None:
    order = await running(world.client, agent)
    await now(world, f"/tasks/{order.task_id}")
    sent = {"agent_id": "agent-1", "command": 7, "args": {by: getattr(order, by)}}
    answer = await world.client.post(COMMAND, sent)
    assert answer.status == 200, answer.json
    assert (await agent.expect(Command)).kind == 7
    assert (await now(world, f"/tasks/{order.task_id}"))["cancel_requested_at"] is not None
    report = agent.ended(order, "cancelled")
    await agent.say(report)
    await agent.acknowledged(report.sequence)
    assert (await world.client.post(COMMAND, sent)).reason == "already_terminal"


# --- instances that an agent holds ------------------------------------------------------------------------------------


async def test_what_an_agent_executes_is_reported_by_that_agent_only(world: World, agent: ScriptedAgent) -> None:
    order = await running(world.client, agent)
    path = f"/task-instances/item/{order.instance_id}"
    instance = await now(world, path)
    answer = await world.client.put(path, {"status": 100})
    assert (answer.reason, answer.json["details"]["agent_id"]) == ("held_by_agent", "agent-1")
    assert (await world.client.put(path, instance)).status == 200
    assert (await world.client.delete(path)).reason == "not_terminal"


async def test_a_record_does_not_keep_an_agent_from_being_removed(world: World, agent: ScriptedAgent) -> None:
    job_id = await world.client.made("/jobs/item", {"name": "x", "agent_id": "elsewhere"})
    task_id = await world.client.made(f"/jobs/item/{job_id}/run", {})
    sent = {"task_id": task_id, "agent_id": "agent-1", "status": 10}
    assert (await world.client.post("/task-instances/item", sent)).status == 200
    assert (await world.client.delete("/agents/agent-1")).status == 200


# --- removal ----------------------------------------------------------------------------------------------------------


async def test_an_agent_removed_with_running_work_counts_it_when_it_registers_again(
    world: World, nursery: trio.Nursery, agent: ScriptedAgent
) -> None:
    order = await running(world.client, agent)
    await now(world, "/agents/agent-1")
    assert (await world.client.delete("/agents/agent-1")).reason == "has_open_instances"
    assert (await world.client.delete("/agents/agent-1?cascade=cancel")).status == 200
    assert (await world.client.get("/agents/agent-1")).status == 404
    held = Known(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch, state="running")
    again = await connected(world, nursery, incarnation=2, known=(held,))
    row = await now(world, "/agents/agent-1")
    assert (row["running_instances"], row["statistics"]["total_tasks"]) == (1, 1)
    again.sequence = 100
    report = again.ended(order, "cancelled")
    await again.say(report)
    await again.acknowledged(report.sequence)
    row = await now(world, "/agents/agent-1")
    statistics = row["statistics"]
    assert (row["running_instances"], statistics["total_tasks"], statistics["failure_tasks"]) == (0, 1, 1)
