"""A wall clock that is wrong fires nothing wrongly, fires nothing twice, and stands still no longer than it is wrong."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from eventstore.memory import MemoryLog
from hetuflow.scheduler.clocks import ClockWatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Refusing
from tests.support.ports import EPOCH, TrioClock

HOUR = 3600.0
BOUND = 5.0


def covered(server: Server) -> list[float]:
    """Every nominal time with a decision, in the order of the log (interval 10 s)."""
    times: list[float] = []
    for event in server.events("ScheduleFired", "ScheduleSkipped"):
        if event.type == "ScheduleFired":
            times.append(since_epoch(data(event)["nominal_at"]))
        else:
            first, last = since_epoch(data(event)["first_nominal_at"]), since_epoch(data(event)["last_nominal_at"])
            times += [first + 10 * n for n in range(round((last - first) / 10) + 1)]
    return times


def since_epoch(text: str) -> float:
    return (datetime.fromisoformat(text) - EPOCH).total_seconds()


def is_whole(times: list[float]) -> bool:
    """Each nominal time once, in order, from the first on."""
    return times == [10.0 * n for n in range(1, len(times) + 1)]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_that_the_database_does_not_share_fires_nothing_until_it_is_over(
    autojump_clock, caplog: pytest.LogCaptureFixture, step: float
) -> None:
    caplog.set_level(logging.WARNING)
    clock = TrioClock()
    right = clock.another()
    async with a_server(clock=clock, store_now=right.now) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(25)
        assert covered(server) == [10, 20]
        clock.step(step)
        await trio.sleep(60)
        assert covered(server) == [10, 20]
        status = server.core.scheduler.status()
        assert not status.clock.is_right and status.clock.offset_seconds == pytest.approx(step, abs=0.1)
        assert "nothing is fired" in status.problems[0]
        clock.step(-step)
        await trio.sleep(4)
        assert not server.core.scheduler.status().problems
        await trio.sleep(20)
        times = covered(server)
        assert is_whole(times) and times[-1] == 100
    assert ("ahead" if step > 0 else "behind") in caplog.text and "firing goes on" in caplog.text


async def test_a_step_back_that_is_shared_stands_still_for_its_length_and_fires_nothing_twice(autojump_clock) -> None:
    clock = TrioClock()
    async with a_server(clock=clock) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(25)
        clock.step(-HOUR)
        await trio.sleep(HOUR + 10)
        times = covered(server)
        assert is_whole(times) and times[-1] == 30
        assert not server.core.scheduler.status().problems


async def test_a_step_forward_that_is_shared_leaves_a_trace_of_everything_it_passed(autojump_clock) -> None:
    clock = TrioClock()
    async with a_server(clock=clock) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(25)
        clock.step(HOUR)
        await trio.sleep(10)
        times = covered(server)
        assert is_whole(times) and times[-1] >= HOUR + 20


async def test_what_waits_for_a_later_moment_does_not_start_early_by_a_wrong_clock(autojump_clock) -> None:
    clock = TrioClock()
    right = clock.another()
    async with a_server(clock=clock, store_now=right.now) as server:
        await server.task(await server.job(), scheduled_at=EPOCH + timedelta(minutes=30))
        await trio.sleep(5)
        clock.step(HOUR)
        await trio.sleep(60)
        agenda = server.core.scheduler.status().agenda
        assert (agenda.tasks_later, agenda.tasks_waiting) == (1, 0)


async def test_a_pause_that_began_by_a_wrong_clock_ends_with_it(autojump_clock) -> None:
    """Seed 30083: a task that could not be dispatched while the store was away waited for its next try as long as the clock
    had been ahead."""
    clock = TrioClock()
    right = clock.another()
    async with a_server(clock=clock, store_now=right.now) as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        server.store.hooks = Refusing("TaskLocked", trio.current_time() + 10)
        clock.step(HOUR)
        await server.task(await server.job(), scheduled_at=EPOCH)
        await trio.sleep(11)
        assert server.history() == ["TaskCreated"]
        clock.step(-HOUR)
        await trio.sleep(20)
        assert server.history() == ["TaskCreated", "TaskLocked", "TaskDispatched"]
        nursery.cancel_scope.cancel()


async def test_a_server_with_a_wrong_clock_lets_another_decide(autojump_clock) -> None:
    log, right = MemoryLog(), TrioClock()
    wrong = right.another()
    async with (
        a_server(log=log, clock=wrong, store_now=right.now) as first,
        a_server(log=log, clock=right, server_id="server-2") as second,
    ):
        await first.schedule(await first.job(), interval_secs=10)
        await trio.sleep(25)
        assert first.core.scheduler.status().is_deciding
        wrong.step(HOUR)
        await trio.sleep(4)
        assert second.core.scheduler.status().is_deciding
        assert not first.core.scheduler.status().problems, "it stands by"
        await trio.sleep(60)
        times = covered(second)
        assert is_whole(times) and times[-1] >= 80
        wrong.step(-HOUR)
        await trio.sleep(60)
        assert second.core.scheduler.status().is_deciding, "nothing moves without need"


@pytest.mark.parametrize("are_both_wrong", [False, True])
async def test_a_seat_that_could_not_be_given_away_is_not_forgotten(autojump_clock, are_both_wrong: bool) -> None:
    """Seed 20024: the log went on to name a server that did not know of it, and nobody decided any more."""
    log, right = MemoryLog(), TrioClock()
    wrong = right.another()
    async with (
        a_server(log=log, clock=wrong, store_now=right.now) as first,
        a_server(
            log=log, clock=wrong if are_both_wrong else right, store_now=right.now, server_id="server-2"
        ) as second,
    ):
        await trio.sleep(25)
        assert first.core.scheduler.status().is_deciding
        first.store.hooks = second.store.hooks = Refusing("LeaseReleased", trio.current_time() + 20)
        wrong.step(HOUR)
        await trio.sleep(40)
        deciding = [each.core.scheduler.status().is_deciding for each in (first, second)]
        assert sum(deciding) == 1
        assert are_both_wrong or deciding == [False, True], "it is given away as soon as that is possible"
        wrong.step(-HOUR)
        await trio.sleep(10)
        assert sum(each.core.scheduler.status().is_deciding for each in (first, second)) == 1


async def test_where_all_clocks_are_wrong_one_decides_what_needs_no_clock(autojump_clock) -> None:
    log, right = MemoryLog(), TrioClock()
    wrong = right.another()
    async with (
        a_server(log=log, clock=wrong, store_now=right.now) as first,
        a_server(log=log, clock=wrong, store_now=right.now, server_id="server-2") as second,
    ):
        await trio.sleep(5)
        wrong.step(HOUR)
        await trio.sleep(30)
        status = [each.core.scheduler.status() for each in (first, second)]
        assert sorted(each.is_deciding for each in status) == [False, True]
        assert any("nothing is fired" in problem for each in status for problem in each.problems)
        taken = len(first.events("LeaseTaken"))
        await trio.sleep(300)
        assert len(first.events("LeaseTaken")) == taken, "it stays where it is"
        wrong.step(-HOUR)
        await trio.sleep(10)
        assert not any(each.core.scheduler.status().problems for each in (first, second))


async def test_an_offset_that_is_small_is_told_once(autojump_clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = TrioClock()
    right = clock.another()
    clock.step(2)
    async with a_server(clock=clock, store_now=right.now) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(60)
        assert is_whole([time - 2 for time in covered(server)]) and len(covered(server)) >= 5, "by its own clock"
        assert server.core.scheduler.status().clock.offset_seconds == pytest.approx(2, abs=0.1)
    assert caplog.text.count("differs by") == 1


def a_watch(offset: float = 0.0, way: float = 0.0) -> tuple[ClockWatch, list[float], list[str]]:
    """A watch that has measured once, the monotonic clock as a cell, and what it has called."""
    now, said = [100.0], list[str]()
    watch = ClockWatch(BOUND, lambda: now[0])
    watch.doubt = lambda: said.append("doubt")
    watch.right_again = lambda: said.append("right")
    now[0] += way
    watch.measured(wall_at(now[0], offset), wall_at(now[0] - way / 2), 100.0, now[0])
    return watch, now, said


def wall_at(monotonic: float, offset: float = 0.0) -> datetime:
    return EPOCH + timedelta(seconds=monotonic - 100 + offset)


@given(st.floats(-BOUND, BOUND), st.floats(0, 3600), st.floats(-2 * HOUR, 2 * HOUR))
def test_a_step_is_seen_at_once_and_judged_by_the_clock_of_the_database(
    offset: float, elapsed: float, step: float
) -> None:
    watch, now, said = a_watch(round(offset, 3))
    now[0] += elapsed
    wall = wall_at(now[0], round(offset, 3) + round(step, 3))
    off = abs(round(offset, 3) + round(step, 3))
    if abs(off - BOUND) < 0.01:
        return
    assert watch.allows(wall) == (off <= BOUND)
    assert said == ([] if off <= BOUND else ["doubt"])
    assert watch.cautious(wall) <= wall
    assert watch.cautious(wall) == min(wall, watch.shared(wall))
    assert abs((watch.shared(wall) - wall_at(now[0])).total_seconds()) < (BOUND if off <= BOUND else 0) + 0.01
    if off > BOUND and step > 0:
        assert abs((watch.cautious(wall) - wall_at(now[0])).total_seconds()) < 0.01
    watch.measured(wall, wall_at(now[0]), now[0], now[0])
    assert watch.status().is_right == (off <= BOUND) == watch.allows(wall)


def test_a_measurement_that_took_too_long_is_none() -> None:
    watch, now, _ = a_watch()
    now[0] += 2
    watch.measured(wall_at(now[0]), wall_at(now[0] - 7), now[0] - 7, now[0])
    assert watch.status().offset_seconds == 0.0 and watch.allows(wall_at(now[0]))


def test_without_a_measurement_nothing_is_held_up() -> None:
    watch = ClockWatch(BOUND, lambda: 0.0)
    assert (
        watch.allows(EPOCH)
        and watch.cautious(EPOCH) == watch.shared(EPOCH) == EPOCH
        and watch.status().offset_seconds is None
    )


def test_a_clock_that_is_set_right_is_measured_at_once() -> None:
    watch, now, said = a_watch(HOUR)
    assert not watch.allows(wall_at(now[0], HOUR)) and said == []
    assert not watch.allows(wall_at(now[0])) and said == ["doubt"]
    watch.measured(wall_at(now[0]), wall_at(now[0]), now[0], now[0])
    assert watch.allows(wall_at(now[0])) and said == ["doubt", "right"]
