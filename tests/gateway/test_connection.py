"""A session: reports are acknowledged after their commit, output after it is stored, and trouble stays where it is."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from attrs import evolve

from hetuflow.gateway.outbox import ACK_REST_SECONDS
from hetuflow.gateway.output import OutputUnavailable
from hetuflow.gateway.reports import START_HOLD_SECONDS
from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.errors import CloseCode
from hetuflow.protocol.messages import (
    Ack,
    Dispatch,
    Ended,
    Heartbeat,
    HeartbeatAck,
    Output,
    OutputAck,
    Ping,
    Pong,
    Shutdown,
    Stop,
)
from tests.gateway.scripted import ScriptedAgent
from tests.gateway.test_greeting import a_dispatched_task, an_agent, known
from tests.scheduler.harness import a_server, data
from tests.scheduler.hooks import LostAnswers, Outage, Recording, Slow


async def closed(agent: ScriptedAgent) -> ConnectionLost:
    try:
        while True:
            await agent.stream.receive()
    except ConnectionLost as lost:
        return lost


async def test_a_report_is_acknowledged_after_its_commit(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        server.store.hooks = Slow("InstanceSucceeded", 5)
        begun = trio.current_time()
        await agent.say(agent.started(order), agent.ended(order))
        await agent.acknowledged(1, 2)
        assert trio.current_time() - begun == 5
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def test_reports_of_one_task_that_arrive_together_are_one_append(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        appends: list[list[str]] = []
        server.store.hooks = Recording(appends)
        await agent.say(agent.started(order), agent.ended(order))
        ack = await agent.expect(Ack)
        assert ack.sequences == (1, 2)
        assert appends == [["InstanceStarted", "InstanceSucceeded", "TaskSucceeded"]]
        nursery.cancel_scope.cancel()


async def test_a_start_waits_a_moment_for_its_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        appends: list[list[str]] = []
        server.store.hooks = Recording(appends)
        begun = trio.current_time()
        await agent.say(agent.started(order))
        await trio.sleep(START_HOLD_SECONDS / 2)
        await agent.say(agent.ended(order))
        await agent.acknowledged(1, 2)
        assert trio.current_time() - begun == pytest.approx(START_HOLD_SECONDS / 2)
        assert appends == [["InstanceStarted", "InstanceSucceeded", "TaskSucceeded"]]
        nursery.cancel_scope.cancel()


async def test_a_slow_task_does_not_hold_up_the_others(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        job = await server.job()
        await server.task(job, "t1")
        await server.task(job, "t2")
        first, second = await agent.expect(Dispatch), await agent.expect(Dispatch)

        class SlowFirst(Slow):
            async def before_commit(self, claims) -> None:
                if claims[0].stream_id == "task-t1":
                    await super().before_commit(claims)

        server.store.hooks = SlowFirst("InstanceStarted", 30)
        begun = trio.current_time()
        await agent.say(agent.started(first))
        await trio.sleep(2 * START_HOLD_SECONDS)
        await agent.say(agent.started(second))
        await agent.acknowledged(2)
        assert trio.current_time() - begun == pytest.approx(3 * START_HOLD_SECONDS)
        await agent.acknowledged(1)
        assert trio.current_time() - begun == pytest.approx(30 + START_HOLD_SECONDS)
        nursery.cancel_scope.cancel()


async def test_tasks_that_are_reported_together_share_a_turn_of_the_store(autojump_clock) -> None:
    """One that is refused there is asked alone, and is in nobody's way."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        job = await server.job()
        orders = []
        for name in ("t1", "t2", "t3"):
            await server.task(job, name)
            orders.append(await agent.expect(Dispatch))
        refused = evolve(agent.ended(orders[1]), epoch=7)
        await trio.sleep(ACK_REST_SECONDS)  # since the last order: acknowledgements do not wait for each other any more
        begun = trio.current_time()
        await agent.say(agent.ended(orders[0]), refused, agent.ended(orders[2]))
        await agent.acknowledged(1, 2, 3)
        assert trio.current_time() == begun
        assert [server.history(name).count("InstanceSucceeded") for name in ("t1", "t2", "t3")] == [1, 0, 1]
        nursery.cancel_scope.cancel()


async def test_a_repeated_report_changes_nothing_and_is_acknowledged(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        started, ended = agent.started(order), agent.ended(order)
        for _ in range(3):
            await agent.say(started, ended)
            await agent.acknowledged(1, 2)
        await agent.drop()
        again = an_agent(server, nursery)
        await again.connect()
        await again.say(ended)
        await again.acknowledged(2)
        assert server.history().count("InstanceSucceeded") == 1
        assert "InstanceReportRefused" not in server.history()
        nursery.cancel_scope.cancel()


async def test_a_report_waits_for_the_store_and_is_not_acknowledged_before(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        server.store.hooks = Outage(trio.current_time() + 20)
        begun = trio.current_time()
        await agent.say(agent.started(order), agent.ended(order))
        await agent.acknowledged(1, 2)
        assert 20 <= trio.current_time() - begun < 50
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def test_a_commit_whose_answer_was_lost_is_acknowledged_once_it_is_known(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        server.store.hooks = LostAnswers(2)
        await agent.say(agent.started(order), agent.ended(order))
        await agent.acknowledged(1, 2)
        assert server.history().count("TaskSucceeded") == 1
        nursery.cancel_scope.cancel()


async def test_a_report_on_an_unknown_task_is_acknowledged_and_dropped(autojump_clock) -> None:
    """There is nothing that the agent could do about it; unacknowledged, it would be sent for ever."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        ghost = Dispatch(task_id="ghost", job_id="j", instance_id="i", epoch=1, attempt=1, cmd="true")
        await agent.say(agent.ended(ghost))
        await agent.acknowledged(1)
        nursery.cancel_scope.cancel()


async def test_what_the_log_cannot_hold_is_cleaned(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, max_retries=0)
        await agent.say(
            agent.ended(
                order,
                "exit_code",
                exit_code=1,
                error_message="a NUL \0 in it",
                metrics={"cpu_time": float("nan"), "memory_peak": 5.0},
                output={"stdout": {"bytes": 3, "kept": 3, "sha256": "ab", "more": "\0"}, "dropped": 0},
            )
        )
        await agent.expect(Ack)
        [failed] = server.events("InstanceFailed")
        assert data(failed)["error_message"] == "a NUL \ufffd in it"
        assert data(failed)["metrics"] == {"memory_peak": 5.0}
        assert data(failed)["output"] == {"stdout": {"bytes": 3, "kept": 3, "sha256": "ab"}, "dropped": 0}
        nursery.cancel_scope.cancel()


async def test_heartbeats_are_acknowledged_and_remembered(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await trio.sleep(3)
        await agent.heartbeat(7, cpu_usage=12.5, broken=float("inf"))
        assert (await agent.expect(HeartbeatAck)).sequence == 7
        gateway = server.core.gateway
        assert gateway.metrics("agent-1") == {"cpu_usage": 12.5}
        assert gateway.last_heard_at("agent-1") == server.clock.now()
        await agent.drop()
        await trio.sleep(5)
        assert gateway.metrics("agent-1") == {"cpu_usage": 12.5}
        assert gateway.metrics("nobody") is None and gateway.last_heard_at("nobody") is None
        nursery.cancel_scope.cancel()


async def test_output_is_acknowledged_when_it_is_stored(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        chunks = [
            Output(
                instance_id=order.instance_id,
                task_id="t1",
                epoch=1,
                stream="stdout",
                offset=offset,
                seq=seq,
                at="2026-01-05T08:00:00Z",
                data=text,
            )
            for seq, (offset, text) in enumerate([(0, b"hello "), (6, b"world")])
        ]
        await agent.say(*chunks)
        ack = await agent.expect(OutputAck)
        assert (ack.instance_id, ack.stream, ack.offset_end) == (order.instance_id, "stdout", 11)
        assert b"".join(chunk.data for chunk in server.sink.chunks) == b"hello world"
        nursery.cancel_scope.cancel()


async def test_output_waits_for_its_store_and_heartbeats_go_on(autojump_clock, monkeypatch) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        healthy, until = server.sink.store, trio.current_time() + 10

        async def store(chunks) -> None:
            if trio.current_time() < until:
                raise OutputUnavailable("away")
            await healthy(chunks)

        monkeypatch.setattr(server.sink, "store", store)
        await agent.say(
            Output(
                instance_id=order.instance_id,
                task_id="t1",
                epoch=1,
                stream="stdout",
                offset=0,
                seq=0,
                at="2026-01-05T08:00:00Z",
                data=b"x",
            ),
            Heartbeat(sequence=1),
        )
        await agent.expect(HeartbeatAck)
        assert trio.current_time() < until
        await agent.expect(OutputAck)
        assert trio.current_time() >= until
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_loses_its_connection_and_no_other(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        deaf = an_agent(server, nursery, "deaf", capacity=1)
        await deaf.connect()
        healthy = an_agent(server, nursery, "healthy")
        await healthy.connect()
        for n in range(5):
            await deaf.heartbeat(n)  # its acknowledgements are never read
            await trio.sleep(0.1)
        begun = trio.current_time()
        await trio.sleep(12)
        assert server.core.gateway.status().online_agents == 1
        [gone] = server.events("AgentDisconnected")
        assert gone.stream_id == "agent-deaf" and "not taken" in data(gone)["reason"]
        assert trio.current_time() - begun == 12
        await healthy.heartbeat()
        await healthy.expect(HeartbeatAck)
        nursery.cancel_scope.cancel()


async def test_too_much_waiting_to_be_sent_ends_the_connection(autojump_clock) -> None:
    async with a_server(outbox_messages_max=50) as server, trio.open_nursery() as nursery:
        deaf = an_agent(server, nursery, "deaf", capacity=1)
        await deaf.connect()
        connection = server.core.gateway._connections["deaf"]
        for n in range(60):
            connection.stop(f"i{n}", 1, "test")
        assert (await closed(deaf)).code == CloseCode.OVERLOADED
        nursery.cancel_scope.cancel()


async def test_a_malformed_message_ends_only_its_connection(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        healthy = an_agent(server, nursery, "healthy")
        await healthy.connect()
        broken = an_agent(server, nursery, "broken")
        await broken.connect()
        await broken.say(
            Ended(event_id="e", sequence=1, task_id="t", instance_id="i", epoch=1, completed_at="yesterday")
        )
        assert (await closed(broken)).code == CloseCode.MALFORMED
        await healthy.say(Ping(token="still there"))
        assert (await healthy.expect(Pong)).token == "still there"
        nursery.cancel_scope.cancel()


async def test_a_defect_on_one_connection_ends_only_that(autojump_clock, monkeypatch, caplog) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        healthy, broken = an_agent(server, nursery, "healthy"), an_agent(server, nursery, "broken")
        await healthy.connect()
        await broken.connect()

        def boom(agent_id: str) -> None:
            if agent_id == "broken":
                raise ZeroDivisionError

        monkeypatch.setattr(server.core.scheduler, "heard_from", boom)
        await broken.heartbeat()
        assert (await closed(broken)).code == CloseCode.GOING_AWAY
        await healthy.heartbeat()
        await healthy.expect(HeartbeatAck)
        assert "ZeroDivisionError" in caplog.text
        nursery.cancel_scope.cancel()


async def test_an_order_that_no_frame_holds_fails_as_start_error(autojump_clock, caplog) -> None:
    """Nobody can run it; without a word it would hold its slot until the agent's next hello."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        job = await server.job(max_retries=0)
        await server.task(job, parameters={f"p{n}": "x" for n in range(14_000)})  # each grows by HETUFLOW_PARAM_
        await trio.sleep(1)
        assert server.history()[-1] == "TaskFailed"
        [failed] = server.events("InstanceFailed")
        assert data(failed)["reason"] == "start_error"
        assert server.core.scheduler.status().agenda.slots_free == 4
        await agent.heartbeat()
        await agent.expect(HeartbeatAck)
        nursery.cancel_scope.cancel()


async def test_an_agent_that_stops_gets_nothing_new_and_is_still_heard(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent, started=True)
        await agent.say(Shutdown(reason="update"))
        await server.task(await server.job("job-2"), "later")
        await agent.expect_nothing(Dispatch)
        report = agent.ended(order)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
        nursery.cancel_scope.cancel()


async def test_a_stray_is_stopped_and_a_missing_instance_needs_a_new_hello(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        order = await a_dispatched_task(server, agent)
        stray = Dispatch(task_id="t9", job_id="j", instance_id="stray", epoch=3, attempt=1, cmd="true")
        await agent.heartbeat(1, known=(known(order), known(stray)))
        stop = await agent.expect(Stop)
        assert (stop.instance_id, stop.epoch) == ("stray", 3)
        for n in range(2, 4):
            await agent.heartbeat(n, known=())
            await agent.expect(HeartbeatAck)
        await agent.heartbeat(4, known=())
        assert (await closed(agent)).code == CloseCode.UNEXPECTED
        again = an_agent(server, nursery)
        await again.connect(known=())
        assert (await again.expect(Dispatch)).epoch == 2
        nursery.cancel_scope.cancel()


async def test_status_counts_what_went_through(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await agent.heartbeat()
        await agent.expect(HeartbeatAck)
        await trio.testing.wait_all_tasks_blocked()
        status = server.core.gateway.status()
        assert (status.total_connections, status.active_connections, status.online_agents) == (1, 1, 1)
        assert (status.total_messages_received, status.total_messages_sent) == (2, 2)
        [connection] = status.connections
        assert (connection.agent_id, connection.address) == ("agent-1", "10.0.0.1:4000")
        await agent.drop()
        await trio.sleep(1)
        status = server.core.gateway.status()
        assert (status.active_connections, status.online_agents, status.total_messages_received) == (0, 0, 2)
        nursery.cancel_scope.cancel()
