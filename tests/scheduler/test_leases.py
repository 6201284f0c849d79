"""A server that was superseded has its decisions refused by the store, and stops deciding; users are still served."""

from __future__ import annotations

import logging

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.core import ELSEWHERE_SECONDS
from hetuflow.domain.commands import LoseServer, StartServer, TakeLease
from hetuflow.domain.decider import Address
from hetuflow.protocol.messages import Dispatch
from hetuflow.scheduler.leases import SLOTS, address_of, slot_of
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import a_server, nominal
from tests.support.ports import TrioClock


async def test_all_leases_are_taken_at_start_and_given_back_at_the_end(autojump_clock) -> None:
    async with a_server() as server:
        assert server.core.scheduler.status().leases.held == SLOTS
        assert len(server.events("LeaseTaken")) == SLOTS
    assert len(server.events("LeaseReleased")) == SLOTS


async def test_every_restart_has_a_greater_epoch(autojump_clock) -> None:
    log = MemoryLog()
    async with a_server(log=log) as server:
        first = server.core.scheduler.leases.guard("job-1")
    async with a_server(log=log, seed=2) as server:
        second = server.core.scheduler.leases.guard("job-1")
    assert first is not None and second is not None
    assert first.stream_id == second.stream_id and first.version < second.version


async def test_a_dispatch_under_an_older_lease_is_refused_and_the_server_stops_deciding(
    autojump_clock, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    caplog.set_level(logging.ERROR)
    async with a_server() as server, trio.open_nursery() as nursery:
        job = await server.job()
        await server.schedule(job, interval_secs=10)
        monkeypatch.setattr(server.core.scheduler.leases, "heard", lambda event: None)  # the log reaches it too late
        await server.ask(address_of(slot_of(job.job_id)), TakeLease(slot=slot_of(job.job_id), server_id="server-2"))
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await server.task(job)
        await agent.connect()
        await agent.expect_nothing(Dispatch, 60)
        assert server.history() == ["TaskCreated"]
        assert not server.events("ScheduleFired")
        status = server.core.scheduler.status()
        assert status.leases.lost == (slot_of(job.job_id),)
        assert not status.is_whole
        assert (status.agenda.reserved, status.agenda.slots_free) == (0, 4)
        assert server.core.scheduler.reserve((), None, job.job_id) is None
        nursery.cancel_scope.cancel()
    assert "was taken by another server" in caplog.text


async def test_a_superseded_server_leaves_the_work_to_its_successor(autojump_clock) -> None:
    """Two servers on one log: each moment is decided once, also while both believe that they decide."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-1") as first:
        await first.schedule(await first.job(), interval_secs=10)
        await trio.sleep(25)
        async with a_server(log=log, clock=clock, server_id="server-2") as second, trio.open_nursery() as nursery:
            agent = ScriptedAgent(second.core.gateway.serve_connection, nursery)
            await agent.connect()
            nursery.start_soon(agent.run)
            await trio.sleep(20)
            assert first.core.scheduler.status().leases.held == 0
            # a user of the superseded server is served, and the successor does the work
            await first.task(await first.job("job-2"), "by-user")
            await trio.sleep(1.1 * ELSEWHERE_SECONDS + 1)
            assert second.history("by-user")[-1] == "TaskSucceeded"
            fired = second.events("ScheduleFired")
            assert [nominal(event) for event in fired] == [10 * n for n in range(1, len(fired) + 1)]
            nursery.cancel_scope.cancel()


def test_a_jobs_slot_never_changes() -> None:
    """Frozen: servers of different versions must agree."""
    assert [slot_of(job_id) for job_id in ("a", "job-1", "550e8400-e29b-41d4-a716-446655440000")] == [3, 63, 49]


async def test_a_server_goes_on_when_the_one_that_superseded_it_has_stopped(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, trio.open_nursery() as nursery:
        job = await first.job()
        await first.schedule(job, interval_secs=10)
        agent = ScriptedAgent(first.core.gateway.serve_connection, nursery)
        await agent.connect()
        async with a_server(log=log, clock=clock, server_id="server-2"):
            await trio.sleep(1)
            assert not first.core.scheduler.status().is_whole
            await first.task(job, "meanwhile")
            await agent.expect_nothing(Dispatch, 25)
        await trio.sleep(1)
        status = first.core.scheduler.status()
        assert (status.is_whole, status.leases.held) == (True, SLOTS)
        nursery.start_soon(agent.run)
        await trio.sleep(20)
        assert first.history("meanwhile")[-1] == "TaskSucceeded"
        covered = [nominal(event) for event in first.events("ScheduleFired")]
        assert covered[-1] >= 40 and len(set(covered)) == len(covered)
        nursery.cancel_scope.cancel()


async def test_two_servers_that_live_do_not_take_from_each_other_in_turns(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, a_server(log=log, clock=clock, server_id="server-2") as second:
        await trio.sleep(1)
        async with a_server(log=log, clock=clock, server_id="server-3"):
            await trio.sleep(100)
            assert len(first.events("LeaseTaken")) == 3 * SLOTS
        await trio.sleep(100)
        held = [each.core.scheduler.status().leases.held for each in (first, second)]
        assert sum(held) == SLOTS
        written = len(first.events("LeaseTaken"))
        await trio.sleep(1000)
        assert len(first.events("LeaseTaken")) == written


async def test_the_leases_of_a_server_that_could_not_release_them_are_taken_when_it_is_known_to_have_ended(
    autojump_clock,
) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first:
        await first.ask(
            Address("server", "server-2"), StartServer(server_id="server-2", name="2", address="", version="1")
        )
        await first.ask(address_of(3), TakeLease(slot=3, server_id="server-2"))
        await trio.sleep(1)
        assert first.core.scheduler.status().leases.lost == (3,)
        await first.ask(Address("server", "server-2"), LoseServer())
        await trio.sleep(1)
        assert first.core.scheduler.status().is_whole
