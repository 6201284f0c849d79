"""Two servers on one log: each leaves the other's agents alone while it lives, and a dead one's do not stay for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.domain.commands import LoseServer, RemoveAgent, StartServer, UpdateServer
from hetuflow.domain.decider import Address
from hetuflow.protocol.messages import Dispatch, Known, KnownState
from hetuflow.scheduler import peers
from hetuflow.scheduler.reaper import MARGIN_SECONDS
from hetuflow.scheduler.trust import Timing
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server
from tests.scheduler.hooks import Outage, types_of
from tests.support.ports import TrioClock

LEASE = 120
TIMING = Timing(10)


@asynccontextmanager
async def one_that_is_killed(server_id: str, log: MemoryLog, clock: TrioClock) -> AsyncIterator[Server]:
    """At the end of the block it is gone without a word."""
    async with a_server(log=log, clock=clock, server_id=server_id) as server:
        yield server
        server.store.close()


async def a_running_task(server: Server, nursery: trio.Nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    await server.task(await server.job(max_retries=0))
    started = agent.started(await agent.expect(Dispatch))
    await agent.say(started)
    await agent.acknowledged(started.sequence)
    return agent


async def beats(agent: ScriptedAgent, times: int) -> None:
    for n in range(times):
        await trio.sleep(LEASE / 4)
        await agent.heartbeat(n)


async def test_the_agents_of_another_server_that_lives_are_its_own_business(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, trio.open_nursery() as nursery:
        agent = await a_running_task(first, nursery)
        async with a_server(log=log, clock=clock, server_id="server-2") as second:
            await beats(agent, 40)
            assert not second.events("AgentLost", "InstanceFailed", "ServerLost")
            assert agent.stream.other.closed is None
        nursery.cancel_scope.cancel()


async def test_the_agents_of_a_server_that_was_killed_are_lost_in_the_end(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with one_that_is_killed("server-1", log, clock) as first, trio.open_nursery() as nursery:
        await a_running_task(first, nursery)
        first.store.close()
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, server_id="server-2") as second:
        await trio.sleep(0.9 * TIMING.lost_seconds)
        assert not second.events("ServerLost", "AgentLost")
        await trio.sleep(4)
        assert len(second.events("ServerLost")) == 1
        lost_at = second.events("ServerLost")[0].recorded_at
        assert not second.events("AgentLost")
        await trio.sleep(TIMING.window_seconds + LEASE + MARGIN_SECONDS)
        [lost] = second.events("AgentLost")
        assert (lost.recorded_at - lost_at).total_seconds() >= TIMING.window_seconds + LEASE + MARGIN_SECONDS
        assert second.history()[-1] == "TaskFailed"
        written, beats_ = len(log.events), dict(log.beats)
        await trio.sleep(1000)
        assert len(log.events) == written and dict(log.beats) == beats_, "a server that is alone writes nothing"
        assert "server-1" not in log.beats


async def test_the_agents_of_a_server_that_has_stopped_are_lost_after_a_lease(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, trio.open_nursery() as nursery:
        await a_running_task(first, nursery)
        nursery.cancel_scope.cancel()
    assert first.events("ServerStopped")
    async with a_server(log=log, clock=clock, server_id="server-2") as second:
        await trio.sleep(TIMING.window_seconds + LEASE + MARGIN_SECONDS - 1)
        assert not second.events("AgentLost")
        await trio.sleep(2)
        assert len(second.events("AgentLost")) == 1


async def test_of_many_ended_servers_the_oldest_is_looked_up_again(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ENDED_MAX", 3)
    log, clock = MemoryLog(), TrioClock()
    async with one_that_is_killed("old", log, clock) as first, trio.open_nursery() as nursery:
        await a_running_task(first, nursery)
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, server_id="server-2") as second:
        await second.ask(Address("server", "old"), LoseServer())
        for number in range(10):
            other = Address("server", f"other-{number}")
            await second.ask(other, StartServer(server_id=other.id, name=other.id, address="x", version="0"))
            await second.ask(other, LoseServer())
        await trio.sleep(1)
        assert len(second.core.scheduler.peers._ended) == 3
        await trio.sleep(TIMING.window_seconds + LEASE + MARGIN_SECONDS + 2 * TIMING.beat_seconds)
        assert len(second.events("AgentLost")) == 1
        assert len(second.core.scheduler.peers._ended) == 3


async def test_a_server_called_lost_by_mistake_says_that_it_lives_and_keeps_its_agents(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, trio.open_nursery() as nursery:
        agent = await a_running_task(first, nursery)
        async with a_server(log=log, clock=clock, server_id="server-2") as second:
            await second.ask(Address("server", "server-1"), LoseServer())
            await beats(agent, 20)
            assert len(second.events("ServerStarted", stream="server-server-1")) == 2
            assert not second.events("AgentLost", "InstanceFailed")
            assert len(second.events("ServerLost")) == 1
        nursery.cancel_scope.cancel()


async def test_a_database_that_was_away_for_long_makes_nobody_lost(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as first, a_server(log=log, clock=clock, server_id="server-2") as second:
        await trio.sleep(1)
        until = trio.current_time() + 100
        first.store.hooks, second.store.hooks = Outage(until), Outage(until)
        await trio.sleep(200)
        assert not second.events("ServerLost")


async def test_what_a_removed_agent_runs_is_lost_when_its_lease_has_run_out(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        await trio.sleep(LEASE / 2)
        await agent.heartbeat()
        await server.ask(Address("agent", agent.agent_id), RemoveAgent())
        await trio.sleep(LEASE)
        assert server.history()[-1] == "InstanceStarted"
        await trio.sleep(MARGIN_SECONDS + 1)
        assert server.history()[-1] == "TaskFailed"
        nursery.cancel_scope.cancel()


async def test_a_removed_agent_that_comes_back_in_time_goes_on_with_its_work(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        [running] = server.core.scheduler.occupants(agent.agent_id).values()
        await server.ask(Address("agent", agent.agent_id), RemoveAgent())
        await trio.sleep(LEASE / 2)
        again = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        known = Known(task_id="t1", instance_id=running.instance_id, epoch=running.epoch, state=KnownState.RUNNING)
        await again.connect(known=(known,))
        await beats(again, 2 * LEASE // 30)
        assert server.core.scheduler.is_occupying(running)
        assert server.history()[-1] == "InstanceStarted"
        nursery.cancel_scope.cancel()


async def test_after_a_restart_a_removed_agent_has_its_lease_too(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        agent = await a_running_task(server, nursery)
        await server.ask(Address("agent", agent.agent_id), RemoveAgent())
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(LEASE)
        assert server.history()[-1] == "InstanceStarted"
        await trio.sleep(MARGIN_SECONDS + 1)
        assert server.history()[-1] == "TaskFailed"


class _Meanwhile(NoFaults):
    """Another server does this once, just before or after an append of `ServerStarted` is committed."""

    def __init__(self, do: Callable[[], Awaitable[object]], *, after: bool) -> None:
        self._do, self._after, self.is_done = do, after, False

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if not self._after:
            await self._act(claims)

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if self._after:
            await self._act(claims)

    async def _act(self, claims: Sequence[Claim]) -> None:
        if "ServerStarted" in types_of(claims) and not self.is_done:
            self.is_done = True
            await self._do()


OWN = Address("server", "server-1")


async def test_what_others_say_of_a_server_while_it_starts_is_heard(autojump_clock) -> None:
    """Its own stream changes after its first word and before it follows the log."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-2") as second:
        hooks = _Meanwhile(lambda: second.ask(OWN, UpdateServer(changes={"description": "news"})), after=True)
        async with a_server(log=log, clock=clock, hooks=hooks) as first:
            await trio.sleep(1)
            reading = await first.core.system.read(OWN)
            assert hooks.is_done
            assert (reading.version, reading.state.description) == (2, "news")


async def test_a_server_that_refutes_its_loss_does_not_announce_a_later_life_away(autojump_clock) -> None:
    """Called lost, it wakes up; before its word is committed, the next life under its id has started."""
    log, clock = MemoryLog(), TrioClock()
    next_life = StartServer(server_id="server-1", name="test", address="test", version="1")
    async with a_server(log=log, clock=clock) as first, a_server(log=log, clock=clock, server_id="server-2") as second:
        first.store.hooks = hooks = _Meanwhile(lambda: second.ask(OWN, next_life), after=False)
        await second.ask(OWN, LoseServer())
        await trio.sleep(5)
        assert hooks.is_done
        own = [event.type for event in second.events(stream="server-server-1")]
        assert own == ["ServerStarted", "ServerLost", "ServerStarted"], "the second is the later life's"
        assert first.core.scheduler.peers.trust.is_revoked
