"""Random faults in every place at once: the nursery stands, the log is legal, no effect is lost, same seed same log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest
import trio
from attrs import frozen

from eventstore.codec import EventCodec
from eventstore.errors import StoreTimeout, StoreUnavailable, WrongExpectedVersion
from eventstore.memory import MemoryLog
from hetuflow.actors import Crashed, GuardLost, Limits, Quarantined, RestartPolicy
from hetuflow.domain.decider import Guard
from hetuflow.domain.rejection import Rejected
from tests.actors.tally import (
    EVENTS,
    Add,
    AddOnce,
    Faults,
    FaultyStore,
    FaultyTally,
    Fill,
    Ledger,
    Open,
    Order,
    Refuse,
    State,
    Tally,
    World,
    a_world,
    running,
    tally,
)
from tests.support.simulate import log_hash, run

ANSWERS = (Crashed, Quarantined, GuardLost, WrongExpectedVersion, StoreTimeout, StoreUnavailable, Rejected)
NAMES = 8
TRANSIENT: Mapping[str, Callable[[], Exception]] = {
    "before_commit": StoreUnavailable,
    "after_commit": StoreTimeout,
    "read": StoreUnavailable,
}
BUGS: Mapping[str, Callable[[], Exception]] = {
    "before_commit": lambda: ZeroDivisionError("before"),
    "after_commit": lambda: ZeroDivisionError("after"),
    "read": lambda: ZeroDivisionError("read"),
}
PATIENT = Limits(
    warm_cells=4,
    mailbox_commands=3,
    attempts=10,
    snapshot_events=20,
    restart=RestartPolicy(intensity=50, backoff_seconds=0.5, backoff_seconds_max=1),
)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@frozen
class Result:
    log: MemoryLog
    acknowledged: Mapping[str, int]
    injected: Mapping[str, int]
    crashes: int


async def _run(seed: int, errors: Mapping[str, Callable[[], Exception]]) -> Result:
    """Two systems and 24 clients under faults, then a quiet time; checks what must hold while it is at it."""
    faults = Faults(seed, rate=0.04)
    log = MemoryLog()
    worlds = [
        a_world(
            limits=PATIENT,
            log=log,
            hooks=FaultyStore(faults, errors),
            decider=FaultyTally(faults),
            ledger=Ledger(lambda: faults.may_raise("effects")),
            seed=f"{seed}-{n}",
        )
        for n in range(2)
    ]
    acknowledged: dict[str, int] = {}
    async with running(*worlds):
        faults.on = True
        async with trio.open_nursery() as clients:
            for i in range(24):
                clients.start_soon(_client, worlds[i % 2], i, faults, acknowledged)
        faults.on = False
        await trio.sleep(10)  # commands whose askers were cancelled are still carried out
        for world in worlds:  # what the other one wrote last
            for event in log.events:
                world.system.apply_foreign(event)
        await trio.sleep(200)
        for world in worlds:
            statistics = world.system.statistics()
            assert statistics.cells <= PATIENT.warm_cells
            assert (statistics.busy, statistics.queued_commands, statistics.to_recover) == (0, 0, 0)
        names = sorted(log.streams)
        for world in worlds:
            await world.system.activate([tally(name.partition("-")[2]) for name in names])
            for name in names:
                address = tally(name.partition("-")[2])
                wanted = Tally().intents(_fold(log, name))
                assert world.ledger.standing[address] == wanted, f"effects of {name} in a system"
        crashes = sum(world.system.statistics().crashes for world in worlds)
    return Result(log, acknowledged, dict(faults.seen), crashes)


async def _client(world: World, number: int, faults: Faults, acknowledged: dict[str, int]) -> None:
    draw = faults.random
    for turn in range(15):
        await trio.sleep(draw.choice([0, 0.001, 0.01]))
        address = tally(draw.randrange(NAMES))
        key = f"{number}-{turn}"
        other = tally(f"new-{key}")
        guard = Guard(f"tally-{draw.randrange(NAMES)}", draw.randrange(4))
        command = draw.choice(
            [
                Add(1, key),
                AddOnce(key),
                Refuse(2),
                Order(turn),
                Fill(draw.randrange(15)),
                Open([other]),
                Open([], [guard]),
            ]
        )
        try:
            with trio.move_on_after(draw.choice([0.001, 100, 100])) as scope:
                await world.system.ask(address, command)
        except ANSWERS:
            continue
        if not scope.cancelled_caught and isinstance(command, (Add, AddOnce)):
            acknowledged[key] = 1


def _fold(log: MemoryLog, name: str) -> State:
    decider, codec, state = Tally(), EventCodec(EVENTS), State()
    for event in log.streams[name]:
        state = decider.evolve(state, codec.decode(event))
    return state


def check(result: Result) -> None:
    keys: list[str] = []
    for name, stream in result.log.streams.items():
        assert [event.version for event in stream] == list(range(1, len(stream) + 1))
        state = _fold(result.log, name)
        keys.extend(state.keys)
        if name.startswith("tally-new"):
            assert state.open == {7}
    assert len(set(keys)) == len(keys), "a command had two effects"
    assert set(result.acknowledged) <= set(keys), "an acknowledged command has no effect"


@pytest.mark.parametrize("errors", [TRANSIENT, BUGS], ids=["store errors", "bugs"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faults_lose_nothing_double_nothing_and_stop_nobody(
    seed: int, errors: Mapping[str, Callable[[], Exception]]
) -> None:
    result = run(seed, _run, seed, errors)
    check(result)
    for kind in ("decide", "evolve", "intents", "read", "before_commit", "after_commit", "effects"):
        assert result.injected.get(kind, 0) > 0, f"no fault of kind {kind} was reached"
    assert result.crashes > 20
    assert len(result.acknowledged) > 20


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    first, again, other = (log_hash(run(seed, _run, seed, TRANSIENT).log.events) for seed in (11, 11, 12))
    assert first == again
    assert first != other
