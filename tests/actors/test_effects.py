"""Effects follow the commit, in the same step; one that raises is repeated, none is lost."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim
from hetuflow.actors.intentions import in_order
from hetuflow.domain.decider import Intent, Offer, Stop
from tests.actors.tally import Add, Deliver, Fill, Ledger, Open, Order, a_world, running, tally
from tests.support.ports import EPOCH


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


class Failing:
    """Raises the first `times` calls of `fails`."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise OSError("the outside is not there")


async def test_only_differences_are_performed(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Order(1))
        await world.system.ask(tally("a"), Add())
        await world.system.ask(tally("a"), Order(2))
        await world.system.ask(tally("a"), Fill(1))
    assert world.ledger.calls == [
        (tally("a"), (Deliver(1),), ()),
        (tally("a"), (Deliver(2),), ()),
        (tally("a"), (), (Deliver(1),)),
    ]


async def test_the_effects_are_handed_on_before_the_asker_hears_of_the_commit(autojump_clock: object) -> None:
    world = a_world()
    seen = []
    async with running(world), trio.open_nursery() as nursery:

        async def ask() -> None:
            await world.system.ask(tally("a"), Order(1))
            seen.append(len(world.ledger.calls))

        nursery.start_soon(ask)
    assert seen == [1]


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_an_effect_that_raises_is_repeated_until_it_works(times: int, autojump_clock: object) -> None:
    world = a_world(ledger=Ledger(Failing(times)))
    async with running(world):
        assert (await world.system.ask(tally("a"), Order(1))).version == 1  # committed all the same
        assert world.system.statistics().to_recover == 1
        assert world.system.statistics().crashes == 0
        await trio.sleep(60)
        assert world.ledger.standing[tally("a")] == {Deliver(1)}
        assert world.system.statistics().to_recover == 0


async def test_what_may_have_been_performed_is_withdrawn_when_it_is_wanted_no_more(autojump_clock: object) -> None:
    """The first call fails after the deed; before it is repeated the order is filled."""
    failing = Failing(0)
    world = a_world(ledger=Ledger(failing))
    calls = world.ledger.calls
    async with running(world):
        real = world.ledger.reconcile

        def deed_then_error(address: object, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None:
            real(address, added, withdrawn)  # type: ignore[arg-type]
            raise OSError

        world.ledger.reconcile = deed_then_error  # type: ignore[method-assign, assignment]
        await world.system.ask(tally("a"), Order(1))
        world.ledger.reconcile = real  # type: ignore[method-assign]
        await world.system.ask(tally("a"), Fill(1))
        assert calls[-1] == (tally("a"), (), (Deliver(1),))
        assert world.ledger.standing[tally("a")] == set()
        await trio.sleep(60)
        assert len(calls) == 2


async def test_a_crash_of_the_process_performs_everything_again_on_activation(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Order(1))
        await world.system.ask(tally("a"), Open([tally("b")]))
    later = a_world(log=world.log)
    async with running(later):
        await later.system.activate([tally("a"), tally("b"), tally("nobody")])
    assert later.ledger.standing == {tally("a"): {Deliver(1)}, tally("b"): {Deliver(7)}}


class Losing:
    """Loses the answers of the next `times` commits."""

    def __init__(self, times: int) -> None:
        self.left, self.commits = times, 0

    async def before_commit(self, claims: Sequence[Claim]) -> None: ...

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        self.commits += 1
        if self.left:
            self.left -= 1
            raise StoreTimeout

    async def before_read(self, what: str) -> None: ...


async def test_a_lost_answer_is_asked_for_again_with_the_same_ids(autojump_clock: object) -> None:
    world = a_world(hooks=Losing(1))
    async with running(world):
        assert (await world.system.ask(tally("a"), Order(1))).version == 1
    assert len(world.log.events) == 1
    assert len(world.ledger.calls) == 1


async def test_effects_of_an_append_with_unknown_outcome_follow_from_the_log(autojump_clock: object) -> None:
    world = a_world(hooks=Losing(2))
    async with running(world):
        with pytest.raises(StoreTimeout):
            await world.system.ask(tally("a"), Open([tally("b")]))
        await wait_all_tasks_blocked()
        assert world.ledger.standing[tally("b")] == {Deliver(7)}
        assert world.system.statistics().to_recover == 0
        assert (await world.system.ask(tally("a"), Add())).version == 2


async def test_effects_follow_also_when_the_log_cannot_be_read_for_a_while(autojump_clock: object) -> None:
    world = a_world()

    class Down(Losing):
        async def before_read(self, what: str) -> None:
            if trio.current_time() < began + 30:
                raise StoreUnavailable

    began = trio.current_time()
    world.store.hooks = Down(2)
    async with running(world):
        with pytest.raises(StoreUnavailable):
            await world.system.read(tally("b"))
        world.store.hooks = Losing(0)
        await world.system.read(tally("a"))
        world.store.hooks = Down(2)
        with pytest.raises(StoreTimeout):
            await world.system.ask(tally("a"), Open([tally("b")]))
        await trio.sleep(20)
        assert world.system.statistics().to_recover == 2
        await trio.sleep(60)
        assert world.ledger.standing[tally("b")] == {Deliver(7)}
        assert world.system.statistics().to_recover == 0
        assert world.system.statistics().crashes == 0


async def test_when_nothing_was_written_the_warm_state_stays(autojump_clock: object) -> None:
    world = a_world()

    class Away(Losing):
        async def before_commit(self, claims: Sequence[Claim]) -> None:
            raise StoreUnavailable

    async with running(world):
        await world.system.ask(tally("a"), Add())
        healthy, world.store.hooks = world.store.hooks, Away(0)
        with pytest.raises(StoreUnavailable):
            await world.system.ask(tally("a"), Add())
        world.store.hooks = healthy
        assert (await world.system.ask(tally("a"), Add())).version == 2
        assert world.system.statistics().activations == 1


def test_intents_are_handed_on_in_an_order_that_no_hash_decides() -> None:
    offers = [Offer("t", "j", priority, EPOCH, (), None, "i") for priority in range(12)]
    stop = Stop("agent", "i", 1, "t", "cancel")
    order = in_order(frozenset([*offers, stop]))
    assert order[-1] == stop
    assert list(order[:-1]) == sorted(offers, key=repr)
    assert in_order(frozenset([stop, offers[0]])) == [offers[0], stop]
