"""Leases of single instances (`lost_after_seconds`), and instances that go on without a server (`on_disconnect`)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, RemoveAgent
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceReason
from hetuflow.gateway.reports import START_HOLD_SECONDS
from hetuflow.protocol.messages import Dispatch, Known, KnownState, Stop
from hetuflow.scheduler.reaper import KEPT, LOST, MARGIN_SECONDS, OWN_LEASE
from hetuflow.scheduler.trust import Timing
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, seconds
from tests.support.ports import TrioClock

LEASE = 120
FEATURES = ("policies",)
CONTINUE = {"on_disconnect": "continue"}
TASK = Address("task", "t1")


def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1") -> ScriptedAgent:
    return ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)


async def running(server: Server, nursery: trio.Nursery, **config: Any) -> tuple[ScriptedAgent, Dispatch]:
    agent = an_agent(server, nursery)
    await agent.connect(features=FEATURES)
    await server.task(await server.job(**{"max_retries": 0, **config}))
    order = await agent.expect(Dispatch)
    started = agent.started(order)
    await agent.say(started)
    await agent.acknowledged(started.sequence)
    return agent, order


def holding(order: Dispatch, state: KnownState = KnownState.RUNNING) -> tuple[Known, ...]:
    return (Known(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch, state=state),)


# --- shorter and longer than the agent's --------------------------------------------------------------------------


async def test_an_instance_with_a_shorter_lease_is_lost_before_its_agent(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, order = await running(server, nursery, lost_after_seconds=30)
        await trio.sleep(30 + MARGIN_SECONDS + 1)
        [failed] = server.events("InstanceFailed")
        assert seconds([failed]) == [pytest.approx(START_HOLD_SECONDS + 30 + MARGIN_SECONDS, abs=0.1)]
        assert (data(failed)["reason"], data(failed)["error_message"]) == ("lost", OWN_LEASE)
        assert not server.events("AgentLost") and server.core.scheduler.status().agenda.instances == 0
        await agent.heartbeat(1, known=holding(order))
        assert (await agent.expect(Stop)).instance_id == order.instance_id
        nursery.cancel_scope.cancel()


async def test_a_shorter_lease_is_kept_by_heartbeats(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, order = await running(server, nursery, lost_after_seconds=30)
        for n in range(1, 20):
            await trio.sleep(29)
            await agent.heartbeat(n, known=holding(order))
        assert not server.events("InstanceFailed")
        nursery.cancel_scope.cancel()


async def test_a_lease_counts_at_the_earliest_from_the_dispatch(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(features=FEATURES)
        await trio.sleep(25)
        await server.task(await server.job(max_retries=0, lost_after_seconds=10))
        await agent.expect(Dispatch)
        await trio.sleep(10 + MARGIN_SECONDS + 1)
        assert seconds(server.events("InstanceFailed")) == [pytest.approx(25 + 10 + MARGIN_SECONDS, abs=0.1)]
        nursery.cancel_scope.cancel()


async def test_an_instance_with_a_longer_lease_outlives_the_loss_of_its_agent(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await running(server, nursery, lost_after_seconds=300)
        await trio.sleep(300 + MARGIN_SECONDS + 1)
        base = START_HOLD_SECONDS + MARGIN_SECONDS
        assert seconds(server.events("AgentLost")) == [pytest.approx(base + LEASE, abs=0.1)]
        [failed] = server.events("InstanceFailed")
        assert seconds([failed]) == [pytest.approx(base + 300, abs=0.1)]
        assert data(failed)["error_message"] == OWN_LEASE
        nursery.cancel_scope.cancel()


async def test_an_agent_that_was_lost_comes_back_within_the_lease_of_its_instance(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        _, order = await running(server, nursery, lost_after_seconds=600)
        await trio.sleep(400)
        assert server.events("AgentLost")
        again = an_agent(server, nursery)
        await again.connect(features=FEATURES, known=holding(order))
        await trio.sleep(LEASE - 1)
        await again.heartbeat(1, known=holding(order))
        await again.say(ended := again.ended(order))
        await again.acknowledged(ended.sequence)
        assert server.history()[-1] == "TaskSucceeded"
        assert not [message for message in again.told if isinstance(message, Stop)]
        nursery.cancel_scope.cancel()


async def test_beside_it_an_instance_without_its_own_is_lost_with_the_agent(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, _ = await running(server, nursery, lost_after_seconds=600)
        await server.task(await server.job("job-2", max_retries=0), "t2")
        await agent.expect(Dispatch)
        await trio.sleep(LEASE + MARGIN_SECONDS + 1)
        [failed] = server.events("InstanceFailed")
        assert (data(failed)["task_id"], data(failed)["error_message"]) == ("t2", LOST)
        assert server.core.scheduler.status().agenda.instances == 1
        nursery.cancel_scope.cancel()


# --- continue -----------------------------------------------------------------------------------------------------


async def test_what_goes_on_without_a_server_is_waited_for(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, order = await running(server, nursery, **CONTINUE)
        await agent.drop()
        await trio.sleep(100 * LEASE)
        assert len(server.events("AgentLost")) == 1 and not server.events("InstanceFailed")
        assert server.core.scheduler.status().agenda.instances == 1, "its slot is held"
        again = an_agent(server, nursery)
        await again.connect(features=FEATURES, known=holding(order))
        await again.say(ended := again.ended(order))
        await again.acknowledged(ended.sequence)
        assert server.history()[-2:] == ["InstanceSucceeded", "TaskSucceeded"]
        assert not [message for message in again.told if isinstance(message, Stop)]
        assert not server.events("InstanceReportRefused")
        nursery.cancel_scope.cancel()


async def test_it_is_lost_when_its_agent_comes_back_without_it(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, _ = await running(server, nursery, **CONTINUE)
        await agent.drop()
        await trio.sleep(10 * LEASE)
        await an_agent(server, nursery).connect(features=FEATURES, incarnation=2)
        [failed] = server.events("InstanceFailed")
        assert (data(failed)["reason"], data(failed)["error_message"]) == (
            "lost",
            "the agent restarted and does not have it",
        )
        nursery.cancel_scope.cancel()


async def test_a_cancel_of_it_ends_at_once_when_its_agent_is_lost(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, order = await running(server, nursery, **CONTINUE)
        await agent.drop()
        await trio.sleep(2 * LEASE)
        asked = trio.current_time()
        await server.ask(TASK, CancelTask(cause="user"))
        await trio.sleep(0.1)
        assert trio.current_time() - asked < 1
        [cancelled] = server.events("InstanceCancelled")
        assert KEPT in data(cancelled)["error_message"] and server.history()[-1] == "TaskCancelled"
        assert server.core.scheduler.status().agenda.instances == 0
        again = an_agent(server, nursery)
        await again.connect(features=FEATURES, known=holding(order))
        assert (await again.expect(Stop)).instance_id == order.instance_id
        await again.say(ended := again.ended(order, InstanceReason.CANCELLED))
        await again.acknowledged(ended.sequence)
        assert server.history()[-1] == "InstanceReportRefused"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("own", [0, 60, 300])
async def test_a_cancel_before_that_ends_when_its_lease_does(autojump_clock, own: int) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, _ = await running(server, nursery, **CONTINUE, **({"lost_after_seconds": own} if own else {}))
        await agent.drop()
        await server.ask(TASK, CancelTask(cause="user"))
        await trio.sleep(max(own, LEASE) + MARGIN_SECONDS + 1)
        base = START_HOLD_SECONDS + MARGIN_SECONDS
        assert seconds(server.events("TaskCancelled")) == [pytest.approx(base + (own or LEASE), abs=0.1)]
        nursery.cancel_scope.cancel()


async def test_its_agent_can_be_removed_with_what_it_runs(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, _ = await running(server, nursery, **CONTINUE)
        await agent.drop()
        await trio.sleep(2 * LEASE)
        await server.ask(TASK, CancelTask(cause="cascade"))
        await server.ask(Address("agent", "agent-1"), RemoveAgent())
        await trio.sleep(0.1)
        assert server.history()[-1] == "TaskCancelled"
        nursery.cancel_scope.cancel()


async def test_what_a_removed_agent_has_left_is_waited_for_until_somebody_cancels_it(autojump_clock) -> None:
    """It may come back under its name; and it is not to run twice."""
    async with a_server() as server, trio.open_nursery() as nursery:
        await running(server, nursery, **CONTINUE)
        await server.ask(Address("agent", "agent-1"), RemoveAgent())
        await trio.sleep(10 * LEASE)
        assert not server.events("InstanceFailed")
        await server.ask(TASK, CancelTask(cause="user"))
        await trio.sleep(0.1)
        [cancelled] = server.events("InstanceCancelled")
        assert KEPT in data(cancelled)["error_message"]
        nursery.cancel_scope.cancel()


async def test_where_running_twice_is_harmless_another_agent_gets_it_after_the_lease(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        config = {**CONTINUE, "idempotent": True, "max_retries": 1, "retry_interval": 0}
        agent, order = await running(server, nursery, **config)
        await agent.drop()
        other = an_agent(server, nursery, "agent-2")
        await other.connect(features=FEATURES)
        nursery.start_soon(_beat, other)
        await trio.sleep(LEASE + MARGIN_SECONDS + 1)
        [failed] = server.events("InstanceFailed")
        assert seconds([failed]) == [pytest.approx(START_HOLD_SECONDS + LEASE + MARGIN_SECONDS, abs=0.1)]
        second = await other.expect(Dispatch)
        assert second.epoch > order.epoch
        await other.say(other.started(second))
        again = an_agent(server, nursery)
        await again.connect(features=FEATURES, known=holding(order))
        assert (await again.expect(Stop)).epoch == order.epoch
        await again.say(late := again.ended(order))
        await again.acknowledged(late.sequence)
        [refused] = server.events("InstanceReportRefused")
        assert (data(refused)["epoch"], data(refused)["why"]) == (order.epoch, "already_ended")
        assert server.history()[-1] == "InstanceReportRefused" and "TaskSucceeded" not in server.history()
        await other.say(ended := other.ended(second))
        await other.acknowledged(ended.sequence)
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def _beat(agent: ScriptedAgent) -> None:
    for n in range(1, 1000):
        await trio.sleep(10)
        await agent.heartbeat(n)


# --- restarts, and several servers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [30, 300])
async def test_a_restarted_server_waits_the_whole_lease_of_each_instance(autojump_clock, own: int) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        await running(server, nursery, lost_after_seconds=own)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server:
        begun = trio.current_time()
        await trio.sleep(own + MARGIN_SECONDS - 0.5)
        assert not server.events("InstanceFailed")
        await trio.sleep(1)
        [failed] = server.events("InstanceFailed")
        assert trio.current_time() - begun < own + MARGIN_SECONDS + 1
        assert data(failed)["error_message"] == OWN_LEASE


@pytest.mark.parametrize("config", [{"lost_after_seconds": 600}, CONTINUE])
async def test_a_restarted_server_knows_what_outlives_its_lost_agent(autojump_clock, config: dict[str, Any]) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        _, order = await running(server, nursery, **config)
        await trio.sleep(2 * LEASE)
        assert server.events("AgentLost")
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        await trio.sleep(599)
        assert not server.events("InstanceFailed")
        agent = an_agent(server, nursery)
        await agent.connect(features=FEATURES, known=holding(order))
        await agent.say(ended := agent.ended(order))
        await agent.acknowledged(ended.sequence)
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def test_an_agent_that_has_just_come_back_elsewhere_keeps_what_it_runs(autojump_clock) -> None:
    """The server that decides has not heard of it yet: PostgreSQL itself refuses the loss."""
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        _, order = await running(first, nursery, lost_after_seconds=300)
        settling = first.core.scheduler._settling
        put, late = settling.put, []
        settling.put = lambda *settlement: late.append(settlement)
        await trio.sleep(300 + MARGIN_SECONDS + 1)
        assert late, "it was about to be lost"
        again = an_agent(second, nursery)
        await again.connect(features=FEATURES, known=holding(order))
        settling.put = put
        settling.put(*late[0])
        await trio.sleep(100)
        assert not first.events("InstanceFailed") and len(settling) == 0
        await again.heartbeat(1, known=holding(order))
        await again.say(ended := again.ended(order))
        await again.acknowledged(ended.sequence)
        assert first.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("config", "lease"), [({"lost_after_seconds": 30}, 30), ({"lost_after_seconds": 300}, 300)])
async def test_the_server_that_decides_waits_longer_for_agents_of_one_that_has_died(
    autojump_clock, config: dict[str, Any], lease: int
) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, trio.open_nursery() as outer:
        second = a_server(log=log, clock=clock, server_id="server-2")
        async with second as dying, trio.open_nursery() as nursery:
            await running(dying, nursery, **config)
            nursery.cancel_scope.cancel()
        died = trio.current_time()
        await trio.sleep(lease + Timing(10).window_seconds + MARGIN_SECONDS - 0.5)
        assert not first.events("InstanceFailed")
        await trio.sleep(Timing(10).lost_seconds + 5)
        assert len(first.events("InstanceFailed")) == 1
        assert trio.current_time() - died < lease + 30
        outer.cancel_scope.cancel()


async def test_nothing_is_kept_of_instances_that_have_ended(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, order = await running(server, nursery, lost_after_seconds=300)
        reaper = server.core.scheduler._reaper
        assert reaper._renewals._dispatched
        await agent.say(ended := agent.ended(order))
        await agent.acknowledged(ended.sequence)
        await agent.drop()
        await trio.sleep(2 * LEASE)
        reaper.alarm.ring()
        await trio.sleep(100)
        assert len(reaper._renewals) == 0 and not reaper._looks
        assert not server.core.scheduler._agenda.leased_agents()
        nursery.cancel_scope.cancel()
