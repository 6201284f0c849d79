"""Lost is who was silent for a whole lease, by this server's monotonic clock; instances follow their agent."""

from __future__ import annotations

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import LoseAgent
from hetuflow.domain.decider import Address
from hetuflow.gateway.reports import START_HOLD_SECONDS
from hetuflow.protocol.messages import Dispatch, Refused
from hetuflow.scheduler.reaper import LOST, MARGIN_SECONDS
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import a_server, data, seconds
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

LEASE = 120


async def a_running_task(server, nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    await server.task(await server.job(max_retries=0))
    order = await agent.expect(Dispatch)
    started = agent.started(order)
    await agent.say(started)
    await agent.acknowledged(started.sequence)
    return agent


async def test_a_silent_agent_is_lost_one_lease_after_it_was_last_heard(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        await trio.sleep(50)
        await agent.heartbeat()
        await trio.sleep(LEASE + MARGIN_SECONDS + 1)
        heard = 50 + START_HOLD_SECONDS
        assert seconds(server.events("AgentLost")) == [pytest.approx(heard + LEASE + MARGIN_SECONDS)]
        [failed] = server.events("InstanceFailed")
        assert (data(failed)["reason"], data(failed)["error_message"]) == ("lost", LOST)
        assert server.history()[-1] == "TaskFailed"
        assert seconds([failed]) == [pytest.approx(heard + LEASE + MARGIN_SECONDS)]
        nursery.cancel_scope.cancel()


async def test_heartbeats_keep_the_lease(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        for n in range(10):
            await trio.sleep(LEASE - 1)
            await agent.heartbeat(n)
        assert not server.events("AgentLost")
        nursery.cancel_scope.cancel()


async def test_a_dropped_connection_is_no_reason(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        await agent.drop()
        await trio.sleep(LEASE)
        assert server.events("AgentDisconnected") and not server.events("AgentLost")
        await trio.sleep(MARGIN_SECONDS + 1)
        assert len(server.events("AgentLost")) == 1
        assert server.core.scheduler.status().agenda.instances == 0
        nursery.cancel_scope.cancel()


async def test_a_wall_clock_that_steps_is_no_reason(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await a_running_task(server, nursery)
        server.clock.step(10 * LEASE)
        await trio.sleep(LEASE - 1)
        assert not server.events("AgentLost")
        nursery.cancel_scope.cancel()


async def test_a_restarted_server_waits_one_full_lease(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        await a_running_task(server, nursery)
        nursery.cancel_scope.cancel()
    await trio.sleep(10 * LEASE)
    async with a_server(log=log, clock=clock, seed=2) as server:
        begun = trio.current_time()
        await trio.sleep(LEASE + MARGIN_SECONDS - 0.5)
        assert not server.events("AgentLost")
        await trio.sleep(1)
        assert len(server.events("AgentLost")) == 1
        assert server.history()[-1] == "TaskFailed"
        assert trio.current_time() - begun < LEASE + MARGIN_SECONDS + 1


async def test_a_crash_between_the_loss_of_the_agent_and_of_its_instances_is_made_good(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        server.core.scheduler._reaper.suspect = lambda agent_id: None
        [connected] = server.events("AgentConnected")
        await server.ask(Address("agent", agent.agent_id), LoseAgent(session=data(connected)["session"]))
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(1)
        assert server.history()[-1] == "TaskFailed"


async def test_nothing_is_kept_of_agents_that_came_and_went(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        reaper, renewals = server.core.scheduler._reaper, server.core.scheduler._reaper._renewals
        for number in range(5):
            agent = ScriptedAgent(server.core.gateway.serve_connection, nursery, f"agent-{number}")
            await agent.connect()
            await trio.sleep(1)
            await agent.stream.aclose()
        await trio.sleep(1)
        assert len(renewals._heard) == 5, "their leases may run yet"
        again = ScriptedAgent(server.core.gateway.serve_connection, nursery, "agent-0")
        await again.connect()
        await trio.sleep(LEASE / 2)
        await again.heartbeat()
        await again.stream.aclose()
        await trio.sleep(LEASE / 2 + MARGIN_SECONDS + 10)
        reaper.alarm.ring()
        await trio.sleep(1)
        assert list(renewals._heard) == ["agent-0"], "it was heard from since"
        await trio.sleep(LEASE)
        reaper.alarm.ring()
        await trio.sleep(1)
        assert len(renewals) == 0
        nursery.cancel_scope.cancel()


async def test_the_loss_waits_for_the_store(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await a_running_task(server, nursery)
        server.store.hooks = Outage(trio.current_time() + 3 * LEASE)
        await trio.sleep(4 * LEASE)
        assert len(server.events("AgentLost")) == 1
        assert server.history()[-1] == "TaskFailed"
        nursery.cancel_scope.cancel()


async def test_an_agent_lost_on_an_open_connection_is_sent_away_and_may_come_again(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        await trio.sleep(LEASE + MARGIN_SECONDS + 1)
        assert agent.stream.other.closed is not None
        again = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await again.connect()
        assert server.core.scheduler.status().agenda.slots_free == 4
        assert not [message for message in again.told if isinstance(message, Refused)]
        nursery.cancel_scope.cancel()
