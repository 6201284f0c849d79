"""Leases of single instances, and instances that go on without a server: the agent's side, in virtual time."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock

from agent.link import LEASE_OVER
from agent.pace import BEAT_SHARE_MAX, OWN_LEASE_SECONDS, Pace
from hetuflow.protocol.messages import Ended, Heartbeat, Started
from tests.agent.gateway import Gateway, an_order
from tests.agent.world import Script, World, fake_world

HOUR = 3600.0


def beats(gateway: Gateway) -> int:
    return max((message.sequence for message in gateway.heard if isinstance(message, Heartbeat)), default=0)


def signals(world: World, number: int) -> list[str]:
    return list(world.runner.started[number][1].signals)


async def test_an_instance_ends_by_its_own_lease_and_the_others_go_on(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=120, heartbeat_interval=30)
    async with fake_world(gateway, script=lambda spec: Script(seconds=1000)) as world:
        short, plain = an_order("short", lost_after_seconds=20.0), an_order("plain")
        for order in (short, plain):
            await gateway.send(order)
            await gateway.until_started(order.instance_id)
        await trio.sleep(50)
        assert beats(gateway) >= 10, "as often as the shortest lease asks for"
        world.dialer.reachable = False
        cut = trio.current_time()
        await gateway.cut()
        process = world.runner.started[0][1]
        await process.wait()
        assert cut + 20 * (1 - BEAT_SHARE_MAX) - 20 / 3 - 1 <= trio.current_time() <= cut + 20 - 20 / 3 + 1
        assert signals(world, 1) == []
        world.dialer.reachable = True
        ended = await gateway.until_ended(short.instance_id)
        assert ended.reason == "lost" and "lease (20 s)" in (ended.error_message or "")
        assert signals(world, 1) == []


async def test_a_longer_lease_outlives_that_of_the_session(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=60, heartbeat_interval=15)
    async with fake_world(gateway, script=lambda spec: Script(seconds=1000)) as world:
        long, plain = an_order("long", lost_after_seconds=600.0), an_order("plain")
        for order in (long, plain):
            await gateway.send(order)
            await gateway.until_started(order.instance_id)
        world.dialer.reachable = False
        await gateway.cut()
        await trio.sleep(300)
        assert signals(world, 0) == [] and signals(world, 1) == ["TERM"]
        world.dialer.reachable = True
        await gateway.until(lambda: len(gateway.hellos) == 2)
        assert long.instance_id in {known.instance_id for known in gateway.hellos[1].known}
        await trio.sleep(500)
        assert signals(world, 0) == [], "renewed"


async def test_an_order_whose_own_lease_is_over_goes_back_and_comes_again(autojump_clock: MockClock) -> None:
    """It lay in the connection for longer than its lease: only the server knows to whom it has given it since."""
    gateway = Gateway(lease_seconds=120, heartbeat_interval=30)
    async with fake_world(gateway) as world:
        await trio.sleep(25)  # between two heartbeats
        before = beats(gateway)
        stale = an_order("work", lost_after_seconds=6.0)
        await gateway.send(stale)
        refused = await gateway.until_ended(stale.instance_id)
        assert (refused.reason, refused.error_message) == ("rejected", LEASE_OVER)
        assert world.runner.started == [] and beats(gateway) == before + 1
        again = an_order("work", instance_id=stale.instance_id, epoch=2, lost_after_seconds=6.0)
        await gateway.send(again)
        await gateway.until(lambda: len(gateway.of(Ended, stale.instance_id)) == 2)
        assert gateway.of(Ended, stale.instance_id)[1].reason is None  # type: ignore[attr-defined]
        await trio.sleep(60)
        assert (await gateway.run("work", lost_after_seconds=6.0)).reason is None, "it beats often enough for a while"


@pytest.mark.parametrize("outage", [HOUR, 5 * HOUR])
async def test_what_goes_on_without_a_server_is_told_afterwards_in_order_once(
    autojump_clock: MockClock, outage: float
) -> None:
    """An hour without a server: one ends meanwhile, one afterwards, and one that is to be stopped was."""
    gateway = Gateway(lease_seconds=120, heartbeat_interval=30)
    seconds = {"first": HOUR / 2, "second": 6 * HOUR, "plain": 6 * HOUR}

    def script(spec: object) -> Script:
        name = spec.argv[0]  # type: ignore[attr-defined]
        return Script(seconds=seconds[name], output=((1, name.encode()),))

    async with fake_world(gateway, script=script) as world:
        orders = {
            name: an_order(name, on_disconnect="stop" if name == "plain" else "continue", timeout_seconds=0)
            for name in seconds
        }
        for order in orders.values():
            await gateway.send(order)
            await gateway.until_started(order.instance_id)
        world.dialer.reachable = False
        await gateway.cut()
        await trio.sleep(outage)
        assert signals(world, 0) == signals(world, 1) == [] and signals(world, 2) == ["TERM"]
        heard = len(gateway.heard)
        world.dialer.reachable = True
        await trio.sleep(6 * HOUR)
        reasons = {name: (await gateway.until_ended(order.instance_id)).reason for name, order in orders.items()}
        assert reasons == {"first": None, "second": None, "plain": "lost"}
        told = [each for each in gateway.heard[heard:] if isinstance(each, Started | Ended)]
        assert [each.sequence for each in told] == sorted({each.sequence for each in told}), "in order, once"
        for name, order in orders.items():
            assert sum(isinstance(each, Ended) and each.instance_id == order.instance_id for each in told) == 1
            assert gateway.output(order.instance_id) == name.encode()


async def test_a_stop_ends_what_goes_on_without_a_server(autojump_clock: MockClock) -> None:
    gateway = Gateway(lease_seconds=120, heartbeat_interval=30)
    async with fake_world(gateway, script=lambda spec: Script(seconds=10 * HOUR)) as world:
        order = an_order("work", on_disconnect="continue", timeout_seconds=0)
        await gateway.send(order)
        await gateway.until_started(order.instance_id)
        world.dialer.reachable = False
        await gateway.cut()
        await trio.sleep(HOUR)
        world.dialer.reachable = True
        await gateway.until(lambda: len(gateway.hellos) == 2)
        await gateway.stop(order.instance_id)
        assert (await gateway.until_ended(order.instance_id)).reason == "cancelled"


def test_the_pace_is_that_of_the_shortest_lease() -> None:
    pace = Pace(30.0)
    pace.welcomed(20.0, 120.0)
    free = float("inf")
    assert pace.interval(free, 0.0) == 20.0 and pace.ack_seconds(free) == 20.0
    assert pace.interval(8.0, 0.0) == 2.0 and pace.ack_seconds(8.0) == 2.0
    pace.given(12.0, 100.0)
    assert [pace.interval(free, at) for at in (100.0, 100.0 + OWN_LEASE_SECONDS - 1)] == [3.0, 3.0]
    assert pace.interval(free, 100.0 + OWN_LEASE_SECONDS) == 20.0 and pace.ack_seconds(free) == 20.0
    pace.ordered(600.0)
    assert pace.interval(free, 1e6) == 120.0 * BEAT_SHARE_MAX
    for lease, running in itertools.product((0.0, 0.001), (0.0, free)):
        pace.lease_seconds = lease
        assert pace.interval(running, 0.0) > 0
