"""Several addresses, a server that may not renew the lease, and a store that is another one than before."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hetuflow.ports.network import DialError
from hetuflow.protocol.messages import Started
from tests.agent.gateway import Gateway, MemoryDialer, MemoryStream, an_order
from tests.agent.world import MemoryDisk, Script, World, fake_world

TWO = "ws://one:8081,ws://two:8081"


def only_reachable(world: World, url: str) -> None:
    dial = MemoryDialer.dial

    async def dial_one(wanted: str) -> MemoryStream:
        if wanted.startswith(url):
            return await dial(world.dialer, wanted)
        world.dialer.urls.append(wanted.partition("/api/")[0])
        await trio.lowlevel.checkpoint()
        raise DialError(f"{wanted}: nobody there")

    world.dialer.dial = dial_one  # type: ignore[method-assign]


async def test_every_address_is_tried_in_turn(autojump_clock: MockClock) -> None:
    async with fake_world(server_url=TWO) as world:
        assert world.dialer.urls == ["ws://one:8081"]
        only_reachable(world, "ws://two:8081")
        await world.gateway.cut()
        await world.gateway.until(lambda: len(world.gateway.hellos) == 2)
        only_reachable(world, "ws://one:8081")
        await world.gateway.cut()
        await world.gateway.until(lambda: len(world.gateway.hellos) == 3)
        assert world.dialer.urls[-1] == "ws://one:8081"
        assert {*world.dialer.urls} == {"ws://one:8081", "ws://two:8081"}


async def test_running_work_moves_with_the_agent_to_the_next_server(autojump_clock: MockClock) -> None:
    async with fake_world(Gateway(lease_seconds=60), server_url=TWO, script=lambda _: Script(seconds=30)) as world:
        order = an_order("work")
        await world.gateway.send(order)
        await world.gateway.until_started(order.instance_id)
        only_reachable(world, "ws://two:8081")
        await world.gateway.cut()
        ended = await world.gateway.until_ended(order.instance_id)
        assert ended.reason is None and len(world.gateway.of(Started, order.instance_id)) == 1


async def test_a_server_that_may_not_renew_keeps_its_agent_and_the_lease_runs_out(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=60, heartbeat_interval=5)
    async with fake_world(gateway, script=lambda _: Script(seconds=1000)) as world:
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        gateway.renews = False
        began = trio.current_time()
        ended = await gateway.until_ended(order.instance_id)
        assert ended.reason == "lost"
        assert 60 - 10 - 6 <= trio.current_time() - began <= 60 - 10 + 1, "a grace before the lease ends"
        await gateway.until(lambda: len(gateway.hellos) == 2)  # what came late by the old connection is not heard
        assert world.agent.executor is not None and world.agent.executor.active_count == 0


async def test_an_outage_of_the_database_shorter_than_the_lease_ends_no_connection(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=120, heartbeat_interval=10)
    async with fake_world(gateway, script=lambda _: Script(seconds=150)):
        order = an_order("work")
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        gateway.renews = False
        await trio.sleep(90)
        gateway.renews = True
        await trio.sleep(50)
        ended = await gateway.until_ended(order.instance_id)
        assert ended.reason is None
        assert len(gateway.hellos) == 1


async def test_with_another_address_a_server_that_does_not_renew_is_left_in_time(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=60, heartbeat_interval=5)
    async with fake_world(gateway, server_url=TWO, script=lambda _: Script(seconds=100)) as world:
        gateway.renews = False
        began = trio.current_time()
        await gateway.until(lambda: len(gateway.hellos) == 2)
        assert 15 <= trio.current_time() - began <= 60 / 4 + 2 * 5 + 1
        assert world.dialer.urls[:2] == ["ws://one:8081", "ws://two:8081"]


async def test_another_store_is_noticed_also_in_a_later_life(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = MemoryDisk()
    async with fake_world(disk=disk) as world:
        assert world.gateway.hellos[0].store_id == ""
        await world.gateway.cut()
        await world.gateway.until(lambda: len(world.gateway.hellos) == 2)
        assert world.gateway.hellos[1].store_id == "store-1"
    restored = Gateway()
    restored.store_id = "store-1/1"
    async with fake_world(restored, disk=disk) as world:
        assert world.gateway.hellos[0].store_id == "store-1"
        await world.gateway.cut()
        await world.gateway.until(lambda: len(world.gateway.hellos) == 2)
        assert world.gateway.hellos[1].store_id == "store-1/1"
    assert bytes(disk.files["/agent/state/store-id"]) == b"store-1/1\n"
    assert capsys.readouterr().out.count("another event store") == 1
