"""When tasks of a job with a rate were given to agents lately, as the log has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from eventstore.store import EventFilter, EventStore
from hetuflow.domain.limits import RATE_COUNT_MAX


async def recent_starts(
    store: EventStore, job_id: str, *, before: int | None = None, most: int = RATE_COUNT_MAX
) -> Sequence[datetime]:
    """The latest, at most `most`, ascending, by the store's clock: one look into an index of these events alone.

    Args:
      before: only those at positions before it.
    """
    events = await store.read_all(before=before, limit=most, descending=True, where=EventFilter(rated_job_id=job_id))
    return [event.recorded_at for event in reversed(events)]
