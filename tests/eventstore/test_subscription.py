"""The order of local batches, foreign events and history, without any database."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import StoreClosed, StoreUnavailable
from eventstore.event import RecordedEvent
from eventstore.subscription import BACKOFF_SECONDS_MAX, Feed, Subscription
from tests.eventstore.builders import START


def events(first: int, last: int) -> list[RecordedEvent]:
    return [
        RecordedEvent(
            position=position,
            recorded_at=START,
            version=position,
            schema=1,
            event_id=UUID(int=position),
            stream_id="s",
            type="T",
            data="{}",
            metadata="{}",
        )
        for position in range(first, last + 1)
    ]


class Log:
    """A log of which `length` events are committed."""

    def __init__(self, length: int = 0) -> None:
        self.length = length
        self.failures = 0
        self.reads: list[tuple[int, int]] = []

    async def read(self, after: int, limit: int) -> Sequence[RecordedEvent]:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        self.reads.append((after, limit))
        return events(after + 1, min(self.length, after + limit))


async def take(subscription: Subscription, count: int) -> list[int]:
    seen: list[int] = []
    while len(seen) < count:
        batch = await anext(subscription)
        assert batch
        seen.extend(event.position for event in batch)
    return seen


async def test_a_local_batch_that_follows_is_delivered_without_a_read() -> None:
    log = Log()
    subscription = Subscription(log.read, after=0, buffer_events=10)
    subscription.publish(events(1, 2))
    subscription.publish(events(3, 4))
    assert await take(subscription, 4) == [1, 2, 3, 4]
    assert log.reads == []


async def test_the_gap_before_a_local_batch_is_read_first_and_the_batch_is_not_delivered_twice() -> None:
    log = Log(4)
    subscription = Subscription(log.read, after=0, buffer_events=10)
    subscription.publish(events(1, 2))
    log.length = 6
    subscription.publish(events(5, 6))  # 3 and 4 were written by another process
    assert await take(subscription, 6) == [1, 2, 3, 4, 5, 6]
    assert [after for after, _ in log.reads] in ([0], [2])
    log.length = 8
    subscription.publish(events(7, 8))
    assert await take(subscription, 2) == [7, 8]
    assert len(log.reads) == 1


async def test_an_overfull_buffer_is_dropped_and_history_takes_over() -> None:
    log = Log(30)
    subscription = Subscription(log.read, after=0, buffer_events=5)
    for first in range(1, 30, 3):
        subscription.publish(events(first, first + 2))
        assert subscription._buffered <= 5
    assert await take(subscription, 30) == list(range(1, 31))


async def test_history_meets_the_live_buffer_under_constant_writing(autojump_clock: trio.testing.MockClock) -> None:
    """While history is read the log grows: the subscription must come back to the buffer, not read for ever."""
    log = Log(3000)
    subscription = Subscription(log.read, after=0, buffer_events=10_000)
    subscription.hint(3000)

    async def write() -> None:
        while True:
            await trio.sleep(0.001)
            log.length += 5
            subscription.publish(events(log.length - 4, log.length))

    async def slow_read(after: int, limit: int) -> Sequence[RecordedEvent]:
        await trio.sleep(0.01)
        return await log.read(after, limit)

    subscription._read = slow_read
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        seen = await take(subscription, 10_000)
        nursery.cancel_scope.cancel()
    assert seen == list(range(1, len(seen) + 1))
    assert len(log.reads) <= 6


async def test_reading_goes_on_after_the_database_was_away(autojump_clock: trio.testing.MockClock) -> None:
    log = Log(3)
    log.failures = 7
    subscription = Subscription(log.read, after=0, buffer_events=10)
    subscription.hint(3)
    assert await take(subscription, 3) == [1, 2, 3]
    assert trio.current_time() <= 7 * BACKOFF_SECONDS_MAX


async def test_a_hint_ahead_of_the_log_does_not_spin(autojump_clock: trio.testing.MockClock) -> None:
    log = Log(1)
    subscription = Subscription(log.read, after=0, buffer_events=10)
    subscription.hint(100)
    assert await take(subscription, 1) == [1]
    with trio.move_on_after(10):
        await anext(subscription)
    assert len(log.reads) == 2
    log.length = 2
    subscription.hint(2)
    assert await take(subscription, 1) == [2]


async def test_a_closed_feed_ends_its_subscriptions() -> None:
    log, feed = Log(), Feed()

    async def head() -> int:
        return 0

    async with feed.subscribe(log.read, head, after=0, buffer_events=1) as subscription:
        assert len(feed) == 1
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                with pytest.raises(StoreClosed):
                    await anext(subscription)

            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            feed.close()
    assert len(feed) == 0
    with pytest.raises(StoreClosed):
        async with feed.subscribe(log.read, head, after=0, buffer_events=1):
            pass


actions = st.lists(
    st.one_of(
        st.tuples(st.just("local"), st.integers(1, 4)),
        st.tuples(st.just("foreign"), st.integers(1, 4)),
        st.tuples(st.just("hint"), st.just(0)),
        st.tuples(st.just("take"), st.just(0)),
    ),
    max_size=40,
)


@given(actions, st.integers(1, 12), st.integers(0, 5))
def test_any_interleaving_delivers_each_event_once_in_order(
    actions: list[tuple[str, int]], buffer_events: int, after: int
) -> None:
    async def main() -> None:
        log = Log(after)
        subscription = Subscription(log.read, after=after, buffer_events=buffer_events)
        seen: list[int] = []
        for action, count in actions:
            if action == "take":
                with trio.move_on_after(1):
                    seen.extend(event.position for event in await anext(subscription))
            elif action == "hint":
                subscription.hint(log.length)
            else:
                log.length += count
                if action == "local":
                    subscription.publish(events(log.length - count + 1, log.length))
            assert subscription._buffered <= buffer_events
        subscription.hint(log.length)
        while len(seen) < log.length - after:
            seen.extend(event.position for event in await anext(subscription))
        assert seen == list(range(after + 1, log.length + 1))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
