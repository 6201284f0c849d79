"""Which appends travel together, and that a loser never hurts a winner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidEvent, StoreClosed, StoreUnavailable, WrongExpectedVersion
from eventstore.event import Appended, Claim, NewEvent
from eventstore.postgres import PostgresSettings, PostgresStore, open_postgres_store
from eventstore.postgres import batch as batch_module
from eventstore.postgres.batch import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, PendingAppend, take_batch
from eventstore.postgres.bridge import Bridge
from tests.eventstore.builders import a_claim, an_event

APPEND_LOCK = 7403011


def pending(*claims: Claim) -> PendingAppend:
    return PendingAppend(claims, deadline=0)


def test_independent_appends_travel_together() -> None:
    queue = [pending(a_claim("a")), pending(a_claim("b"), Claim("g", 1)), pending(a_claim("c"), Claim("g", 2))]
    assert take_batch(queue) == (queue, [])


def test_one_batch_never_writes_a_stream_twice() -> None:
    first, second, third = pending(a_claim("a")), pending(a_claim("a", 1)), pending(a_claim("b"))
    assert take_batch([first, second, third]) == ([first, third], [second])


def test_a_guard_on_a_stream_the_batch_writes_waits_and_a_guard_before_the_write_does_not() -> None:
    write, guard = pending(a_claim("g")), pending(Claim("g", 1), a_claim("a"))
    assert take_batch([write, guard]) == ([write], [guard])
    assert take_batch([guard, write]) == ([guard, write], [])


def test_nobody_overtakes_a_waiting_append_that_touches_its_streams() -> None:
    first, second, third = pending(a_claim("a")), pending(a_claim("a", 1), a_claim("b")), pending(a_claim("b", 1))
    assert take_batch([first, second, third]) == ([first], [second, third])


def test_a_batch_is_bounded_in_events_and_in_bytes() -> None:
    many = [pending(a_claim(f"s-{n}", 0, 300)) for n in range(5)]
    batch, rest = take_batch(many)
    assert (batch, rest) == (many[:3], many[3:])
    large = [pending(Claim(f"s-{n}", 0, [_a_large_event()])) for n in range(6)]
    batch, rest = take_batch(large)
    assert sum(one.bytes for one in batch) <= BATCH_BYTES_MAX
    assert batch + rest == large and len(rest) == 2
    huge = pending(a_claim("h", 0, BATCH_EVENTS_MAX + 1))
    assert take_batch([huge, many[0]]) == ([huge], [many[0]])  # an append is never split


def _a_large_event() -> NewEvent:
    return an_event(data={"x": "y" * 255_000})


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), min_size=1, max_size=3, unique_by=lambda c: c[0]),
        max_size=12,
    )
)
def test_batches_keep_the_order_of_each_stream_and_end(queue: list[list[tuple[str, bool]]]) -> None:
    waiting = [pending(*(a_claim(name) if write else Claim(name, 0) for name, write in claims)) for claims in queue]
    order = {id(one): place for place, one in enumerate(waiting)}
    touched: dict[str, list[tuple[int, bool]]] = {}
    rest = list(waiting)
    while rest:
        batch, rest = take_batch(rest)
        assert batch
        written: set[str] = set()
        for one in batch:
            assert written.isdisjoint(one.written) and written.isdisjoint(one.guards)
            written.update(one.written)
            for name in one.written:
                touched.setdefault(name, []).append((order[id(one)], True))
            for name in one.guards:
                touched.setdefault(name, []).append((order[id(one)], False))
    for places in touched.values():
        writes = [place for place, write in places if write]
        assert writes == sorted(writes)
        for index, (place, _) in enumerate(places):  # nobody passes a write of the same stream
            assert all(earlier < place for earlier, write in places[:index] if write)


@asynccontextmanager
async def one_batch_after_another(url: str) -> AsyncIterator[None]:
    """While the block runs, the writer's first batch waits for the append lock and everything else queues behind it."""
    async with Bridge() as bridge:
        connection = await bridge.call(asyncpg.connect, url)
        await bridge.call(connection.execute, f"select pg_advisory_lock({APPEND_LOCK})")
        try:
            yield
        finally:
            await bridge.call(connection.close)


async def verdicts(store: PostgresStore, url: str, *appends: list[Claim]) -> list[Appended | Exception]:
    """The answers of appends that are one batch of the writer."""
    answers: dict[int, Appended | Exception] = {}

    async def one(number: int, claims: list[Claim]) -> None:
        try:
            answers[number] = await store.append(claims)
        except Exception as exc:
            answers[number] = exc

    async with trio.open_nursery() as nursery, one_batch_after_another(url):
        nursery.start_soon(one, -1, [a_claim("blocker")])
        await trio.testing.wait_all_tasks_blocked(0.01)
        for number, claims in enumerate(appends):
            nursery.start_soon(one, number, claims)
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert isinstance(answers.pop(-1), Appended)
    return [answers[number] for number in range(len(appends))]


async def test_a_loser_does_not_hurt_a_winner(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store:
        await store.append([a_claim("taken", 0, 2), a_claim("lease-1", 0, 3)])
        answers = await verdicts(
            store,
            fresh_database,
            [a_claim("good", 0, 2)],
            [a_claim("taken", 0)],
            [Claim("lease-1", 2), a_claim("stale")],
            [Claim("lease-1", 3), a_claim("fresh")],
            [a_claim("multi-a"), a_claim("taken", 1), a_claim("multi-b")],
            [a_claim("last", 0, 3)],
        )
        good, taken, stale, fresh, multi, last = answers
        assert isinstance(good, Appended) and isinstance(fresh, Appended) and isinstance(last, Appended)
        assert (list(good.positions), list(fresh.positions), list(last.positions)) == ([7], [9], [10])
        assert good.recorded_at == fresh.recorded_at == last.recorded_at  # it was one batch
        losers = []
        for answer in (taken, stale, multi):
            assert isinstance(answer, WrongExpectedVersion)
            losers.append((answer.stream_id, answer.expected, answer.actual))
        assert losers == [("taken", 0, 2), ("lease-1", 2, 3), ("taken", 1, 2)]
        log = await store.read_all()
        assert [event.stream_id for event in log[6:]] == ["good", "good", "fresh", "last", "last", "last"]


async def test_appends_to_one_stream_that_queue_together_each_get_their_turn(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store:
        first, second, guard, stale = await verdicts(
            store,
            fresh_database,
            [a_claim("s")],
            [a_claim("s", 1)],
            [Claim("s", 2), a_claim("guarded")],
            [Claim("s", 1), a_claim("stale")],
        )
        assert isinstance(first, Appended) and isinstance(second, Appended) and isinstance(guard, Appended)
        assert isinstance(stale, WrongExpectedVersion) and stale.actual == 2


async def test_a_value_that_only_postgresql_refuses_fails_its_own_append(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check is switched off: what if it had a hole?"""
    monkeypatch.setattr(batch_module, "check_append", lambda claims: 100)
    async with open_postgres_store(fresh_database) as store:
        bad = NewEvent(event_id=an_event().event_id, type="T", data='{"a": "\\u0000"}')
        answers = await verdicts(
            store, fresh_database, *[[a_claim(f"s-{n}")] for n in range(5)], [Claim("bad", 0, [bad])], [a_claim("t")]
        )
        assert [type(answer) for answer in answers] == [Appended] * 5 + [InvalidEvent, Appended]
        assert await store.head() == 7


async def test_a_full_queue_makes_callers_wait_and_nothing_is_written_twice(fresh_database: str) -> None:
    settings = PostgresSettings(append_queue_max=3)
    async with open_postgres_store(fresh_database, settings=settings) as store:
        answers = await verdicts(store, fresh_database, *[[a_claim(f"s-{n}")] for n in range(20)])
        assert all(isinstance(answer, Appended) for answer in answers)
        assert await store.head() == 21


async def test_an_append_that_cannot_be_written_in_time_says_that_nothing_was_written(fresh_database: str) -> None:
    settings = PostgresSettings(append_seconds_max=0.3, lock_seconds_max=0.1)
    async with open_postgres_store(fresh_database, settings=settings) as store:
        async with one_batch_after_another(fresh_database):
            with pytest.raises(StoreUnavailable):
                await store.append([a_claim("a")])
        await store.append([a_claim("a")])
        assert await store.head() == 1


async def test_closing_flushes_what_is_queued_and_refuses_the_rest(fresh_database: str) -> None:
    written: list[Appended] = []

    async with trio.open_nursery() as nursery, open_postgres_store(fresh_database) as store:

        async def one(number: int) -> None:
            written.append(await store.append([a_claim(f"s-{number}")]))

        for number in range(50):
            nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
    assert len(written) == 50
    with pytest.raises(StoreClosed):
        await store.append([a_claim("late")])
    with pytest.raises(StoreClosed):
        await store.read_all()


async def test_a_store_that_cannot_flush_ends_within_its_deadline(fresh_database: str) -> None:
    failed: list[Exception] = []
    settings = PostgresSettings(close_seconds_max=0.2, append_seconds_max=60, lock_seconds_max=60)
    async with (
        one_batch_after_another(fresh_database),
        trio.open_nursery() as nursery,
        open_postgres_store(fresh_database, settings=settings) as store,
    ):

        async def one(name: str) -> None:
            try:
                await store.append([a_claim(name)])
            except Exception as exc:
                failed.append(exc)

        nursery.start_soon(one, "in-flight")
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(one, "queued")
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert sorted(type(exc).__name__ for exc in failed) == ["StoreClosed", "StoreTimeout"]
