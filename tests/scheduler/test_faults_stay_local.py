"""A fault of one task, job, flow or look-up stays with it: nobody else waits for it, nothing is forgotten because of it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
import trio
from attrs import evolve

from eventstore.errors import SqlError, StoreUnavailable
from eventstore.event import Claim, NewEvent
from eventstore.memory import MemoryLog
from hetuflow.domain.commands import RetryFlow, SealJob
from hetuflow.domain.decider import Address
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.flow_plan import FlowWishes, started
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Refusing
from tests.scheduler.test_backfills import a_paused_schedule, start
from tests.scheduler.test_daemons import a_daemon, programs
from tests.scheduler.test_event_reader import decided, made, send, waits
from tests.scheduler.test_flows import FLOW, RUN, until_finished
from tests.support.ports import TrioClock

REFUSED = SqlError("57014", "canceling statement due to statement timeout")


def spoil(server: Server, task_id: str, number: int = 1) -> None:
    """A newer program has written to the stream what this one cannot read."""
    log, stream = server.store.log, f"task-{task_id}"
    new = NewEvent(event_id=UUID(int=number), type="TaskFromTheFuture", schema=1, data="{}", metadata="{}")
    log.commit([Claim(stream, log.version(stream), [new])], server.clock.now())


async def test_events_of_a_task_that_cannot_be_read_are_skipped_and_the_others_go_on(autojump_clock) -> None:
    async with a_server() as server:
        await waits(server, event_type="*")
        await server.task(await server.job("job-9"), "t9")
        await trio.sleep(3)
        spoil(server, "t9")
        await trio.sleep(60)  # whatever was known of the task before is forgotten by now
        before = decided(server)
        spoil(server, "t9", 2)
        await send(server, "a")
        await trio.sleep(300)
        assert decided(server) == [*before, "unfit", "fired"]
        assert data(server.events("ScheduleSkipped")[-1])["note"] == "its task t9 cannot be read"
        assert made(server, "s1")[-1]["event"]["type"] == "file.created"


async def test_a_task_that_cannot_be_read_holds_up_no_take_over(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
    ):
        job = await first.job()
        await first.task(job, "t9")
        await first.schedule(job)
        await trio.sleep(3)
        await first.core.scheduler.leases.release_all()
        spoil(first, "t9")
        await trio.sleep(40)
        assert second.core.scheduler.leases.is_deciding
        assert not second.core.system.has_doubts
        assert len(second.events("ScheduleFired")) >= 3


async def test_a_take_over_goes_on_when_the_database_refused_to_tell_the_head(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock, hooks=Refusing("BackfillAdvanced", 10**9)) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
    ):
        await a_paused_schedule(first)
        await start(first, 5)
        await trio.sleep(5)
        leases = second.core.scheduler.leases
        catch_up, until = leases.catch_up, trio.current_time() + 3

        async def refused() -> None:
            if trio.current_time() < until:
                raise REFUSED
            await catch_up()

        leases.catch_up = refused
        await first.core.scheduler.leases.release_all()
        await trio.sleep(60)
        assert leases.is_deciding and second.events("BackfillAdvanced")


async def test_a_backfill_goes_on_when_its_job_is_not_deleted_after_all(autojump_clock) -> None:
    async with a_server() as server:
        await a_paused_schedule(server)
        await server.ask(Address("job", "job-1"), SealJob())
        await start(server, 5)
        await trio.sleep(5)
        assert not server.events("BackfillAdvanced")
        await trio.sleep(60)  # the seal has lapsed
        assert server.events("BackfillAdvanced")


async def test_who_stands_by_does_not_remember_every_task_of_a_daemon(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        here = await programs(first, nursery)
        await a_daemon(first, 1, retry_interval=1)
        for _ in range(20):
            await trio.sleep(3)
            for task_id in list(here.running):
                await here.end(task_id, None)
        assert len(first.events("SeatStarted")) > 15
        assert sum(map(len, second.core.scheduler.daemons._to_ask.values())) <= 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [REFUSED, StoreUnavailable("away")])
async def test_a_flow_that_cannot_be_looked_up_holds_up_no_other_schedule(autojump_clock, error: Exception) -> None:
    async with a_server() as server:
        root = await server.job("a")
        await server.schedule(root, "s1", run_flow=True)
        await server.schedule(root, "s2")

        async def fails(job_ids: Sequence[str]) -> Sequence[str]:
            raise error

        ticker = server.core.scheduler._ticker
        followers_of, ticker._followers_of = ticker._followers_of, fails
        await trio.sleep(65)
        assert len(server.events("ScheduleFired", stream="schedule-s2")) == 6
        assert not server.events("ScheduleFired", "ScheduleSuspended", stream="schedule-s1")
        ticker._followers_of = followers_of
        await trio.sleep(60)
        assert server.events("ScheduleFired", stream="schedule-s1")


async def test_a_circle_of_jobs_suspends_its_schedule_and_no_other(autojump_clock, monkeypatch) -> None:
    def circle(*_: object) -> None:
        raise ValueError("a -> b -> a")

    monkeypatch.setattr("hetuflow.scheduler.flow_graphs.graph_of", circle)
    async with a_server() as server:
        root = await server.job("a")
        await server.schedule(root, "s1", run_flow=True)
        await server.schedule(root, "s2")
        await trio.sleep(120)
        [suspended] = server.events("ScheduleSuspended")
        assert suspended.stream_id == "schedule-s1" and "a -> b -> a" in data(suspended)["error"]
        assert len(server.events("ScheduleFired", stream="schedule-s2")) >= 11


async def test_a_retry_of_a_run_whose_task_cannot_run_again_ends(autojump_clock) -> None:
    """Its job asks for a parameter that the run does not have: it failed when it was made, and would again."""
    async with a_server() as server:
        a = await server.job("a", params={"day": {"type": "string", "required": True}})
        edges = {"jobs": [{"job_id": "a", "on": "succeeded"}], "match": "all"}
        jobs = {"a": a, "b": evolve(await server.job("b"), upstream=edges)}
        command = started(RUN, graph_of(["a"], jobs), FlowWishes())
        await server.ask(FLOW, command)
        assert (await until_finished(server))["outcome"]["failed"] == 1
        await server.ask(FLOW, RetryFlow(tasks={task.task_id: 1 for task in command.tasks}))
        ended = await until_finished(server, 2)
        assert ended["outcome"] == {"succeeded": 0, "failed": 1, "cancelled": 0, "skipped": 1}
