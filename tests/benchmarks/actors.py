"""What the kernel costs: bytes per active actor, commands per second of a trivial decider over the memory store.

The baseline is the same work without actors: a loop that decides, folds, encodes and appends.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import trio
from attrs import frozen

from eventstore.codec import EventCodec
from eventstore.event import Claim
from eventstore.memory import MemoryLog, MemoryStore
from hetuflow.actors import SYSTEM, ActorSystem, Limits
from hetuflow.actors.context import metadata_of
from hetuflow.domain.decider import NOTHING, Address, Decision, Intent
from hetuflow.ports.real import SystemClock, SystemIds

ACTORS = 10_000
COMMANDS = 20_000
CLIENTS = 16


@frozen(slots=True, kw_only=True)
class Counted:
    amount: int


@frozen(slots=True)
class Count:
    amount: int


class Counter:
    category = "counter"
    initial = 0

    def decide(self, command: Count, state: int, now: datetime) -> Decision:
        return Decision([Counted(amount=command.amount)]) if command.amount else NOTHING

    def evolve(self, state: int, event: Counted) -> int:
        return state + event.amount

    def intents(self, state: int) -> frozenset[Intent]:
        return frozenset()


class NoEffects:
    def reconcile(self, address: Address, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None: ...


CODEC = EventCodec({"Counted": Counted})


def _system(log: MemoryLog, limits: Limits) -> ActorSystem:
    store = MemoryStore(lambda: datetime.now(UTC), log=log)
    return ActorSystem(store, CODEC, {"counter": Counter()}, NoEffects(), SystemClock(), SystemIds(), limits)


async def measure() -> dict[str, float]:
    """Figures by name: `actor_bytes`, rates per second, and microseconds per command."""
    bare = await _rate(_bare_loop)
    log = MemoryLog()
    async with trio.open_nursery() as nursery:
        system = _system(log, Limits(warm_cells=2 * ACTORS))
        await nursery.start(system.run)
        for i in range(ACTORS):
            await system.ask(_address(i), Count(1))
        alone = await _rate(lambda count: _client(system, 0, count, 1))
        together = await _rate(lambda count: _clients(system, count, 1))
        verified = await _rate(lambda count: _clients(system, count, 0))
        nursery.cancel_scope.cancel()
    return {
        "actor_bytes": await _actor_bytes(log),
        "commands_per_second": together,
        "commands_per_second_one_client": alone,
        "unchanged_per_second": verified,
        "bare_loop_per_second": bare,
        "ratio_to_bare_loop": together / bare,
        "microseconds_over_bare_loop": (1 / together - 1 / bare) * 1e6,
    }


def _address(i: int) -> Address:
    return Address("counter", str(i % ACTORS))


async def _client(system: ActorSystem, first: int, count: int, amount: int) -> None:
    command = Count(amount)
    for i in range(first, first + count):
        await system.ask(_address(i), command)


async def _clients(system: ActorSystem, count: int, amount: int) -> None:
    share = count // CLIENTS
    async with trio.open_nursery() as nursery:
        for i in range(CLIENTS):
            nursery.start_soon(_client, system, i * share, share, amount)


async def _bare_loop(count: int) -> None:
    store = MemoryStore(lambda: datetime.now(UTC))
    decider, clock, ids = Counter(), SystemClock(), SystemIds()
    states: list[int] = [0] * ACTORS
    versions = [0] * ACTORS
    for i in range(count):
        place = i % ACTORS
        decision = decider.decide(Count(1), states[place], clock.now())
        state = states[place]
        for event in decision.events:
            state = decider.evolve(state, event)
        decider.intents(state)
        metadata = metadata_of(SYSTEM, ids)
        events = [CODEC.encode(event, ids.uuid7(), metadata) for event in decision.events]
        await store.append([Claim(f"counter-{place}", versions[place], events)])
        states[place], versions[place] = state, versions[place] + len(events)


async def _rate(work: Callable[[int], Awaitable[Any]]) -> float:
    """Per second of processor time, the best of three: nothing here waits, and the machine may be busy with others."""
    best = 0.0
    for _ in range(3):
        began = time.process_time()
        await work(COMMANDS)
        best = max(best, COMMANDS / (time.process_time() - began))
    return best


async def _actor_bytes(log: MemoryLog) -> float:
    """Memory of an active actor (cell, address and its place among the warm ones), without its events in the log."""
    async with trio.open_nursery() as nursery:
        system = _system(log, Limits(warm_cells=2 * ACTORS))
        await nursery.start(system.run)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for i in range(ACTORS):
            await system.read(_address(i))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert system.statistics().cells == ACTORS
        nursery.cancel_scope.cancel()
    return (after - before) / ACTORS


if __name__ == "__main__":
    for name, figure in trio.run(measure).items():
        print(f"{name:34} {figure:12.1f}")
