"""What exclusion calendars exclude, told anew: the runs give them periods alone, from an instant to before another.

A nominal time is judged by the calendar as it was at that time: an edit holds from its own instant on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tests.simulation.checkers.evidence import Evidence

Period = tuple[datetime, datetime]


class Calendars:
    """All editions of all calendars of a log."""

    def __init__(self, evidence: Evidence) -> None:
        self._editions: dict[str, list[tuple[datetime, list[Period]]]] = {}
        self.doubtful: set[str] = set()
        """Those that were edited while a clock was wrong: which edition holds at an instant is left open."""
        for name, stream in evidence.streams("calendar"):
            calendar_id = name.partition("-")[2]
            editions = self._editions[calendar_id] = []
            for fact in stream:
                at = fact.time("updated_at") or fact.time("created_at")
                if at is None or "periods" not in fact.data:
                    continue
                if editions and at < editions[-1][0]:
                    self.doubtful.add(calendar_id)
                periods = [
                    (datetime.fromisoformat(each["from"]), datetime.fromisoformat(each["to"]))
                    for each in fact.data["periods"]
                ]
                editions.append((at, periods))

    def excluded(self, calendar_ids: Sequence[str], at: datetime) -> bool | None:
        """Whether one of these excludes it; None: it is not to be known."""
        if not self.doubtful.isdisjoint(calendar_ids):
            return None
        return any(begin <= at < end for each in calendar_ids for begin, end in self._periods(each, at))

    def _periods(self, calendar_id: str, at: datetime) -> list[Period]:
        editions = self._editions.get(calendar_id, [])
        holding = [periods for since, periods in editions if since < at]
        return holding[-1] if holding else editions[0][1] if editions else []
