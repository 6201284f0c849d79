"""Which instance is due next: a heap that forgives entries that have changed."""

from __future__ import annotations

import heapq
from typing import Final, Generic, TypeVar

NEVER: Final = float("inf")

K = TypeVar("K")


class Deadlines(Generic[K]):
    """Each key has one deadline, or none. O(log n) per change."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = 0

    def set(self, key: K, due: float) -> None:
        """`due` infinity: no deadline."""
        if self._due.get(key, NEVER) == due:
            return
        if due == NEVER:
            del self._due[key]
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        if len(self._heap) > 64 + 4 * len(self._due):
            self._heap = [(due, number, key) for number, (key, due) in enumerate(self._due.items())]
            self._count = len(self._heap)
            heapq.heapify(self._heap)

    @property
    def next(self) -> float:
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due
            heapq.heappop(self._heap)
        return NEVER

    def pop_due(self, now: float) -> list[K]:
        """Those that are due, earliest first, each once; they have no deadline until `set` gives them one."""
        found = []
        while self.next <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            found.append(key)
        return found
