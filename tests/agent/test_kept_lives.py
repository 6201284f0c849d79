"""From one life of the agent to the next above a keeper, in virtual time: who may forget an end, and when."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from hetuflow.protocol.messages import Ended
from tests.agent.gateway import an_order
from tests.agent.kept import KeptMachine, kept_machine

JOURNAL = "/state/journal"


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
