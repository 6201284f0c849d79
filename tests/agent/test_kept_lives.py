"""From one life of the agent to the next above a keeper, in virtual time: who may forget an end, and what is sent again."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.daemon import Agent, Farewell
from agent.keeper.messages import Finished, Held, Launched
from agent.keeping import Attached
from agent.preparation import Collected, Collector, Preparations, Prepared, Step
from agent.shipping import NOTE_BYTES, WINDOW_BYTES_MAX
from agent.spool import CHUNK_BYTES_MAX
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.messages import Dispatch, Ended, Output, Stop
from tests.agent.gateway import an_order
from tests.agent.kept import KeptMachine, kept_machine

JOURNAL = "/state/journal"
GOLDEN = Path(__file__).parent / "golden" / "journal-before-keepers.bin"


async def until_started(machine: KeptMachine, *arguments: str) -> str:
    order = an_order("program", *arguments)
    await machine.gateway.send(order)
    await machine.gateway.until_started(order.instance_id)
    return order.instance_id


async def test_an_end_that_the_journal_had_no_room_for_is_told_by_the_next_life(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine:
        machine.gateway.acks_reports = False
        async with machine.life():
            instance = await until_started(machine, "seconds=5", "output=20")
            machine.disk.unwritable.add(JOURNAL)
            assert (await machine.gateway.until_ended(instance)).reason is None
            await trio.sleep(60)
        machine.disk.unwritable.clear()
        machine.gateway.acks_reports = True
        async with machine.life():
            await machine.gateway.until(lambda: len(machine.gateway.of(Ended, instance)) == 2)
            again = machine.gateway.of(Ended, instance)[1]
            assert isinstance(again, Ended)
            assert (again.reason, again.exit_code) == (None, 0)
            assert again.output is not None and again.output["stdout"]["bytes"] == 20
            await trio.sleep(1)
            assert machine.held() == []


async def test_the_keeper_may_forget_an_end_once_the_server_has_it(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine, machine.life():
        instance = await until_started(machine, "seconds=5")
        machine.disk.unwritable.add(JOURNAL)
        await machine.gateway.until_ended(instance)
        await trio.sleep(1)
        assert machine.held() == []


async def test_the_keeper_may_forget_an_end_once_the_journal_has_room_for_it(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine:
        machine.gateway.acks_reports = False
        async with machine.life():
            first = await until_started(machine, "seconds=5")
            second = await until_started(machine, "seconds=90")
            machine.disk.unwritable.add(JOURNAL)
            await machine.gateway.until_ended(first)
            await trio.sleep(60)
            assert machine.held() == [first, second]
            machine.disk.unwritable.clear()
            await machine.gateway.until_ended(second)
            await trio.sleep(1)
            assert machine.held() == []
        async with machine.life():
            assert {each.instance_id for each in machine.gateway.hellos[-1].known} == {first, second}
            assert len({each.event_id for each in machine.gateway.of(Ended, first)}) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("lease", [20.0, 300.0])
async def test_what_runs_obeys_the_lease_of_the_session_that_is_and_not_of_the_one_that_was(
    autojump_clock: MockClock, lease: float
) -> None:
    """The server gives the work away when *its* lease is over: a shorter one must end what an earlier life had started."""
    async with kept_machine() as machine:
        async with machine.life():
            instance = await until_started(machine, "seconds=1000")
        machine.gateway.lease_seconds, machine.gateway.heartbeat_interval = lease, lease / 4
        async with machine.life():
            await trio.sleep(100)
            renewed = trio.current_time()
            machine.gateway.acks_heartbeats = machine.gateway.welcomes = False
            with trio.fail_after(1000):
                while machine.machine.living():  # noqa: ASYNC110 (nothing says so)
                    await trio.sleep(0.5)
            seconds = trio.current_time() - renewed
            assert seconds <= lease and (lease < 100 or seconds > 120)
            machine.gateway.acks_heartbeats = machine.gateway.welcomes = True
            ended = await machine.gateway.until_ended(instance)
            assert ended.reason == "lost" and f"({lease:g} s)" in (ended.error_message or "")


async def test_an_order_from_before_the_machine_slept_is_not_started(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clocks stood still, but for the one of leases; the server has given the order to others."""
    async with kept_machine() as machine, machine.life():
        stale = an_order("program", "seconds=5", on_disconnect="continue")
        monkeypatch.setattr(machine.keepers, "now", lambda: trio.current_time() + 1000)
        await machine.gateway.send(stale)
        await machine.gateway.until(lambda: len(machine.gateway.hellos) == 2 and machine.gateway.connected)
        assert machine.gateway.hellos[-1].known == () and not machine.machine.history
        assert (await machine.gateway.run("program", on_disconnect="continue")).reason is None


async def test_an_agent_whose_keeper_is_lost_for_good_can_stop_all_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise DiskError("cannot start a keeper: No space left on device")

    async with kept_machine() as machine:
        async with machine.life() as agent:
            instance = await until_started(machine, "seconds=1000")
            with monkeypatch.context() as patch:
                patch.setattr(machine.keepers, "start", fail)
                machine.keepers.kill()
                await trio.sleep(1)
                rejected = await machine.gateway.run("program")
                assert rejected.reason == "rejected" and "No space left" in (rejected.error_message or "")
                agent.request_stop()
                await machine.gateway.until(lambda: not machine.gateway.connected)
        assert not machine.gateway.of(Ended, instance)
        async with machine.life():
            assert (await machine.gateway.until_ended(instance)).reason == "lost"


async def test_an_agent_that_is_stopped_while_it_restarts_ends_its_work(autojump_clock: MockClock) -> None:
    """It waits for an acknowledgement that does not come, and has left its work to the keeper already."""
    async with kept_machine() as machine:
        async with machine.life() as agent:
            await until_started(machine, "seconds=1000")
            machine.gateway.acks_reports = False
            ended = await until_started(machine, "seconds=1")
            await machine.gateway.until_ended(ended)
            agent.request_restart(Farewell.KEPT)
            await trio.sleep(1)
            assert machine.machine.living()
            agent.request_stop()
            await machine.gateway.until(lambda: not machine.gateway.connected)
            assert agent.farewell is Farewell.STOPPED
        assert not machine.machine.living()


async def test_an_order_that_comes_again_when_all_is_acknowledged_takes_no_slot_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with kept_machine() as machine, machine.life() as agent:
        order = an_order("program", "seconds=1")
        await machine.gateway.send(order)
        await machine.gateway.until_ended(order.instance_id)
        await trio.sleep(1)
        await machine.gateway.send(order)
        await trio.sleep(10)
        assert len(machine.machine.history) == 1
        assert agent.executor is not None and agent.executor.active_count == 0


# --- after an upgrade from an agent without a keeper ---------------------------------------------------------------


async def test_what_an_agent_without_a_keeper_had_accepted_is_lost_for_it_may_have_run(
    autojump_clock: MockClock,
) -> None:
    """Its journal, as version 0.1.0 wrote it before there were keepers: one ran, one was accepted, one had ended."""
    async with kept_machine() as machine:
        machine.disk.files[JOURNAL] = bytearray(GOLDEN.read_bytes())
        machine.disk.files["/state/incarnation"] = bytearray(b"7\n")
        async with machine.life():
            ends = {name: await machine.gateway.until_ended(name) for name in ("ran", "accepted", "ended")}
            assert machine.gateway.hellos[-1].incarnation == 8
            assert {name: (end.reason, end.error_message) for name, end in ends.items()} == {
                "ran": ("lost", "the agent restarted"),
                "accepted": ("lost", "the agent restarted"),
                "ended": (None, None),
            }
            assert ends["ended"].event_id == "e-ended" and ends["ran"].started_at == "2026-01-05T08:00:00.000000Z"
            await machine.gateway.until_output("ran", b"hello\n")
            assert (await machine.gateway.run("program", "seconds=1")).reason is None
            await trio.sleep(1)
        async with machine.life():
            assert machine.gateway.hellos[-1].known == ()


async def test_what_an_agent_with_a_keeper_had_accepted_and_not_launched_has_not_run(
    autojump_clock: MockClock,
) -> None:
    preparations = Preparations(steps=(Step(lambda order: True, Slowly().step),))
    async with kept_machine() as machine:
        async with machine.life(preparations):
            order = an_order("program", "seconds=1")
            await machine.gateway.send(order)
            await trio.sleep(1)
        async with machine.life():
            ended = await machine.gateway.until_ended(order.instance_id)
            assert (ended.reason, ended.error_message) == ("rejected", "the agent restarted before it was started")
        machine.keepers.power_off()
        async with machine.life(preparations, boot_id="boot-2"):
            order = an_order("program", "seconds=1")
            await machine.gateway.send(order)
            await trio.sleep(1)
        async with machine.life(boot_id="boot-3"):
            ended = await machine.gateway.until_ended(order.instance_id)
            assert (ended.reason, ended.error_message) == ("lost", "the machine restarted")


# --- what a task of the agent is about to do -----------------------------------------------------------------------


class Slowly:
    """A step and a collector that take a minute."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.done: list[str] = []

    async def step(self, order: Dispatch, prepared: Prepared) -> Prepared:
        await self._take(order)
        return prepared

    async def collect(self, order: Dispatch, directory: str) -> Collected:
        await self._take(order)
        return Collected()

    async def _take(self, order: Dispatch) -> None:
        self.began.append(order.instance_id)
        await trio.sleep(30)
        self.done.append(order.instance_id)


async def test_a_stop_in_the_same_breath_as_its_order_interrupts_the_preparation(autojump_clock: MockClock) -> None:
    slowly = Slowly()
    preparations = Preparations(steps=(Step(lambda order: True, slowly.step),))
    async with kept_machine() as machine, machine.life(preparations):
        order = an_order("program", "seconds=5")
        stop = Stop(instance_id=order.instance_id, epoch=1, reason="never mind", grace_seconds=10.0)
        await machine.gateway.send(order, stop)
        ended = await machine.gateway.until_ended(order.instance_id)
        assert ended.reason == "cancelled" and slowly.done == []
        await trio.sleep(100)
        assert slowly.done == [] and not machine.machine.history


@pytest.mark.parametrize("where", ["before", "in a step", "at the launch"])
async def test_an_order_that_the_agent_cannot_handle_is_lost_and_the_agent_lives_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def fail(order: Dispatch, prepared: Prepared) -> Prepared:
        if where == "in a step":
            raise ValueError("a bug")
        return prepared

    def refuse(*given: object) -> None:
        raise ValueError("a bug" * 5000)

    preparations = Preparations(steps=(Step(lambda order: order.args == ("bad",) and where != "before", fail),))
    async with kept_machine() as machine, machine.life(preparations) as agent:
        other = await until_started(machine, "seconds=30")
        with monkeypatch.context() as patch:
            if where == "before":
                patch.setattr("agent.executor.plain", refuse)
            elif where == "at the launch":
                assert agent.executor is not None
                patch.setattr(agent.executor._keeper, "launch", refuse)
            ended = await machine.gateway.run("program", "bad")
        assert ended.reason == "lost" and "internal error of the agent: ValueError" in (ended.error_message or "")
        assert len(ended.error_message or "") < 9000
        assert (await machine.gateway.until_ended(other)).reason is None
        assert len(machine.gateway.hellos) == 1 and agent.executor is not None and agent.executor.active_count == 0


async def test_a_keeper_that_comes_when_a_preparation_begins_does_not_settle_it(autojump_clock: MockClock) -> None:
    """A preparation that has not had its turn yet is under way all the same: it was reported as never started, and ran."""
    slowly = Slowly()
    preparations = Preparations(steps=(Step(lambda order: True, slowly.step),))
    async with kept_machine() as machine, machine.life(preparations) as agent:
        order = an_order("program", "seconds=5")
        assert agent.executor is not None
        agent.executor.dispatch(order)
        agent.executor._keeper._meet(Attached(instances=()))
        assert slowly.began == []
        assert (await machine.gateway.until_ended(order.instance_id)).reason is None
        assert len(machine.gateway.of(Ended, order.instance_id)) == 1 == len(machine.machine.history)


async def test_a_keeper_that_comes_when_a_collection_begins_does_not_begin_another(autojump_clock: MockClock) -> None:
    slowly = Slowly()
    preparations = Preparations(collectors=(Collector(lambda order: True, slowly.collect),))
    async with kept_machine() as machine, machine.life(preparations) as agent:
        instance = await until_started(machine, "seconds=500")
        assert agent.executor is not None
        keeper = agent.executor._keeper
        finished = Finished(instance_id=instance, epoch=1, completed_at="2026-01-05T08:00:02Z")
        launched = Launched(
            task_id="t", instance_id=instance, epoch=1, pid=1, identity="", started_at="", isolation="session"
        )
        keeper._hear(finished)
        keeper._meet(Attached(instances=(Held(launched=launched, finished=finished),)))
        assert (await machine.gateway.until_ended(instance)).reason is None
        assert slowly.began == [instance] == slowly.done


# --- output goes on from where the server has it -------------------------------------------------------------------

PART = 1_500_000
"""Of each stream, at the beginning and again at the end of the program."""
LONG = ("seconds=40", f"output={2 * PART}")


def chunks(machine: KeptMachine, instance: str) -> list[Output]:
    return [each for each in machine.gateway.of(Output, instance) if isinstance(each, Output)]


async def until_all_is_there(machine: KeptMachine, instance: str) -> None:
    """All that the program wrote, each byte once, whichever life sent it."""
    ended = await machine.gateway.until_ended(instance)
    assert ended.output is not None
    [process] = [each for each in machine.machine.history if each.instance_id == instance]
    written = {"stdout": process.written[1], "stderr": process.written[2]}
    await machine.gateway.until(lambda: {name: machine.gateway.output(instance, name) for name in written} == written)
    by_seq: dict[int, set[tuple[str, int, int]]] = {}
    for each in chunks(machine, instance):
        by_seq.setdefault(each.seq, set()).add((each.stream, each.offset, len(each.data)))
    assert sorted(by_seq) == list(range(len(by_seq))) and all(len(each) == 1 for each in by_seq.values())


async def leave(machine: KeptMachine, agent: Agent) -> None:
    """As `restart --keep` does."""
    agent.request_restart(Farewell.KEPT)
    await machine.gateway.until(lambda: not machine.gateway.connected)


async def test_a_restarted_agent_sends_no_output_that_the_server_has(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine:
        async with machine.life() as agent:
            instance = await until_started(machine, *LONG)
            await machine.gateway.until(lambda: len(machine.gateway.output(instance, "stderr")) == PART)
            await trio.sleep(1)
            await leave(machine, agent)
        before = len(chunks(machine, instance))
        async with machine.life():
            await until_all_is_there(machine, instance)
        assert sum(len(each.data) for each in chunks(machine, instance)[before:]) == 2 * PART


async def test_an_agent_that_was_killed_repeats_little_output(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine:
        async with machine.life():
            instance = await until_started(machine, *LONG)
            await machine.gateway.until(lambda: len(machine.gateway.output(instance, "stderr")) == PART)
            await trio.sleep(1)
        before = len(chunks(machine, instance))
        async with machine.life():
            await until_all_is_there(machine, instance)
        repeated = sum(len(each.data) for each in chunks(machine, instance)[before:]) - 2 * PART
        assert 0 <= repeated <= NOTE_BYTES + CHUNK_BYTES_MAX


async def test_output_whose_end_is_acknowledged_goes_on_from_where_it_was(autojump_clock: MockClock) -> None:
    """Killed between the two: the end stays in the journal, which says how far its output is."""
    async with kept_machine() as machine:
        async with machine.life():
            instance = await until_started(machine, "seconds=5", f"output={2 * PART}")
            await machine.gateway.until(lambda: len(machine.gateway.output(instance, "stderr")) == PART)
            machine.gateway.acks_output = False
            await machine.gateway.until_ended(instance)
            await trio.sleep(1)
        before = len(chunks(machine, instance))
        machine.gateway.acks_output = True
        async with machine.life():
            await until_all_is_there(machine, instance)
            await trio.sleep(1)
            again = chunks(machine, instance)[before:]
            assert (
                again
                and sum(len(each.data) for each in again) <= WINDOW_BYTES_MAX + NOTE_BYTES + CHUNK_BYTES_MAX + 2 * PART
            )
            assert min(each.seq for each in again) > 0
        async with machine.life():
            assert machine.gateway.hellos[-1].known == ()


async def test_another_store_is_sent_all_output_that_is_still_here(autojump_clock: MockClock) -> None:
    async with kept_machine() as machine:
        async with machine.life():
            instance = await until_started(machine, *LONG)
            await machine.gateway.until(lambda: len(machine.gateway.output(instance, "stderr")) == PART)
            await trio.sleep(1)
            machine.gateway.store_id = "store-2"
            before = len(chunks(machine, instance))
            await machine.gateway.cut()
            await machine.gateway.until(lambda: len(chunks(machine, instance)) == 2 * before)
        before = len(chunks(machine, instance))
        machine.gateway.store_id = "store-3"
        async with machine.life():
            await until_all_is_there(machine, instance)
        assert sum(len(each.data) for each in chunks(machine, instance)[before:]) == 4 * PART
