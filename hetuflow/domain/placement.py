"""Which waiting task gets which slot: best rank first (`waiting.rank`), on the least loaded agent that fits.

Two indexes and one function over them. `Waiting` holds the tasks that want a slot now, one line per requirement class
(labels and pin); `Slots` holds the agents that may be used now, one heap per set of labels. `place` looks only at
classes that an agent with a free slot fits, so that ten thousand tasks for an absent label cost nothing.

Pure: no clock, no I/O. Deletion is lazy: a heap entry counts only while it is the newest of its key, and a heap that is
mostly dead is rebuilt, so that memory stays proportional to what is alive.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush

from attrs import define, field

from hetuflow.domain.decider import Choice, Offer
from hetuflow.domain.lines import DEAD_ENTRIES_MAX, Labels, Rank, Requirement
from hetuflow.domain.waiting import Waiting


@define(slots=True)
class _Agent:
    labels: Labels
    slots: int
    used: int

    @property
    def load(self) -> float:
        return self.used / self.slots


@define(slots=True)
class _Group:
    """Agents with the same labels. The heap has every agent with a free slot under its current load."""

    labels: Labels
    members: int = 0
    heap: list[tuple[float, str]] = field(factory=list)


class Slots:
    """The agents that may be given work, their slots and their load."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._groups: dict[Labels, _Group] = {}
        self._fitting: dict[Labels, list[_Group]] = {}

    def __len__(self) -> int:
        return len(self._agents)

    @property
    def total(self) -> int:
        return sum(agent.slots for agent in self._agents.values())

    @property
    def free(self) -> int:
        return sum(max(0, agent.slots - agent.used) for agent in self._agents.values())

    def put(self, agent_id: str, labels: Labels, slots: int, used: int) -> None:
        """Add the agent, or bring it up to date."""
        known = self._agents.get(agent_id)
        if known is not None and known.labels == labels:
            known.slots, known.used = slots, used
        else:
            self.remove(agent_id)
            self._agents[agent_id] = known = _Agent(labels, slots, used)
            self._group(labels).members += 1
        self._index(agent_id, known)

    def remove(self, agent_id: str) -> None:
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            return
        group = self._groups[agent.labels]
        group.members -= 1
        if not group.members:
            del self._groups[agent.labels]
            self._fitting.clear()

    def take(self, agent_id: str) -> None:
        """Use one more slot of the agent."""
        agent = self._agents[agent_id]
        agent.used += 1
        self._index(agent_id, agent)

    def choice(self, agent_id: str, requirement: Requirement, more: int = 0) -> Choice:
        """Why that agent: how it and the others stand, before the last `more` + 1 slots of it were taken."""
        agent = self._agents[agent_id]
        fitting = 1
        if requirement.agent_id is None:
            fitting = sum(group.members for group in self._groups_fitting(requirement.labels))
        return Choice(fitting, agent.used - more - 1, agent.slots, requirement.avoid)

    def labels_of(self, agent_id: str) -> Labels:
        return self._agents[agent_id].labels

    def fits_any(self, requirement: Requirement) -> bool:
        """Whether an agent fits, with a free slot or without."""
        if requirement.agent_id is not None:
            agent = self._agents.get(requirement.agent_id)
            return agent is not None and set(requirement.labels) <= set(agent.labels)
        return bool(self._groups_fitting(requirement.labels))

    def least_loaded(self, requirement: Requirement) -> str | None:
        """The agent with a free slot that fits and has the smallest share of its slots in use; ties by id.

        One that is to be avoided only when no other has a free slot now: nothing waits for a better one.
        """
        if requirement.agent_id is not None:
            agent = self._agents.get(requirement.agent_id)
            if agent is None or agent.used >= agent.slots or not set(requirement.labels) <= set(agent.labels):
                return None
            return requirement.agent_id
        best = self._best(requirement.labels, requirement.avoid)
        if best is None and requirement.avoid:
            best = self._best(requirement.labels, ())
        return best

    def _best(self, labels: Labels, avoid: Collection[str]) -> str | None:
        best: tuple[float, str] | None = None
        for group in self._groups_fitting(labels):
            head = self._head(group, avoid) if avoid else self._head(group)
            if head is not None and (best is None or head < best):
                best = head
        return None if best is None else best[1]

    def _group(self, labels: Labels) -> _Group:
        group = self._groups.get(labels)
        if group is None:
            group = self._groups[labels] = _Group(labels)
            self._fitting.clear()
        return group

    def _groups_fitting(self, labels: Labels) -> list[_Group]:
        found = self._fitting.get(labels)
        if found is None:
            wanted = set(labels)
            found = [group for group in self._groups.values() if wanted <= set(group.labels)]
            if len(self._fitting) > 1000:  # classes come and go; the answers are cheap to find again
                self._fitting.clear()
            self._fitting[labels] = found
        return found

    def _index(self, agent_id: str, agent: _Agent) -> None:
        if agent.used >= agent.slots:
            return
        group = self._groups[agent.labels]
        heappush(group.heap, (agent.load, agent_id))
        if len(group.heap) > 2 * group.members + DEAD_ENTRIES_MAX:
            group.heap[:] = sorted({entry for entry in group.heap if self._is_current(group, entry)})

    def _head(self, group: _Group, avoid: Collection[str] = ()) -> tuple[float, str] | None:
        heap = group.heap
        passed: set[tuple[float, str]] = set()
        while heap and (not self._is_current(group, heap[0]) or heap[0][1] in avoid):
            entry = heappop(heap)
            if self._is_current(group, entry):
                passed.add(entry)
        head = heap[0] if heap else None
        for entry in passed:
            heappush(heap, entry)
        return head

    def _is_current(self, group: _Group, entry: tuple[float, str]) -> bool:
        load, agent_id = entry
        agent = self._agents.get(agent_id)
        return agent is not None and agent.labels == group.labels and agent.used < agent.slots and agent.load == load


def place(waiting: Waiting, slots: Slots, most: int) -> list[tuple[Offer, str]]:
    """Take up to `most` offers and slots out of the indexes, best first, and return who goes where.

    An offer is left behind only when no agent with a free slot fits it, a limit holds it back, or `most` is reached by
    better ones. Every limit of those returned is held.
    """
    heads: list[tuple[Rank, Requirement]] = []
    for requirement in waiting.requirements():
        if slots.least_loaded(requirement) is not None:
            _push_head(heads, waiting, requirement)
    placed: list[tuple[Offer, str]] = []
    while heads and len(placed) < most:
        listed, requirement = heappop(heads)
        agent_id = slots.least_loaded(requirement)
        best = None if agent_id is None else waiting.first(requirement)
        if best is None or agent_id is None:
            continue
        if best[0] != listed:  # a better one was just placed with the last place of a limit that both need
            heappush(heads, (best[0], requirement))
            continue
        waiting.take(best[1])
        placed.append((best[1], agent_id))
        slots.take(agent_id)
        _push_head(heads, waiting, requirement)
    return placed


def _push_head(heads: list[tuple[Rank, Requirement]], waiting: Waiting, requirement: Requirement) -> None:
    best = waiting.first(requirement)
    if best is not None:
        heappush(heads, (best[0], requirement))
