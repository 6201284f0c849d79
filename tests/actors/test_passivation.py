"""Idle actors beyond the limit are forgotten; long streams leave a snapshot behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventstore.event import Snapshot
from hetuflow.actors import Limits
from tests.actors.tally import Add, Deliver, Fill, Gate, Order, Tally, World, a_world, running, tally


class Plain(Tally):
    """Without a snapshot codec."""

    state_schema = None  # type: ignore[assignment]
    dump_state = None  # type: ignore[assignment]


async def test_the_least_recently_used_idle_actor_is_forgotten_first(autojump_clock: object) -> None:
    world = a_world(limits=Limits(warm_cells=3))
    async with running(world):
        for name in ("a", "b", "c", "a", "d"):
            await world.system.ask(tally(name), Add())
        assert world.system.statistics().cells == 3
        before = world.system.statistics().activations
        for name in ("a", "c", "d"):
            await world.system.read(tally(name))
        assert world.system.statistics().activations == before
        await world.system.read(tally("b"))
        assert world.system.statistics().activations == before + 1


async def test_a_busy_actor_is_not_forgotten(autojump_clock: object) -> None:
    gate = Gate()
    world = a_world(limits=Limits(warm_cells=2))
    async with running(world), trio.open_nursery() as nursery:
        await world.system.ask(tally("busy"), Add())
        world.store.hooks = gate
        nursery.start_soon(world.system.ask, tally("busy"), Add())
        await wait_all_tasks_blocked()
        for i in range(5):
            await world.system.read(tally(i))
        assert world.system.statistics().cells == 2
        gate.opened.set()
        await wait_all_tasks_blocked()
        assert (await world.system.read(tally("busy"))).version == 2
    assert world.log.version("tally-busy") == 2


async def test_effects_of_a_forgotten_actor_stand_and_are_withdrawn_exactly(autojump_clock: object) -> None:
    world = a_world(limits=Limits(warm_cells=1))
    async with running(world):
        await world.system.ask(tally("a"), Order(1))
        await world.system.ask(tally("b"), Add())
        assert world.ledger.standing[tally("a")] == {Deliver(1)}
        await world.system.ask(tally("a"), Fill(1))
    assert world.ledger.calls == [(tally("a"), (Deliver(1),), ()), (tally("a"), (), (Deliver(1),))]


async def grown(world: World, events: int) -> None:
    for _ in range(events):
        await world.system.ask(tally("long"), Add(1, "k"))
    await world.system.ask(tally("other"), Add())  # pushes it out
    await wait_all_tasks_blocked()


async def test_a_long_stream_leaves_a_snapshot_and_is_folded_from_it(autojump_clock: object) -> None:
    limits = Limits(warm_cells=1, snapshot_events=50)
    world = a_world(limits=limits)
    async with running(world):
        await grown(world, 49)
        assert world.log.snapshots == {}
        await grown(world, 1)
        kept = world.log.snapshots["tally-long", 1]
        assert kept.version == 50
        await world.system.ask(tally("long"), Add())
        await grown(world, 0)  # one event more: not worth another
        assert world.log.snapshots["tally-long", 1] is kept
    later = a_world(limits=limits, log=world.log)
    reads: list[tuple[str, int]] = []
    real_read = later.store.read_stream

    async def read_stream(stream_id: str, *, after_version: int = 0) -> object:
        reads.append((stream_id, after_version))
        return await real_read(stream_id, after_version=after_version)

    later.store.read_stream = read_stream  # type: ignore[method-assign, assignment]
    async with running(later):
        reading = await later.system.read(tally("long"))
    assert (reading.version, reading.state.total) == (51, 51)
    assert reads == [("tally-long", 49)]
    assert reading.position == world.log.streams["tally-long"][-1].position


async def test_folding_with_and_without_snapshots_gives_the_same_state(autojump_clock: object) -> None:
    world = a_world(limits=Limits(warm_cells=1, snapshot_events=10))
    async with running(world):
        for i in range(40):
            await world.system.ask(tally("long"), Order(i) if i % 3 else Add(i))
            if i % 7 == 0:
                await grown(world, 0)
        assert world.log.snapshots["tally-long", 1].version >= 10
    seen = []
    for decider in (Tally(), Plain()):
        other = a_world(log=world.log, decider=decider)
        async with running(other):
            seen.append(await other.system.read(tally("long")))
            assert (other.system.statistics().cells, other.ledger.standing[tally("long")]) == (
                1,
                world.ledger.standing[tally("long")],
            )
    assert seen[0] == seen[1]


async def test_a_decider_without_a_codec_leaves_no_snapshot(autojump_clock: object) -> None:
    world = a_world(limits=Limits(warm_cells=1, snapshot_events=5), decider=Plain())
    async with running(world):
        await grown(world, 20)
        assert world.log.snapshots == {}


@pytest.mark.parametrize(
    "bad", [Snapshot(stream_id="tally-a", schema=1, version=1, state="garbage"),
            Snapshot(stream_id="tally-a", schema=1, version=9, state='{"total": 99}')],
    ids=["unreadable", "beyond the log"],
)  # fmt: skip
async def test_a_useless_snapshot_is_ignored(bad: Snapshot, autojump_clock: object) -> None:
    world = a_world()
    world.log.snapshots["tally-a", 1] = bad
    async with running(world):
        await world.system.ask(tally("a"), Add(2))
    later = a_world(log=world.log)
    async with running(later):
        assert (await later.system.read(tally("a"))).state.total == 2


async def test_activation_performs_the_intents_of_many_without_keeping_them_warm(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        for i in range(100):
            await world.system.ask(tally(i), Order(i))
    later = a_world(log=world.log, limits=Limits(warm_cells=20, chunk_streams=16))
    async with running(later):
        assert await later.system.activate([tally(i) for i in range(100)]) == []
        assert {a: set(s) for a, s in later.ledger.standing.items()} == {tally(i): {Deliver(i)} for i in range(100)}
        statistics = later.system.statistics()
        assert statistics.cells <= 20
        assert statistics.actors_with_intents == 100
        assert await later.system.activate([tally(i) for i in range(100)]) == []
    assert len(later.ledger.calls) == 100  # nothing was performed twice
