"""How often tasks of a job were started lately: the memory behind `config.limits.rate`. Pure.

A sliding window: a task may be given to an agent when, of the tasks of its job that have a rate, fewer than `count` were
in the last `per_seconds` (a start exactly so long ago counts no more). What is being given counts until its outcome is
known. A job of which nothing is known yet starts nothing: what it did lately is to be read from the log (`wanted`) by
whoever begins to decide.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from attrs import define, field

from hetuflow.domain.decider import Rate
from hetuflow.domain.gates import Barrier
from hetuflow.domain.limits import RATE_COUNT_MAX

AT_ONCE = datetime.min.replace(tzinfo=UTC)


def free_at(rate: Rate, times: Sequence[datetime], held: int = 0) -> datetime | None:
    """When the next start is allowed, as far as `times` (ascending) say, while `held` are under way; None: not before one
    of these is known."""
    left = rate.count - held
    if left <= 0:
        return None
    if len(times) < left:
        return AT_ONCE
    return times[-left] + timedelta(seconds=rate.per_seconds)


@define(slots=True, eq=False, kw_only=True)
class JobStarts(Barrier):
    is_known: bool = False
    held: int = 0
    times: list[datetime] = field(factory=list)

    def add(self, at: datetime) -> None:
        insort(self.times, at)
        if len(self.times) > 2 * RATE_COUNT_MAX:
            del self.times[:-RATE_COUNT_MAX]

    def may_start_at(self, rate: Rate) -> datetime | None:
        """When it may start, as far as known; None: something must become known first."""
        return free_at(rate, self.times, self.held) if self.is_known else None


class Starts:
    """By job, those that have tasks with a rate."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobStarts] = {}
        self._wanted: dict[str, None] = {}

    def of(self, job_id: str) -> JobStarts:
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = JobStarts()
            self._wanted[job_id] = None
        return job

    def get(self, job_id: str) -> JobStarts | None:
        return self._jobs.get(job_id)

    def take_wanted(self) -> Sequence[str]:
        """The jobs whose starts are to be read from the log, each once."""
        wanted, self._wanted = self._wanted, {}
        return list(wanted)

    def want(self, job_id: str) -> None:
        """The log could not be read: again."""
        if not self.of(job_id).is_known:
            self._wanted[job_id] = None

    def known(self, job_id: str, times: Iterable[datetime]) -> None:
        """All that the log says of the job's starts, read after this server got the right to decide."""
        job = self.of(job_id)
        for at in times:
            job.add(at)
        job.is_known = True
        self._wanted.pop(job_id, None)

    def settled(self, job_id: str, at: datetime | None) -> None:
        """A start that was under way was one, at that moment; None: it came to nothing."""
        job = self.of(job_id)
        job.held -= 1
        if at is not None:
            job.add(at)

    def forget(self) -> None:
        """Another server was deciding meanwhile: nothing is known any more, except what is under way here."""
        for job_id, job in self._jobs.items():
            job.is_known = False
            job.times.clear()
            self._wanted[job_id] = None
