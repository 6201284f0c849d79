"""Limits in the history seen from outside: whatever fires, runs by hand, crashes or takes over, they are never exceeded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.domain.enums import OverlapPolicy
from hetuflow.domain.need import Need
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import LostAnswers, Outage
from tests.support.ports import TrioClock

ENDS = ("InstanceSucceeded", "InstanceFailed", "InstanceCancelled", "TaskRequeued")


async def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1", **hello: Any) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)
    await agent.connect(**{"slots": 50, **hello})
    return agent


async def works(agent: ScriptedAgent, seconds: float = 2.0) -> None:
    """Every order at once, each for so long; it goes on over reconnects of the test's making only."""

    async def beat() -> None:
        for n in range(1, 100_000):
            await trio.sleep(5)
            await agent.heartbeat(n)

    async def work(order: Dispatch) -> None:
        await agent.say(agent.started(order))
        await trio.sleep(seconds)
        await agent.say(agent.ended(order))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        while True:
            nursery.start_soon(work, await agent.expect(Dispatch))


def most_at_once(log: MemoryLog, name_of: Callable[[dict[str, Any]], str | None]) -> Counter[str]:
    """By name of a task (from its creation's data), the most that were on agents in one moment of the log."""
    names: dict[str, str | None] = {}
    live: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for event in log.events:
        if event.category != "task":
            continue
        if event.type == "TaskCreated":
            names[event.stream_id] = name_of(data(event))
        name = names[event.stream_id]
        if name is not None and event.type == "TaskDispatched":
            live[name] += 1
            most[name] = max(most[name], live[name])
        elif name is not None and event.type in ENDS and data(event).get("agent_id"):
            live[name] -= 1
    return most


def starts(log: MemoryLog, job_id: str) -> list[datetime]:
    found = [each for each in log.events if each.type == "TaskDispatched" and data(each)["job_id"] == job_id]
    assert all(data(each)["rate"] for each in found)
    return [each.recorded_at for each in found]


def assert_rate(times: list[datetime], count: int, per_seconds: float) -> None:
    for n in range(count, len(times)):
        apart = (times[n] - times[n - count]).total_seconds()
        assert apart >= per_seconds, f"{count + 1} starts within {apart} s"


async def test_a_job_runs_as_often_as_it_may_and_no_oftener(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent)
        job, free = await server.job(limits={"concurrency": 2}), await server.job("free")
        for n in range(7):
            await server.task(job, f"t{n}")
        await server.task(free, "f")
        await trio.sleep(0.1)
        assert server.history("f")[-1] == "InstanceStarted", "nothing else waits for it"
        status = server.core.scheduler.status().agenda
        assert (status.tasks_waiting, status.tasks_held_back) == (5, 5)
        await trio.sleep(2 * 4)
        assert all(server.history(f"t{n}")[-1] == "TaskSucceeded" for n in range(7)), "no place is left idle"
        assert most_at_once(server.store.log, lambda d: d["job_id"]) == {"job-1": 2, "free": 1}
        nursery.cancel_scope.cancel()


async def test_a_key_is_a_mutex_over_jobs_and_namespaces_have_a_setting(autojump_clock) -> None:
    async with a_server(namespaces_max={"batch": 2, "*": 3}) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent)
        jobs = [
            await server.job(f"j{n}", limits={"keys": ["db", {"name": "licence", "concurrency": 2}]}) for n in (1, 2)
        ]
        jobs.append(await server.job("j3", limits={"keys": [{"name": "licence", "concurrency": 5}]}))
        for n in range(3):
            for job in jobs:
                await server.task(job, f"{job.job_id}-{n}", namespace_id="batch" if n else "other")
        plain = await server.job("plain")
        for n in range(5):
            await server.task(plain, f"p{n}", namespace_id="other")
        await trio.sleep(30)
        tasks = Counter(event.type for event in server.events("TaskSucceeded", "TaskFailed"))
        assert tasks == {"TaskSucceeded": 14}
        log = server.store.log
        keyed = ("j1", "j2", "j3")
        assert most_at_once(log, lambda d: "db" if d["job_id"] in keyed[:2] else None) == {"db": 1}
        assert most_at_once(log, lambda d: "licence" if d["job_id"] in keyed else None) == {"licence": 2}
        assert most_at_once(log, lambda d: d["namespace_id"]) == {"batch": 2, "other": 3}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"keys": ["k"]}, {"rate": {"count": 1, "per_seconds": 3}}])
async def test_fires_and_runs_with_a_slot_in_hand_are_held_back_too(autojump_clock, limits) -> None:
    """The fast paths: creation and dispatch are one append, where nothing holds the task back."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent, 1.7)
        job = await server.job(limits=limits)
        for n in range(3):
            await server.schedule(job, f"s{n}", interval_secs=1, overlap_policy=OverlapPolicy.ALLOW)
        for n in range(5):
            await trio.sleep(1)
            with server.core.scheduler.reserved(Need.of(job)) as placement:
                await server.task(job, f"by-hand-{n}", placement=placement)
        await trio.sleep(20)
        if "rate" in limits:
            times = starts(server.store.log, job.job_id)
            assert_rate(times, 1, 3)
            assert len(times) >= 7
        else:
            assert most_at_once(server.store.log, lambda d: d["job_id"]) == {"job-1": 1}
            assert len(server.events("TaskSucceeded")) >= 12
        nursery.cancel_scope.cancel()


async def test_a_rate_is_a_sliding_window_also_over_restarts(autojump_clock) -> None:
    log, clock, job = MemoryLog(), TrioClock(), None
    for life in range(3):
        async with a_server(log=log, clock=clock, seed=life) as server, trio.open_nursery() as nursery:
            agent = await an_agent(server, nursery, f"agent-{life}")
            nursery.start_soon(works, agent, 0.5)
            job = job or await server.job(limits={"rate": {"count": 3, "per_seconds": 60}})
            for n in range(4):
                await server.task(job, f"t{life}-{n}")
            await trio.sleep(35)
            nursery.cancel_scope.cancel()
    times = starts(log, "job-1")
    assert_rate(times, 3, 60)
    assert len(times) == 6, "three at once, and three a minute later"


async def test_a_task_that_waits_for_a_limit_expires(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent, 1000)
        job = await server.job(limits={"concurrency": 1}, start_deadline_seconds=30)
        rated = await server.job("rated", limits={"rate": {"count": 1, "per_seconds": 600}}, start_deadline_seconds=30)
        for each in (job, rated):
            await server.task(each, f"{each.job_id}-runs")
            await server.task(each, f"{each.job_id}-waits")
        await trio.sleep(31)
        for each in (job, rated):
            assert server.history(f"{each.job_id}-runs")[-1] == "InstanceStarted"
            assert server.history(f"{each.job_id}-waits") == ["TaskCreated", "InstanceCancelled", "TaskCancelled"]
        ends: list[RecordedEvent] = server.events("TaskCancelled")
        assert {json.loads(each.data)["cause"] for each in ends} == {"expired"}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limits", [{"concurrency": 2}, {"keys": ["k"]}, {"rate": {"count": 2, "per_seconds": 20}}])
@pytest.mark.parametrize("lost", range(1, 4))
async def test_while_nobody_knows_whether_it_was_dispatched_its_place_is_taken(autojump_clock, limits, lost) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent, 4)
        job = await server.job(limits=limits)
        server.store.hooks = LostAnswers(2 * lost, "TaskDispatched")
        for n in range(8):
            await server.task(job, f"t{n}")
        await trio.sleep(200)
        assert len(server.events("TaskSucceeded")) == 8
        if "rate" in limits:
            assert_rate(starts(server.store.log, job.job_id), 2, 20)
        else:
            assert most_at_once(server.store.log, lambda d: d["job_id"])["job-1"] <= limits.get("concurrency", 1)
        nursery.cancel_scope.cancel()


async def test_an_outage_of_the_store_uses_up_no_start(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        nursery.start_soon(works, agent, 1)
        job = await server.job(limits={"rate": {"count": 1, "per_seconds": 86_400}})
        await server.task(job, scheduled_at=server.clock.now() + timedelta(seconds=1))
        server.store.hooks = Outage(trio.current_time() + 8)
        await trio.sleep(20)
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


class SlowReads(NoFaults):
    """Reading many streams takes so long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def before_read(self, what: str) -> None:
        if what == "read_streams":
            await trio.sleep(self.seconds)


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"keys": ["k"]}, {"rate": {"count": 1, "per_seconds": 30}}, {}])
async def test_who_takes_over_knows_what_runs_before_it_decides(autojump_clock, limits) -> None:
    """The task was made and given away in the last moment of the server before: the other one has not looked it up yet."""
    log, clock = MemoryLog(), TrioClock()
    most = 0 if limits else 1  # the last: the limit of the cluster
    async with (
        a_server(log=log, clock=clock, tasks_max=most) as first,
        a_server(log=log, clock=clock, tasks_max=most, server_id="server-2", hooks=SlowReads(0)) as second,
        trio.open_nursery() as nursery,
    ):
        agent = await an_agent(second, nursery)
        nursery.start_soon(works, agent, 10)
        await trio.sleep(1)
        job = await first.job(limits=limits)
        second.store.hooks.seconds = 3
        await first.task(job, "t1")
        await trio.testing.wait_all_tasks_blocked()
        assert first.history("t1")[-1] == "TaskDispatched"
        with trio.CancelScope(shield=True):
            await first.core.scheduler.leases.release_all()
        await second.task(job, "t2")
        await trio.sleep(60)
        assert second.core.scheduler.leases.is_deciding
        assert second.history("t2")[-1] == "TaskSucceeded" == second.history("t1")[-1]
        if "rate" in limits:
            assert_rate(starts(log, job.job_id), 1, 30)
        else:
            assert most_at_once(log, lambda d: d["job_id"]) == {"job-1": 1}
        nursery.cancel_scope.cancel()
