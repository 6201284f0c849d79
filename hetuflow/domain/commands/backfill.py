"""What can be asked of a backfill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, frozen

from hetuflow.domain.commands.schedule import TaskEnd
from hetuflow.domain.commands.snapshots import CalendarSnapshot, JobSnapshot
from hetuflow.domain.decider import Guard
from hetuflow.domain.events import BackfillStarted


@frozen(slots=True, kw_only=True)
class StartBackfill:
    """`start`: the event as it will be recorded, from `backfill_window.start_of`, which has checked it."""

    start: BackfillStarted


@frozen(slots=True, kw_only=True)
class AdvanceBackfill:
    """Make the tasks that may be made now. `has_task` tells of each nominal time's task id whether there is one; one that
    is missing is asked for with the rejection `tasks_unknown`. `guards`: the lease of the server that decides."""

    job: JobSnapshot
    has_task: Mapping[str, bool] = Factory(dict)
    calendars: Sequence[CalendarSnapshot] = ()
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class NoteBackfillEnds:
    """Tell the backfill of these ends, in the order of the log. Told twice is told once."""

    ends: Sequence[TaskEnd]


@frozen(slots=True, kw_only=True)
class CancelBackfill:
    note: str | None = None
