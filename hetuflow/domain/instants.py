"""Keys and the instant each of them wants attention at: a heap with lazy deletion, pure."""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop, heappush


class Instants:
    """Keys by the instant they want attention at; one instant per key. Lazy deletion, bounded.

    One that could not be looked at is put off for a while, and still wants its own instant: where the clock has stepped
    back meanwhile, the pause would last as long as the step, unless `put_forward` ends it.
    """

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._put_off: dict[str, datetime] = {}

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: str, at: datetime, not_before_at: datetime | None = None) -> None:
        """It wants attention at `at`, and gets it at the earliest `not_before_at`."""
        self._put_off.pop(key, None)
        if not_before_at is not None and not_before_at > at:
            self._put_off[key], at = at, not_before_at
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
        self._put_off.pop(key, None)

    def put_forward(self) -> None:
        """What was put off is due at its own instant again."""
        for key, at in list(self._put_off.items()):
            self.set(key, at)

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
            self._put_off.pop(key, None)
            taken.append(key)
        return taken
