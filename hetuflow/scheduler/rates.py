"""What the dispatcher tells of jobs with a rate: which of their tasks were started, and what the log says of earlier ones.

Pure. Nothing of a job is started by its rate before its latest starts are known; who begins to decide reads them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from hetuflow.domain.waiting import Waiting


class Rates:
    """Over the tasks that wait: what becomes known lets them come back."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._starts = waiting.starts

    def started(self, job_id: str, at: datetime | None) -> None:
        """The outcome of a task that was being given to an agent: it was, at that moment; None: it was not."""
        self._starts.settled(job_id, at)
        self._waiting.starts_changed(job_id)

    def take_unknown(self) -> Sequence[str]:
        """Jobs whose latest starts are to be read from the log, and told with `known` or `failed`."""
        return self._starts.take_wanted()

    def known(self, job_id: str, times: Iterable[datetime]) -> None:
        self._starts.known(job_id, times)
        self._waiting.starts_changed(job_id)

    def failed(self, job_id: str) -> None:
        """They could not be read: they are still to be."""
        self._starts.want(job_id)

    def forget(self) -> None:
        """Another server may have started tasks."""
        self._starts.forget()
