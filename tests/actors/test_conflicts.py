"""Several systems on one log: expected versions decide, the newer state answers."""

from __future__ import annotations

import pytest
import trio

from eventstore.errors import WrongExpectedVersion
from eventstore.event import Appended, Claim
from hetuflow.actors import Limits
from hetuflow.domain.rejection import Rejected
from tests.actors.tally import Add, AddOnce, Deliver, Fill, Open, Order, Refuse, World, a_world, running, tally


def two_worlds(limits: Limits | None = None) -> tuple[World, World]:
    log = a_world().log
    return a_world(log=log, limits=limits), a_world(log=log, limits=limits, seed=1)


async def test_a_conflict_is_decided_again_on_the_newer_state(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Add(1))
        await there.system.ask(tally("a"), Add(10))
        answer = await here.system.ask(tally("a"), Add(100))
        assert (answer.version, answer.state.total) == (3, 111)
        assert here.system.statistics().conflicts == 1


async def test_no_change_is_answered_only_from_the_newest_version(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Order(1))
        await there.system.ask(tally("a"), Fill(1))
        answer = await there.system.ask(tally("a"), Order(1))  # open again: here, 1 was filled in between
        assert answer.version == 3
        assert (await here.system.ask(tally("a"), Fill(1))).version == 4
        assert (await here.system.ask(tally("a"), Fill(1))).version == 4


async def test_a_rejection_is_answered_only_from_the_newest_version(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await here.system.ask(tally("a"), Add(1))
        await there.system.ask(tally("a"), Add(9))
        assert (await here.system.ask(tally("a"), Refuse(10))).state.total == 10
        with pytest.raises(Rejected):
            await here.system.ask(tally("a"), Refuse(11))
        assert here.system.statistics().verifications == 2


async def test_without_verification_a_warm_actor_answers_from_what_it_knows(autojump_clock: object) -> None:
    here, there = two_worlds(Limits(verify_unchanged=False))
    async with running(here, there):
        await here.system.ask(tally("a"), AddOnce("x"))
        await there.system.ask(tally("a"), Add(9))
        with pytest.raises(Rejected):
            await here.system.ask(tally("a"), Refuse(10))
        assert here.system.statistics().verifications == 0


async def test_after_the_last_attempt_the_conflict_is_the_answer(autojump_clock: object) -> None:
    here = a_world(limits=Limits(attempts=3))
    other = a_world(log=here.log, seed=1)

    class Rival:
        async def before_commit(self, claims: list[Claim]) -> None:
            await other.system.ask(tally("a"), Add())

        async def after_commit(self, claims: list[Claim], appended: Appended) -> None: ...

        async def before_read(self, what: str) -> None: ...

    here.store.hooks = Rival()
    async with running(here, other):
        with pytest.raises(WrongExpectedVersion) as caught:
            await here.system.ask(tally("a"), Add())
        assert caught.value.stream_id == "tally-a"
        assert here.log.version("tally-a") == 3
        assert here.system.statistics().crashes == 0


async def test_a_new_stream_that_exists_already_is_a_conflict_with_its_name(autojump_clock: object) -> None:
    here, there = two_worlds()
    async with running(here, there):
        await there.system.ask(tally("b"), Add())
        with pytest.raises(WrongExpectedVersion) as caught:
            await here.system.ask(tally("a"), Open([tally("b")]))
        assert caught.value.stream_id == "tally-b"
        assert here.log.version("tally-a") == 0


async def test_an_activation_that_races_with_the_opening_of_its_stream_ends_at_the_newer_version(
    autojump_clock: object,
) -> None:
    """The reader sees the stream before it is opened and finishes afterwards."""
    world = a_world()
    reached, go_on = trio.Event(), trio.Event()

    class SlowRead:
        async def before_commit(self, claims: list[Claim]) -> None: ...

        async def after_commit(self, claims: list[Claim], appended: Appended) -> None: ...

        async def before_read(self, what: str) -> None: ...

    async with running(world), trio.open_nursery() as nursery:
        await world.system.ask(tally("a"), Add())
        world.store.hooks = SlowRead()
        real_read = world.store.read_stream

        async def read_stream(stream_id: str, **rest: int) -> object:
            events = await real_read(stream_id, **rest)
            reached.set()
            await go_on.wait()
            return events

        world.store.read_stream = read_stream  # type: ignore[method-assign, assignment]
        nursery.start_soon(world.system.ask, tally("b"), Add(5))
        await reached.wait()
        await world.system.ask(tally("a"), Open([tally("b")]))
        assert world.ledger.standing[tally("b")] == {Deliver(7)}
        go_on.set()
    reading = world.log.version("tally-b")
    assert reading == 3
    assert world.ledger.standing[tally("b")] == {Deliver(7)}


async def test_many_clients_of_two_systems_lose_nothing(autojump_clock: object) -> None:
    here, there = two_worlds(Limits(attempts=50))

    async def client(world: World, name: int) -> None:
        for _ in range(20):
            await world.system.ask(tally(name % 3), Add(1))

    async with running(here, there), trio.open_nursery() as nursery:
        for i in range(12):
            nursery.start_soon(client, here if i % 2 else there, i)
    assert sum(1 for _ in here.log.events) == 240
    assert [here.log.version(f"tally-{i}") for i in range(3)] == [80, 80, 80]
    assert here.system.statistics().conflicts + there.system.statistics().conflicts > 0
