"""Flow runs: followed to their end, cancelled and run again, whatever crashes in between."""

from __future__ import annotations

from typing import Any

import trio
from attrs import evolve

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelFlow, CancelTask, CreateJob, RetryFlow, RetryTask
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import FlowStatus, TaskStatus
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.flow_plan import FlowWishes, started
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

RUN = "01890000-0000-7000-8000-0000000000aa"
FLOW = Address("flow", RUN)


async def a_run(server: Server, **follows: dict[str, str]) -> dict[str, str]:
    """Start a run of these jobs; the ids of its tasks, by job."""
    jobs = {}
    for name, upstream in follows.items():
        job = await server.job(name, max_retries=0)
        edges = {"jobs": [{"job_id": other, "on": on} for other, on in upstream.items()], "match": "all"}
        jobs[name] = evolve(job, upstream=edges if upstream else None)
    roots = [name for name, upstream in follows.items() if not upstream]
    command = started(RUN, graph_of(roots, jobs), FlowWishes())
    await server.ask(FLOW, command)
    return {task.job.job_id: task.task_id for task in command.tasks}


CHAIN: dict[str, dict[str, str]] = {"a": {}, "b": {"a": "succeeded"}, "c": {"b": "succeeded"}}


async def an_agent(server: Server, nursery: trio.Nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    return agent


async def until_finished(server: Server, count: int = 1) -> dict[str, Any]:
    with trio.fail_after(120):
        async with server.store.subscribe(after=0) as batches:
            async for batch in batches:
                for event in batch:
                    count -= event.type == "FlowFinished"
                    if not count:
                        return data(event)
    raise AssertionError("the log ended")


async def status(server: Server, task_id: str) -> TaskStatus:
    return (await server.core.system.read(Address("task", task_id))).state.status


async def test_tasks_run_in_their_order_and_the_run_ends_with_the_last(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        tasks = await a_run(server, **CHAIN)
        agent = await an_agent(server, nursery)
        for name in "abc":
            order = await agent.expect(Dispatch)
            assert order.task_id == tasks[name]
            assert not server.events("FlowFinished")
            await agent.say(agent.started(order), agent.ended(order))
        ended = await until_finished(server)
        assert ended["status"] == FlowStatus.SUCCEEDED
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.core.scheduler.flows) == 0
        nursery.cancel_scope.cancel()


async def test_a_failure_skips_what_follows_and_a_retry_runs_it_again_in_order(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        tasks = await a_run(server, **CHAIN)
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order, reason="exit_code", exit_code=1))
        ended = await until_finished(server)
        assert ended["outcome"] == {"succeeded": 0, "failed": 1, "cancelled": 0, "skipped": 2}
        await server.ask(FLOW, RetryFlow(tasks=dict.fromkeys(tasks.values(), 1)))
        for name in "abc":
            order = await agent.expect(Dispatch)
            assert (order.task_id, order.attempt) == (tasks[name], 2)
            await agent.say(agent.started(order), agent.ended(order))
        assert (await until_finished(server, 2))["status"] == FlowStatus.SUCCEEDED
        nursery.cancel_scope.cancel()


async def test_a_cancel_that_was_committed_is_carried_out_after_a_crash(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        tasks = await a_run(server, **{**CHAIN, "tidy": {"c": "finished"}})
        server.core.scheduler.flows._to_tend.clear()
        server.core.scheduler.flows._leases = NoLeases()  # as if it had died: nothing is done about it
        await server.ask(FLOW, CancelFlow(reason="enough"))
        await trio.testing.wait_all_tasks_blocked()
        assert await status(server, tasks["a"]) is TaskStatus.PENDING
    async with a_server(log=log, clock=clock, seed=2) as server:
        ended = await until_finished(server)
        assert (ended["status"], ended["outcome"]["cancelled"]) == (FlowStatus.CANCELLED, 4)
        cancelled = [event.stream_id for event in server.events("TaskCancelled")]
        order = [f"task-{tasks[name]}" for name in ("tidy", "c", "b", "a")]
        assert cancelled == order  # the last first: none starts because another was cancelled
        assert {data(event)["cause"] for event in server.events("TaskCancelled")} == {"flow"}


class NoLeases:
    """Leases of which this server has none."""

    def guard(self, job_id: str) -> None:
        return None


async def test_a_retry_that_was_committed_is_carried_out_after_a_crash(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        tasks = await a_run(server, **CHAIN)
        await server.ask(Address("task", tasks["a"]), CancelTask())
        await until_finished(server)
        server.core.scheduler.flows._leases = NoLeases()
        await server.ask(FLOW, RetryFlow(tasks=dict.fromkeys(tasks.values(), 1)))
        await server.ask(Address("task", tasks["a"]), RetryTask(attempt=1, is_whole=True))  # and one was done
        await trio.testing.wait_all_tasks_blocked()
        assert await status(server, tasks["b"]) is TaskStatus.CANCELLED
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        for name in "abc":
            order = await agent.expect(Dispatch)
            assert (order.task_id, order.attempt) == (tasks[name], 2)
            await agent.say(agent.started(order), agent.ended(order))
        assert (await until_finished(server, 2))["status"] == FlowStatus.SUCCEEDED
        assert len(server.events("TaskReopened")) == 3
        nursery.cancel_scope.cancel()


async def test_an_end_that_nobody_told_is_found_at_the_start(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        tasks = await a_run(server, a={}, b={"a": "finished"})
        server.core.scheduler.flows._leases = NoLeases()
        await server.ask(Address("task", tasks["b"]), CancelTask())
        await server.ask(Address("task", tasks["a"]), CancelTask())
        await trio.testing.wait_all_tasks_blocked()
    assert not [event for event in log.events if event.type == "FlowFinished"]
    async with a_server(log=log, clock=clock, seed=2) as server:
        assert (await until_finished(server))["status"] == FlowStatus.CANCELLED


async def test_a_store_that_is_away_only_delays_the_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await a_run(server, a={})
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order))
        server.store.hooks = Outage(trio.current_time() + 5)
        assert (await until_finished(server))["status"] == FlowStatus.SUCCEEDED
        nursery.cancel_scope.cancel()


async def test_of_two_servers_the_other_one_follows_when_the_first_is_gone(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-2", seed=2) as second:
        async with a_server(log=log, clock=clock) as first:
            tasks = await a_run(first, **CHAIN)
            await trio.sleep(1)
        await second.ask(Address("task", tasks["a"]), CancelTask())
        ended = await until_finished(second)
        assert ended["outcome"] == {"succeeded": 0, "failed": 0, "cancelled": 1, "skipped": 2}


async def test_a_schedule_fires_the_flow_as_it_is_then(autojump_clock) -> None:
    async with a_server() as server:
        root = await server.job("a")
        edges = {"jobs": [{"job_id": "a", "on": "finished"}], "match": "all"}
        await server.ask(Address("job", "b"), CreateJob(job_id="b", name="b", config={"cmd": "true"}, upstream=edges))
        await server.schedule(root, run_flow=True)
        await trio.sleep(11)
        [first] = server.events("FlowStarted")
        assert [node["job_id"] for node in data(first)["graph"]["nodes"]] == ["a", "b"]
        edges = {"jobs": [{"job_id": "b", "on": "finished"}], "match": "all"}
        await server.ask(Address("job", "c"), CreateJob(job_id="c", name="c", config={"cmd": "true"}, upstream=edges))
        await trio.sleep(10)
        second = server.events("FlowStarted")[1]
        assert [node["job_id"] for node in data(second)["graph"]["nodes"]] == ["a", "b", "c"]
        fires = server.events("ScheduleFired")
        assert [data(event)["flow_run_id"] for event in fires] == [
            data(first)["flow_run_id"],
            data(second)["flow_run_id"],
        ]


async def test_a_flow_that_is_too_large_suspends_its_schedule_and_says_why(autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr("hetuflow.scheduler.flow_graphs.FLOW_JOBS_MAX", 1)
    async with a_server() as server:
        root = await server.job("a")
        edges = {"jobs": [{"job_id": "a", "on": "finished"}], "match": "all"}
        await server.ask(Address("job", "b"), CreateJob(job_id="b", name="b", config={"cmd": "true"}, upstream=edges))
        await server.schedule(root, run_flow=True)
        await trio.sleep(120)
        [suspended] = server.events("ScheduleSuspended")
        assert "more than" in data(suspended)["error"]
