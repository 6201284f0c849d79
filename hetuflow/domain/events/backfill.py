"""What happens to a backfill: stream `backfill-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class BackfillEvent(Event):
    """An event of a `backfill-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class BackfillStarted(BackfillEvent):
    """A past window of a schedule is to be run: `total` nominal times from `from_at` to `until_at`, both included.

    The rule of times, the parameters and the priority are the schedule's as they were then; later edits do not touch it.
    An interval's `start_time` is one of its nominal times; without `interval_secs` it is the only one.
    """

    backfill_id: str
    schedule_id: str
    job_id: str
    from_at: datetime
    until_at: datetime
    total: int
    max_concurrent: int
    note: str | None
    schedule_kind: int
    cron_expression: str | None
    interval_secs: int | None
    timezone: str
    start_time: datetime | None
    end_time: datetime | None
    exclude_calendars: tuple[str, ...]
    parameters: JSON
    priority: int
    started_at: datetime
    created_by: int = 1


@frozen(slots=True, kw_only=True)
class BackfillAdvanced(BackfillEvent):
    """Every nominal time up to `cursor_at` is a task, or was left out: it has one already, or a calendar excludes it.
    Counts are absolute.

    `task_ids`: the tasks of this decision, made in the same append. `is_last`: no nominal time follows in the window.
    """

    backfill_id: str
    cursor_at: datetime
    task_ids: tuple[str, ...]
    made: int
    left_out: int
    is_last: bool


@frozen(slots=True, kw_only=True)
class BackfillTaskEnded(BackfillEvent):
    """A task of it has ended (`ended_as`, a task status). Counts are absolute."""

    backfill_id: str
    task_id: str
    ended_as: int
    ended_at: datetime
    succeeded: int
    failed: int
    cancelled: int


@frozen(slots=True, kw_only=True)
class BackfillCancelled(BackfillEvent):
    """Nothing more is made, and its tasks that wait are cancelled. `reason`: `user`, or `job_deleted`."""

    backfill_id: str
    reason: str
    note: str | None = None
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class BackfillFinished(BackfillEvent):
    """All its tasks have ended, and none follows. `outcome`: `finished`, or `cancelled` as it was before."""

    backfill_id: str
    outcome: str
    finished_at: datetime
