"""From one life of the agent to the next, in virtual time: incarnation, lost work, reports and output that stay."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from agent.daemon import Agent, Ports
from agent.identity import kept_agent_id
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import ProcessSpec
from hetuflow.protocol.messages import Ended, Output, Shutdown, Started
from tests.agent.gateway import Gateway, an_order
from tests.agent.world import MemoryDisk, Script, World, fake_world
from tests.support.ports import SeededIds, TrioClock


async def test_every_start_is_a_new_incarnation(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    for seed in range(3):
        async with fake_world(gateway, disk=disk, seed=seed):
            pass
    assert [hello.incarnation for hello in gateway.hellos] == [1, 2, 3]
    assert len({hello.life for hello in gateway.hellos}) == 3


async def test_what_ran_when_the_agent_was_killed_is_lost_and_told_so(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(seconds=1000)):
        order = an_order("work")
        await gateway.send(order)
        started = await gateway.until_started(order.instance_id)
    async with fake_world(gateway, disk=disk):
        ended = await gateway.until_ended(order.instance_id)
        assert (ended.reason, ended.error_message, ended.epoch) == ("lost", "the agent restarted", 1)
        assert ended.started_at == started.started_at and ended.sequence > started.sequence
        known = gateway.hellos[-1].known
        assert [(each.instance_id, each.state) for each in known] == [(order.instance_id, "ended")]
    async with fake_world(gateway, disk=disk):
        await trio.sleep(1)
        assert gateway.hellos[-1].known == () and len(gateway.of(Ended, order.instance_id)) == 1


async def test_a_report_that_was_not_acknowledged_is_sent_by_the_next_life(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_reports = False
    async with fake_world(gateway, disk=disk):
        ended = await gateway.run("work")
    gateway.acks_reports = True
    async with fake_world(gateway, disk=disk, seed=2):
        await gateway.until(lambda: len(gateway.of(Ended, ended.instance_id)) == 2)
        assert gateway.of(Ended, ended.instance_id)[1] == ended
        [first, second] = gateway.of(Started, ended.instance_id)
        assert first == second


@pytest.mark.parametrize("size", [1, 6000], ids=["in the journal", "in a file"])
async def test_output_that_was_not_acknowledged_is_sent_by_the_next_life(autojump_clock: MockClock, size: int) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_output = False
    pieces = [(1, b"one" * size), (2, b"two" * size), (1, b"three" * size)]
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(seconds=1000, output=pieces)):
        order = an_order("work")
        await gateway.send(order)
        await gateway.until(lambda: len(gateway.of(Output, order.instance_id)) == 3)
    gateway.acks_output = True
    first = gateway.of(Output, order.instance_id)
    async with fake_world(gateway, disk=disk):
        ended = await gateway.until_ended(order.instance_id)
        assert gateway.of(Output, order.instance_id) == [*first, *first]
        assert ended.output is not None and ended.output["stdout"]["shipped"] == len("onethree") * size
        assert gateway.output(order.instance_id) == b"one" * size + b"three" * size
        await trio.sleep(1)
        assert not [name for name in disk.files if name.endswith(".out")]


async def test_output_in_the_journal_outlives_the_acknowledgement_of_the_end(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_output = False
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(output=[(1, b"hello")])):
        ended = await gateway.run("work")
        await trio.sleep(1)
    gateway.acks_output = True
    async with fake_world(gateway, disk=disk):
        await gateway.until(lambda: len(gateway.of(Output, ended.instance_id)) == 2)
        await trio.sleep(1)
        assert gateway.of(Ended, ended.instance_id) == [ended, ended], "sent again, with the same id"
    async with fake_world(gateway, disk=disk):
        await trio.sleep(1)
        assert len(gateway.of(Output, ended.instance_id)) == 2
        assert gateway.hellos[-1].known == ()


async def test_a_little_output_costs_no_file(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(output=[(1, b"hello")])) as world:
        await world.gateway.run("work")
        assert not [name for name in world.ports.disk.files if name.endswith(".out")]  # type: ignore[attr-defined]


async def test_a_machine_that_crashes_keeps_outcomes_that_were_told(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_reports = False
    async with fake_world(gateway, disk=disk):
        ended = await gateway.run("work")
    disk.crash_of_machine()
    async with fake_world(gateway, disk=disk, seed=2):
        await gateway.until(lambda: len(gateway.of(Ended, ended.instance_id)) == 2)
        assert gateway.of(Ended, ended.instance_id) == [ended, ended]


async def test_a_torn_journal_costs_nothing_that_was_told(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_reports = False
    async with fake_world(gateway, disk=disk):
        ended = await gateway.run("work")
    disk.files["/agent/state/journal"] += b"\x00\x00\x01\x00half a rec"
    gateway.acks_reports = True
    async with fake_world(gateway, disk=disk):
        await gateway.until(lambda: len(gateway.of(Ended, ended.instance_id)) == 2)


# --- a full disk ---------------------------------------------------------------------------------------------------


async def test_a_full_disk_rejects_work_and_the_agent_lives_on(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        disk = world.ports.disk
        disk.full = True  # type: ignore[attr-defined]
        ended = await world.gateway.run("work")
        assert ended.reason == "rejected" and "No space left on device" in (ended.error_message or "")
        disk.full = False  # type: ignore[attr-defined]
        assert (await world.gateway.run("work")).reason is None


async def test_a_disk_that_fills_while_work_runs_hides_no_end(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_reports = False
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(seconds=10)):
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        disk.full = True
        assert (await gateway.until_ended(order.instance_id)).reason is None
        disk.full = False
        await gateway.run("more")
    async with fake_world(gateway, disk=disk, seed=2):
        await gateway.until(lambda: len(gateway.of(Ended, order.instance_id)) == 2)


async def test_output_that_finds_no_room_counts_as_cut(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    pieces = [(1, b"a" * 5000), (1, b"b" * 5000), (1, b"c" * 10)]
    async with fake_world(disk=disk, script=lambda spec: Script(seconds=1, output=pieces)) as world:
        disk.unwritable.add("/agent/work/x.1.out")
        await world.gateway.send(an_order("work", instance_id="x"))
        ended = await world.gateway.until_ended("x")
        assert ended.reason is None and ended.output is not None
        assert ended.output["dropped"] == 5010
        told = ended.output["stdout"]
        assert (told["bytes"], told["kept"], told["shipped"]) == (10_010, 5000, 5000)
        await world.gateway.until(lambda: world.gateway.output("x") == b"a" * 5000)


async def test_a_spool_torn_by_a_full_disk_is_no_loss_of_what_the_journal_holds(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    gateway.acks_output = False
    pieces = [(1, b"a" * 5000)]
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(seconds=1000, output=pieces)):
        await gateway.send(an_order("work", instance_id="x"))
        await gateway.until(lambda: len(gateway.of(Output, "x")) == 1)
    header = bytes(disk.files["/agent/state/journal"]).partition(b'{"task_id"')[2].partition(b"}")[0]
    text = b'{"task_id"' + header + b"}"
    disk.files["/agent/work/x.1.out"] = bytearray(len(text).to_bytes(4, "big") + text + b"torn")
    gateway.acks_output = True
    async with fake_world(gateway, disk=disk):
        ended = await gateway.until_ended("x")
        assert ended.output is not None and ended.output["stdout"]["kept"] == 5000
        await gateway.until(lambda: len(gateway.of(Output, "x")) == 2)


async def test_a_work_dir_that_cannot_be_written_is_a_start_error_and_the_agent_lives_on(
    autojump_clock: MockClock,
) -> None:
    async with fake_world() as world:
        world.ports.disk.unwritable.add("/agent/work")  # type: ignore[attr-defined]
        ended = await world.gateway.run("work")
        assert (
            ended.reason == "start_error" and ended.error_message == "cannot write /agent/work: Read-only file system"
        )
        world.ports.disk.unwritable.clear()  # type: ignore[attr-defined]
        assert (await world.gateway.run("work")).reason is None


async def test_a_state_dir_that_cannot_be_written_is_an_error_at_start(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        disk = MemoryDisk()
        disk.full = True
        with pytest.raises(DiskError, match="No space left"):
            await Agent(world.agent.profile, _with_disk(world, disk)).run()


async def test_an_incarnation_that_is_no_number_is_not_guessed(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        disk = MemoryDisk()
        disk.files["/agent/state/incarnation"] = bytearray(b"garbage")
        with pytest.raises(DiskError, match="does not hold a number but 'garbage'"):
            await Agent(world.agent.profile, _with_disk(world, disk)).run()


def _with_disk(world: World, disk: MemoryDisk) -> Ports:
    return evolve(world.ports, disk=disk)


# --- stopping ------------------------------------------------------------------------------------------------------


async def test_stopping_ends_work_reports_it_and_returns(autojump_clock: MockClock) -> None:
    gateway = Gateway()
    async with fake_world(gateway, script=lambda spec: Script(seconds=1000)) as world:
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        world.agent.request_stop()
        ended = await gateway.until_ended(order.instance_id)
        assert (ended.reason, ended.error_message) == ("lost", "the agent was stopped")
        assert Shutdown(reason="the agent was stopped") in gateway.heard
        await gateway.until(lambda: not gateway.connected)
        assert len(gateway.hellos) == 1


async def test_a_dispatch_that_crosses_the_stop_is_rejected(autojump_clock: MockClock) -> None:
    async with fake_world(script=lambda spec: Script(seconds=1000, obeys_sigterm=False)) as world:
        first, second = an_order("work"), an_order("work")
        await world.gateway.send(first)
        await world.gateway.until_started(first.instance_id)
        world.agent.request_stop()
        await world.gateway.until(lambda: any(isinstance(m, Shutdown) for m in world.gateway.heard))
        await world.gateway.send(second)
        rejected = await world.gateway.until_ended(second.instance_id)
        assert (rejected.reason, rejected.error_message) == ("rejected", "the agent was stopped")
        assert (await world.gateway.until_ended(first.instance_id)).reason == "lost"


async def test_stopping_without_a_server_takes_a_bounded_time_and_keeps_the_report(autojump_clock: MockClock) -> None:
    disk, gateway = MemoryDisk(), Gateway()
    async with fake_world(gateway, disk=disk, script=lambda spec: Script(seconds=1000)) as world:
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        world.dialer.reachable = False
        await gateway.cut()
        began = trio.current_time()
        world.agent.request_stop()
        await trio.sleep(6)
        assert world.agent.executor is not None and world.agent.executor.active_count == 0
        assert trio.current_time() - began < 20
    async with fake_world(gateway, disk=disk):
        ended = await gateway.until_ended(order.instance_id)
        assert (ended.reason, ended.error_message) == ("lost", "the agent was stopped")


async def test_old_directories_and_nothing_else_are_cleaned_up(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    disk.make_private_dir("/agent/work/old")
    async with fake_world(disk=disk, script=lambda spec: Script(seconds=10_000), cleanup_interval=3600) as world:
        await world.gateway.send(an_order("work", instance_id="runs"))
        await world.gateway.until_started("runs")
        await trio.sleep(3599)
        disk.make_private_dir("/agent/work/young")
        await trio.sleep(3602)
        assert disk.list("/agent/work") == ["runs"]


async def test_a_bug_in_one_run_ends_that_run_only(autojump_clock: MockClock) -> None:
    def script(spec: ProcessSpec) -> Script:
        if spec.argv[0] == "bug":
            raise RuntimeError("boom")
        return Script(seconds=5)

    async with fake_world(script=script) as world:
        other = an_order("work")
        await world.gateway.send(other)
        ended = await world.gateway.run("bug")
        assert ended.reason == "lost" and "RuntimeError('boom')" in (ended.error_message or "")
        assert (await world.gateway.until_ended(other.instance_id)).reason is None


@pytest.mark.parametrize("kept", ["", "a b", "..", "a/b", "a" * 65])
def test_a_kept_id_that_the_server_would_refuse_is_told_at_the_start(kept: str) -> None:
    disk = MemoryDisk()
    disk.replace("/state/agent-id", f"{kept}\n".encode())
    with pytest.raises(DiskError, match=r"/state/agent-id does not hold an agent id but .* or set agent\.id"):
        kept_agent_id(disk, SeededIds(1, TrioClock()), "/state")
