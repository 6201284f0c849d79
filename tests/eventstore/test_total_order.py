"""Several processes write, one reads the tail: no gap, no disorder, nothing missed, nothing twice."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from eventstore.event import RecordedEvent
from eventstore.postgres import PostgresSettings, PostgresStore, open_postgres_store
from tests.eventstore.builders import a_claim

ROOT = Path(__file__).parents[2]
WRITERS, APPENDS = 3, 100


async def test_a_tailing_reader_misses_nothing_while_processes_race(fresh_database: str) -> None:
    tail: list[RecordedEvent] = []
    subscribed: list[int] = []
    conflicts: list[int] = []
    async with open_postgres_store(fresh_database) as store:
        done = trio.Event()

        async def read_the_tail() -> None:
            while True:
                finished = done.is_set()
                events = await store.read_all(after=tail[-1].position if tail else 0, limit=50)
                tail.extend(events)
                if finished and not events:
                    return

        async def subscribe(task_status: trio.TaskStatus[None]) -> None:
            async with store.subscribe(after=0, buffer_events=20) as batches:
                task_status.started()
                async for batch in batches:
                    subscribed.extend(event.position for event in batch)

        async def write_here() -> None:
            """Local publications between the foreign events: the subscription must put them in order."""
            version = 0
            while len(conflicts) < WRITERS:
                await store.append([a_claim("local", version)])
                version += 1

        async def process(name: str) -> None:
            command = [sys.executable, "-m", "tests.eventstore.writer_process", fresh_database, name, str(APPENDS)]
            ended = await trio.run_process(command, cwd=ROOT, capture_stdout=True)
            conflicts.append(int(ended.stdout))

        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                await nursery.start(subscribe)
                nursery.start_soon(read_the_tail)
                async with trio.open_nursery() as writers:
                    writers.start_soon(write_here)
                    for number in range(WRITERS):
                        writers.start_soon(process, f"writer-{number}")
                done.set()
                await _until_caught_up(store, subscribed)
                nursery.cancel_scope.cancel()
        log = [event for start in range(0, await store.head(), 1000) for event in await store.read_all(after=start)]

    assert sum(conflicts) > 0, "the processes did not race"
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    assert tail == log[: len(tail)] and len(tail) >= sum(event.type == "Written" for event in log)
    assert subscribed == [event.position for event in log]
    versions: dict[str, int] = {}
    for event in log:
        assert event.version == versions.get(event.stream_id, 0) + 1
        versions[event.stream_id] = event.version
    assert len({event.event_id for event in log}) == len(log)
    assert [event.recorded_at for event in log] == sorted(event.recorded_at for event in log)


async def _until_caught_up(store: PostgresStore, subscribed: list[int]) -> None:
    while not subscribed or subscribed[-1] < await store.head():
        await trio.lowlevel.checkpoint()


async def test_local_and_foreign_events_reach_a_subscriber_in_order(fresh_database: str) -> None:
    """Another store appends between two of ours: ours must not arrive first."""
    async with (
        open_postgres_store(fresh_database) as ours,
        open_postgres_store(fresh_database) as theirs,
        ours.subscribe(after=0) as batches,
    ):
        for n in range(10):
            await ours.append([a_claim("ours", n)])
            await theirs.append([a_claim("theirs", 2 * n, 2)])
            await ours.append([a_claim("again", n)])
        seen: list[int] = []
        with trio.fail_after(20):
            async for batch in batches:
                seen.extend(event.position for event in batch)
                if len(seen) == 40:
                    break
    assert seen == list(range(1, 41))


async def test_a_hint_wakes_a_subscriber_before_the_poll_does(fresh_database: str) -> None:
    async with (
        open_postgres_store(fresh_database, settings=PostgresSettings(poll_seconds=3600)) as ours,
        open_postgres_store(fresh_database) as theirs,
        ours.subscribe(after=0) as batches,
    ):
        with trio.fail_after(20):
            while not ours._notifications.connections:
                await trio.lowlevel.checkpoint()
            await theirs.append([a_claim("theirs")])
            assert [event.position for event in await anext(batches)] == [1]


async def test_the_hot_path_makes_no_query_for_local_subscribers(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store, store.subscribe(after=0) as batches:
        for n in range(20):
            await store.append([a_claim("a", n)])
            assert [event.position for event in await anext(batches)] == [n + 1]
        assert batches.history_reads == 0  # type: ignore[attr-defined]
