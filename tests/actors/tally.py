"""A small actor to try the kernel with, and what is needed to run it: a count, open orders, and other tallies opened."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs
import msgspec
import trio
from attrs import Factory, frozen

from eventstore.codec import EventCodec
from eventstore.event import Appended, Claim
from eventstore.memory import Hooks, MemoryLog, MemoryStore, NoFaults
from hetuflow.actors import ActorSystem, Limits
from hetuflow.domain.decider import NOTHING, Address, Decision, Guard, Intent
from hetuflow.domain.rejection import Rejected
from tests.support.ports import SeededIds, TrioClock


@frozen(slots=True, kw_only=True)
class Added:
    amount: int
    key: str = ""


@frozen(slots=True, kw_only=True)
class Ordered:
    number: int


@frozen(slots=True, kw_only=True)
class Filled:
    number: int


@frozen(slots=True, kw_only=True)
class Poisoned:
    """An event that no state can follow."""


@frozen(slots=True)
class Deliver(Intent):
    number: int


@frozen(slots=True)
class Add:
    amount: int = 1
    key: str = ""


@frozen(slots=True)
class AddOnce:
    """No change when the key is known."""

    key: str


@frozen(slots=True)
class Refuse:
    """Rejected while the total is below `total`."""

    total: int


@frozen(slots=True)
class Order:
    number: int


@frozen(slots=True)
class Fill:
    number: int


@frozen(slots=True)
class Open:
    """Add 1 here and open another tally with an order, guarded."""

    others: Sequence[Address]
    guards: Sequence[Guard] = ()
    amount: int = 1


@frozen(slots=True)
class Explode:
    where: str


@frozen(slots=True)
class State:
    total: int = 0
    keys: tuple[str, ...] = ()
    open: frozenset[int] = frozenset()
    fuse: str = ""


class Tally:
    """The decider."""

    category = "tally"
    initial = State()
    state_schema = 1

    def decide(self, command: Any, state: State, now: datetime) -> Decision:
        match command:
            case Add(amount, key):
                return Decision([Added(amount=amount, key=key)])
            case AddOnce(key):
                return NOTHING if key in state.keys else Decision([Added(amount=1, key=key)])
            case Refuse(total):
                if state.total < total:
                    raise Rejected("too_little", "below", {"total": state.total})
                return NOTHING
            case Order(number):
                return Decision([Ordered(number=number)])
            case Fill(number):
                return Decision([Filled(number=number)]) if number in state.open else NOTHING
            case Open(others, guards, amount):
                opened = {other: [Added(amount=1), Ordered(number=7)] for other in others}
                return Decision([Added(amount=amount)] if amount else [], opened, guards)
            case Explode("decide"):
                raise ZeroDivisionError("decide")
            case Explode("evolve"):
                return Decision([Poisoned()])
            case Explode("intents"):
                return Decision([Added(amount=-1_000_000)])
        raise AssertionError(command)

    def evolve(self, state: State, event: Any) -> State:
        match event:
            case Added(amount=amount, key=key):
                keys = (*state.keys, key) if key else state.keys
                return attrs.evolve(state, total=state.total + amount, keys=keys)
            case Ordered(number=number):
                return attrs.evolve(state, open=state.open | {number})
            case Filled(number=number):
                return attrs.evolve(state, open=state.open - {number})
        raise ZeroDivisionError("evolve")

    def intents(self, state: State) -> frozenset[Intent]:
        if state.total < -1000:
            raise ZeroDivisionError("intents")
        return frozenset(Deliver(number) for number in sorted(state.open))

    def dump_state(self, state: State) -> str:
        return msgspec.json.encode(state).decode()

    def load_state(self, text: str) -> State:
        return msgspec.json.decode(text, type=State)


EVENTS = {cls.__name__: cls for cls in (Added, Ordered, Filled, Poisoned)}


class Ledger:
    """Effects that only write down what they are told; `fails` may raise before or after the deed."""

    def __init__(self, fails: Callable[[], None] = lambda: None) -> None:
        self.fails = fails
        self.calls: list[tuple[Address, tuple[Intent, ...], tuple[Intent, ...]]] = []
        self.standing: dict[Address, set[Intent]] = defaultdict(set)

    def reconcile(self, address: Address, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None:
        self.fails()
        self.calls.append((address, tuple(added), tuple(withdrawn)))
        self.standing[address].update(added)
        self.standing[address].difference_update(withdrawn)
        self.fails()


class Faults:
    """Raises or delays at random, from one seed; off until `on`. `seen` counts what was injected."""

    def __init__(self, seed: int, rate: float) -> None:
        self.random, self.rate, self.on = random.Random(f"faults {seed}"), rate, False
        self.seen: dict[str, int] = defaultdict(int)

    def strikes(self, kind: str) -> bool:
        if not self.on or self.random.random() >= self.rate:
            return False
        self.seen[kind] += 1
        return True

    def may_raise(self, kind: str, make: Callable[[], Exception] = lambda: ZeroDivisionError("injected")) -> None:
        if self.strikes(kind):
            raise make()


@frozen
class FaultyStore(Hooks):
    faults: Faults
    errors: Mapping[str, Callable[[], Exception]]

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await trio.sleep(self.faults.random.choice([0, 0, 0.001, 0.002]))
        self.faults.may_raise("before_commit", self.errors["before_commit"])

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        await trio.sleep(self.faults.random.choice([0, 0, 0.001, 0.002]))
        self.faults.may_raise("after_commit", self.errors["after_commit"])

    async def before_read(self, what: str) -> None:
        await trio.sleep(self.faults.random.choice([0, 0, 0.001]))
        self.faults.may_raise("read", self.errors["read"])


class FaultyTally(Tally):
    """A tally whose pure functions are not: each may raise."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def decide(self, command: Any, state: State, now: datetime) -> Decision:
        self.faults.may_raise("decide")
        return super().decide(command, state, now)

    def evolve(self, state: State, event: Any) -> State:
        self.faults.may_raise("evolve")
        return super().evolve(state, event)

    def intents(self, state: State) -> frozenset[Intent]:
        self.faults.may_raise("intents")
        return super().intents(state)


@frozen
class World:
    system: ActorSystem
    store: MemoryStore
    ledger: Ledger
    clock: TrioClock
    ids: SeededIds

    @property
    def log(self) -> MemoryLog:
        return self.store.log


def a_world(
    *,
    limits: Limits | None = None,
    log: MemoryLog | None = None,
    hooks: Hooks | None = None,
    decider: Tally | None = None,
    ledger: Ledger | None = None,
    seed: int | str = 0,
) -> World:
    """A system of tallies over a memory store; nothing runs yet."""
    clock = TrioClock()
    store = MemoryStore(clock.now, log=log, hooks=hooks or NoFaults())
    ids, codec, ledger = SeededIds(seed, clock), EventCodec(EVENTS), ledger or Ledger()
    deciders = {"tally": decider or Tally()}
    system = ActorSystem(store, codec, deciders, ledger, clock, ids, limits or Limits())
    return World(system, store, ledger, clock, ids)


@asynccontextmanager
async def running(*worlds: World) -> AsyncIterator[None]:
    """The systems run; at the end they are stopped."""
    async with trio.open_nursery() as nursery:
        for world in worlds:
            await nursery.start(world.system.run)
        yield
        nursery.cancel_scope.cancel()


def tally(name: object) -> Address:
    return Address("tally", str(name))


@frozen
class Gate:
    """A store that stops at the gate: `opened` lets appends through, `reached` tells that one waits there."""

    opened: trio.Event = Factory(trio.Event)
    reached: trio.Event = Factory(trio.Event)
    commits: list[Sequence[Claim]] = Factory(list)

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        self.reached.set()
        await self.opened.wait()

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        self.commits.append(claims)

    async def before_read(self, what: str) -> None: ...
