"""One server decides, the others stand by; one that was superseded has its decisions refused by the store itself."""

from __future__ import annotations

import logging

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, LoseServer, StartServer, TakeLease
from hetuflow.domain.decider import Address
from hetuflow.domain.need import Need
from hetuflow.protocol.messages import Dispatch
from hetuflow.scheduler.leases import LEADERSHIP, SLOTS, address_of, slot_of
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, nominal
from tests.scheduler.hooks import LostAnswers, NoHead, Outage, Refusing
from tests.support.ports import TrioClock


def held(server: Server) -> int:
    return server.core.scheduler.status().leases.held


async def announced(server: Server, server_id: str) -> None:
    """Another server says that it lives."""
    command = StartServer(server_id=server_id, name=server_id, address="", version="1")
    await server.ask(Address("server", server_id), command)


async def test_all_leases_are_taken_at_start_and_given_back_at_the_end(autojump_clock) -> None:
    async with a_server() as server:
        assert held(server) == SLOTS
        assert server.core.scheduler.status().is_deciding
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
        await announced(server, "server-2")
        for slot in (LEADERSHIP, slot_of(job.job_id)):
            await server.ask(address_of(slot), TakeLease(slot=slot, server_id="server-2"))
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        await server.task(job)
        await agent.expect_nothing(Dispatch, 9)
        assert server.history() == ["TaskCreated"]
        assert not server.events("ScheduleFired")
        status = server.core.scheduler.status()
        assert not status.is_deciding
        assert (status.agenda.reserved, status.agenda.slots_free) == (0, 4)
        assert server.core.scheduler.reserve(Need.of(job)) is None
        nursery.cancel_scope.cancel()
    assert "another server decides from now on" in caplog.text


async def test_a_slot_that_was_taken_from_whoever_has_the_seat_is_taken_back(autojump_clock) -> None:
    async with a_server() as server:
        await server.ask(address_of(3), TakeLease(slot=3, server_id="an-older-version"))
        await trio.sleep(1)
        assert held(server) == SLOTS
        reading = await server.core.system.read(address_of(3))
        assert reading.state.holder_id == "server-1"


async def test_a_server_that_starts_takes_nothing_from_one_that_lives(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first:
        await first.schedule(await first.job(), interval_secs=10)
        await trio.sleep(25)
        async with a_server(log=log, clock=clock, server_id="server-2") as second:
            await trio.sleep(200)
            assert (held(first), held(second)) == (SLOTS, 0)
            assert len(first.events("LeaseTaken")) == SLOTS
            assert not second.core.scheduler.status().problems
        fired = [nominal(event) for event in first.events("ScheduleFired")]
        assert fired == [10 * n for n in range(1, len(fired) + 1)] and len(fired) >= 22


async def test_who_stands_by_decides_at_once_when_the_other_stops(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first:
        await first.schedule(await first.job(), interval_secs=10)
        async with a_server(log=log, clock=clock, server_id="server-2") as second:
            await trio.sleep(15)
            await first.core.scheduler.leases.release_all()
            await trio.sleep(0.5)
            assert (held(first), held(second)) == (0, SLOTS)
            await trio.sleep(20)
            fired = [nominal(event) for event in second.events("ScheduleFired")]
            assert fired == [10.0 * n for n in range(1, len(fired) + 1)] and fired[-1] >= 30


async def test_two_that_start_together_settle_without_taking_turns(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    holders = []
    async with trio.open_nursery() as nursery:

        async def live(server_id: str) -> None:
            async with a_server(log=log, clock=clock, server_id=server_id) as server:
                await trio.sleep(300)
                holders.append((held(server), server.core.scheduler.status().leases.holder_id))

        for n in (1, 2, 3):
            nursery.start_soon(live, f"server-{n}")
        await trio.sleep(299)
        taken = [event for event in log.events if event.type == "LeaseTaken"]
        assert len(taken) == SLOTS
    assert sorted(each for each, _ in holders) == [0, 0, SLOTS]
    assert len({holder for _, holder in holders}) == 1


async def test_the_leases_of_a_killed_server_go_to_one_of_the_living_within_seconds(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock, server_id="server-2") as second,
        a_server(log=log, clock=clock, server_id="server-3") as third,
        a_server(log=log, clock=clock, server_id="server-1") as first,
    ):
        await second.core.scheduler.leases.release_all()  # let another decide
        await trio.sleep(5)
        deciding, living = (first, third) if held(first) else (third, first)
        deciding.store.close()
        killed_at = trio.current_time()
        while not held(living):  # noqa: ASYNC110 - the end of the wait is what is measured
            await trio.sleep(0.1)
        assert 9 <= trio.current_time() - killed_at <= 13
    lost = [event for event in log.events if event.type == "ServerLost"]
    assert len(lost) == 1


async def test_a_seat_whose_taking_was_not_answered_is_held_all_the_same(autojump_clock) -> None:
    async with a_server(hooks=LostAnswers(3, "LeaseTaken")) as server:
        await trio.sleep(5)
        assert held(server) == SLOTS


async def test_a_server_that_cannot_confirm_decides_nothing_and_goes_on_afterwards(autojump_clock) -> None:
    async with a_server() as server:
        job = await server.job()
        await trio.sleep(5)
        server.store.hooks = Outage(trio.current_time() + 20)
        await trio.sleep(10)
        status = server.core.scheduler.status()
        assert (status.is_deciding, status.leases.held) == (False, 0)
        assert "cannot confirm" in status.problems[0]
        assert server.core.scheduler.leases.guard(job.job_id) is None
        await trio.sleep(12)
        status = server.core.scheduler.status()
        assert (status.is_deciding, status.leases.held, status.problems) == (True, SLOTS, ())
        assert len(server.events("LeaseTaken")) == SLOTS


async def test_a_namesake_makes_the_earlier_one_step_back_for_good(autojump_clock, caplog) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first:
        async with a_server(log=log, clock=clock, seed=2) as second:
            await trio.sleep(60)
            assert (held(first), held(second)) == (0, SLOTS)
            assert "step" in first.core.scheduler.status().problems[0]
            assert len(first.events("LeaseTaken")) == 2 * SLOTS
        await trio.sleep(60)
        assert caplog.text.count("with the id of this one") == 1, "said once, and then by its health"


async def test_the_leases_of_a_server_that_could_not_release_them_are_taken_when_it_is_known_to_have_ended(
    autojump_clock,
) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first:
        await announced(first, "server-2")
        await first.ask(address_of(LEADERSHIP), TakeLease(slot=LEADERSHIP, server_id="server-2"))
        await trio.sleep(1)
        assert held(first) == 0
        await first.ask(Address("server", "server-2"), LoseServer())
        await trio.sleep(1)
        assert held(first) == SLOTS


def test_a_jobs_slot_never_changes() -> None:
    """Frozen: servers of different versions must agree."""
    assert [slot_of(job_id) for job_id in ("a", "job-1", "550e8400-e29b-41d4-a716-446655440000")] == [3, 63, 49]


async def test_who_takes_over_looks_at_all_that_waits_also_when_the_log_could_not_be_read_at_once(
    autojump_clock,
) -> None:
    """The task that it waits for has ended while the other server decided, and was about to tell it."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, a_server(log=log, clock=clock, server_id="server-2") as second:
        job = await first.job()
        await first.task(job)
        first.store.hooks = Refusing("TaskDependencySettled", trio.current_time() + 1000)
        await first.task(job, "t2", dependencies={"task_ids": ["t1"], "on_failure": "run"})
        await first.ask(Address("task", "t1"), CancelTask())
        await trio.sleep(5)
        second.store.hooks = head = NoHead(2)
        await first.core.scheduler.leases.release_all()
        await trio.sleep(10)
        assert (held(second), head.left) == (SLOTS, 0)
        assert "TaskDependencySettled" in second.history("t2")
