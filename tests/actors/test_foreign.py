"""Events of other servers: a warm actor follows, another is forgotten, standing effects are brought up to date."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventstore.errors import StoreUnavailable
from eventstore.memory import NoFaults
from hetuflow.actors import Limits
from tests.actors.tally import Add, Deliver, Fill, Gate, Order, World, a_world, running, tally


def two_worlds(limits: Limits | None = None) -> tuple[World, World]:
    log = a_world().log
    return a_world(log=log, limits=limits), a_world(log=log, seed=1)


async def test_a_warm_actor_one_version_behind_follows_with_its_effects(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        await there.system.ask(tally("a"), Fill(1))
        await there.system.ask(tally("a"), Order(2))
        for event in here.log.events:  # the own ones as well, as a subscription gives them
            here.system.apply_foreign(event)
        assert here.ledger.standing[tally("a")] == {Deliver(2)}
        assert (await here.system.read(tally("a"))).version == 3
        assert (await here.system.ask(tally("a"), Add())).version == 4
        statistics = here.system.statistics()
        assert (statistics.activations, statistics.conflicts) == (1, 0)


async def test_a_warm_actor_that_missed_an_event_is_folded_again(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        await there.system.ask(tally("a"), Fill(1))
        await there.system.ask(tally("a"), Order(2))
        here.system.apply_foreign(here.log.events[-1])
        await wait_all_tasks_blocked()
        assert here.ledger.standing[tally("a")] == {Deliver(2)}
        assert (await here.system.read(tally("a"))).position == 3


async def test_effects_of_a_forgotten_actor_follow_too(autojump_clock: object) -> None:
    here, there = two_worlds(Limits(warm_cells=1))
    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        await here.system.ask(tally("b"), Add())
        await there.system.ask(tally("a"), Fill(1))
        here.system.apply_foreign(here.log.events[-1])
        await wait_all_tasks_blocked()
        assert here.ledger.standing[tally("a")] == set()
        assert here.system.statistics().to_recover == 0


class Away(NoFaults):
    """Nothing can be read while it is on; the attempts are counted."""

    def __init__(self) -> None:
        self.on, self.reads = True, 0

    async def before_read(self, what: str) -> None:
        if self.on and self.reads < 100:  # else one who asks without a pause would ask for ever, in virtual time
            self.reads += 1
            raise StoreUnavailable


async def test_a_store_that_is_away_is_asked_with_pauses_also_by_an_actor_that_has_heard_of_newer_events(
    autojump_clock: object,
) -> None:
    """When it lets go it knows that it is behind: that alone is no reason to try again at once, and for ever."""
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        for number in (1, 2):
            await there.system.ask(tally("a"), Order(1 + number))
        here.store.hooks = away = Away()
        here.system.apply_foreign(here.log.events[-1])
        await trio.sleep(30)
        assert 2 <= away.reads <= 12
        away.on = False
        await trio.sleep(2 * Limits().retry_seconds_max)
        assert here.ledger.standing[tally("a")] == {Deliver(1), Deliver(2), Deliver(3)}
        assert here.system.statistics().to_recover == 0


async def test_an_actor_that_changes_while_it_is_folded_is_folded_once_more_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two_worlds()
    read, has_read, may_answer = here.store.read_streams, trio.Event(), trio.Event()

    async def read_and_wait(*arguments: Any) -> Any:
        found = await read(*arguments)
        has_read.set()
        await may_answer.wait()
        return found

    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        for number in (2, 3):
            await there.system.ask(tally("a"), Order(number))
        monkeypatch.setattr(here.store, "read_streams", read_and_wait)
        here.system.apply_foreign(here.log.events[-1])
        await has_read.wait()
        for number in (4, 5):
            await there.system.ask(tally("a"), Order(number))
        here.system.apply_foreign(here.log.events[-1])
        may_answer.set()
        await wait_all_tasks_blocked()
        assert here.ledger.standing[tally("a")] == {Deliver(n) for n in (1, 2, 3, 4, 5)}


async def test_an_actor_in_the_middle_of_a_command_finds_out_by_itself(autojump_clock: object) -> None:
    here, there = two_worlds()
    gate = Gate()
    async with running(here, there), trio.open_nursery() as nursery:
        await here.system.ask(tally("a"), Order(1))
        here.store.hooks = gate
        nursery.start_soon(here.system.ask, tally("a"), Add(5))
        await gate.reached.wait()
        await there.system.ask(tally("a"), Fill(1))
        here.system.apply_foreign(here.log.events[-1])
        gate.opened.set()
        await wait_all_tasks_blocked()
        reading = await here.system.read(tally("a"))
        assert (reading.version, reading.state.total) == (3, 5)
        assert here.ledger.standing[tally("a")] == set()


async def test_the_own_event_may_arrive_before_the_own_append_has_returned(autojump_clock: object) -> None:
    world = a_world()

    class Hasty(Gate):
        async def before_commit(self, claims: object) -> None: ...  # type: ignore[override]

        async def after_commit(self, claims: object, appended: object) -> None:  # type: ignore[override]
            for event in world.log.events:
                world.system.apply_foreign(event)
            await trio.sleep(1)

    world.store.hooks = Hasty()
    async with running(world):
        assert (await world.system.ask(tally("a"), Order(1))).version == 1
        assert (await world.system.ask(tally("a"), Order(2))).version == 2
        statistics = world.system.statistics()
        assert (statistics.activations, statistics.to_recover) == (1, 0)
    assert world.ledger.calls == [(tally("a"), (Deliver(1),), ()), (tally("a"), (Deliver(2),), ())]


async def test_an_event_of_an_unknown_actor_is_nobodys(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await there.system.ask(tally("a"), Order(1))
        here.system.apply_foreign(here.log.events[-1])
        await wait_all_tasks_blocked()
        assert here.system.statistics().cells == 0
        assert here.ledger.calls == []


async def test_an_own_append_that_was_overtaken_before_it_returned_does_not_bring_back_the_older_state(
    autojump_clock: object,
) -> None:
    here, there = two_worlds()

    class Overtaken(Gate):
        async def before_commit(self, claims: object) -> None: ...  # type: ignore[override]

        async def after_commit(self, claims: object, appended: object) -> None:  # type: ignore[override]
            here.store.hooks = Gate()
            await there.system.ask(tally("a"), Fill(1))
            here.system.apply_foreign(here.log.events[-1])

    async with running(here, there):
        await here.system.ask(tally("a"), Add())
        here.store.hooks = Overtaken()
        answer = await here.system.ask(tally("a"), Order(1))
        assert (answer.version, answer.state.open) == (2, {1})
        reading = await here.system.read(tally("a"))
        assert (reading.version, reading.state.open) == (3, frozenset())
        assert here.ledger.standing[tally("a")] == set()
