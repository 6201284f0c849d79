"""Schedules fire at the instant, once, whatever the clock, the store and the server do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
import trio

from eventstore.errors import SqlError
from eventstore.event import Claim
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.actors import Limits
from hetuflow.domain import schedule_fires
from hetuflow.domain.commands import DeleteJob, DisableJob
from hetuflow.domain.decider import Address
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.scheduler.ticker import SPIN_SECONDS
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import a_server, data, nominal, seconds
from tests.scheduler.hooks import LostAnswers, Outage, Recording, types_of
from tests.support.ports import TrioClock


async def test_each_moment_is_decided_at_its_instant(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=7)
        await trio.sleep(30)
        assert seconds(server.events("ScheduleFired")) == [7, 14, 21, 28]


async def test_a_long_tick_interval_does_not_delay_a_fire(autojump_clock) -> None:
    async with a_server(tick_seconds=3600) as server:
        await trio.sleep(0.25)
        await server.schedule(await server.job(), interval_secs=1)
        await trio.sleep(2.5)
        assert seconds(server.events("ScheduleFired")) == [1.25, 2.25]


async def test_a_fire_with_a_free_slot_is_created_and_dispatched_in_one_append(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        await server.schedule(await server.job(), interval_secs=5)
        appends = []
        server.store.hooks = Recording(appends)
        await trio.sleep(5.5)
        assert appends == [["ScheduleFired", "TaskCreated", "TaskLocked", "TaskDispatched"]]
        assert server.core.scheduler.status().agenda.reserved == 0
        nursery.cancel_scope.cancel()


async def test_a_slot_that_a_fire_did_not_use_is_free_again(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect(slots=2)
        await server.schedule(await server.job(), interval_secs=5, max_count=1)
        await trio.sleep(20)
        status = server.core.scheduler.status()
        assert (status.agenda.reserved, status.agenda.slots_free, status.agenda.instances) == (0, 1, 1)
        nursery.cancel_scope.cancel()


async def test_after_a_restart_no_moment_is_lost_and_none_doubled(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(25)
    await trio.sleep(30)  # 30, 40 and 50 are missed
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(10)
        assert seconds(server.events("ScheduleFired")) == [10, 20, 55, 55, 55, 60]
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 20, 30, 40, 50, 60]


async def test_a_long_downtime_is_covered_by_the_misfire_policy(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(15)
    await trio.sleep(300)
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(1)
        fired = [nominal(event) for event in server.events("ScheduleFired")]
        skipped = server.events("ScheduleSkipped")
        assert fired[0] == 10 and fired == sorted(set(fired))
        counted = sum(data(event)["count"] for event in skipped)
        assert len(fired) + counted == 31  # 10, 20, ... 310: each nominal time has one decision


async def test_a_clock_that_steps_back_fires_nothing_twice(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=10)
        await trio.sleep(21)
        server.clock.step(-15)
        await trio.sleep(30)
        fired = [nominal(event) for event in server.events("ScheduleFired")]
        assert fired == [10, 20, 30]


async def test_a_clock_that_steps_forward_is_noticed_within_a_tick(autojump_clock) -> None:
    async with a_server(tick_seconds=1) as server:
        await server.schedule(await server.job(), interval_secs=3600)
        await trio.sleep(5)
        server.clock.step(3600)
        await trio.sleep(1.01)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [3600]


async def test_a_store_that_is_away_delays_the_fire_and_loses_none(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=10)
        server.store.hooks = Outage(until=trio.current_time() + 15)
        await trio.sleep(30.5)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 20, 30]
        assert 15 <= seconds(server.events("ScheduleFired"))[0] < 20


async def test_a_commit_whose_answer_was_lost_fires_once(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=10)
        server.store.hooks = LostAnswers(3)
        await trio.sleep(30.5)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 20, 30]


async def test_an_edited_job_is_read_again(autojump_clock) -> None:
    async with a_server() as server:
        job = await server.job()
        await server.schedule(job, interval_secs=10)
        await trio.sleep(15)
        await server.ask(Address("job", job.job_id), DisableJob())
        await trio.sleep(10)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10]
        assert [data(event)["reason"] for event in server.events("ScheduleSkipped")] == ["job_disabled"]


async def test_the_schedules_of_a_deleted_job_are_deleted(autojump_clock) -> None:
    async with a_server() as server:
        job = await server.job()
        await server.schedule(job, "asleep", status=99)
        await server.schedule(job, "awake")
        await server.ask(Address("job", job.job_id), DeleteJob())
        await trio.sleep(1)
        deleted = server.events("ScheduleDeleted")
        assert sorted(event.stream_id for event in deleted) == ["schedule-asleep", "schedule-awake"]
        assert {data(event)["reason"] for event in deleted} == {"job_deleted"}


async def test_a_schedule_whose_job_was_deleted_while_no_server_ran_is_deleted_when_due(
    autojump_clock, monkeypatch
) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        job = await server.job()
        await server.schedule(job)
        monkeypatch.setattr(server.core.reactions, "heard", ignored)  # the server dies before it reacts
        await server.ask(Address("job", job.job_id), DeleteJob())
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(11)
        assert len(server.events("ScheduleDeleted")) == 1
        assert not server.events("ScheduleFired")


async def test_a_schedule_whose_decider_fails_is_suspended_with_the_error(autojump_clock, monkeypatch) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=10)
        await server.schedule(await server.job("job-2"), "healthy", interval_secs=10)
        healthy = schedule_fires.fire

        def fire(command, state, now):
            if state.schedule_id == "s1":
                raise ZeroDivisionError("a defect")
            return healthy(command, state, now)

        monkeypatch.setitem(SCHEDULE._deciding, schedule_fires.FireSchedule, fire)
        await trio.sleep(30)
        [suspended] = server.events("ScheduleSuspended")
        assert data(suspended)["error"] == "ZeroDivisionError: a defect"
        assert {event.stream_id for event in server.events("ScheduleFired")} == {"schedule-healthy"}


async def test_ten_thousand_due_at_once_are_all_decided(autojump_clock) -> None:
    """Due in one second, decided in virtual time within it; the real time is the benchmark's to tell."""
    count = 2_000
    async with a_server() as server:
        job = await server.job()
        start_at = server.clock.now() + timedelta(seconds=60)
        for n in range(count):
            await server.schedule(job, f"s{n}", interval_secs=3600, start_time=start_at)
        await trio.sleep(60.5)
        fired = server.events("ScheduleFired")
        assert len(fired) == count
        assert set(seconds(fired)) == {60}


async def ignored(event) -> None:
    pass


class SqlTrouble(NoFaults):
    """PostgreSQL refuses until then (monotonic seconds): reads of many streams, or appends of fires."""

    def __init__(self, what: str, until: float) -> None:
        self._what, self._until = what, until

    async def before_read(self, what: str) -> None:
        if what == self._what and trio.current_time() < self._until:
            raise SqlError("XX000", "cache lookup failed")

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if "ScheduleFired" in types_of(claims):
            await self.before_read("append")


@pytest.mark.parametrize("what", ["read_streams", "append"])
async def test_an_error_of_sql_is_the_databases_trouble_and_passes(autojump_clock, what: str) -> None:
    async with a_server(limits=Limits(warm_cells=1)) as server:
        await server.schedule(await server.job(), interval_secs=100)
        server.store.hooks = SqlTrouble(what, trio.current_time() + 150)
        await server.job("another")  # the cells of the first are forgotten
        await trio.sleep(1000)
        fired = [nominal(event) for event in server.events("ScheduleFired")]
        assert fired[-8:] == [100 * n for n in range(2, 10)]
        assert not server.events("ScheduleSuspended")


@pytest.mark.parametrize(
    ("members", "decided"),
    [
        ({}, "ScheduleFired"),
        ({"misfire_policy": "fire_all"}, "ScheduleFired"),
        ({"misfire_policy": "skip"}, "ScheduleSkipped"),
        ({"misfire_policy": "fire_all", "max_age_seconds": 60}, "ScheduleSkipped"),
    ],
)
async def test_once_created_an_hour_late_is_decided_at_once_and_over(
    autojump_clock, members: dict[str, object], decided: str
) -> None:
    async with a_server() as server:
        late = {"interval_secs": None, "max_count": 1, "start_time": server.clock.now() - timedelta(hours=1)}
        began = trio.current_time()
        await server.schedule(await server.job(), **late, **members)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert trio.current_time() - began < 0.1
        kinds = [event.type for event in server.events(stream="schedule-s1")]
        assert kinds == ["ScheduleCreated", decided, "ScheduleExpired"]


async def test_an_alarm_in_the_last_stretch_before_a_moment_is_heard_and_not_circled_about(autojump_clock) -> None:
    """Nobody else had a turn while it went round, and in virtual time the moment never came."""
    async with a_server() as server:
        await server.schedule(await server.job())
        await trio.sleep(10 - SPIN_SECONDS)
        for _ in range(50):
            server.core.scheduler._ticker.alarm.ring()
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert len(server.events("ScheduleFired")) == 1
