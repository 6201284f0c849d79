"""A crash costs one command; many put the actor into quarantine; nothing reaches the nursery."""

from __future__ import annotations

import logging

import pytest
import trio

from eventstore.event import Claim, NewEvent
from hetuflow.actors import Crashed, Quarantined, RestartPolicy
from tests.actors.tally import Add, Deliver, Explode, Fill, Order, a_world, running, tally


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("where", ["decide", "evolve", "intents"])
async def test_a_poison_command_fails_for_itself_only(where: str, autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Add(1))
        with pytest.raises(Crashed) as caught:
            await world.system.ask(tally("a"), Explode(where))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert (await world.system.ask(tally("a"), Add(1))).state.total == 2
        assert world.log.version("tally-a") == 2  # what cannot be folded is never written
        assert world.system.statistics().crashes == 1


async def test_what_was_performed_is_still_withdrawn_after_a_crash(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Order(1))
        with pytest.raises(Crashed):
            await world.system.ask(tally("a"), Explode("decide"))
        await world.system.ask(tally("a"), Fill(1))
    assert world.ledger.calls == [(tally("a"), (Deliver(1),), ()), (tally("a"), (), (Deliver(1),))]


async def test_too_many_crashes_quarantine_the_actor_and_nobody_else(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        for _ in range(4):
            with pytest.raises(Crashed):
                await world.system.ask(tally("a"), Explode("decide"))
        with pytest.raises(Quarantined) as caught:
            await world.system.ask(tally("a"), Add())
        assert caught.value.retry_after_seconds == pytest.approx(5)
        assert [q.address for q in world.system.statistics().quarantines] == [tally("a")]
        assert (await world.system.ask(tally("b"), Add())).version == 1
        await trio.sleep(5)
        assert (await world.system.ask(tally("a"), Add())).version == 1
        assert world.system.statistics().quarantines == ()
        with pytest.raises(Crashed):  # it worked in between: the count began anew
            await world.system.ask(tally("a"), Explode("decide"))
        assert (await world.system.ask(tally("a"), Add())).version == 2


async def test_a_poison_event_quarantines_its_actor_longer_each_time(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        event = NewEvent(event_id=world.ids.uuid7(), type="Poisoned", data="{}")
        await world.store.append([Claim("tally-a", 0, [event])])
        pauses = []
        while len(pauses) < 9:
            try:
                await world.system.ask(tally("a"), Add())
            except Crashed:
                continue
            except Quarantined as exc:
                pauses.append(round(exc.retry_after_seconds))
                await trio.sleep(exc.retry_after_seconds)
        assert pauses == [5, 10, 20, 40, 80, 160, 320, 320, 320]
        assert await world.system.read_many([tally("a"), tally("b")]) == {
            tally("b"): await world.system.read(tally("b"))
        }


async def test_an_unknown_event_type_is_refused_loudly(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.store.append(
            [Claim("tally-a", 0, [NewEvent(event_id=world.ids.uuid7(), type="FromTheFuture", data="{}")])]
        )
        with pytest.raises(Crashed):
            await world.system.ask(tally("a"), Add())
        assert await world.system.activate([tally("a"), tally("b")]) == [tally("a")]


def test_the_policy_counts_only_the_crashes_of_the_period() -> None:
    policy = RestartPolicy(intensity=2, period_seconds=10, backoff_seconds=1, backoff_seconds_max=5)
    assert policy.pause_seconds([1, 2], 0, 2) == 0
    assert policy.pause_seconds([1, 2, 3], 0, 3) == 1
    assert policy.pause_seconds([1, 2, 11], 0, 11) == 0
    assert [policy.pause_seconds([50], n, 50) for n in (1, 2, 3, 4)] == [2, 4, 5, 5]
