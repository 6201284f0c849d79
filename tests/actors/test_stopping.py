"""A stop finishes what was taken, within a deadline."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hetuflow.actors import Limits, SystemStopped
from tests.actors.tally import Add, Gate, a_world, tally


async def test_a_stop_carries_out_what_is_in_the_mailboxes_and_refuses_the_rest(autojump_clock: object) -> None:
    gate = Gate()
    world = a_world(hooks=gate)
    answers = []

    async def ask(key: str) -> None:
        answers.append((await world.system.ask(tally("a"), Add(1, key))).version)

    async with trio.open_nursery() as outside, trio.open_nursery() as nursery:
        await nursery.start(world.system.run)
        for i in range(3):
            outside.start_soon(ask, f"k{i}")
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            with pytest.raises(SystemStopped):
                await world.system.ask(tally("a"), Add())
            gate.opened.set()
    assert answers == [1, 2, 3]


async def test_a_stop_does_not_wait_longer_than_the_deadline(autojump_clock: object) -> None:
    world = a_world(hooks=Gate(), limits=Limits(drain_seconds=2.5))
    failed = []

    async def ask(key: str) -> None:
        with pytest.raises(SystemStopped):
            await world.system.ask(tally("a"), Add(1, key))
        failed.append(key)

    async with trio.open_nursery() as outside:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(world.system.run)
            for i in range(3):
                outside.start_soon(ask, f"k{i}")
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(2.5)
    assert sorted(failed) == ["k0", "k1", "k2"]
    assert world.log.events == []
    assert world.system.statistics().busy == 0


async def test_an_idle_system_stops_at_once(autojump_clock: object) -> None:
    world = a_world()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.system.run)
        await world.system.ask(tally("a"), Add())
        nursery.cancel_scope.cancel()
    assert trio.current_time() == began
