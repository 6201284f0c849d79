"""Keys and the instant each of them wants attention at: a heap with lazy deletion, pure."""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop, heappush


class Instants:
    """Keys by the instant they want attention at; one instant per key. Lazy deletion, bounded."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: str, at: datetime) -> None:
        if self._at.get(key) != at:
            self._at[key] = at
            heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [entry for entry in self._heap if self._at.get(entry[1]) == entry[0]]
                heapify(self._heap)

    def at(self, key: str) -> datetime | None:
        return self._at.get(key)

    def discard(self, key: str) -> None:
        self._at.pop(key, None)

    def first_at(self) -> datetime | None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime, most: int) -> list[str]:
        """Remove and return up to `most` keys whose instant has come, earliest first."""
        taken: list[str] = []
        while len(taken) < most:
            at = self.first_at()
            if at is None or at > now:
                break
            _, key = heappop(self._heap)
            del self._at[key]
            taken.append(key)
        return taken
