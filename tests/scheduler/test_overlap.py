"""Overlap policies, obeyed: by one server and its successor, with an agent that runs what it is sent."""

from __future__ import annotations

import trio

from eventstore.memory import MemoryLog
from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.commands import RetryTask
from hetuflow.domain.decider import Address
from hetuflow.domain.explanation import Circumstances, Told, explain
from hetuflow.protocol.messages import Dispatch, Stop
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.support.ports import TrioClock


async def an_agent(server: Server, nursery: trio.Nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    return agent


def decisions(server: Server) -> list[str]:
    found = server.events("ScheduleFired", "ScheduleSkipped")
    return [data(event).get("reason", "fired") for event in found]


async def test_skip_holds_until_the_task_has_ended_and_after_a_restart(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.schedule(await server.job(), overlap_policy="skip")
        await trio.sleep(25)
        assert decisions(server) == ["fired", "overlap"]
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        await trio.sleep(10)
        assert decisions(server) == ["fired", "overlap", "overlap"]
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order))
        await trio.sleep(10)
        assert decisions(server)[3:] == ["fired"]
        nursery.cancel_scope.cancel()


async def test_queue_runs_one_after_the_other_in_order(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await server.schedule(await server.job(), overlap_policy="queue", max_count=3)
        agent = await an_agent(server, nursery)
        await trio.sleep(35)
        made = [data(event)["task_id"] for event in server.events("ScheduleFired")]
        assert len(made) == 3
        for task_id in made:
            order = await agent.expect(Dispatch)
            assert order.task_id == task_id
            await agent.expect_nothing(Dispatch)
            await agent.say(agent.started(order), agent.ended(order))
        nursery.cancel_scope.cancel()


async def test_cancel_previous_ends_the_running_one_before_the_next_starts(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        await server.schedule(await server.job(), overlap_policy="cancel_previous", max_count=2)
        agent = await an_agent(server, nursery)
        first = await agent.expect(Dispatch)
        await agent.say(agent.started(first))
        cancel = await agent.expect(Stop)
        assert cancel.instance_id == first.instance_id
        await agent.expect_nothing(Dispatch)
        await agent.say(agent.ended(first, reason="cancelled"))
        second = await agent.expect(Dispatch)
        assert second.task_id == data(server.events("ScheduleFired")[1])["task_id"]
        (asked,) = server.events("TaskCancelRequested")
        assert data(asked)["cause"] == "overlap"
        nursery.cancel_scope.cancel()


async def test_one_that_still_waits_is_cancelled_by_its_successor(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), overlap_policy="cancel_previous")
        await trio.sleep(35)
        made = [data(event)["task_id"] for event in server.events("ScheduleFired")]
        assert [server.history(each)[-1] for each in made[:2]] == ["TaskCancelled", "TaskCancelled"]
        assert "TaskCancelled" not in server.history(made[2])


async def test_a_task_that_a_user_retries_counts_as_open_again(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await server.schedule(await server.job(), overlap_policy="skip")
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order, reason="exit_code"))
        await trio.sleep(1)
        await server.ask(Address("task", order.task_id), RetryTask())
        await trio.sleep(10)
        assert decisions(server) == ["fired", "overlap"]
        nursery.cancel_scope.cancel()


async def test_explain_says_that_it_waits_for_an_earlier_one(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), overlap_policy="queue")
        await trio.sleep(25)
        first, second = (data(event)["task_id"] for event in server.events("ScheduleFired"))
        decode = event_codec().decode
        stream = server.events(stream=f"task-{second}")
        told = [Told(decode(event), event.recorded_at, event.position, None) for event in stream]
        state = (await server.core.system.read(Address("task", second))).state
        (awaited,) = explain(told, state, Circumstances(now=server.clock.now())).waiting_for
        assert (awaited.code, awaited.details) == ("overlap_queued", {"task_ids": [first]})
