"""What happens to a schedule: stream `schedule-<id>`. Its seats, if it is a daemon: see daemon.py."""

from __future__ import annotations

from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain.events.base import JSON, Event


class ScheduleEvent(Event):
    """An event of a `schedule-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class ScheduleCreated(ScheduleEvent):
    """`next_run_at` is the first nominal time that is not excluded, strictly after `created_at` (except `once`, created
    late). `calendars`, here and below: the versions of the exclusion calendars that this was decided under."""

    schedule_id: str
    job_id: str
    name: str | None
    description: str | None
    schedule_kind: int
    cron_expression: str | None
    interval_secs: int | None
    max_count: int | None
    timezone: str
    start_time: datetime | None
    end_time: datetime | None
    event_type: str | None
    event_filter: JSON | None
    status: int
    misfire_policy: str
    misfire_grace_seconds: int
    overlap_policy: str
    jitter_seconds: int
    parameters: JSON
    priority: int
    anchor_at: datetime
    next_run_at: datetime | None
    created_at: datetime
    created_by: int = 1
    run_flow: bool = False
    exclude_calendars: tuple[str, ...] = ()
    calendars: JSON = Factory(dict)
    max_age_seconds: int | None = None
    interval_mode: str = "fixed_rate"
    pause_on_failures: int | None = None
    debounce_seconds: int = 0
    daemon: JSON | None = None


@frozen(slots=True, kw_only=True)
class ScheduleUpdated(ScheduleEvent):
    """The whole of the editable members after the change.

    When a member that decides times is among those changed, or none is (the times are stated again), no nominal time at
    or before `updated_at` fires after it.
    """

    schedule_id: str
    job_id: str
    name: str | None
    description: str | None
    schedule_kind: int
    cron_expression: str | None
    interval_secs: int | None
    max_count: int | None
    timezone: str
    start_time: datetime | None
    end_time: datetime | None
    event_type: str | None
    event_filter: JSON | None
    misfire_policy: str
    misfire_grace_seconds: int
    overlap_policy: str
    jitter_seconds: int
    parameters: JSON
    priority: int
    anchor_at: datetime
    next_run_at: datetime | None
    updated_at: datetime
    changed: tuple[str, ...]
    updated_by: int = 1
    run_flow: bool = False
    exclude_calendars: tuple[str, ...] = ()
    calendars: JSON = Factory(dict)
    max_age_seconds: int | None = None
    interval_mode: str = "fixed_rate"
    pause_on_failures: int | None = None
    consecutive_failures: int = 0
    debounce_seconds: int = 0
    daemon: JSON | None = None


@frozen(slots=True, kw_only=True)
class ScheduleEnabled(ScheduleEvent):
    schedule_id: str
    job_id: str
    enabled_at: datetime
    next_run_at: datetime | None
    updated_by: int = 1
    note: str | None = None
    calendars: JSON = Factory(dict)


@frozen(slots=True, kw_only=True)
class ScheduleDisabled(ScheduleEvent):
    """`status` is the new status: Disabled, or Created or Expired where a client asked for that.

    `reason` is `user`, or `failures`: so many (`failures`) of its tasks in a row have failed, the last was `task_id`.
    """

    schedule_id: str
    job_id: str
    status: int
    updated_by: int = 1
    note: str | None = None
    reason: str = "user"
    failures: int | None = None
    task_id: str | None = None


@frozen(slots=True, kw_only=True)
class ScheduleDeleted(ScheduleEvent):
    schedule_id: str
    job_id: str
    reason: str
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class ScheduleExpired(ScheduleEvent):
    """Over by itself: `reason` is `end_time`, `max_count` or `no_further_fire`."""

    schedule_id: str
    job_id: str
    reason: str


@frozen(slots=True, kw_only=True)
class ScheduleSuspended(ScheduleEvent):
    """The decider failed on this schedule; it fires nothing until it is enabled again. Status Disabled."""

    schedule_id: str
    job_id: str
    error: str


@frozen(slots=True, kw_only=True)
class ScheduleFired(ScheduleEvent):
    """One nominal time, or one event, became a task. `fire_count` and `next_run_at` are absolute.

    `waits_for`: the earlier tasks of the schedule that had not ended, after which it starts (overlap policies `queue` and
    `cancel_previous`).
    """

    schedule_id: str
    job_id: str
    nominal_at: datetime
    fired_at: datetime
    task_id: str
    fire_count: int
    next_run_at: datetime | None
    waits_for: tuple[str, ...] = ()
    flow_run_id: str | None = None
    """The flow run that it began, with `task_id` as its first task."""
    also_made: tuple[str, ...] = ()
    """The other tasks of that run."""
    event_id: str | None = None
    event_position: int | None = None
    event_depth: int = 0
    """How many event schedules are behind the task, this one included."""
    calendars: JSON = Factory(dict)


@frozen(slots=True, kw_only=True)
class ScheduleSkipped(ScheduleEvent):
    """A range of nominal times that will not become tasks: `reason` is `misfire`, `max_age`, `overlap`, `backfilled`, ..."""

    schedule_id: str
    job_id: str
    first_nominal_at: datetime
    last_nominal_at: datetime
    count: int
    reason: str
    next_run_at: datetime | None
    event_id: str | None = None
    """The event that makes no task, where it is one; then the range is one instant."""
    event_position: int | None = None
    note: str | None = None
    """What the reason does not say."""
    calendars: JSON = Factory(dict)


@frozen(slots=True, kw_only=True)
class ScheduleEventHeld(ScheduleEvent):
    """A matching event waits until there has been quiet for `debounce_seconds`; what waited before it is skipped.

    `count`: matching events since the last task, this one included; `first_at`, when the first of them was recorded.
    """

    schedule_id: str
    job_id: str
    event_id: str
    event_position: int
    event_type: str
    data: JSON
    depth: int
    recorded_at: datetime
    count: int
    first_at: datetime
    quiet_at: datetime


@frozen(slots=True, kw_only=True)
class ScheduleTaskEnded(ScheduleEvent):
    """The schedule was told how a task that it made has ended (`ended_as`, a task status), and when.

    Only of tasks whose end it wants to know: fixed delay, `pause_on_failures`. `consecutive_failures` and `next_run_at`
    are absolute.
    """

    schedule_id: str
    job_id: str
    task_id: str
    ended_as: int
    ended_at: datetime
    consecutive_failures: int
    next_run_at: datetime | None


@frozen(slots=True, kw_only=True)
class ScheduleReplanned(ScheduleEvent):
    """A calendar that it refers to was changed: `next_run_at` computed anew. No nominal time is decided by it."""

    schedule_id: str
    job_id: str
    next_run_at: datetime | None
    calendars: JSON
