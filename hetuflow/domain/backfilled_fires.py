"""A nominal time that a backfill has run already is not run by the schedule, too: its fire is skipped.

A backfill keeps to what the schedule will never decide again (`backfill_window`), by the clock that says so then. A clock
that is set back, or a server that goes on with an earlier one, lets a schedule that was off begin before that. The
task's id tells: the store refuses a second one, and who asked asks again with what is known of the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from hetuflow.domain.identity import task_id_of
from hetuflow.domain.rejection import Rejected

REASON_BACKFILLED = "backfilled"
BACKFILLS_UNKNOWN = "backfills_unknown"


def backfilled(
    schedule_id: str, fires: Sequence[datetime], is_backfilled: Mapping[str, bool] | None
) -> frozenset[datetime]:
    """Those of the nominal times whose task a backfill has made.

    Raises:
      Rejected: `backfills_unknown`, with the `task_ids` that the question did not tell of.
    """
    if is_backfilled is None:
        return frozenset()
    ids = {at: task_id_of(schedule_id, at) for at in fires}
    unknown = [task_id for task_id in ids.values() if task_id not in is_backfilled]
    if unknown:
        raise Rejected(BACKFILLS_UNKNOWN, "which tasks a backfill has made is not told", {"task_ids": unknown})
    return frozenset(at for at, task_id in ids.items() if is_backfilled[task_id])
