"""An append is committed, its answer is lost and comes late: what happened to the new stream meanwhile is not undone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventstore.errors import StoreTimeout
from eventstore.event import Appended, Claim
from eventstore.memory import NoFaults
from hetuflow.actors import Limits
from tests.actors.tally import Deliver, Fill, Open, Order, a_world, running, tally


class LateAnswer(NoFaults):
    """The append that opens `stream_id` is committed, its answer is lost, and the second try waits for `opened`."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._tries = 0
        self.opened = trio.Event()

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if self._is_it(claims):
            self._tries += 1
            if self._tries == 2:
                await self.opened.wait()

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if self._is_it(claims) and self._tries == 1:
            raise StoreTimeout

    def _is_it(self, claims: Sequence[Claim]) -> bool:
        return any(claim.stream_id == self._stream_id and claim.expected_version == 0 for claim in claims)


@pytest.mark.parametrize("warm_cells", [100, 1], ids=["warm", "passivated meanwhile"])
async def test_the_intents_of_a_stream_that_has_ended_meanwhile_are_not_performed_again(
    autojump_clock: object, warm_cells: int
) -> None:
    hooks = LateAnswer("tally-new")
    world = a_world(hooks=hooks, limits=Limits(warm_cells=warm_cells))
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(world.system.ask, tally("opener"), Open([tally("new")]))
        await wait_all_tasks_blocked()
        assert world.log.version("tally-new") == 2
        await world.system.ask(tally("new"), Fill(7))  # folds it: the order goes out, and is filled
        for name in range(5):
            await world.system.read(tally(name))
        done = [(tally("new"), (Deliver(7),), ()), (tally("new"), (), (Deliver(7),))]
        assert world.ledger.calls == done
        hooks.opened.set()
        await trio.sleep(100)
        assert world.ledger.calls == done
        reading = await world.system.read(tally("new"))
        assert (reading.version, reading.state.open) == (3, frozenset())


async def test_what_another_server_did_meanwhile_is_followed_instead(autojump_clock: object) -> None:
    hooks = LateAnswer("tally-new")
    world = a_world(hooks=hooks)
    other = a_world(log=world.log, seed="other")
    async with running(world, other), trio.open_nursery() as nursery:
        nursery.start_soon(world.system.ask, tally("opener"), Open([tally("new")]))
        await wait_all_tasks_blocked()
        await other.system.ask(tally("new"), Fill(7))
        await other.system.ask(tally("new"), Order(8))
        for event in world.log.streams["tally-new"]:
            world.system.apply_foreign(event)
        hooks.opened.set()
        await trio.sleep(100)
        assert world.ledger.calls == [(tally("new"), (Deliver(8),), ())]
        assert world.system.statistics().to_recover == 0


async def test_a_fold_that_read_more_than_the_late_answer_says_counts(autojump_clock: object) -> None:
    """The opened actor is being folded when the answer comes: it read what another server had appended since."""
    hooks = LateAnswer("tally-new")
    world = a_world(hooks=hooks)
    other = a_world(log=world.log, seed="other")
    async with running(world, other), trio.open_nursery() as nursery:
        nursery.start_soon(world.system.ask, tally("opener"), Open([tally("new")]))
        await wait_all_tasks_blocked()
        await other.system.ask(tally("new"), Fill(7))
        read_stream = world.store.read_stream
        reached, go_on = trio.Event(), trio.Event()

        async def slow_read(name: str, **members: int) -> object:
            events = await read_stream(name, **members)
            reached.set()
            await go_on.wait()
            return events

        world.store.read_stream = slow_read  # type: ignore[method-assign, assignment]
        nursery.start_soon(world.system.read, tally("new"))
        await reached.wait()
        hooks.opened.set()
        await wait_all_tasks_blocked()
        go_on.set()
        await wait_all_tasks_blocked()
        assert world.ledger.standing[tally("new")] == set()
        assert (await world.system.read(tally("new"))).version == 3
