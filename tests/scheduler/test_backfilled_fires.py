"""A clock that is set back between a backfill and an enable: what the backfill ran does not fire, and nothing is suspended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import CreateTask, DisableSchedule, EnableSchedule, StartBackfill
from hetuflow.domain.decider import Address
from hetuflow.domain.identity import task_id_of
from tests.scheduler.harness import Server, a_server, data, nominal
from tests.scheduler.hooks import Outage
from tests.support.ports import EPOCH

SCHEDULE = Address("schedule", "s1")


async def backfilled_then_set_back(server: Server, **members: Any) -> None:
    """Off from 0 s on; at 65 s a backfill of all until then; then the clock goes back to 25 s and it is enabled."""
    await server.schedule(await server.job(), **members)
    await server.ask(SCHEDULE, DisableSchedule())
    await trio.sleep(65)
    state, now = (await server.core.system.read(SCHEDULE)).state, server.clock.now()
    started = start_of("b1", state, EPOCH + timedelta(seconds=5), now, now, max_concurrent=100)
    await server.ask(Address("backfill", "b1"), StartBackfill(start=started))
    await trio.sleep(1)
    assert len(server.events("TaskCreated")) == started.total
    server.clock.step(-41)
    await server.ask(SCHEDULE, EnableSchedule())


def fired(server: Server) -> list[float]:
    return [nominal(event) for event in server.events("ScheduleFired")]


def skipped(server: Server) -> list[tuple[str, int]]:
    return [(data(event)["reason"], data(event)["count"]) for event in server.events("ScheduleSkipped")]


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "cancel_previous"])
@pytest.mark.parametrize("misfire", ["skip", "fire_once", "fire_all"])
async def test_each_is_skipped_at_its_time_and_the_next_one_fires(autojump_clock, misfire: str, overlap: str) -> None:
    async with a_server() as server:
        await backfilled_then_set_back(server, misfire_policy=misfire, overlap_policy=overlap)
        await trio.sleep(50)
        assert skipped(server) == [("backfilled", 1)] * 4
        assert fired(server) == [70]
        assert not server.events("ScheduleSuspended")


async def test_after_downtime_those_that_a_backfill_ran_are_left_out_and_the_others_fire(autojump_clock) -> None:
    async with a_server() as server:
        await backfilled_then_set_back(server, misfire_policy="fire_all", max_count=2)
        server.store.hooks = Outage(trio.current_time() + 70)
        await trio.sleep(120)
        assert skipped(server) == [("backfilled", 1)] * 4
        assert fired(server) == [70, 80]
        [expired] = server.events("ScheduleExpired")
        assert data(expired)["reason"] == "max_count"


async def test_a_once_that_a_backfill_ran_expires_without_a_fire(autojump_clock) -> None:
    async with a_server() as server:
        once = {"interval_secs": None, "max_count": 1, "start_time": EPOCH + timedelta(seconds=40)}
        await backfilled_then_set_back(server, **once)
        await trio.sleep(60)
        assert (skipped(server), fired(server)) == ([("backfilled", 1)], [])
        assert len(server.events("ScheduleExpired")) == 1 and not server.events("ScheduleSuspended")


async def test_a_task_that_somebody_else_made_under_its_id_still_suspends_the_schedule(autojump_clock) -> None:
    """Nobody says that this one is the nominal time's: that is a defect, and is shown as one."""
    async with a_server() as server:
        job = await server.job()
        await server.schedule(job)
        task_id = task_id_of("s1", EPOCH + timedelta(seconds=10))
        await server.ask(Address("task", task_id), CreateTask(task_id=task_id, job=job, trigger="run"))
        await trio.sleep(60)
        assert len(server.events("ScheduleSuspended")) == 1
