"""Limits of concurrency while they are held and waited for: how many hold each, how many may, who stands before it. Pure.

A gate is one limit. It is held by instances on agents, and by slots in hand for questions under way; whoever holds it or
waits for it has named a number, and the smallest of these numbers is how many may hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import TypeAlias

from attrs import define, field, frozen

from hetuflow.domain.decider import Bound
from hetuflow.domain.limits import NAMESPACE
from hetuflow.domain.lines import Group, Line, Rank, Requirement

Bounds: TypeAlias = tuple[Bound, ...]

HOLDERS_SHOWN_MAX = 5

EVERY_NAMESPACE = "*"


class Smallest:
    """The smallest of numbers that come and go."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._heap: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, number: int) -> None:
        count = self._counts.get(number, 0)
        self._counts[number] = count + 1
        if not count:
            heappush(self._heap, number)

    def remove(self, number: int) -> None:
        self._counts[number] -= 1
        if not self._counts[number]:
            del self._counts[number]

    def value(self) -> int:
        while self._heap[0] not in self._counts:
            heappop(self._heap)
        return self._heap[0]


@define(slots=True, eq=False, kw_only=True)
class Barrier:
    """Something that groups stand before, one line for each requirement."""

    lines: dict[Requirement, Line] = field(factory=dict)

    def park(self, group: Group, rank: Rank) -> None:
        line = self.lines.get(group.requirement)
        if line is None:
            line = self.lines[group.requirement] = Line()
        line.put(group, rank)

    def first(self, requirement: Requirement) -> Group | None:
        line = self.lines.get(requirement)
        found = None if line is None else line.first()
        if line is not None and found is None:
            del self.lines[requirement]
        return found


@define(slots=True, eq=False, kw_only=True)
class Gate(Barrier):
    """`holders`: (instance, epoch) -> task. `claim`: the waiting task for which one place is kept, and its rank."""

    kind: str
    name: str
    holders: dict[tuple[str, int], str] = field(factory=dict)
    held: int = 0
    numbers: Smallest = field(factory=Smallest)
    claim: tuple[Rank, str] | None = None

    @property
    def used(self) -> int:
        return len(self.holders) + self.held

    @property
    def room(self) -> int:
        return self.numbers.value() - self.used if self.numbers else 0

    def admits(self, rank: Rank | None, most: int) -> bool:
        """Whether a task of that rank (None: behind all that wait) which allows `most` may be next."""
        room = most - self.used
        if self.numbers:
            room = min(room, self.numbers.value() - self.used)
        if self.claim is not None and (rank is None or self.claim[0] < rank):
            room -= 1
        return room > 0


@frozen(slots=True)
class GateStatus:
    """A limit as it stands: `tasks` hold it, at most `HOLDERS_SHOWN_MAX` of them; a place may be `kept_for` a task."""

    kind: str
    name: str
    most: int
    used: int
    tasks: Sequence[str]
    kept_for: str | None = None


class Gates:
    """`namespaces`: most instances at once by namespace, `*` for those without a number of their own; 0 = no limit."""

    def __init__(self, namespaces: Mapping[str, int] | None = None) -> None:
        self._namespaces = dict(namespaces or {})
        self._gates: dict[tuple[str, str], Gate] = {}
        self._opened: dict[Gate, None] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def bounds(self, own: Bounds, namespace_id: str) -> Bounds:
        """A task's own limits and that of its namespace."""
        if not self._namespaces:
            return own
        most = self._namespaces.get(namespace_id, self._namespaces.get(EVERY_NAMESPACE, 0))
        return (*own, Bound(NAMESPACE, namespace_id, most)) if most else own

    def of(self, bound: Bound) -> Gate:
        key = (bound.kind, bound.name)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(kind=bound.kind, name=bound.name)
        return gate

    def shut(self, bounds: Bounds, rank: Rank | None) -> Gate | None:
        """The first of these limits that does not let a task of that rank pass."""
        for bound in bounds:
            gate = self._gates.get((bound.kind, bound.name))
            if gate is not None and not gate.admits(rank, bound.most):
                return gate
        return None

    # --- who waits and who holds ---------------------------------------------------------------------------------------

    def join(self, bounds: Bounds) -> None:
        """A task waits that names these numbers."""
        for bound in bounds:
            self.of(bound).numbers.add(bound.most)

    def leave(self, bounds: Bounds) -> None:
        for bound in bounds:
            gate = self.of(bound)
            gate.numbers.remove(bound.most)
            self._has_opened(gate)

    def pass_waiting(self, bounds: Bounds) -> None:
        """A waiting task is given a slot, which is in hand from now on."""
        for bound in bounds:
            self.of(bound).held += 1

    def hold(self, bounds: Bounds) -> None:
        """A slot is in hand for a task that did not wait."""
        self.join(bounds)
        self.pass_waiting(bounds)

    def release(self, bounds: Bounds) -> None:
        """A slot is in hand no more."""
        for bound in bounds:
            self.of(bound).held -= 1
        self.leave(bounds)

    def occupy(self, bounds: Bounds, instance_id: str, epoch: int, task_id: str) -> None:
        """An agent holds the instance."""
        self.join(bounds)
        for bound in bounds:
            self.of(bound).holders[instance_id, epoch] = task_id

    def vacate(self, bounds: Bounds, instance_id: str, epoch: int) -> None:
        for bound in bounds:
            self.of(bound).holders.pop((instance_id, epoch), None)
        self.leave(bounds)

    def unclaim(self, bounds: Bounds, task_id: str) -> None:
        """No place is kept for the task any more."""
        for bound in bounds:
            gate = self.of(bound)
            if gate.claim is not None and gate.claim[1] == task_id:
                gate.claim = None
                self._has_opened(gate)

    def _has_opened(self, gate: Gate) -> None:
        """It may let more pass than before, or nobody is left who knows of it."""
        if gate.numbers:
            self._opened[gate] = None
        else:
            self._opened.pop(gate, None)
            self._gates.pop((gate.kind, gate.name), None)

    def take_opened(self) -> Iterable[Gate]:
        """The gates that may let more pass than when this was last asked."""
        if not self._opened:
            return ()
        opened, self._opened = self._opened, {}
        return opened

    # --- for people ----------------------------------------------------------------------------------------------------

    def full(self, bounds: Bounds, task_id: str) -> Sequence[GateStatus]:
        """Those of the task's limits that are used up, but for what is kept for itself."""
        found = []
        for bound in bounds:
            gate = self._gates.get((bound.kind, bound.name))
            if gate is None:
                continue
            most = min(bound.most, gate.numbers.value()) if gate.numbers else bound.most
            kept_for = None if gate.claim is None or gate.claim[1] == task_id else gate.claim[1]
            if most - gate.used - (kept_for is not None) <= 0:
                tasks = list(islice(dict.fromkeys(gate.holders.values()), HOLDERS_SHOWN_MAX))
                found.append(GateStatus(gate.kind, gate.name, most, gate.used, tasks, kept_for))
        return found
