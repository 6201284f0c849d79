"""Two servers, two actors, a handful of commands: every schedule of them that hypothesis finds ends in the same place.

Asks, foreign events that come late, out of order or twice, and askers who give up, all at once; hypothesis draws the
commands, the delays of the store, and trio's schedule.
"""

from __future__ import annotations

import random
from functools import reduce

import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.codec import EventCodec
from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.memory import MemoryLog
from hetuflow.actors import Limits
from hetuflow.domain.decider import Address
from tests.actors.tally import (
    EVENTS,
    Add,
    AddOnce,
    Deliver,
    Faults,
    FaultyStore,
    Fill,
    Open,
    Order,
    State,
    Tally,
    World,
    a_world,
    running,
    tally,
)
from tests.support.scheduling import run_scheduled

COMMANDS = st.one_of(
    st.builds(Add, st.integers(1, 3)),
    st.builds(AddOnce, st.sampled_from(["k", "l"])),
    st.builds(Order, st.integers(1, 2)),
    st.builds(Fill, st.integers(1, 2)),
    st.just(Open([tally("c")])),
)


@frozen
class Step:
    """One asker. `gives_up`: cancelled so many seconds after it began."""

    server: int
    actor: str
    command: object
    gives_up: float | None


STEPS = st.lists(
    st.builds(
        Step,
        st.integers(0, 1),
        st.sampled_from("ab"),
        COMMANDS,
        st.one_of(st.none(), st.sampled_from([0.0, 0.001, 0.003])),
    ),
    min_size=2,
    max_size=7,
)


def folded(log: MemoryLog, address: Address) -> State:
    codec, decider = EventCodec(EVENTS), Tally()
    return reduce(decider.evolve, (codec.decode(each) for each in log.streams.get(address.stream_id, [])), State())


async def asked(world: World, step: Step, answered: list[Step]) -> None:
    deadline = float("inf") if step.gives_up is None else trio.current_time() + step.gives_up
    with trio.move_on_at(deadline):
        try:
            await world.system.ask(tally(step.actor), step.command)
        except Exception:
            return  # refused, or unknown: the log says which
        answered.append(step)


async def tell(world: World, log: MemoryLog, draw: random.Random) -> None:
    """The subscription of one server: late, in pieces, now and then something again."""
    told = 0
    while True:
        await trio.sleep(draw.choice([0, 0.001, 0.004]))
        begin = max(0, told - draw.choice([0, 0, 2]))
        for event in log.events[begin:]:
            world.system.apply_foreign(event)
        told = len(log.events)


async def play(steps: list[Step], seed: int, rate: float) -> None:
    faults = Faults(seed, rate)
    errors = {"before_commit": StoreUnavailable, "after_commit": StoreTimeout, "read": StoreUnavailable}
    log, limits = MemoryLog(), Limits(warm_cells=1 + seed % 3, retry_seconds=0.01)
    worlds = [a_world(log=log, hooks=FaultyStore(faults, errors), limits=limits, seed=n) for n in range(2)]
    answered: list[Step] = []
    async with running(*worlds), trio.open_nursery() as telling:
        for number, world in enumerate(worlds):
            telling.start_soon(tell, world, log, random.Random(f"{seed} {number}"))
        faults.on = True
        async with trio.open_nursery() as asking:
            for step in steps:
                asking.start_soon(asked, worlds[step.server], step, answered)
        faults.on = False
        await trio.sleep(5)
        for name in ("a", "b", "c"):
            expected = folded(log, tally(name))
            for world in worlds:
                reading = await world.system.read(tally(name))
                assert (reading.state, reading.version) == (expected, log.version(f"tally-{name}"))
                wanted = {Deliver(number) for number in expected.open} if reading.version else set()
                standing = world.ledger.standing[tally(name)]
                assert standing == wanted or (not standing and tally(name) not in world.ledger.standing), name
            check_adds(name, steps, answered, expected)
        assert [world.system.statistics().to_recover for world in worlds] == [0, 0]
        telling.cancel_scope.cancel()


def check_adds(name: str, steps: list[Step], answered: list[Step], state: State) -> None:
    """What was acknowledged is there, and nothing is there twice."""

    def adds(chosen: list[Step]) -> int:
        return sum(
            step.command.amount
            for step in chosen
            if step.actor == name and isinstance(step.command, (Add, Open)) and step.command.amount
        )

    keys = len(state.keys)
    assert len(set(state.keys)) == keys, "AddOnce had two effects"
    if name != "c":
        assert adds(answered) <= state.total - keys <= adds(steps)
    else:
        assert state.total <= 1


@settings(max_examples=25)
@given(STEPS, st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.3]), st.random_module())
def test_every_schedule_ends_where_the_log_says(steps: list[Step], seed: int, rate: float, schedule: object) -> None:
    run_scheduled(play, steps, seed, rate)


@given(st.random_module())
@settings(max_examples=25)
def test_hypothesis_draws_the_schedule(schedule: object) -> None:
    """Two runs of one example have one schedule; `orders` shows that not all examples have the same."""
    import trio._core._run as trio_run

    state = trio_run._r.getstate()
    first = run_scheduled(order_of_tasks)
    trio_run._r.setstate(state)
    assert run_scheduled(order_of_tasks) == first
    orders.add(first)


orders: set[tuple[int, ...]] = set()


def test_the_examples_had_different_schedules() -> None:
    assert not orders or len(orders) > 1


async def order_of_tasks() -> tuple[int, ...]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(note, number)
    return tuple(order)
