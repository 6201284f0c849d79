"""The promises of `EventStore`, on every store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
import trio

from eventstore.errors import InvalidEvent, WrongExpectedVersion
from eventstore.event import EVENT_BYTES_MAX, Appended, Claim, NewEvent, RecordedEvent, Snapshot
from eventstore.store import EventFilter, EventStore
from tests.eventstore.builders import a_claim, an_event, some_events


def versions(events: Sequence[RecordedEvent]) -> list[int]:
    return [event.version for event in events]


def positions(events: Sequence[RecordedEvent]) -> list[int]:
    return [event.position for event in events]


async def test_what_was_appended_is_read_back_with_its_place(store: EventStore) -> None:
    event = an_event("TaskCreated", data={"name": "naïve \U0001f600", "n": [1, 2.5, None]}, metadata={"principal": "x"})
    appended = await store.append([Claim("task-1", 0, [event])])
    (recorded,) = await store.read_stream("task-1")
    assert (recorded.position, recorded.version, recorded.schema) == (1, 1, 1)
    assert (recorded.stream_id, recorded.category, recorded.type) == ("task-1", "task", "TaskCreated")
    assert recorded.event_id == event.event_id and type(recorded.event_id) is UUID
    assert msgspec.json.decode(recorded.data) == {"name": "naïve \U0001f600", "n": [1, 2.5, None]}
    assert msgspec.json.decode(recorded.metadata) == {"principal": "x"}
    assert recorded.recorded_at == appended.recorded_at
    assert recorded.recorded_at.utcoffset() == timedelta(0)
    assert (appended.position, list(appended.positions)) == (1, [1])


async def test_an_empty_store_has_head_zero_and_no_streams(store: EventStore) -> None:
    assert await store.head() == 0
    assert await store.read_stream("nobody") == []
    assert await store.read_streams(["nobody"]) == {}
    assert await store.read_all() == []


async def test_positions_are_contiguous_over_claims_and_appends(store: EventStore) -> None:
    first = await store.append([a_claim("a", 0, 3)])
    second = await store.append([a_claim("b", 0, 2), Claim("a", 3), a_claim("c", 0, 4)])
    assert (first.position, list(first.positions)) == (3, [1])
    assert (second.position, list(second.positions)) == (9, [4, 6])
    assert positions(await store.read_all()) == list(range(1, 10))
    assert await store.head() == 9


async def test_time_never_falls(store: EventStore) -> None:
    for version in range(5):
        await store.append([a_claim("a", version)])
    times = [event.recorded_at for event in await store.read_all()]
    assert times == sorted(times)


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_append_with_a_wrong_version_reports_both_versions_and_writes_nothing(
    store: EventStore, expected: int
) -> None:
    await store.append([a_claim("a", 0, 2)])
    with pytest.raises(WrongExpectedVersion) as refused:
        await store.append([a_claim("new"), a_claim("a", expected)])
    assert (refused.value.stream_id, refused.value.expected, refused.value.actual) == ("a", expected, 2)
    assert await store.head() == 2
    assert await store.read_stream("new") == []


async def test_the_first_losing_claim_is_reported(store: EventStore) -> None:
    await store.append([a_claim("b"), a_claim("a")])
    for order in itertools.permutations(["a", "b", "c"]):
        with pytest.raises(WrongExpectedVersion) as refused:
            await store.append([Claim("free", 0), *(a_claim(name, 7) for name in order)])
        assert refused.value.stream_id == order[0]
        assert refused.value.actual == (0 if order[0] == "c" else 1)


async def test_a_guard_refuses_when_its_stream_moved_and_writes_nothing_itself(store: EventStore) -> None:
    await store.append([a_claim("lease-7")])
    appended = await store.append([Claim("lease-7", 1), a_claim("task-1")])
    assert list(appended.positions) == [2]
    await store.append([a_claim("lease-7", 1)])
    with pytest.raises(WrongExpectedVersion) as refused:
        await store.append([a_claim("task-1", 1), Claim("lease-7", 1)])
    assert (refused.value.stream_id, refused.value.actual) == ("lease-7", 2)
    assert versions(await store.read_stream("lease-7")) == [1, 2]


async def test_of_several_appends_each_is_answered_for_itself(store: EventStore) -> None:
    """One that loses, one that cannot be kept, one that happened before: the others are written all the same."""
    again = [a_claim("again", 0, 2)]
    before = await store.append(again)
    await store.append([a_claim("lease", 0)])
    answers = await store.append_each(
        [
            [a_claim("a", 0, 2), Claim("lease", 1)],
            [a_claim("b", 3)],
            [Claim("c", 0, [an_event(data={"text": "\0"})])],
            again,
            [a_claim("d"), Claim("lease", 7)],
            [a_claim("e"), Claim("lease", 1)],
        ]
    )
    won, lost, unkeepable, repeated, guarded, last = answers
    assert isinstance(won, Appended) and len(won.positions) == 1
    assert isinstance(lost, WrongExpectedVersion) and (lost.stream_id, lost.actual) == ("b", 0)
    assert isinstance(unkeepable, InvalidEvent)
    assert isinstance(repeated, Appended) and list(repeated.positions) == list(before.positions)
    assert isinstance(guarded, WrongExpectedVersion) and (guarded.stream_id, guarded.actual) == ("lease", 1)
    assert isinstance(last, Appended) and last.position == await store.head() == 6
    assert versions(await store.read_stream("a")) == [1, 2]
    assert not (set(await store.read_streams(["b", "c", "d"])))


async def test_of_two_appends_to_one_stream_the_first_wins(store: EventStore) -> None:
    first, second, then = await store.append_each([[a_claim("a")], [a_claim("a")], [a_claim("a", 1)]])
    assert isinstance(first, Appended) and isinstance(then, Appended)
    assert isinstance(second, WrongExpectedVersion) and second.actual >= 1
    assert await store.append_each([]) == []


async def test_guards_alone_answer_the_head(store: EventStore) -> None:
    await store.append([a_claim("a", 0, 3)])
    appended = await store.append([Claim("a", 3), Claim("never", 0)])
    assert (appended.position, list(appended.positions)) == (3, [])
    with pytest.raises(WrongExpectedVersion):
        await store.append([Claim("a", 2)])


async def test_the_same_append_again_is_the_same_success(store: EventStore) -> None:
    await store.append([a_claim("before")])
    claims = [a_claim("a", 0, 2), Claim("guard", 0), a_claim("b", 0, 1)]
    first = await store.append(claims)
    await store.append([a_claim("a", 2), a_claim("guard")])  # the world went on, the guard does not hold any more
    again = await store.append(claims)
    assert (again.position, list(again.positions)) == (first.position, list(first.positions))
    assert again.recorded_at == first.recorded_at
    assert await store.head() == 6


async def test_an_append_that_happened_in_part_only_is_a_conflict(store: EventStore) -> None:
    mine = some_events(2)
    await store.append([Claim("a", 0, mine)])
    for claims in (
        [Claim("a", 0, [*mine, an_event()])],
        [Claim("a", 0, mine[::-1])],
        [Claim("a", 0, mine), a_claim("b")],
        [Claim("a", 1, mine)],
    ):
        with pytest.raises(WrongExpectedVersion) as refused:
            await store.append(claims)
        assert (refused.value.stream_id, refused.value.actual) == ("a", 2)
    assert await store.head() == 2


async def test_a_prefix_of_what_was_appended_counts_as_happened(store: EventStore) -> None:
    """Same ids at the same versions: the store cannot tell, and need not."""
    mine = some_events(3)
    await store.append([Claim("a", 0, mine)])
    assert (await store.append([Claim("a", 0, mine[:2])])).position == 2


@pytest.mark.parametrize(
    "event",
    [
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": "\\u0000"}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": "\\ud800"}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": "\\udc00\\ud800"}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": "\ud800"}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": NaN}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": 1'),
        NewEvent(event_id=UUID(int=1), type="T", data="[1]"),
        NewEvent(event_id=UUID(int=1), type="T", data="{}", metadata="null"),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": "' + "x" * EVENT_BYTES_MAX + '"}'),
        NewEvent(event_id=UUID(int=1), type="T", data='{"a": 1e200000}'),
        NewEvent(event_id=UUID(int=1), type="", data="{}"),
        NewEvent(event_id=UUID(int=1), type="a\nb", data="{}"),
        NewEvent(event_id=UUID(int=1), type="T", schema=0, data="{}"),
        NewEvent(event_id=UUID(int=1), type="T", schema=70_000, data="{}"),
    ],
)
async def test_what_cannot_be_stored_is_refused(store: EventStore, event: NewEvent) -> None:
    with pytest.raises(InvalidEvent):
        await store.append([a_claim("good"), Claim("bad", 0, [event])])
    assert await store.head() == 0


@pytest.mark.parametrize(
    "claims",
    [
        [],
        [Claim("a", 0), a_claim("a")],
        [a_claim("")],
        [a_claim("x" * 301)],
        [a_claim("a\x00")],
        [a_claim("a\x1fb")],
        [a_claim("\ud800")],
        [a_claim("a", -1)],
        [a_claim("a", 2**31)],
    ],
)
async def test_a_malformed_append_is_refused(store: EventStore, claims: list[Claim]) -> None:
    with pytest.raises(InvalidEvent):
        await store.append(claims)


@pytest.mark.parametrize("text", ["\\\\u0000", "\\ud83d\\ude00", "\\u00e9", "\\\\\\\\ud800", "x" * 200_000])
async def test_escapes_that_look_alike_are_stored(store: EventStore, text: str) -> None:
    data = f'{{"a": "{text}"}}'
    await store.append([Claim("a", 0, [NewEvent(event_id=UUID(int=1), type="T", data=data)])])
    (recorded,) = await store.read_stream("a")
    assert msgspec.json.decode(recorded.data) == msgspec.json.decode(data)


async def test_a_stream_is_read_after_a_version_and_until_a_position(store: EventStore) -> None:
    for version in range(4):
        await store.append([a_claim("a", version), a_claim("b", version)])
    assert versions(await store.read_stream("a", after_version=2)) == [3, 4]
    assert positions(await store.read_stream("b", until_position=6)) == [2, 4, 6]
    assert await store.read_stream("a", after_version=4) == []
    assert await store.read_stream("a", until_position=0) == []


async def test_several_streams_are_read_at_once(store: EventStore) -> None:
    await store.append([a_claim("a", 0, 2), a_claim("b"), a_claim("c", 0, 3)])
    streams = await store.read_streams(["c", "nobody", "a"])
    assert list(streams) == ["c", "a"]
    assert [versions(events) for events in streams.values()] == [[1, 2, 3], [1, 2]]


async def test_the_log_is_paged_in_both_directions(store: EventStore) -> None:
    await store.append([a_claim("a", 0, 10)])
    assert positions(await store.read_all(after=3, limit=3)) == [4, 5, 6]
    assert positions(await store.read_all(after=3, before=6)) == [4, 5]
    assert positions(await store.read_all(before=9, limit=3, descending=True)) == [8, 7, 6]
    assert positions(await store.read_all(limit=2, descending=True)) == [10, 9]
    assert await store.read_all(after=10) == []


async def test_starts_within_a_rate_are_found_by_their_job(store: EventStore) -> None:
    rate = {"count": 1, "per_seconds": 5}
    jobs: list[tuple[str, object]] = [("j1", rate), ("j2", rate), ("j1", None), ("j1", rate)]
    for n, (job, of) in enumerate(jobs):
        await store.append([Claim(f"task-{n}", 0, [an_event("TaskDispatched", data={"job_id": job, "rate": of})])])
    await store.append([Claim("task-9", 0, [an_event("TaskCreated", data={"job_id": "j1", "rate": rate})])])
    page = await store.read_all(where=EventFilter(rated_job_id="j1"), descending=True, limit=5)
    assert positions(page) == [4, 1]
    assert positions(await store.read_all(where=EventFilter(rated_job_id="j1"), descending=True, before=4)) == [1]
    assert await store.read_all(where=EventFilter(rated_job_id="nobody")) == []


async def test_the_log_is_filtered(store: EventStore) -> None:
    await store.append([Claim("task-1", 0, [an_event("A", metadata={"correlation_id": "x"}), an_event("B")])])
    await store.append(
        [Claim("external-s3", 0, [an_event("E", data={"type": "put"}), an_event("E", data={"type": "del"})])]
    )
    await store.append([Claim("task-2", 0, [an_event("A", data={"type": "put"}), an_event("C")])])
    everything = await store.read_all()

    async def found(**conditions: object) -> list[int]:
        return positions(await store.read_all(where=EventFilter(**conditions)))  # type: ignore[arg-type]

    assert await found() == [1, 2, 3, 4, 5, 6]
    assert await found(stream_id="task-2") == [5, 6]
    assert await found(stream_id="nobody") == []
    assert await found(category="task") == [1, 2, 5, 6]
    assert await found(category="tas") == []
    assert await found(types=["A", "C"]) == [1, 5, 6]
    assert await found(types=["A"], category="task", stream_id="task-1") == [1]
    assert await found(event_type="put") == [3]
    assert await found(correlation_id="x") == [1]
    assert await found(recorded_from=everything[2].recorded_at) == [
        event.position for event in everything if event.recorded_at >= everything[2].recorded_at
    ]
    assert await found(recorded_until=everything[2].recorded_at - timedelta(microseconds=1)) == [
        event.position for event in everything if event.recorded_at < everything[2].recorded_at
    ]
    page = await store.read_all(where=EventFilter(category="task"), descending=True, limit=2, before=6)
    assert positions(page) == [5, 2]


async def test_snapshots_keep_the_newest_of_each_schema(store: EventStore) -> None:
    def a_snapshot(schema: int, version: int) -> Snapshot:
        return Snapshot(stream_id="a", schema=schema, version=version, state=f'{{"v": {version}}}')

    assert await store.load_snapshot("a", 1) is None
    for snapshot in (a_snapshot(1, 5), a_snapshot(1, 3), a_snapshot(2, 4)):
        await store.save_snapshot(snapshot)
    first, second = await store.load_snapshot("a", 1), await store.load_snapshot("a", 2)
    assert first is not None and second is not None
    assert (first.version, second.version) == (5, 4)
    assert msgspec.json.decode(first.state) == {"v": 5}
    assert await store.load_snapshot("a", 3) is None


async def test_a_subscription_delivers_history_then_live_events_once_in_order(store: EventStore) -> None:
    await store.append([a_claim("a", 0, 5)])
    seen: list[RecordedEvent] = []
    with trio.fail_after(20):
        async with store.subscribe(after=2) as batches, trio.open_nursery() as nursery:
            nursery.start_soon(_append_singly, store, 20)
            async for batch in batches:
                assert batch
                seen.extend(batch)
                if len(seen) == 23:
                    break
    assert positions(seen) == list(range(3, 26))
    assert [event.event_id for event in seen] == [event.event_id for event in await store.read_all(after=2)]


async def _append_singly(store: EventStore, count: int) -> None:
    for version in range(count):
        await store.append([a_claim("live", version)])


@pytest.mark.parametrize("buffer_events", [1, 7, 1000])
async def test_a_slow_consumer_falls_back_to_history_and_misses_nothing(store: EventStore, buffer_events: int) -> None:
    seen: list[int] = []
    with trio.fail_after(20):
        async with store.subscribe(after=0, buffer_events=buffer_events) as batches:
            for version in range(10):
                await store.append([a_claim("a", 3 * version, 3)])
            async for batch in batches:
                seen.extend(positions(batch))
                if len(seen) == 30:
                    break
            await store.append([a_claim("b", 0, 2)])
            async for batch in batches:
                seen.extend(positions(batch))
                if len(seen) == 32:
                    break
    assert seen == list(range(1, 33))


async def test_a_cancelled_append_is_whole_or_absent(store: EventStore) -> None:
    for number in range(20):
        with trio.move_on_after(0.0005 * number):
            await store.append([a_claim(f"s-{number}", 0, 3), a_claim(f"t-{number}", 0, 2)])
    await store.append([a_claim("last")])
    for number in range(20):
        streams = await store.read_streams([f"s-{number}", f"t-{number}"])
        assert [len(events) for events in streams.values()] in ([], [3, 2])
    assert positions(await store.read_all()) == list(range(1, await store.head() + 1))


async def test_concurrent_appends_to_one_stream_have_one_winner_each(store: EventStore) -> None:
    won: list[str] = []

    async def compete(name: str) -> None:
        for version in range(10):
            try:
                await store.append([a_claim("shared", version)])
                won.append(name)
            except WrongExpectedVersion as lost:
                assert lost.actual > version

    async with trio.open_nursery() as nursery:
        for name in "abcde":
            nursery.start_soon(compete, name)
    assert len(won) == 10
    assert versions(await store.read_stream("shared")) == list(range(1, 11))
