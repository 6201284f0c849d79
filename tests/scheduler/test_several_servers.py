"""Several servers on one log: work goes to every agent, whichever server it is connected to, and never to two at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import trio
from attrs import evolve

from eventstore.errors import StoreTimeout
from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.actors import Limits
from hetuflow.domain.commands import (
    CancelTask,
    DisconnectAgent,
    JobSnapshot,
    RemoveAgent,
    UpdateInstance,
)
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.identity import instance_id_of
from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.messages import Dispatch, HeartbeatAck, HeartbeatHeard, Known, KnownState, Refused, Stop
from hetuflow.scheduler.reaper import MARGIN_SECONDS
from hetuflow.scheduler.trust import Timing
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, nominal
from tests.scheduler.hooks import Forgetful, Outage, types_of
from tests.support.ports import TrioClock

LEASE = 20
TIMING = Timing(10)


def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1") -> ScriptedAgent:
    return ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)


def two_servers(log: MemoryLog, clock: TrioClock):
    """The first decides, the second stands by."""
    return a_server(log=log, clock=clock), a_server(log=log, clock=clock, server_id="server-2")


async def test_a_task_runs_on_an_agent_of_another_server(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        nursery.start_soon(agent.run)
        await trio.sleep(0.1)
        began = trio.current_time()
        await first.task(await first.job(), "at-the-deciding")
        await second.task(await second.job("job-2"), "at-the-other")
        while not all(second.history(each)[-1:] == ["TaskSucceeded"] for each in ("at-the-deciding", "at-the-other")):  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert trio.current_time() - began < 0.5, "told by the log, not found by looking"
        for each in ("at-the-deciding", "at-the-other"):
            assert second.history(each).count("TaskDispatched") == 1
        locked = [data(event)["server_id"] for event in log.events if event.type == "TaskLocked"]
        assert set(locked) == {"server-1"}
        nursery.cancel_scope.cancel()


async def test_schedules_fire_on_agents_of_both(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        for server, name in ((first, "agent-1"), (second, "agent-2")):
            agent = an_agent(server, nursery, name)
            await agent.connect(slots=1)
            nursery.start_soon(_work_slowly, agent)
        await trio.sleep(0.1)
        job = await second.job()
        for n in range(4):
            await second.schedule(job, f"s{n}", interval_secs=5)
        await trio.sleep(100)
        dispatched = [data(event)["agent_id"] for event in log.events if event.type == "TaskDispatched"]
        assert abs(dispatched.count("agent-1") - dispatched.count("agent-2")) <= 2 and len(dispatched) > 40
        for n in range(4):
            fired = [nominal(event) for event in first.events("ScheduleFired", stream=f"schedule-s{n}")]
            assert fired == [fired[0] + 5 * k for k in range(len(fired))]
        assert not first.events("TaskRequeued", "InstanceReportRefused")
        nursery.cancel_scope.cancel()


async def _work_slowly(agent: ScriptedAgent) -> None:
    """One at a time, as its slot allows; what comes while it works is refused, as a real agent does."""
    async with trio.open_nursery() as nursery:

        async def beat() -> None:
            for n in range(1, 10_000):
                await trio.sleep(5)
                await agent.heartbeat(n)

        nursery.start_soon(beat)
        while True:
            order = await agent.expect(Dispatch)
            await agent.say(agent.started(order))
            await trio.sleep(1)
            await agent.say(agent.ended(order))


async def test_a_cancel_reaches_the_agent_of_another_server(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        await first.task(await first.job())
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order))
        await trio.sleep(0.1)
        await first.ask(Address("task", "t1"), CancelTask(cause="user"))
        stop = await agent.expect(Stop)
        assert (stop.instance_id, stop.epoch) == (order.instance_id, order.epoch)
        await agent.say(agent.ended(order, InstanceReason.CANCELLED))
        await trio.sleep(0.1)
        assert first.history()[-1] == "TaskCancelled"
        nursery.cancel_scope.cancel()


async def test_what_is_committed_for_a_session_that_just_ended_comes_back_at_once(autojump_clock) -> None:
    """The deciding server has not heard yet that the agent is gone; the agent's own server knows, and never sent it."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        await trio.sleep(0.1)
        job = await first.job()
        second.core.scheduler.close_session("agent-1", agent_session(second))
        await first.task(job)
        await trio.sleep(0.5)
        assert first.history()[:4] == ["TaskCreated", "TaskLocked", "TaskDispatched", "TaskRequeued"]
        await agent.expect_nothing(Dispatch, 0.1)
        nursery.cancel_scope.cancel()


def agent_session(server: Server) -> str:
    [connected] = server.events("AgentConnected")
    return str(data(connected)["session"])


async def test_what_is_committed_before_the_welcome_is_sent_after_it(autojump_clock) -> None:
    """The deciding server hears of a new session before its own server has opened it for work."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        await first.task(await first.job())
        await trio.sleep(1)
        agent = an_agent(second, nursery)
        await agent.connect()
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order))
        await trio.sleep(1)
        assert first.history().count("TaskDispatched") == 1 and first.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def test_a_server_that_cannot_confirm_itself_renews_no_lease(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect(lost_after_seconds=LEASE)
        await agent.heartbeat(1)
        assert (await agent.expect(HeartbeatAck)).sequence == 1
        server.store.hooks = Outage(trio.current_time() + 14)
        await trio.sleep(TIMING.window_seconds + TIMING.beat_seconds)
        await agent.heartbeat(2)
        assert (await agent.expect(HeartbeatHeard)).sequence == 2
        another = an_agent(server, nursery, "agent-2")
        assert "database" in (await another.expect(Refused)).reason
        await trio.sleep(9)
        await agent.heartbeat(3)
        assert (await agent.expect(HeartbeatAck)).sequence == 3
        nursery.cancel_scope.cancel()


async def test_an_agent_of_a_server_that_is_cut_off_is_never_at_work_when_it_is_called_lost(autojump_clock) -> None:
    """The first server can reach its agent and not the database; the second takes over, and gives the work away."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(first, nursery)
        await agent.connect(lost_after_seconds=LEASE)
        await first.task(await first.job(max_retries=1, retry_interval=1))
        await agent.say(agent.started(await agent.expect(Dispatch)))
        await agent.acknowledged(1)
        rescuer = an_agent(second, nursery, "agent-2")
        await rescuer.connect(slots=0)
        first.store.hooks = Outage(trio.current_time() + 1000)
        last_renewed = trio.current_time()
        lost_at = None
        for n in range(1, 400):
            sent = trio.current_time()
            with contextlib.suppress(ConnectionLost), trio.move_on_after(0.2):
                if lost_at is None:
                    await agent.heartbeat(n)
                    if (await agent.expect(HeartbeatAck)).sequence == n:
                        last_renewed = sent
            await trio.sleep_until(sent + 0.25)
            if lost_at is None and second.events("AgentLost"):
                lost_at = trio.current_time()
        assert lost_at is not None
        assert lost_at >= last_renewed + LEASE + MARGIN_SECONDS / 2
        assert second.core.scheduler.status().is_deciding
        assert lost_at - last_renewed < LEASE + 2 * TIMING.lost_seconds + MARGIN_SECONDS
        nursery.cancel_scope.cancel()


async def test_an_agent_that_comes_to_another_server_keeps_its_work(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-2") as second, trio.open_nursery() as nursery:
        async with a_server(log=log, clock=clock) as first:
            agent = an_agent(first, nursery)
            await agent.connect(lost_after_seconds=LEASE)
            await second.task(await second.job())
            order = await agent.expect(Dispatch)
            await agent.say(agent.started(order))
            await trio.sleep(0.5)
            first.store.close()
        again = an_agent(second, nursery)
        running = Known(task_id="t1", instance_id=order.instance_id, epoch=order.epoch, state=KnownState.RUNNING)
        await again.connect(lost_after_seconds=LEASE, known=(running,))
        again.sequence = 1
        for n in range(20):
            await trio.sleep(4)
            await again.heartbeat(n)
        await again.say(again.ended(order))
        await trio.sleep(0.5)
        assert second.history()[-1] == "TaskSucceeded" and second.history().count("InstanceStarted") == 1
        assert not second.events("AgentLost")
        nursery.cancel_scope.cancel()


async def test_a_late_session_of_a_server_that_is_called_lost_has_its_whole_lease(autojump_clock) -> None:
    """Lost an hour ago, a server wakes up and greets an agent: counted from that session, not from the loss."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        second.store.hooks = Outage(trio.current_time() + 3600)
        await trio.sleep(3600)
        assert len(first.events("ServerLost")) == 1
        agent = an_agent(second, nursery)
        with trio.fail_after(60):
            await agent.hello(lost_after_seconds=LEASE)
            await trio.sleep(LEASE - 1)
        assert not first.events("AgentLost")
        nursery.cancel_scope.cancel()


async def test_an_agent_that_was_disconnected_by_another_server_gets_nothing_more_here(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        await trio.sleep(0.1)
        session = agent_session(second)
        await first.ask(Address("agent", "agent-1"), DisconnectAgent(session=session, reason="replaced"))
        await first.task(await first.job())
        await trio.sleep(1)
        assert first.history() == ["TaskCreated"]
        assert agent.stream.other is not None and agent.stream.other.closed is not None
        nursery.cancel_scope.cancel()


async def test_what_an_agent_of_another_server_runs_outlives_its_removal_by_a_lease(autojump_clock) -> None:
    """The deciding server never heard from the agent: what counts is when its session ended, not how long this server runs."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        await trio.sleep(10 * LEASE)
        agent = an_agent(second, nursery)
        await agent.hello(lost_after_seconds=LEASE)
        await first.task(await first.job(max_retries=1))
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order))
        await trio.sleep(1)
        await first.ask(Address("agent", "agent-1"), RemoveAgent())
        await trio.sleep(LEASE)
        assert first.history()[-1] == "InstanceStarted", "its program may still run"
        await trio.sleep(TIMING.window_seconds + 2 * MARGIN_SECONDS)
        assert "InstanceFailed" in first.history()
        nursery.cancel_scope.cancel()


async def test_what_another_server_sent_is_not_taken_back_by_one_that_hears_late_of_its_own_dispatch(
    autojump_clock,
) -> None:
    """Whether an order was sent on a session knows only the server that has it, also when the session is over."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        await first.task(await first.job(), "warm-up")
        warm = await agent.expect(Dispatch)
        await agent.say(agent.started(warm), agent.ended(warm))
        await agent.acknowledged(2)
        job = await first.job("job-2")
        first.store.hooks = hooks = Forgetful(2, "TaskDispatched")
        nursery.start_soon(_ask_in_vain, first, job)
        order = await agent.expect(Dispatch)  # the agent's server has followed the log
        await agent.stream.aclose()
        while not first.events("AgentDisconnected"):  # noqa: ASYNC110
            await trio.sleep(0.01)
        await trio.sleep(0.1)
        hooks.can_read.set()
        await trio.sleep(1)
        assert "TaskRequeued" not in first.history(), "it runs there"
        again = an_agent(second, nursery)
        again.sequence = agent.sequence
        running = Known(task_id="t1", instance_id=order.instance_id, epoch=order.epoch, state=KnownState.RUNNING)
        await again.connect(known=(running,))
        await again.say(again.started(order), again.ended(order))
        await trio.sleep(1)
        assert first.history().count("TaskDispatched") == 1 and first.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def _ask_in_vain(server: Server, job: JobSnapshot) -> None:
    with contextlib.suppress(StoreTimeout):
        await server.task(job)


class _Disconnected(NoFaults):
    """Another server ends the session while the answer to its beginning is under way."""

    def __init__(self, other: Server) -> None:
        self._other = other
        self.session: str | None = None

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if "AgentConnected" in types_of(claims) and self.session is None:
            self.session = agent_session(self._other)
            agent = Address("agent", "agent-1")
            await self._other.ask(agent, DisconnectAgent(session=self.session, reason="replaced"))
            await trio.sleep(0.1)


async def test_a_session_that_the_log_has_ended_before_it_was_opened_is_not_opened(autojump_clock) -> None:
    """It would be a connection on which nothing ever comes."""
    log, clock = MemoryLog(), TrioClock()
    deciding, other = two_servers(log, clock)
    async with deciding as first, other as second, trio.open_nursery() as nursery:
        second.store.hooks = hooks = _Disconnected(first)
        agent = an_agent(second, nursery)
        with contextlib.suppress(ConnectionLost):
            await agent.connect()
            await agent.expect_nothing(Dispatch, 5)
        assert hooks.session is not None
        assert agent.stream.other is not None and agent.stream.other.closed is not None
        again = an_agent(second, nursery)
        await again.connect()
        await first.task(await first.job())
        await again.expect(Dispatch)
        nursery.cancel_scope.cancel()


async def _make_cold(server: Server, others: Sequence[str]) -> None:
    """Look at other actors until those of which nothing is wanted have left the memory."""
    for each in others:
        await server.core.system.read(Address("job", each))


async def test_the_deciding_server_hears_of_a_retry_that_another_servers_report_opened(autojump_clock) -> None:
    """A task that is driven over the API wants nothing of it, so that it has forgotten it (seed 2025)."""
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock, limits=Limits(warm_cells=1)) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        job = await second.job(max_retries=1, retry_interval=1)
        task = Address("task", "t1")
        await second.task(job)
        driven = UpdateInstance(instance_id=instance_id_of("t1", 1), changes={"status": InstanceStatus.RUNNING})
        await second.ask(task, driven)
        agent = an_agent(second, nursery)
        await agent.connect()
        await trio.sleep(1)
        await _make_cold(first, [f"job-{n}" for n in range(5)])
        assert first.core.system._cells.find(task) is None
        await second.ask(task, evolve(driven, changes={"status": InstanceStatus.FAILED}))
        order = await agent.expect(Dispatch)
        assert order.instance_id == instance_id_of("t1", 2)
        nursery.cancel_scope.cancel()
