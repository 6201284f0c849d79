"""Schedules by the moment at which each wants to be asked: due, in hand, or parked. Pure."""

from __future__ import annotations

from datetime import datetime

from hetuflow.domain.instants import Instants


class DueSchedules:
    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._in_hand: set[str] = set()
        self._parked: dict[str, None] = {}
        self._instants = Instants()

    def __len__(self) -> int:
        return len(self._at)

    def add(self, schedule_id: str, at: datetime) -> None:
        """It wants to be asked then; in hand, when it is put back."""
        self._at[schedule_id] = at
        self._parked.pop(schedule_id, None)
        if schedule_id not in self._in_hand:
            self._instants.set(schedule_id, at)

    def remove(self, schedule_id: str, at: datetime) -> None:
        """It does not want that moment any more; a newer one stays."""
        if self._at.get(schedule_id) == at:
            del self._at[schedule_id]
            self._parked.pop(schedule_id, None)
            self._instants.discard(schedule_id)

    def first_at(self) -> datetime | None:
        return self._instants.first_at()

    def at(self, schedule_id: str) -> datetime | None:
        return self._at.get(schedule_id)

    def take(self, now: datetime, most: int) -> list[str]:
        taken = self._instants.take(now, most)
        self._in_hand.update(taken)
        return taken

    def settle(self, schedule_id: str, not_before_at: datetime | None = None) -> None:
        self._in_hand.discard(schedule_id)
        at = self._at.get(schedule_id)
        if at is not None:
            self._instants.set(schedule_id, at, not_before_at)

    def put_forward(self) -> None:
        self._instants.put_forward()

    def park(self, schedule_id: str) -> None:
        self._in_hand.discard(schedule_id)
        if schedule_id in self._at:
            self._parked[schedule_id] = None

    def unpark(self) -> None:
        parked, self._parked = self._parked, {}
        for schedule_id in parked:
            self.settle(schedule_id)
