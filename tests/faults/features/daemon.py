"""Daemons: a seat never has two runs at once, and is taken again soon after whatever happened to it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.lines import Run
from tests.faults.rules import at_most_together

SEATS = 2


@define
class Daemon(Feature):
    """Two seats, whose runs end by themselves after three seconds."""

    name = "daemon"
    jobs = (Job(name="daemon", seconds=3.0),)
    is_exact = False
    goes_on = True

    async def create(self) -> None:
        rules = {"instances": SEATS, "backoff_initial_seconds": 1, "backoff_max_seconds": 2}
        await self.schedule("daemon", kind="daemon", daemon=rules, start_time=self.start.isoformat())

    def broken(self, runs: Sequence[Run]) -> list[str]:
        said = [f"no seat: {run}" for run in runs if run.mark not in map(str, range(SEATS))]
        for seat in map(str, range(SEATS)):
            said += [f"seat {seat}: {text}" for text in at_most_together([run for run in runs if run.mark == seat], 1)]
        return said

    def back_after(self, runs: Sequence[Run], since: float) -> float | None:
        """Until the last seat is taken; one whose run lived on through it was never free."""
        taken = [seat_taken([run for run in runs if run.mark == seat], since) for seat in map(str, range(SEATS))]
        known = [seconds for seconds in taken if seconds is not None]
        return max(known) if len(known) == SEATS else None


def seat_taken(runs: Sequence[Run], since: float) -> float | None:
    """Seconds from `since` until a run of these was alive; None = never."""
    return min((max(0.0, run.start - since) for run in runs if run.seen > since), default=None)


FEATURES: Sequence[type[Feature]] = (Daemon,)
