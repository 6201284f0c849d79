"""Schedules that want to know how their tasks end: fixed delay and failures in a row, whatever crashes in between."""

from __future__ import annotations

import pytest
import trio

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, EnableSchedule, RetryTask
from hetuflow.domain.decider import Address
from hetuflow.protocol.messages import Dispatch, Ended
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, nominal, seconds
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

DELAY = {"interval_mode": "fixed_delay", "overlap_policy": "skip"}


async def an_agent(server: Server, nursery: trio.Nursery, **capabilities: object) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    return agent


async def run_one(agent: ScriptedAgent, lasts: float, exit_code: int = 0) -> str:
    """Take the next order, run it so long, and return its task."""
    order = await agent.expect(Dispatch)
    await agent.say(agent.started(order))
    await trio.sleep(lasts)
    await agent.say(ended(agent, order, exit_code))
    return str(order.task_id)


def ended(agent: ScriptedAgent, order: Dispatch, exit_code: int = 0) -> Ended:
    return agent.ended(order, "exit_code" if exit_code else None, exit_code=exit_code)


def fires(server: Server) -> list[float]:
    return [nominal(event) for event in server.events("ScheduleFired")]


async def test_each_run_follows_the_end_of_the_one_before(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        began = trio.current_time()
        await server.schedule(await server.job(), **DELAY)
        for lasts in (3, 25, 0.5):
            await run_one(agent, lasts)
        await agent.expect(Dispatch)
        ends = seconds(server.events("TaskSucceeded"))
        assert fires(server)[1:] == pytest.approx([end + 10 for end in ends], abs=0.01)
        assert fires(server)[0] == pytest.approx(began + 10, abs=0.5)
        assert [data(event)["ended_as"] for event in server.events("ScheduleTaskEnded")] == [100, 100, 100]
        nursery.cancel_scope.cancel()


async def test_a_retry_that_waits_is_no_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.schedule(await server.job(max_retries=1, retry_interval=50), **DELAY)
        first = await run_one(agent, 1, exit_code=1)
        assert await run_one(agent, 1) == first  # 50 s later, and nothing of the schedule meanwhile
        assert len(fires(server)) == 1
        assert await run_one(agent, 1) != first
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_away", [False, True])
async def test_an_end_that_nobody_told_is_found_at_the_start(autojump_clock, is_away: bool) -> None:
    """Killed between the end of the task and the schedule's hearing of it."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.schedule(await server.job(), **DELAY)
        await trio.sleep(12)
        (task_id,) = [data(event)["task_id"] for event in server.events("ScheduleFired")]
        following = server.core.scheduler.following
        following.remove(next(iter(following._wishes.values())))  # deaf
        await server.ask(Address("task", task_id), CancelTask())
        await trio.sleep(30)
        assert [event.type for event in server.events(stream="schedule-s1")] == ["ScheduleCreated", "ScheduleFired"]
        (ended_at,) = seconds(server.events("TaskCancelled"))
    async with a_server(log=log, clock=clock, seed=2) as server:
        if is_away:
            server.store.hooks = Outage(trio.current_time() + 5)  # and the store is away when it is to be told
        await trio.sleep(20)
        (told,) = server.events("ScheduleTaskEnded")
        assert data(told)["ended_as"] == 99
        assert fires(server)[1] == pytest.approx(ended_at + 10, abs=0.01)


async def test_a_task_that_a_user_opens_again_before_the_schedule_heard_of_its_end_ended_all_the_same(
    autojump_clock,
) -> None:
    """The first end counts, as it would have without the crash; while the task runs again nothing starts beside it."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.schedule(await server.job(), **DELAY, pause_on_failures=5)
        await trio.sleep(12)
        (task_id,) = [data(event)["task_id"] for event in server.events("ScheduleFired")]
        following = server.core.scheduler.following
        following.remove(next(iter(following._wishes.values())))
        await server.ask(Address("task", task_id), CancelTask())
        await server.ask(Address("task", task_id), RetryTask())
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(25)
        (told,) = server.events("ScheduleTaskEnded")
        assert (data(told)["ended_as"], data(told)["consecutive_failures"]) == (99, 0)
        assert len(fires(server)) == 1
        assert {data(event)["reason"] for event in server.events("ScheduleSkipped")} == {"overlap"}


async def test_a_schedule_is_disabled_after_so_many_failures_in_a_row_and_a_resume_resets(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.schedule(await server.job(max_retries=0), pause_on_failures=2)
        tasks = [await run_one(agent, 1, exit_code) for exit_code in (1, 0, 1, 1)]
        await agent.expect_nothing(Dispatch, seconds=60)
        (disabled,) = server.events("ScheduleDisabled")
        assert (data(disabled)["reason"], data(disabled)["failures"]) == ("failures", 2)
        assert data(disabled)["task_id"] == tasks[-1]
        counts = [data(event)["consecutive_failures"] for event in server.events("ScheduleTaskEnded")]
        assert counts == [1, 0, 1, 2]
        await server.ask(Address("schedule", "s1"), EnableSchedule())
        await run_one(agent, 1, exit_code=1)
        await run_one(agent, 1)
        assert len(server.events("ScheduleDisabled")) == 1
        nursery.cancel_scope.cancel()


async def test_failures_that_nobody_told_are_counted_at_the_start_in_the_order_of_the_log(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.schedule(await server.job(max_retries=0), pause_on_failures=2)
        orders = [await agent.expect(Dispatch) for _ in range(3)]
        following = server.core.scheduler.following
        following.remove(next(iter(following._wishes.values())))
        first, second, third = orders
        for order, exit_code in ((third, 1), (first, 0), (second, 1)):
            await agent.say(agent.started(order), ended(agent, order, exit_code))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.events("ScheduleTaskEnded") == []
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.testing.wait_all_tasks_blocked(0.01)
        told = [data(event) for event in server.events("ScheduleTaskEnded")]
        assert [each["task_id"] for each in told] == [third.task_id, first.task_id, second.task_id]
        assert [each["consecutive_failures"] for each in told] == [1, 0, 1]


async def test_a_server_that_takes_over_tells_of_the_end_that_the_other_did_not(autojump_clock) -> None:
    """The task ends on the second server's agent in the moment in which the deciding one is stopped."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-2") as waiting, trio.open_nursery() as nursery:
        async with a_server(log=log, clock=clock) as other:
            deciding, standby = (other, waiting) if other.core.scheduler.leases.is_deciding else (waiting, other)
            assert deciding is waiting
            agent = await an_agent(standby, nursery)
            await standby.schedule(await standby.job(), **DELAY)
            await run_one(agent, 4)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(log_of(log, "ScheduleTaskEnded")) == 1  # told once, by the one that decides
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, server_id="server-3", seed=3) as third:
        await trio.sleep(15)
        assert len(log_of(log, "ScheduleTaskEnded")) == 1
        assert len(fires(third)) == 2


def log_of(log: MemoryLog, kind: str) -> list[RecordedEvent]:
    return [event for event in log.events if event.type == kind]


async def test_what_is_not_followed_costs_nothing(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.schedule(await server.job())
        await run_one(agent, 1)
        assert (len(server.core.scheduler.following), server.events("ScheduleTaskEnded")) == (0, [])
        nursery.cancel_scope.cancel()
