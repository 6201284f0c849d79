"""What happens to the seats of a daemon, in the stream of its schedule."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.schedule import ScheduleEvent


@frozen(slots=True, kw_only=True)
class SeatStarted(ScheduleEvent):
    """A seat of a daemon was given its next task, the `incarnation`-th. `fire_count` and `next_run_at` are absolute.

    `why`: `started` (there was none, or the last one was stopped), `restarted` (it had ended), `moved` (its agent was
    lost), `edited` (in place of an older version). `made_of` names what the task was made of.
    """

    schedule_id: str
    job_id: str
    seat: int
    incarnation: int
    task_id: str
    why: str
    made_of: str
    job_version: int
    started_at: datetime
    fire_count: int
    next_run_at: datetime | None


@frozen(slots=True, kw_only=True)
class SeatRunning(ScheduleEvent):
    """The schedule has heard that the process of the seat's task runs."""

    schedule_id: str
    job_id: str
    seat: int
    incarnation: int
    task_id: str
    agent_id: str | None
    running_since: datetime


@frozen(slots=True, kw_only=True)
class SeatReady(ScheduleEvent):
    """The process of the seat's task has run for `ready_after_seconds`: it counts as available."""

    schedule_id: str
    job_id: str
    seat: int
    incarnation: int
    task_id: str
    ready_at: datetime


@frozen(slots=True, kw_only=True)
class SeatEnded(ScheduleEvent):
    """The seat's task has ended, at `ended_at`; the next one starts at `due_at`, None when none is wanted now.

    `outcome`: `succeeded`, `failed` or `cancelled`; `reason` of a failure, or why it was stopped. `lived_seconds`: of its process, None when
    none ran. `failures`: ends in a row by a failure of a run that was not healthy, which the back-off grows with.
    `is_counted`: it counts towards the restart limit.
    """

    schedule_id: str
    job_id: str
    seat: int
    incarnation: int
    task_id: str
    outcome: str
    reason: str | None
    ended_at: datetime
    lived_seconds: float | None
    failures: int
    is_counted: bool
    due_at: datetime | None
    next_run_at: datetime | None


@frozen(slots=True, kw_only=True)
class SeatsStopping(ScheduleEvent):
    """The open tasks of these seats are to be cancelled.

    `cause`: `disabled`, `expired`, `gave_up`, `job_disabled`, `scaled_down`, `edited` (for a newer version), `not_yet`
    (before the start time), `kind_changed`.
    """

    schedule_id: str
    job_id: str
    seats: tuple[int, ...]
    task_ids: tuple[str, ...]
    cause: str
    stopping_at: datetime


@frozen(slots=True, kw_only=True)
class DaemonStopped(ScheduleEvent):
    """The last open task of a daemon that is not enabled has ended."""

    schedule_id: str
    job_id: str
    stopped_at: datetime


@frozen(slots=True, kw_only=True)
class DaemonGaveUp(ScheduleEvent):
    """`restarts` ends within `window_seconds` were more than `limit`. Status Disabled. `error`: the same as text."""

    schedule_id: str
    job_id: str
    restarts: int
    limit: int
    window_seconds: int
    seat: int
    task_id: str
    error: str
    gave_up_at: datetime
