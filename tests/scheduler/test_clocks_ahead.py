"""A server whose wall clock runs an hour ahead for a while keeps no time by it: all work happens when it would have."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
import trio
from attrs import evolve, frozen

from eventstore.memory import MemoryLog
from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import DisableSchedule, ReceiveEvent, StartBackfill
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.flow_plan import FlowWishes, started
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, seconds
from tests.support.ports import TrioClock

HOUR = 3600.0
AHEAD_MAX = timedelta(seconds=60)
"""Of the times that events carry, over the moments of their recording: no rule of these tests asks for more."""
AGENTS_WORD = ("InstanceStarted", "InstanceSucceeded", "InstanceFailed")
"""They say when a program ran as the agent has it, by its own clock."""
TIME = re.compile(r'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^"]*)"')

steps = pytest.mark.parametrize("order", ["step first", "ask first", "undone before it is noticed"])
"""Whether the clock has been wrong for a while, steps in the instant after the asking, or is right again at once."""


@frozen
class Scene:
    server: Server
    agent: ScriptedAgent
    clock: TrioClock
    order: str
    step: float

    async def before(self) -> None:
        if self.order != "ask first":
            self.clock.step(self.step)
        if self.order == "step first":
            await trio.sleep(4)
            assert not self.server.core.scheduler.status().clock.is_right

    async def after(self) -> None:
        """Wrong for some seconds, unless it is to be right at once; right when this returns."""
        if self.order == "ask first":
            self.clock.step(self.step)
        if self.order != "undone before it is noticed":
            await trio.sleep(6)
        self.clock.step(-self.step)

    async def orders(self, count: int, within: float) -> list[Dispatch]:
        with trio.fail_after(within):
            return [await self.agent.expect(Dispatch) for _ in range(count)]

    async def run(self, order: Dispatch, exit_code: int = 0) -> None:
        """The agent is on the same machine: it has the same clock."""
        now = self.clock.now().isoformat()
        ended = self.agent.ended(order, "exit_code" if exit_code else None, exit_code=exit_code)
        await self.agent.say(self.agent.started(order, now), evolve(ended, completed_at=now))


@asynccontextmanager
async def a_scene(order: str, step: float = HOUR) -> AsyncIterator[Scene]:
    """At its end: nothing in the log lies ahead, and no task was given out twice for one attempt."""
    clock = TrioClock()
    right = clock.another()
    async with a_server(clock=clock, store_now=right.now) as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect(slots=10, lost_after_seconds=20.0)
        nursery.start_soon(beats, agent)
        await trio.sleep(3)  # measured at least once
        yield Scene(server, agent, clock, order, step)
        nothing_lies_ahead(server.store.log)
        given = [(data(each)["task_id"], data(each)["instance_id"]) for each in server.events("TaskDispatched")]
        assert len(given) == len(set(given))
        nursery.cancel_scope.cancel()


async def beats(agent: ScriptedAgent) -> None:
    for n in itertools.count(1):
        await trio.sleep(4)
        await agent.heartbeat(n)


def nothing_lies_ahead(log: MemoryLog) -> None:
    for event in log.events:
        if event.type in AGENTS_WORD:
            continue
        for text in TIME.findall(event.data.decode() if isinstance(event.data, bytes) else event.data):
            ahead = datetime.fromisoformat(text) - event.recorded_at
            assert ahead <= AHEAD_MAX, f"{event.type} carries {text}, recorded at {event.recorded_at}"


@steps
async def test_a_run_that_found_no_slot_waits_for_one_only(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        job = await scene.server.job(timeout_secs=30)
        for n in range(10):
            await scene.server.task(job, f"other-{n}")
        others = await scene.orders(10, 1)
        await scene.before()
        await scene.server.task(job)
        await scene.after()
        await scene.run(others[0])
        [last] = await scene.orders(1, 3)
        assert last.task_id == "t1"


@steps
async def test_the_tasks_of_a_backfill_run_at_once(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        await server.schedule(await server.job())
        await server.ask(Address("schedule", "s1"), DisableSchedule())
        state = (await server.core.system.read(Address("schedule", "s1"))).state
        window = state.anchor_at - timedelta(seconds=50), state.anchor_at
        await scene.before()
        made = start_of("b1", state, *window, server.core.clock.now(), max_concurrent=2)
        await server.ask(Address("backfill", "b1"), StartBackfill(start=made))
        await scene.after()
        for _ in range(6):
            [each] = await scene.orders(1, 2)
            await scene.run(each)
        await trio.sleep(1)
        assert (await server.core.system.read(Address("backfill", "b1"))).state.status == "finished"
        assert len(server.events("TaskCreated")) == 6


@steps
async def test_a_run_of_a_flow_begins_and_goes_on_at_once(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        after = {"jobs": [{"job_id": "a", "on": "succeeded"}], "match": "all"}
        jobs = {"a": await server.job("a"), "b": evolve(await server.job("b"), upstream=after)}
        await scene.before()
        command = started("01890000-0000-7000-8000-0000000000aa", graph_of(["a"], jobs), FlowWishes())
        await server.ask(Address("flow", command.flow_run_id), command)
        await scene.after()
        for _ in range(2):
            [each] = await scene.orders(1, 2)
            await scene.run(each)
        await trio.sleep(1)
        assert len(server.events("FlowFinished")) == 1


@steps
async def test_a_fixed_delay_is_counted_from_the_end_as_it_was(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        await server.schedule(await server.job(), interval_mode="fixed_delay", overlap_policy="skip")
        [first] = await scene.orders(1, 12)
        await scene.before()
        await scene.run(first)
        await trio.lowlevel.checkpoint()
        await scene.after()
        await scene.orders(1, 12)
        ended, (_, again) = seconds(server.events("TaskSucceeded"))[0], seconds(server.events("ScheduleFired"))
        assert again == pytest.approx(ended + 10, abs=1)


@steps
async def test_a_daemon_starts_again_after_its_pause(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        job = await server.job(retry_interval=10)
        await server.schedule(job, schedule_kind=ScheduleKind.DAEMON, interval_secs=None, daemon={"instances": 1})
        [first] = await scene.orders(1, 2)
        await scene.before()
        await scene.run(first, exit_code=1)
        await trio.lowlevel.checkpoint()
        await scene.after()
        await scene.orders(1, 13)
        assert len(server.events("SeatStarted")) == 2


@steps
async def test_a_retry_comes_after_its_interval(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        await server.task(await server.job(max_retries=1, retry_interval=10))
        [first] = await scene.orders(1, 2)
        await scene.before()
        await scene.run(first, exit_code=1)
        await trio.lowlevel.checkpoint()
        await scene.after()
        await scene.orders(1, 11)
        failed, (_, again) = seconds(server.events("InstanceFailed"))[0], seconds(server.events("TaskDispatched"))
        assert again == pytest.approx(failed + 10, abs=1)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@steps
async def test_a_rate_counts_starts_when_they_were(autojump_clock, order: str, step: float) -> None:
    async with a_scene(order, step) as scene:
        server = scene.server
        job = await server.job(limits={"rate": {"count": 2, "per_seconds": 20}})
        await server.task(job, "t0")
        await scene.before()
        for n in range(1, 5):
            await server.task(job, f"t{n}")
        await trio.sleep(1)
        await scene.after()
        await trio.sleep(60)
        times = seconds(server.events("TaskDispatched"))
        assert len(times) == 5, "none waits for longer than the window"
        assert all(b - a >= 20 for a, b in zip(times, times[2:], strict=False))


@steps
async def test_quiet_after_an_event_is_as_long_as_it_says(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        server = scene.server
        members = {"interval_secs": None, "event_type": "file.*", "debounce_seconds": 5}
        await server.schedule(await server.job(), schedule_kind=ScheduleKind.EVENT, **members)
        await trio.sleep(1)
        await scene.before()
        now = server.core.clock.now()
        event = ReceiveEvent(id="a", source="test", type="file.x", data={}, time=now, digest="a", known_until=10**9)
        await server.ask(Address("external", "test"), event)
        await scene.after()
        await scene.orders(1, 8)
        assert len(server.events("ScheduleFired")) == 1


@steps
async def test_an_ordinary_schedule_fires_each_time_once(autojump_clock, order: str) -> None:
    async with a_scene(order) as scene:
        await scene.server.schedule(await scene.server.job())
        await scene.before()
        await scene.after()
        await trio.sleep(30)
        times = [data(each)["nominal_at"] for each in scene.server.events("ScheduleFired")]
        assert len(times) == len(set(times)) >= 2


async def test_a_server_that_starts_with_a_wrong_clock_dates_nothing_by_it(autojump_clock) -> None:
    log, right = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=right) as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect(slots=1)
        await server.task(await server.job())
        await agent.expect(Dispatch)
        nursery.cancel_scope.cancel()
    wrong = right.another()
    wrong.step(HOUR)
    async with a_server(log=log, clock=wrong, store_now=right.now, seed=2) as server, trio.open_nursery() as nursery:
        await server.task(await server.job("job-2"), "t2")
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery, "agent-2")
        await agent.connect(slots=1)
        with trio.fail_after(3):
            assert (await agent.expect(Dispatch)).task_id == "t2"
        nothing_lies_ahead(log)
        nursery.cancel_scope.cancel()


async def test_two_servers_of_which_one_is_ahead_keep_the_delay(autojump_clock) -> None:
    log, right = MemoryLog(), TrioClock()
    wrong = right.another()
    async with (
        a_server(log=log, clock=wrong, store_now=right.now) as first,
        a_server(log=log, clock=right, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        agent = ScriptedAgent(first.core.gateway.serve_connection, nursery)
        await agent.connect(lost_after_seconds=20.0)
        nursery.start_soon(beats, agent)
        await trio.sleep(3)
        await first.schedule(await first.job(), interval_mode="fixed_delay", overlap_policy="skip")
        order = await agent.expect(Dispatch)
        wrong.step(HOUR)
        await agent.say(agent.started(order), agent.ended(order))
        with trio.fail_after(13):
            await agent.expect(Dispatch)
        assert second.core.scheduler.status().is_deciding
        nothing_lies_ahead(log)
        nursery.cancel_scope.cancel()
