"""What waits, in order: tasks that ask the same form a group, and groups stand in lines. Pure.

Deletion is lazy: an entry counts only while it is the newest of its group, and a heap that is mostly dead is rebuilt, so
that memory stays proportional to what is alive.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TypeAlias

from attrs import define, field, frozen

from hetuflow.domain.decider import Bound, Offer, Rate

Labels: TypeAlias = tuple[tuple[str, str], ...]

Rank: TypeAlias = tuple[int, int, str]
"""Order of service, smallest first; different for different tasks. See `hetuflow.domain.waiting.rank`."""

DEAD_ENTRIES_MAX = 64
"""A heap is rebuilt when its dead entries outnumber the living by this many."""


@frozen(slots=True, cache_hash=True)
class Requirement:
    """What a task asks of an agent: all of `labels`, and to be `agent_id` when that is not None; rather none of `avoid`."""

    labels: Labels
    agent_id: str | None
    avoid: tuple[str, ...] = ()

    @classmethod
    def of(cls, offer: Offer) -> Requirement:
        return cls(offer.labels, offer.agent_id, offer.avoid)

    def fits(self, agent_id: str, labels: Labels) -> bool:
        return (self.agent_id is None or self.agent_id == agent_id) and set(self.labels) <= set(labels)


@define(slots=True, eq=False)
class Group:
    """Tasks that ask the same of an agent and of the limits: what one waits for, all wait for.

    It stands in one `line`, under the rank `listed`; None: nowhere.
    """

    requirement: Requirement
    bounds: tuple[Bound, ...]
    rate: tuple[str, Rate] | None
    line: Line | None = None
    listed: Rank | None = None
    _members: dict[str, Offer] = field(factory=dict)
    _heap: list[tuple[Rank, Offer]] = field(factory=list)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, rank: Rank, offer: Offer) -> None:
        self._members[offer.task_id] = offer
        heappush(self._heap, (rank, offer))

    def discard(self, task_id: str) -> None:
        del self._members[task_id]
        if len(self._heap) > 2 * len(self._members) + DEAD_ENTRIES_MAX:
            self._heap[:] = [entry for entry in self._heap if self._members.get(entry[1].task_id) is entry[1]]
            heapify(self._heap)

    def first(self) -> tuple[Rank, Offer]:
        """The member that is served next, with its rank. The group must not be empty."""
        heap, members = self._heap, self._members
        while members.get(heap[0][1].task_id) is not heap[0][1]:
            heappop(heap)
        return heap[0]


class Line:
    """Groups by the rank of their first member. A group stands in one line at a time."""

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, Group]] = []
        self._entries = 0
        self._alive = 0

    def __len__(self) -> int:
        return self._alive

    def put(self, group: Group, rank: Rank) -> None:
        """Let the group stand here under that rank, and nowhere else."""
        if group.line is not self:
            if group.line is not None:
                group.line.drop(group)
            self._alive += 1
        elif group.listed == rank:
            return
        group.line, group.listed = self, rank
        self._entries += 1
        heappush(self._heap, (rank, self._entries, group))
        if len(self._heap) > 2 * self._alive + DEAD_ENTRIES_MAX:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapify(self._heap)

    def drop(self, group: Group) -> None:
        """The group leaves this line, in which it stands."""
        group.line = group.listed = None
        self._alive -= 1

    def first(self) -> Group | None:
        """The group that is listed first; what it is listed under may be too good by now."""
        while self._heap and not self._is_current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def _is_current(self, entry: tuple[Rank, int, Group]) -> bool:
        rank, _, group = entry
        return group.line is self and group.listed == rank
