"""What the memory store offers beyond the contract: faults, several stores on one log, virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
import trio

from eventstore.errors import StoreClosed, StoreTimeout, StoreUnavailable, WrongExpectedVersion
from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog, MemoryStore, NoFaults
from tests.eventstore.builders import START, a_claim, a_clock


class Faulty(NoFaults):
    """Fails as told, once each."""

    def __init__(self) -> None:
        self.lose_append = self.lose_answer = self.lose_read = False
        self.delay_seconds = 0.0

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await trio.sleep(self.delay_seconds)
        if self.lose_append:
            self.lose_append = False
            raise StoreUnavailable

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if self.lose_answer:
            self.lose_answer = False
            raise StoreTimeout

    async def before_read(self, what: str) -> None:
        if self.lose_read:
            self.lose_read = False
            raise StoreUnavailable(what)


async def test_faults_before_and_after_the_commit() -> None:
    hooks = Faulty()
    store = MemoryStore(a_clock(), hooks=hooks)
    claims = [a_claim("a")]
    hooks.lose_append = True
    with pytest.raises(StoreUnavailable):
        await store.append(claims)
    assert await store.head() == 0
    hooks.lose_answer = True
    with pytest.raises(StoreTimeout):
        await store.append(claims)
    assert (await store.append(claims)).position == await store.head() == 1


async def test_a_subscription_survives_faults_of_reading(autojump_clock: trio.testing.MockClock) -> None:
    hooks = Faulty()
    store = MemoryStore(a_clock(), hooks=hooks)
    await store.append([a_claim("a", 0, 2)])
    hooks.lose_read = True
    async with store.subscribe(after=0) as batches:
        assert [event.position for event in await anext(batches)] == [1, 2]


async def test_a_slow_append_takes_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    hooks = Faulty()
    hooks.delay_seconds = 3600
    await MemoryStore(a_clock(), hooks=hooks).append([a_claim("a")])
    assert trio.current_time() == 3600


async def test_two_stores_share_a_log_as_two_servers_share_a_database() -> None:
    log = MemoryLog()
    one, two = MemoryStore(a_clock(), log=log, origin="one"), MemoryStore(a_clock(), log=log, origin="two")
    async with one.subscribe(after=0) as batches:
        await two.append([a_claim("a")])
        assert [event.position for event in await anext(batches)] == [1]
    with pytest.raises(WrongExpectedVersion):
        await one.append([a_claim("a")])
    assert (one.origin, two.origin) == ("one", "two")


async def test_a_clock_that_steps_back_does_not_step_the_log_back() -> None:
    store = MemoryStore(a_clock(step=timedelta(seconds=-1)))
    for version in range(3):
        await store.append([a_claim("a", version)])
    assert [event.recorded_at for event in await store.read_all()] == [START] * 3


async def test_a_closed_store_is_dead_also_for_an_append_that_waits(autojump_clock: trio.testing.MockClock) -> None:
    hooks = Faulty()
    hooks.delay_seconds = 10
    store = MemoryStore(a_clock(), hooks=hooks)
    async with trio.open_nursery() as nursery:

        async def late() -> None:
            with pytest.raises(StoreClosed):
                await store.append([a_claim("a")])

        nursery.start_soon(late)
        await trio.sleep(1)
        store.close()
    assert store.log.events == []
    with pytest.raises(StoreClosed):
        await store.head()
    with pytest.raises(StoreClosed):
        async with store.subscribe(after=0):
            pass
