"""Backfills are carried on: a few tasks at once, over crashes and take-overs, until the last has ended or a cancel."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.calendar import snapshot as snapshot_of_calendar
from hetuflow.domain.commands import CalendarSnapshot, CancelBackfill, CreateCalendar, DisableSchedule, StartBackfill
from hetuflow.domain.decider import Address
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

BACKFILL = Address("backfill", "b1")


async def an_agent(server: Server, nursery: trio.Nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect(slots=10)
    return agent


async def start(server: Server, count: int, concurrent: int = 2) -> None:
    """Of the `count` ten-second moments before the schedule was made."""
    state = (await server.core.system.read(Address("schedule", "s1"))).state
    until = state.anchor_at
    window = until - timedelta(seconds=10 * (count - 1)), until
    now = server.clock.now()
    await server.ask(BACKFILL, StartBackfill(start=start_of("b1", state, *window, now, max_concurrent=concurrent)))


async def a_paused_schedule(server: Server) -> None:
    await server.schedule(await server.job())
    await server.ask(Address("schedule", "s1"), DisableSchedule())


async def finish(agent: ScriptedAgent, count: int) -> list[str]:
    found = []
    for _ in range(count):
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order))
        found.append(order.task_id)
    return found


async def test_a_window_is_run_a_few_at_once_to_its_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await a_paused_schedule(server)
        await start(server, 7)
        first, second = [await agent.expect(Dispatch) for _ in range(2)]
        await agent.expect_nothing(Dispatch, seconds=60)
        await agent.say(agent.started(first), agent.ended(first), agent.started(second), agent.ended(second))
        await finish(agent, 5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        made = [data(event) for event in server.events("TaskCreated")]
        assert [each["nominal_at"] for each in made] == sorted({each["nominal_at"] for each in made})
        assert {(each["trigger"], each["backfill_id"]) for each in made} == {("backfill", "b1")}
        state = (await server.core.system.read(BACKFILL)).state
        assert (state.status, state.made, state.succeeded, state.left_out) == ("finished", 7, 7, 0)
        assert (len(server.core.scheduler.backfills), len(server.core.scheduler.following)) == (0, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_away", [False, True])
async def test_it_goes_on_after_a_crash_at_any_moment(autojump_clock, is_away: bool) -> None:
    log, clock = MemoryLog(), TrioClock()
    for seed in range(1, 6):
        async with a_server(log=log, clock=clock, seed=seed) as server, trio.open_nursery() as nursery:
            if seed == 1:
                await a_paused_schedule(server)
                await start(server, 9)
            agent = await an_agent(server, nursery)
            if is_away:
                server.store.hooks = Outage(trio.current_time() + 3)
            if seed < 5:
                await finish(agent, 1)
                await trio.testing.wait_all_tasks_blocked(0.001 * seed)
            else:
                nursery.start_soon(agent.run)
                await trio.sleep(600)
                state = (await server.core.system.read(BACKFILL)).state
                assert (state.status, state.made, state.succeeded) == ("finished", 9, 9)
                assert len(server.events("TaskCreated")) == 9
            nursery.cancel_scope.cancel()


async def test_what_fired_then_is_left_out(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.schedule(await server.job())
        await finish(agent, 3)
        await server.ask(Address("schedule", "s1"), DisableSchedule())
        state = (await server.core.system.read(Address("schedule", "s1"))).state
        began = state.anchor_at
        window = began - timedelta(seconds=10), began + timedelta(seconds=30)
        started = start_of("b1", state, *window, server.clock.now(), max_concurrent=100)
        await server.ask(BACKFILL, StartBackfill(start=started))
        await finish(agent, 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        found = (await server.core.system.read(BACKFILL)).state
        assert (found.status, found.made, found.left_out) == ("finished", 2, 3)
        nursery.cancel_scope.cancel()


async def test_a_cancel_ends_what_waits_and_lets_go_on_what_runs(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect(slots=1)
        await a_paused_schedule(server)
        await start(server, 9, concurrent=3)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await server.ask(BACKFILL, CancelBackfill(note="wrong data"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(server.events("TaskCancelled")) == 2
        assert server.events("BackfillFinished") == []
        await agent.say(agent.ended(order))
        await agent.expect_nothing(Dispatch, seconds=30)
        state = (await server.core.system.read(BACKFILL)).state
        assert (state.status, state.succeeded, state.cancelled, state.made) == ("cancelled", 1, 2, 3)
        assert len(server.events("BackfillFinished")) == 1
        nursery.cancel_scope.cancel()


async def test_what_a_calendar_excludes_is_left_out(autojump_clock) -> None:
    async with a_server() as server:
        started = server.clock.now()
        excluded = (started - timedelta(seconds=35)).strftime("%H:%M:%S"), started.strftime("%H:%M:%S")
        times = [{"from": excluded[0], "to": excluded[1]}]
        await server.ask(Address("calendar", "c"), CreateCalendar(calendar_id="c", times=times))
        snapshot = await calendar(server)
        await server.schedule(await server.job(), exclude_calendars=("c",), calendars=(snapshot,))
        await server.ask(Address("schedule", "s1"), DisableSchedule())
        await start(server, 7, concurrent=10)  # a minute before its creation; the last half of it is excluded
        await trio.testing.wait_all_tasks_blocked(0.01)
        state = (await server.core.system.read(BACKFILL)).state
        assert (state.made + state.left_out, state.is_exhausted) == (7, True)
        assert 3 <= state.left_out <= 4


async def calendar(server: Server) -> CalendarSnapshot:
    reading = await server.core.system.read(Address("calendar", "c"))
    return snapshot_of_calendar("c", reading.state, reading.version)
