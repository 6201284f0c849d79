"""The mailbox is bounded, in order, and knows which commands were taken."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hetuflow.actors import Limits, MailboxFull
from tests.actors.tally import Add, Gate, World, a_world, running, tally


def gated(capacity: int = 2) -> tuple[World, Gate]:
    gate = Gate()
    return a_world(limits=Limits(mailbox_commands=capacity), hooks=gate), gate


def keys(world: World) -> list[str]:
    return [event.data.partition('"key":"')[2].rstrip('"}') for event in world.log.events]


async def test_commands_of_one_actor_are_carried_out_one_at_a_time_in_order(autojump_clock: object) -> None:
    world, gate = gated(100)
    async with running(world), trio.open_nursery() as nursery:
        for i in range(10):
            nursery.start_soon(world.system.ask, tally("a"), Add(1, f"k{i}"))
            await wait_all_tasks_blocked()
        assert world.system.statistics().queued_commands == 9
        gate.opened.set()
    assert keys(world) == [f"k{i}" for i in range(10)]
    assert all(len(claims) == 1 and len(claims[0].events) == 1 for claims in gate.commits)


async def test_a_slow_actor_does_not_hold_up_another(autojump_clock: object) -> None:
    world, gate = gated()

    class OnlyA(Gate):
        async def before_commit(self, claims: list) -> None:  # type: ignore[override, type-arg]
            if claims[0].stream_id == "tally-a":
                await gate.opened.wait()

    world.store.hooks = OnlyA()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(world.system.ask, tally("a"), Add())
        await wait_all_tasks_blocked()
        assert (await world.system.ask(tally("b"), Add())).version == 1
        gate.opened.set()


async def test_a_full_mailbox_refuses_who_cannot_wait_and_makes_others_wait(autojump_clock: object) -> None:
    world, gate = gated(2)
    async with running(world), trio.open_nursery() as nursery:
        for i in range(3):  # one under way, two in the mailbox
            world.system.tell(tally("a"), Add(1, f"k{i}"))
            await wait_all_tasks_blocked()
        with pytest.raises(MailboxFull):
            world.system.tell(tally("a"), Add(1, "refused"))
        nursery.start_soon(world.system.ask, tally("a"), Add(1, "waited"))
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert keys(world) == ["k0", "k1", "k2", "waited"]


async def test_cancelling_the_asker_never_cancels_a_command_that_was_taken(autojump_clock: object) -> None:
    world, gate = gated(2)
    async with running(world), trio.open_nursery() as nursery:
        under_way, queued = trio.CancelScope(), trio.CancelScope()
        for scope, key in ((under_way, "under way"), (queued, "queued")):
            nursery.start_soon(_ask_in, scope, world, key)
            await wait_all_tasks_blocked()
        under_way.cancel()
        queued.cancel()
        await wait_all_tasks_blocked()
        gate.opened.set()
        await wait_all_tasks_blocked()
        assert (await world.system.read(tally("a"))).state.keys == ("under way", "queued")


async def _ask_in(scope: trio.CancelScope, world: World, key: str) -> None:
    with scope:
        await world.system.ask(tally("a"), Add(1, key))


async def test_cancelling_an_asker_that_still_waits_for_room_withdraws_the_command(autojump_clock: object) -> None:
    world, gate = gated(1)
    outside = trio.CancelScope()
    async with running(world), trio.open_nursery() as nursery:
        for key in ("under way", "queued"):
            nursery.start_soon(world.system.ask, tally("a"), Add(1, key))
            await wait_all_tasks_blocked()
        nursery.start_soon(_ask_in, outside, world, "outside")
        await wait_all_tasks_blocked()
        nursery.start_soon(world.system.ask, tally("a"), Add(1, "behind"))
        await wait_all_tasks_blocked()
        outside.cancel()
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert keys(world) == ["under way", "queued", "behind"]


async def test_an_asker_that_is_cancelled_already_asks_nothing(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        with trio.CancelScope() as scope:
            scope.cancel()
            await world.system.ask(tally("a"), Add())
        await wait_all_tasks_blocked()
        assert world.log.events == []
