"""From hello to welcome: who is let in, and what becomes of what the log gives to the agent."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, RemoveAgent
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceStatus
from hetuflow.gateway.settings import HEARTBEATS_PER_SECOND_MAX, GatewaySettings
from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.errors import CloseCode
from hetuflow.protocol.messages import Ack, Dispatch, HeartbeatAck, Known, KnownState, Ping, Pong, Refused, Stop
from hetuflow.scheduler.reaper import MARGIN_SECONDS
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage, Slow
from tests.support.ports import TrioClock


def known(order: Dispatch, state: str = "running", epoch: int | None = None) -> Known:
    return Known(
        task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch if epoch is None else epoch, state=state
    )


def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1", **members) -> ScriptedAgent:
    return ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id, **members)


async def a_dispatched_task(server: Server, agent: ScriptedAgent, *, started: bool = False, **config) -> Dispatch:
    await server.task(await server.job(**config))
    order = await agent.expect(Dispatch)
    if started:
        report = agent.started(order)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
    return order


async def refused(agent: ScriptedAgent) -> Refused:
    refusal = await agent.expect(Refused)
    try:
        while True:
            await agent.stream.receive()
    except ConnectionLost as lost:
        assert lost.code == refusal.code
    return refusal


async def test_a_welcome_says_what_the_agent_has_to_know(autojump_clock) -> None:
    async with a_server(store_id="store-7") as server, trio.open_nursery() as nursery:
        welcome = await an_agent(server, nursery).connect(lost_after_seconds=60.0)
        assert (welcome.server_id, welcome.lease_seconds, welcome.store_id) == ("server-1", 60, "store-7")
        assert welcome.heartbeat_interval == 15
        [connected] = server.events("AgentConnected")
        assert data(connected)["session"] == welcome.session
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("wanted", "lease", "interval"),
    [
        (1.0, 5, 1.25),
        (20.0, 20, 5),
        (-1.0, 5, 1.25),
        (1e9, 3600, 30),
        (float("inf"), 3600, 30),
        (float("nan"), 120, 30),
    ],
)
async def test_the_lease_is_the_agents_own_within_bounds(
    autojump_clock, wanted: float, lease: float, interval: float
) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent, other = an_agent(server, nursery), an_agent(server, nursery, "agent-2")
        welcome = await agent.connect(lost_after_seconds=wanted)
        assert (welcome.lease_seconds, welcome.heartbeat_interval) == (lease, interval)
        assert data(server.events("AgentConnected")[0])["lease_seconds"] == lease
        await other.connect()
        nursery.start_soon(_stays, other)
        await trio.sleep(lease + MARGIN_SECONDS - 0.1)
        assert not server.events("AgentLost")
        await trio.sleep(0.2)
        assert [data(event)["agent_id"] for event in server.events("AgentLost")] == ["agent-1"]
        nursery.cancel_scope.cancel()


async def _stays(agent: ScriptedAgent) -> None:
    while True:
        await agent.heartbeat()
        await agent.expect(HeartbeatAck)
        await trio.sleep(30)


@pytest.mark.parametrize("connections", [0, 1000, 100_000])
@pytest.mark.parametrize("lease", [5.0, 120.0, 3600.0])
def test_two_heartbeats_fit_into_every_lease(connections: int, lease: float) -> None:
    interval = GatewaySettings(server_id="s").heartbeat_interval(connections, lease)
    assert 0 < 2 * interval <= lease


@pytest.mark.parametrize("lease", [5.0, 120.0, 3600.0])
@pytest.mark.parametrize("connections", [1, 100, 1000, 3000, 20_000])
def test_all_heartbeats_together_stay_bounded_as_far_as_leases_allow(connections: int, lease: float) -> None:
    interval = GatewaySettings(server_id="s").heartbeat_interval(connections, lease)
    least = 2 * connections / lease
    assert connections / interval <= max(HEARTBEATS_PER_SECOND_MAX, least) * 1.000001


def test_an_agents_own_interval_counts_when_it_is_shorter_and_few_are_connected() -> None:
    settings = GatewaySettings(server_id="s")
    assert settings.heartbeat_interval(10, 120.0, wished_seconds=5.0) == 5
    assert settings.heartbeat_interval(10, 120.0, wished_seconds=300.0) == 30
    assert settings.heartbeat_interval(500, 120.0, wished_seconds=5.0) == 10


async def test_agents_are_told_to_beat_less_often_when_many_more_have_come(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        first = an_agent(server, nursery, "agent-0")
        assert (await first.connect(heartbeat_interval=0.1)).heartbeat_interval == 0.1
        await first.heartbeat()
        assert (await first.expect(HeartbeatAck)).heartbeat_interval == 0
        for number in range(1, 10):
            await an_agent(server, nursery, f"agent-{number}").connect()
        await first.heartbeat()
        assert (await first.expect(HeartbeatAck)).heartbeat_interval == pytest.approx(0.2)
        await first.heartbeat()
        assert (await first.expect(HeartbeatAck)).heartbeat_interval == 0
        nursery.cancel_scope.cancel()


async def test_a_dispatch_that_never_arrived_is_requeued_without_a_retry(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        await agent.drop()
        again = an_agent(server, nursery)
        await again.connect(known=())
        second = await again.expect(Dispatch)
        assert (second.instance_id, second.epoch, second.attempt) == (order.instance_id, 2, 1)
        assert "TaskRequeued" in server.history() and "TaskRetryScheduled" not in server.history()
        nursery.cancel_scope.cancel()


async def test_what_the_agent_still_has_goes_on(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        await agent.drop()
        again = an_agent(server, nursery)
        await again.connect(known=(known(order),))
        report = again.ended(order)
        await again.say(report)
        await again.acknowledged(report.sequence)
        assert server.history()[-2:] == ["InstanceSucceeded", "TaskSucceeded"]
        nursery.cancel_scope.cancel()


async def test_an_accepted_dispatch_is_kept_on_reconnection(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        await agent.drop()
        again = an_agent(server, nursery)
        await again.connect(known=(known(order, "accepted"),))
        await again.expect_nothing(Dispatch)
        assert server.history()[-1] == "TaskDispatched"
        nursery.cancel_scope.cancel()


async def test_a_restarted_agent_has_lost_what_it_does_not_report(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=1)
        await a_dispatched_task(server, agent, max_retries=0)
        again = an_agent(server, nursery)  # the old connection has not been noticed to be dead
        await again.connect(incarnation=2)
        [failed] = server.events("InstanceFailed")
        assert data(failed)["reason"] == "lost"
        assert server.history()[-1] == "TaskFailed"
        nursery.cancel_scope.cancel()


async def test_what_a_restarted_agent_has_adopted_goes_on_and_the_rest_is_lost(autojump_clock) -> None:
    """Its keeper has kept what ran: it is neither lost nor given away, whatever had become of it meanwhile."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=4, life="life-4", slots=5)
        job = await server.job(max_retries=0)
        orders = {}
        for name in ("runs", "accepted", "has-ended", "was-running", "was-accepted"):
            await server.task(job, name)
            orders[name] = await agent.expect(Dispatch)
        for name in ("runs", "has-ended", "was-running"):
            report = agent.started(orders[name])
            await agent.say(report)
            await agent.acknowledged(report.sequence)
        await agent.drop()
        again = an_agent(server, nursery)
        again.sequence = agent.sequence
        held = (
            known(orders["runs"], KnownState.RUNNING),
            known(orders["accepted"], KnownState.ACCEPTED),
            known(orders["has-ended"], KnownState.ENDED),
        )
        await again.connect(incarnation=5, life="life-5", slots=5, known=held)
        for name in ("was-running", "was-accepted"):
            [failed] = server.events("InstanceFailed", stream=f"task-{name}")
            assert data(failed)["reason"] == "lost"
        await again.heartbeat(known=held)
        await again.expect_nothing(Dispatch)
        await again.expect_nothing(Stop)
        created = ["TaskCreated", "TaskLocked", "TaskDispatched"]
        assert {name: server.history(name) for name in orders} == {
            "runs": [*created, "InstanceStarted"],
            "accepted": created,
            "has-ended": [*created, "InstanceStarted"],
            "was-running": [*created, "InstanceStarted", "InstanceFailed", "TaskFailed"],
            "was-accepted": [*created, "InstanceFailed", "TaskFailed"],
        }
        task = (await server.core.system.read(Address("task", "runs"))).state
        assert task.live_instance.status is InstanceStatus.RUNNING and task.live_instance.agent_id == "agent-1"
        assert len(server.core.scheduler.occupants("agent-1")) == 3
        reports = [again.ended(orders["runs"]), again.started(orders["accepted"]), again.ended(orders["has-ended"])]
        reports.append(again.ended(orders["accepted"]))
        await again.say(*reports)
        await again.acknowledged(*(report.sequence for report in reports))
        for name in ("runs", "accepted", "has-ended"):
            assert server.history(name)[3:] == ["InstanceStarted", "InstanceSucceeded", "TaskSucceeded"]
        assert not server.core.scheduler.occupants("agent-1")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", [KnownState.RUNNING, KnownState.ENDED])
async def test_an_instance_that_was_adopted_is_not_lost_by_a_second_restart(autojump_clock, state: KnownState) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=1, life="life-1")
        order = await a_dispatched_task(server, agent, started=True, max_retries=0)
        for incarnation in range(2, 5):
            await agent.drop()
            agent = an_agent(server, nursery)
            agent.sequence = 10 * incarnation
            await agent.connect(incarnation=incarnation, life=f"life-{incarnation}", known=(known(order, state),))
        await agent.expect_nothing(Stop)
        assert server.history()[-1] == "InstanceStarted"
        report = agent.ended(order)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
        assert server.history()[-2:] == ["InstanceSucceeded", "TaskSucceeded"]
        nursery.cancel_scope.cancel()


async def test_a_crash_while_settling_is_judged_by_the_previous_incarnation_again(autojump_clock) -> None:
    """The instance may have run in the agent's earlier life: it must never be requeued as never started."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=1)
        await a_dispatched_task(server, agent, max_retries=0)
        await agent.drop()
        await trio.sleep(1)
        server.store.hooks = Outage(trio.current_time() + 10)
        second = an_agent(server, nursery)
        await second.hello(incarnation=2)
        try:
            await second.expect(Refused)
        except ConnectionLost:
            pass
        await trio.sleep(20)
        third = an_agent(server, nursery)
        await third.connect(incarnation=2)
        assert server.history()[-1] == "TaskFailed"
        assert "TaskRequeued" not in server.history()
        nursery.cancel_scope.cancel()


async def test_a_dispatch_committed_while_the_agent_reconnects_is_not_forgotten(autojump_clock) -> None:
    """It relies on the agent as it was: it is not committed, and the task waits for the next session."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        job = await server.job()
        server.store.hooks = Slow("TaskDispatched", 3)
        await server.task(job)
        await trio.sleep(1)  # the dispatch for the first session is under way
        await agent.drop()
        again = an_agent(server, nursery)
        await again.connect()
        await trio.sleep(1)
        order = await again.expect(Dispatch)
        assert order.epoch == 1
        assert server.history() == ["TaskCreated", "TaskLocked", "TaskDispatched"]
        nursery.cancel_scope.cancel()


async def test_a_cancel_while_the_agent_was_away_reaches_it_with_its_welcome(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        await agent.drop()
        await server.ask(Address("task", "t1"), CancelTask(reason="enough"))
        again = an_agent(server, nursery)
        await again.connect(known=(known(order),))
        stop = await again.expect(Stop)
        assert (stop.instance_id, stop.epoch, stop.reason) == (order.instance_id, 1, "enough")
        report = again.ended(order, "cancelled")
        await again.say(report)
        await again.acknowledged(report.sequence)
        assert server.history()[-1] == "TaskCancelled"
        nursery.cancel_scope.cancel()


async def test_what_the_server_counts_as_ended_is_stopped(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(lost_after_seconds=30.0)
        order = await a_dispatched_task(server, agent, started=True, max_retries=0)
        await trio.sleep(60)  # lost
        again = an_agent(server, nursery)
        await again.connect(known=(known(order),))
        stop = await again.expect(Stop)
        assert (stop.instance_id, stop.epoch) == (order.instance_id, order.epoch)
        report = again.ended(order)
        await again.say(report)
        await again.acknowledged(report.sequence)
        assert server.history()[-2:] == ["TaskFailed", "InstanceReportRefused"]
        nursery.cancel_scope.cancel()


async def test_reconciliation_after_a_server_restart(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        kept = await a_dispatched_task(server, agent, started=True)
        await server.task(await server.job("job-2"), "never-arrived")
        await agent.expect(Dispatch)
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        again = an_agent(server, nursery)
        await again.connect(known=(known(kept),))
        assert (await again.expect(Dispatch)).task_id == "never-arrived"
        await again.expect_nothing(Stop)
        assert server.history()[-1] == "InstanceStarted"
        assert server.core.scheduler.status().agenda.instances == 2
        nursery.cancel_scope.cancel()


async def test_sessions_of_the_servers_previous_life_are_closed_in_the_log(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        await an_agent(server, nursery).connect()
        server.store.close()  # killed: it cannot say goodbye
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server:
        assert [data(event)["reason"] for event in server.events("AgentDisconnected")] == ["server restarted"]
        assert server.core.scheduler.status().agenda.agents_watched == 1
        assert len(server.events("ServerLost")) == 1


# --- who is let in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("incarnation", [1, 2])
async def test_a_second_connection_is_refused_while_the_first_answers(autojump_clock, incarnation) -> None:
    """Also one with a higher number: a copied state directory counts on where the first one's is."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        clone = an_agent(server, nursery)
        await clone.hello(incarnation=incarnation)
        ping = await agent.expect(Ping)
        await agent.say(Pong(token=ping.token))
        refusal = await refused(clone)
        assert "alive" in refusal.reason
        await agent.heartbeat()
        assert server.core.gateway.status().online_agents == 1
        await agent.say(agent.ended(order))
        await agent.expect(Ack)
        assert len(server.events("TaskSucceeded")) == 1 and not server.events("InstanceFailed")
        nursery.cancel_scope.cancel()


async def test_a_second_connection_takes_over_when_the_first_is_dead(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        begun = trio.current_time()
        again = an_agent(server, nursery)
        await again.connect(known=(known(order),))
        assert trio.current_time() - begun == pytest.approx(2)
        assert (await refused(agent)).code == CloseCode.SUPERSEDED
        assert server.core.scheduler.status().agenda.instances == 1
        nursery.cancel_scope.cancel()


async def test_an_older_incarnation_is_refused(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await an_agent(server, nursery).connect(incarnation=3)
        stale = an_agent(server, nursery)
        await stale.hello(incarnation=2)
        refusal = await refused(stale)
        assert refusal.code == CloseCode.SUPERSEDED
        assert "start number 3, and this is its start number 2" in refusal.reason
        assert "(DELETE /api/v1/agents/agent-1)" in refusal.reason
        nursery.cancel_scope.cancel()


async def test_an_agent_that_lost_its_state_is_told_what_to_do_and_then_let_in(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=3, life="a")
        await agent.drop()
        anew = an_agent(server, nursery)
        await anew.hello(incarnation=1, life="b")
        assert "its state directory was lost; in that case delete the agent" in (await refused(anew)).reason
        await server.ask(Address("agent", "agent-1"), RemoveAgent())
        await an_agent(server, nursery).connect(incarnation=1, life="b")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("lives", "event"),
    [(("a", "a"), "TaskRequeued"), (("", ""), "TaskRequeued"), (("a", "b"), "InstanceFailed")],
)
@pytest.mark.parametrize("server_restarts", [False, True])
async def test_an_equal_incarnation_of_another_life_may_have_started_what_it_does_not_have(
    autojump_clock, lives: tuple[str, str], event: str, server_restarts: bool
) -> None:
    """Its state directory was lost after its first start: both are number 1."""
    log, clock = MemoryLog(), TrioClock()
    first, second = lives
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(life=first)
        order = await a_dispatched_task(server, agent, max_retries=1)
        await agent.drop()
        if not server_restarts:
            await an_agent(server, nursery).connect(life=second)
            await _settled(server, order, event)
        nursery.cancel_scope.cancel()
    if server_restarts:
        async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
            await an_agent(server, nursery).connect(life=second)
            await _settled(server, order, event)
            nursery.cancel_scope.cancel()


async def _settled(server: Server, order: Dispatch, event: str) -> None:
    await trio.sleep(1)
    [settled] = [*server.events("TaskRequeued"), *server.events("InstanceFailed")]
    assert server.events(event) == [settled]
    assert data(settled)["instance_id"] == order.instance_id


async def test_another_life_does_not_take_over_from_one_that_answers(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(life="a")
        clone = an_agent(server, nursery)
        await clone.hello(life="b")
        await agent.say(Pong(token=(await agent.expect(Ping)).token))
        assert "used twice" in (await refused(clone)).reason
        nursery.cancel_scope.cancel()


async def test_another_protocol_another_name_and_nonsense_are_refused(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        future = an_agent(server, nursery)
        await future.hello(protocol=99)
        told = await refused(future)
        assert told.code == CloseCode.INCOMPATIBLE
        assert told.reason == "this server speaks protocol 1 to 2, the agent 99: upgrade the server"
        ancient = an_agent(server, nursery)
        await ancient.hello(protocol=0)
        assert "the agent 0: upgrade the agent" in (await refused(ancient)).reason
        other = an_agent(server, nursery)
        await other.hello(agent_id="somebody-else")
        assert (await refused(other)).code == CloseCode.REFUSED
        noise = an_agent(server, nursery)
        await noise.stream.send(b"GET / HTTP/1.1")
        try:
            await noise.stream.receive()
            raise AssertionError("the connection goes on")
        except ConnectionLost as lost:
            assert lost.code == CloseCode.MALFORMED
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("spoken", "agreed"),
    [
        ({"protocol": 1}, 1),
        ({"protocol": 1, "protocol_max": 2}, 2),
        ({"protocol": 1, "protocol_max": 99}, 2),
        ({"protocol": 2}, 2),
        ({"protocol": 0, "protocol_max": 1}, 1),
    ],
)
async def test_the_newest_protocol_that_both_speak_is_spoken(
    autojump_clock, spoken: dict[str, int], agreed: int
) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        assert (await an_agent(server, nursery).connect(**spoken)).protocol == agreed
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("agent_id", ["..", "a b", "a/b", "a\n", "é", "a" * 65])
async def test_an_id_that_no_agent_may_have_is_refused(autojump_clock, agent_id: str) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        nameless = ScriptedAgent(server.core.gateway.serve_connection, nursery, quote(agent_id))
        assert "the address must name the agent" in (await refused(nameless)).reason
        other = an_agent(server, nursery)
        await other.hello(agent_id=agent_id)
        assert "is no id of an agent: 1 to 64 of" in (await refused(other)).reason
        assert not server.events("AgentConnected")
        nursery.cancel_scope.cancel()


async def test_a_connection_without_a_hello_ends(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        begun = trio.current_time()
        assert (await refused(an_agent(server, nursery))).code == CloseCode.SILENT
        assert trio.current_time() - begun == 10
        nursery.cancel_scope.cancel()


async def test_more_connections_than_allowed_are_refused(autojump_clock) -> None:
    async with a_server(connections_max=2) as server, trio.open_nursery() as nursery:
        for n in range(2):
            await an_agent(server, nursery, f"agent-{n}").connect()
        surplus = an_agent(server, nursery, "agent-3")
        assert (await refused(surplus)).code == CloseCode.OVERLOADED
        nursery.cancel_scope.cancel()


async def test_a_storm_of_reconnections_is_admitted_in_paces(autojump_clock) -> None:
    async with a_server(admissions_max=4) as server, trio.open_nursery() as nursery:
        busy: list[int] = []
        under_way = 0

        class Counting(Slow):
            async def before_commit(self, claims) -> None:
                nonlocal under_way
                under_way += 1
                busy.append(under_way)
                await super().before_commit(claims)
                under_way -= 1

        server.store.hooks = Counting("AgentConnected", 0.1)
        agents = [an_agent(server, nursery, f"agent-{n:02}") for n in range(20)]
        async with trio.open_nursery() as greetings:
            for agent in agents:
                greetings.start_soon(agent.connect)
        assert max(busy) == 4
        assert server.core.gateway.status().online_agents == 20
        nursery.cancel_scope.cancel()


async def test_a_removed_agent_is_disconnected_and_may_register_again(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(incarnation=5)
        await server.ask(Address("agent", "agent-1"), RemoveAgent())
        try:
            while True:
                await agent.stream.receive()
        except ConnectionLost as lost:
            assert lost.code == CloseCode.REFUSED
        await an_agent(server, nursery).connect(incarnation=1)
        nursery.cancel_scope.cancel()
