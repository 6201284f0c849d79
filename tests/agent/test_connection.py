"""The wire, in virtual time: greeting, beating, reconnecting, leases, and nothing lost in between."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.clean_up import FreeSpace
from agent.condition import facts_of
from agent.policy import Policy
from agent.work import Moment
from hetuflow.protocol.codec import MESSAGES, encode_frames
from hetuflow.protocol.errors import CloseCode
from hetuflow.protocol.messages import (
    Command,
    Condition,
    Ended,
    Heartbeat,
    HeartbeatAck,
    Output,
    Ping,
    Pong,
    Refused,
    Standing,
    Started,
)
from tests.agent.gateway import Gateway, an_order
from tests.agent.world import MemoryDisk, Script, a_profile, fake_world


async def test_hello_says_who_and_what(autojump_clock: MockClock) -> None:
    async with fake_world(labels={"os": "linux"}, slots=3) as world:
        [hello] = world.gateway.hellos
        assert (hello.agent_id, hello.incarnation, hello.slots, hello.labels) == ("agent-1", 1, 3, {"os": "linux"})
        assert hello.known == ()


async def test_heartbeats_come_as_often_as_the_server_says(autojump_clock: MockClock) -> None:
    """It knows how many agents there are; what this one is configured for is told in the hello."""
    async with fake_world(Gateway(heartbeat_interval=5.0), heartbeat_interval=2.0) as world:
        assert world.gateway.hellos[0].heartbeat_interval == 2.0
        await trio.sleep(21)
        beats = [message for message in world.gateway.heard if isinstance(message, Heartbeat)]
        assert [beat.sequence for beat in beats] == [1, 2, 3, 4, 5]
        assert beats[0].metrics["active_tasks"] == 0 and beats[0].metrics["uptime"] >= 0
        world.gateway.next_interval = 20.0
        await trio.sleep(50)
        beats = [message for message in world.gateway.heard if isinstance(message, Heartbeat)]
        assert [beat.sequence for beat in beats] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


async def test_heartbeats_tell_what_is_held_every_check_interval(autojump_clock: MockClock) -> None:
    async with fake_world(
        Gateway(heartbeat_interval=5.0), script=lambda spec: Script(seconds=100), check_interval=20.0
    ) as world:
        await world.gateway.send(an_order("work", instance_id="i1"))
        await trio.sleep(42)
        told = [beat.known for beat in world.gateway.heard if isinstance(beat, Heartbeat) and beat.known is not None]
        assert [[known.instance_id for known in each] for each in told] == [["i1"]] * len(told)
        assert len(told) >= 3 and told[0][0].state == "running"


async def test_a_stuck_work_loop_stops_beating(autojump_clock: MockClock) -> None:
    """Beats prove the loop that works, not a timer beside it."""
    async with fake_world(Gateway(heartbeat_interval=5.0)) as world:
        await trio.sleep(6)
        connection = world.agent.connection
        assert connection is not None and connection._link is not None

        async def stuck(messages: object) -> None:
            await trio.sleep_forever()

        connection._link._send = stuck  # type: ignore[method-assign, assignment]
        before = sum(isinstance(message, Heartbeat) for message in world.gateway.heard)
        await trio.sleep(60)
        assert sum(isinstance(message, Heartbeat) for message in world.gateway.heard) == before


async def test_reports_are_sent_again_until_acknowledged_and_keep_their_ids(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    gateway.acks_reports = False
    async with fake_world(gateway) as world:
        ended = await gateway.run("work")
        await gateway.cut()
        await gateway.until(lambda: len(gateway.hellos) == 2)
        known = gateway.hellos[1].known
        assert [(each.instance_id, each.epoch, each.state) for each in known] == [(ended.instance_id, 1, "ended")]
        gateway.acks_reports = True
        await gateway.until(lambda: len(gateway.of(Ended, ended.instance_id)) == 2)
        assert gateway.of(Ended, ended.instance_id) == [ended, ended]
        assert len(gateway.of(Started, ended.instance_id)) == 2
        await gateway.cut()
        await gateway.until(lambda: len(gateway.hellos) == 3)
        assert gateway.hellos[2].known == () and gateway.hellos[2].last_acked == ended.sequence
        assert len(gateway.of(Ended, ended.instance_id)) == 2
        assert world.agent.executor is not None and world.agent.executor.active_count == 0


async def test_an_outage_shorter_than_the_lease_disturbs_nothing(autojump_clock: MockClock) -> None:
    async with fake_world(Gateway(lease_seconds=120), script=lambda spec: Script(seconds=90)) as world:
        gateway = world.gateway
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        world.dialer.reachable = False
        await gateway.cut()
        await trio.sleep(50)
        world.dialer.reachable = True
        await gateway.until_connected()
        assert [each.state for each in gateway.hellos[-1].known] == ["running"]
        assert (await gateway.until_ended(order.instance_id)).reason is None


async def test_a_server_that_was_away_for_long_is_met_within_seconds(autojump_clock: MockClock) -> None:
    """However long nobody answered: the wait between two dials does not grow with it."""
    async with fake_world() as world:
        await world.gateway.until_connected()
        world.dialer.reachable = False
        await world.gateway.cut()
        for _ in range(20):
            await trio.sleep(60)
            world.dialer.reachable = True
            back_at = trio.current_time()
            hellos = len(world.gateway.hellos)
            await world.gateway.until(lambda: len(world.gateway.hellos) > hellos)  # noqa: B023 - awaited at once
            assert trio.current_time() - back_at <= 3.0
            world.dialer.reachable = False
            await world.gateway.cut()


async def test_work_ends_when_the_lease_runs_out(autojump_clock: MockClock) -> None:
    """At the sending of the last acknowledged heartbeat + lease - grace: before the server gives it to another agent."""
    gateway = Gateway(lease_seconds=60, heartbeat_interval=10)
    async with fake_world(gateway, script=lambda spec: Script(seconds=1000)) as world:
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        await trio.sleep(25)
        last_beat = max(message.sequence for message in gateway.heard if isinstance(message, Heartbeat))
        assert last_beat == 3
        last_beat_at = 20.0
        world.dialer.reachable = False
        await gateway.cut()
        runner = world.runner
        process = runner.started[0][1]  # type: ignore[attr-defined]
        await process.wait()
        assert trio.current_time() == pytest.approx(last_beat_at + 60 - 10, abs=0.5)
        assert process.signals == ["TERM"]
        world.dialer.reachable = True
        ended = await gateway.until_ended(order.instance_id)
        assert ended.reason == "lost" and "lease (60 s)" in (ended.error_message or "")


async def test_an_order_that_is_older_than_the_lease_is_not_started(autojump_clock: MockClock) -> None:
    """As after SIGSTOP for longer than the lease: the order lay in the connection, and its task runs elsewhere by now."""
    gateway = Gateway(lease_seconds=60, heartbeat_interval=10)
    async with fake_world(gateway) as world:
        connection = world.agent.connection
        assert connection is not None and connection._link is not None
        await trio.sleep(5)  # between two heartbeats
        connection._work.renew_lease(Moment(trio.current_time() - 60, trio.current_time() - 60), 60)
        await gateway.send(an_order("work"))
        await gateway.until(lambda: len(gateway.hellos) == 2)
        assert gateway.hellos[1].known == ()
        assert world.runner.started == []  # type: ignore[attr-defined]
        assert (await gateway.run("work")).reason is None


async def test_a_server_that_stops_answering_is_left(autojump_clock: MockClock) -> None:
    gateway = Gateway(heartbeat_interval=10)
    async with fake_world(gateway) as world:
        await trio.sleep(1)
        gateway.acks_heartbeats = False
        await gateway.until(lambda: len(gateway.hellos) == 2)
        assert world.dialer.streams[0].closed == (4005, "a heartbeat was not answered within 10 s")


async def test_with_a_short_lease_it_is_left_while_there_is_time_to_dial_again(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=6, heartbeat_interval=1.5)
    async with fake_world(gateway, script=lambda spec: Script(seconds=20)) as world:
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        gateway.acks_heartbeats = False
        await gateway.until(lambda: len(gateway.hellos) == 2)
        assert world.dialer.streams[0].closed == (4005, "a heartbeat was not answered within 1.5 s")
        gateway.acks_heartbeats = True
        assert (await gateway.until_ended(order.instance_id)).reason is None, "nothing was ended"


async def test_a_hello_without_answer_is_given_up(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    async with fake_world(gateway) as world:
        gateway.welcomes = False
        await gateway.cut()
        await gateway.until(lambda: len(gateway.hellos) == 3)
        assert world.dialer.streams[1].closed is not None and world.dialer.streams[1].closed[0] == 4005


async def test_dialling_a_dead_server_waits_longer_and_longer_with_full_jitter_up_to_three_seconds(
    autojump_clock: MockClock,
) -> None:
    async with fake_world() as world:
        await trio.sleep(10)
        world.dialer.reachable = False
        await world.gateway.cut()
        await trio.sleep(120)
        check_gaps(world.dialer.dialled[1:], longest=3.0)


async def test_a_server_that_lets_nobody_in_is_left_alone_for_up_to_thirty_seconds(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        for number in range(1, 40):
            await world.gateway.until(lambda number=number: len(world.gateway.hellos) == number)
            await world.gateway.send(Refused(code=4003, reason="not now"))
        check_gaps(world.dialer.dialled, longest=30.0)


async def test_a_server_that_keeps_crashing_is_met_within_seconds(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        for number in range(1, 40):
            await world.gateway.until(lambda number=number: len(world.gateway.hellos) == number)
            await world.gateway.cut()
        check_gaps(world.dialer.dialled, longest=3.0)


def check_gaps(dialled: Sequence[float], longest: float) -> None:
    gaps = [b - a for a, b in itertools.pairwise(dialled)]
    limits = [min(longest, 0.2 * 2**n) + 0.001 for n in range(1, len(gaps) + 1)]
    assert len(gaps) > 30 and all(gap <= limit for gap, limit in zip(gaps, limits, strict=True))
    assert max(gaps) > longest / 2 and len(set(gaps)) == len(gaps)
    assert min(gaps[10:]) < longest / 3, "full jitter: from zero on, not around the limit"


async def test_a_send_that_the_server_does_not_take_ends_the_connection(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        stream = world.dialer.streams[0]

        async def never(frame: bytes) -> None:
            await trio.sleep_forever()

        stream.send = never  # type: ignore[method-assign]
        await world.gateway.send(Ping(token="x"))
        await world.gateway.until(lambda: len(world.gateway.hellos) == 2)
        assert stream.closed == (4005, "the server did not take a message within 10 s")


async def test_malformed_and_out_of_turn_frames_close_with_code_and_reason(autojump_clock: MockClock) -> None:
    for frame, code in ((b"\xc1", 4000), (encode_frames([Heartbeat(sequence=1)])[0], 4001), (b"x" * 300_000, 1009)):
        async with fake_world() as world:
            assert world.gateway._stream is not None
            await world.gateway._stream.send(frame)
            await world.gateway.until(lambda: len(world.gateway.hellos) == 2)
            assert world.dialer.streams[0].closed is not None and world.dialer.streams[0].closed[0] == code


async def test_a_ping_is_answered(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        await world.gateway.send(Ping(token="abc"))
        await world.gateway.until(lambda: Pong(token="abc") in world.gateway.heard)


async def test_a_standing_is_kept_and_ends_nothing(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=10)) as world:
        standing = Standing(labels={"zone": "b"}, draining=True, reason="new disk")
        await world.gateway.send(an_order("work", instance_id="i1"), standing, an_order("late", instance_id="i2"))
        await world.gateway.until(lambda: world.gateway.ended_count == 2)
        assert [world.gateway.of(Ended, each)[0].reason for each in ("i1", "i2")] == [None, None]
        assert world.agent.executor is not None and world.agent.executor.standing == standing


async def test_an_operators_commands_are_obeyed(autojump_clock: MockClock) -> None:
    async with fake_world(Gateway(heartbeat_interval=20.0)) as world:
        gateway = world.gateway

        def beats() -> int:
            return sum(isinstance(message, Heartbeat) for message in gateway.heard)

        await gateway.until(lambda: beats() == 1)
        began = trio.current_time()
        await gateway.send(Command(id="1", kind=4))
        await gateway.until(lambda: beats() == 2)
        assert trio.current_time() - began < 1
        payload = {"heartbeat_interval": 2, "colour": "blue", "check_interval": "5"}
        await gateway.send(Command(id="2", kind=2, payload=payload), Command(id="3", kind=3), Command(id="4", kind=99))
        began = trio.current_time()
        await gateway.until(lambda: beats() == 5)
        assert trio.current_time() - began <= 6
        await gateway.send(Command(id="5", kind=1))
        await gateway.until(lambda: not gateway.connected)


async def test_a_refusal_is_obeyed_and_tried_again_later(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        await world.gateway.send(Refused(code=4003, reason="another connection of this agent took over"))
        await world.gateway.until(lambda: len(world.gateway.hellos) == 2)


async def test_acknowledgements_of_unknown_heartbeats_do_not_renew_the_lease(autojump_clock: MockClock) -> None:
    gateway = Gateway(heartbeat_interval=10)
    async with fake_world(gateway) as world:
        await trio.sleep(1)
        connection = world.agent.connection
        assert connection is not None
        before = connection._work.lease
        await trio.sleep(5)
        await gateway.send(HeartbeatAck(sequence=999), HeartbeatAck(sequence=1))
        await wait_all_tasks_blocked()
        assert connection._work.lease == before
        await trio.sleep(6)
        assert connection._work.lease.deadline == before.deadline + 10


async def test_slots_are_the_agents_own_limit(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=10), slots=2) as world:
        orders = [an_order("work") for _ in range(3)]
        await world.gateway.send(*orders)
        rejected = await world.gateway.until_ended(orders[2].instance_id)
        assert rejected.reason == "rejected" and rejected.started_at is None
        assert rejected.error_message == "all 2 slots of the agent are taken"
        assert (await world.gateway.until_ended(orders[0].instance_id)).reason is None
        assert (await world.gateway.run("work")).reason is None, "the slot is free again"


async def test_a_repeated_dispatch_starts_one_process(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=5)) as world:
        order = an_order("work")
        await world.gateway.send(order, order)
        await world.gateway.until_started(order.instance_id)
        await world.gateway.send(order)
        await world.gateway.until_ended(order.instance_id)
        assert len(world.runner.started) == 1  # type: ignore[attr-defined]


async def test_a_newer_epoch_of_what_still_runs_is_rejected(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=5)) as world:
        await world.gateway.send(an_order("work", instance_id="i", epoch=1))
        await world.gateway.until_started("i")
        await world.gateway.send(an_order("work", instance_id="i", epoch=2))
        await world.gateway.until(lambda: len(world.gateway.of(Ended, "i")) == 2)
        first, second = world.gateway.of(Ended, "i")
        assert (first.epoch, first.reason) == (2, "rejected")  # type: ignore[attr-defined]
        assert (second.epoch, second.reason) == (1, None)  # type: ignore[attr-defined]


async def test_a_stop_for_an_older_epoch_has_no_effect(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=5)) as world:
        await world.gateway.send(an_order("work", instance_id="i", epoch=2))
        await world.gateway.until_started("i")
        await world.gateway.stop("i", epoch=1)
        assert (await world.gateway.until_ended("i")).reason is None


async def test_sigterm_grace_sigkill_at_exact_times(autojump_clock: MockClock) -> None:
    script = Script(seconds=1000, obeys_sigterm=False)
    async with fake_world(script=lambda spec: script) as world:
        order = an_order("work")
        await world.gateway.send(order)
        await world.gateway.until_started(order.instance_id)
        began = trio.current_time()
        await world.gateway.stop(order.instance_id, grace_seconds=7)
        ended = await world.gateway.until_ended(order.instance_id)
        assert (ended.reason, ended.exit_code, ended.signal) == ("cancelled", 137, 9)
        assert trio.current_time() - began == pytest.approx(7, abs=0.3)


async def test_time_limit_counts_from_the_start_of_the_process(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=1000)) as world:
        ended = await world.gateway.run("work", timeout_seconds=30)
        assert ended.reason == "timeout" and ended.duration_seconds == pytest.approx(30, abs=0.3)
        assert "30 s" in (ended.error_message or "")


async def test_what_the_server_forgets_ends_in_silence(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=1000, output=[(1, b"x")])) as world:
        order = an_order("work")
        await world.gateway.send(order)
        await world.gateway.until_started(order.instance_id)
        await world.gateway.forget(order.instance_id, "unknown")
        await trio.sleep(20)
        assert world.gateway.of(Ended, order.instance_id) == []
        assert world.agent.executor is not None and world.agent.executor.active_count == 0


async def test_outcomes_of_many_are_made_durable_with_few_fsyncs(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    disk.sync_seconds = 0.01
    async with fake_world(disk=disk, script=lambda spec: Script(seconds=1), slots=200) as world:
        orders = [an_order("work") for _ in range(200)]
        await world.gateway.send(*orders)
        for order in orders:
            await world.gateway.until_ended(order.instance_id)
        assert disk.syncs <= 10
        assert world.gateway.frames < 30


async def test_an_outcome_is_durable_before_it_is_sent(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    disk.sync_seconds = 0.5
    async with fake_world(disk=disk) as world:
        ended = await world.gateway.run("work")
        disk.crash_of_machine()
        assert ended.event_id.encode() in disk.files["/agent/state/journal"]


async def test_a_start_is_reported_without_waiting_for_a_disk(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    disk.sync_seconds = 5
    async with fake_world(disk=disk, script=lambda spec: Script(seconds=60)) as world:
        order = an_order("work")
        began = trio.current_time()
        await world.gateway.send(order)
        await world.gateway.until_started(order.instance_id)
        assert trio.current_time() == began


async def test_output_keeps_to_its_window_until_it_is_acknowledged(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    gateway.acks_output = False
    pieces = [(1, bytes([n]) * 40_000) for n in range(100)]
    async with fake_world(gateway, script=lambda spec: Script(seconds=1, output=pieces)) as world:
        ended = await gateway.run("work")
        sent = sum(len(m.data) for m in gateway.of(Output, ended.instance_id))  # type: ignore[attr-defined]
        assert 1024 * 1024 <= sent < 1024 * 1024 + 40_000
        assert ended.output is not None and ended.output["stdout"]["bytes"] == 4_000_000
        gateway.acks_output = True
        await gateway.cut()
        await gateway.until(lambda: len(gateway.output(ended.instance_id)) == 4_000_000)
        assert gateway.output(ended.instance_id) == b"".join(data for _, data in pieces)
        await wait_all_tasks_blocked()
        assert not [name for name in world.ports.disk.files if name.endswith(".out")]  # type: ignore[attr-defined]


async def test_the_end_waits_for_its_output_but_not_for_ever(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    gateway.acks_output = False
    pieces = [(1, b"x" * 40_000)] * 100
    async with fake_world(gateway, script=lambda spec: Script(seconds=1, output=pieces)):
        ended = await gateway.run("work")
        assert gateway.times[f"Ended {ended.instance_id}"] == pytest.approx(6, abs=0.5)


async def test_chunks_sent_again_have_the_same_bounds(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    gateway.acks_output = False
    pieces = [(1 + n % 2, b"%d" % n * 30) for n in range(10)]
    async with fake_world(gateway, script=lambda spec: Script(seconds=1, output=pieces)):
        ended = await gateway.run("work")
        await gateway.cut()
        await gateway.until(lambda: len(gateway.of(Output, ended.instance_id)) == 20)
        sent = gateway.of(Output, ended.instance_id)
        assert sent[:10] == sent[10:]
        assert [data for _, data in gateway.order_of_output(ended.instance_id)] == [data for _, data in pieces]


async def test_a_refusal_is_one_line_that_says_why(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = Gateway()
    async with fake_world(gateway):
        await gateway.send(Refused(code=4003, reason="delete the agent, and it is let in as a new one"))
        await gateway.until(lambda: len(gateway.hellos) == 2)
        first, second = gateway.hellos
        assert first.life and first.life == second.life, "one start is one life, however often it connects"
    [line] = [line for line in capsys.readouterr().out.splitlines() if "refuses" in line]
    assert "the server refuses this agent" in line
    assert "reason='delete the agent, and it is let in as a new one'" in line


async def test_an_agent_that_another_one_has_taken_over_from_ends_its_work_at_once(autojump_clock: MockClock) -> None:
    """The server has given that work to others: it must not go on until the lease ends."""
    async with fake_world(Gateway(lease_seconds=120), script=lambda spec: Script(seconds=90)) as world:
        order = an_order("work")
        await world.gateway.send(order)
        await world.gateway.until_started(order.instance_id)
        await world.gateway.send(Refused(code=CloseCode.SUPERSEDED, reason="another connection took over"))
        begun = trio.current_time()
        ended = await world.gateway.until_ended(order.instance_id)
        assert ended.reason == "lost" and "another agent with this identity" in (ended.error_message or "")
        assert trio.current_time() - begun < 60


# --- what people want to know ------------------------------------------------------------------------------------------


async def test_its_condition_is_told_after_each_welcome_and_not_with_every_heartbeat(
    autojump_clock: MockClock,
) -> None:
    policy = Policy(allowed_programs=("backup",), max_memory_mb=512)
    async with fake_world(Gateway(heartbeat_interval=5.0), policy=policy, boot_id="boot-7") as world:
        gateway = world.gateway
        await gateway.until(lambda: len([each for each in gateway.heard if isinstance(each, Heartbeat)]) > 3)
        [condition] = [each for each in gateway.heard if isinstance(each, Condition)]
        assert condition.facts["policy"] == {"allowed_programs": ["backup"], "max_memory_mb": 512}
        assert condition.facts["boot_id"] == "boot-7" and condition.facts["incarnation"] == 1
        assert condition.facts["isolation"] == "session" and "refusal" not in condition.facts
        await gateway.cut()
        await gateway.until(lambda: len([each for each in gateway.heard if isinstance(each, Condition)]) == 2)


async def test_that_it_takes_nothing_is_told_and_that_it_does_again(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    gateway = Gateway(heartbeat_interval=5.0)
    async with fake_world(gateway, disk=disk, disk_free_min=FreeSpace.parse("5%")):

        async def until_told(count: int) -> Mapping[str, Any]:
            def told() -> list[Condition]:
                return [each for each in gateway.heard if isinstance(each, Condition)]

            await gateway.until(lambda: len(told()) >= count)
            return told()[-1].facts

        assert "refusal" not in await until_told(1)
        disk.free = 1000**2
        assert (await until_told(2))["refusal"] == "disk: 1 MB are free at /agent/work, executor.disk_free_min is 5%"
        disk.free = 1 << 40
        assert "refusal" not in await until_told(3)


def test_a_long_policy_does_not_make_a_long_message() -> None:
    policy = Policy(allowed_programs=tuple(f"/opt/{number}/{'x' * 4000}" for number in range(1000)))
    facts = facts_of(a_profile("/agent", policy=policy), 1, datetime(2026, 1, 5, tzinfo=UTC))
    assert len(MESSAGES.encode(Condition(facts=facts))) < 16_384
    assert facts["policy"]["allowed_programs"][-1] == "… and 980 more"


async def test_a_heartbeat_tells_what_waits_for_the_server(autojump_clock: MockClock) -> None:
    gateway = Gateway(heartbeat_interval=5.0)
    async with fake_world(gateway, script=lambda spec: Script(output=((1, b"x" * 1000),))) as world:
        gateway.acks_output = gateway.acks_reports = False
        await gateway.run("program")

        def last() -> dict[str, float]:
            return dict([each for each in gateway.heard if isinstance(each, Heartbeat)][-1].metrics)

        beats = len([each for each in gateway.heard if isinstance(each, Heartbeat)])
        await gateway.until(lambda: len([each for each in gateway.heard if isinstance(each, Heartbeat)]) > beats)
        assert last()["output_waiting_bytes"] >= 1000 and last()["unacked_reports"] == 2
        assert last()["journal_bytes"] == len(world.ports.disk.files["/agent/state/journal"])  # type: ignore[attr-defined]
        gateway.acks_output = gateway.acks_reports = True
        await gateway.cut()
        await gateway.until(lambda: last()["unacked_reports"] == 0 and last()["output_waiting_bytes"] == 0)
