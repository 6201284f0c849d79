"""Tasks that do not start in time: ended at their moment, by the server that decides, whatever crashes in between."""

from __future__ import annotations

import trio

from eventstore.memory import MemoryLog
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

EXPIRED = ["TaskCreated", "InstanceCancelled", "TaskCancelled"]


def ended_after(server: Server, task_id: str = "t1") -> float:
    """Seconds from the task's making to its end."""
    events = server.events(stream=f"task-{task_id}")
    return (events[-1].recorded_at - events[0].recorded_at).total_seconds()


async def test_a_task_without_an_agent_expires_at_its_moment(autojump_clock) -> None:
    async with a_server() as server:
        job = await server.job(start_deadline_seconds=30)
        await server.task(job, "t1")
        await server.task(await server.job("patient"), "t2")
        await trio.sleep(29.5)
        assert server.history("t1") == ["TaskCreated"] == server.history("t2")
        await trio.sleep(1)
        assert (server.history("t1"), server.history("t2")) == (EXPIRED, ["TaskCreated"])
        assert data(server.events("TaskCancelled")[0])["cause"] == "expired"
        assert 30 <= ended_after(server) < 30.5
        assert (len(server.core.scheduler.expiry), server.core.scheduler.expiry.expired) == (0, 1)


async def test_a_task_that_was_given_to_an_agent_in_time_is_left_alone(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        await server.task(await server.job(start_deadline_seconds=2), "t1")
        await trio.sleep(4)
        assert server.history("t1")[:3] == ["TaskCreated", "TaskLocked", "TaskDispatched"]
        assert not server.events("TaskCancelled") and len(server.core.scheduler.expiry) == 0
        nursery.cancel_scope.cancel()


async def test_what_expired_while_no_server_was_there_is_ended_at_the_start(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.task(await server.job(start_deadline_seconds=30), "t1")
    await trio.sleep(100)
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(15)  # the lease of the server before
        assert server.history("t1") == EXPIRED


async def test_it_is_ended_although_the_store_is_away_at_the_moment(autojump_clock) -> None:
    async with a_server() as server:
        await server.task(await server.job(start_deadline_seconds=5), "t1")
        server.store.hooks = Outage(trio.current_time() + 9)
        await trio.sleep(60)
        assert server.history("t1") == EXPIRED
        assert ended_after(server) >= 9


async def test_a_server_that_stands_by_ends_nothing_until_it_decides(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="standby", seed=2) as standby:
        pass
    async with a_server(log=log, clock=clock) as first:
        job = await first.job(start_deadline_seconds=40)
        await first.task(job, "t1")
        async with a_server(log=log, clock=clock, server_id="standby", seed=3) as standby:
            assert not standby.core.scheduler.leases.is_deciding
            await trio.sleep(5)
            assert len(standby.core.scheduler.expiry) == 1
            await trio.sleep(60)
            assert first.history("t1") == EXPIRED
            assert (first.core.scheduler.expiry.expired, standby.core.scheduler.expiry.expired) == (1, 0)
            assert len(standby.core.scheduler.expiry) == 0
