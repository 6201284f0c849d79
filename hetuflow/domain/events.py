"""The event catalogue: every fact that hetuflow records, each field named once.

Past tense, frozen, complete: an event carries the *result* of its decision, not only the cause, so that every table is
a fold of single events. `*_at` are aware UTC datetimes decided by the caller's clock; the store adds `recorded_at`.
New fields always have defaults; a changed meaning is a new event type.

`config` members are the effective TaskConfig as a JSON object (all members present, open members kept).
`principal` of whoever asked is in the metadata, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import Factory, frozen

from hetuflow.domain.identity import external_event_id

JSON = Mapping[str, Any]


class Event:
    """Base of all events, for typing only."""

    __slots__ = ()


class JobEvent(Event):
    """An event of a `job-<id>` stream."""

    __slots__ = ()


class ScheduleEvent(Event):
    """An event of a `schedule-<id>` stream."""

    __slots__ = ()


class TaskEvent(Event):
    """An event of a `task-<id>` stream, its instances included."""

    __slots__ = ()


class AgentEvent(Event):
    """An event of an `agent-<id>` stream."""

    __slots__ = ()


class ServerEvent(Event):
    """An event of a `server-<id>` stream."""

    __slots__ = ()


class ExternalEvent(Event):
    """An event of an `external-<source>` stream."""

    __slots__ = ()


class CalendarEvent(Event):
    """An event of a `calendar-<id>` stream."""

    __slots__ = ()


class LeaseEvent(Event):
    """An event of a `lease-<slot>` stream."""

    __slots__ = ()


class FlowEvent(Event):
    """An event of a `flow-<id>` stream."""

    __slots__ = ()


class BackfillEvent(Event):
    """An event of a `backfill-<id>` stream."""

    __slots__ = ()


# --- job-<id> ------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class JobCreated(JobEvent):
    job_id: str
    namespace_id: str
    name: str
    description: str | None
    environment: JSON | None
    config: JSON
    agent_id: str | None
    status: int
    created_at: datetime
    created_by: int = 1
    upstream: JSON | None = None
    """The jobs that it follows in a flow: `{"jobs": [{"job_id", "on"}], "match"}`."""


@frozen(slots=True, kw_only=True)
class JobUpdated(JobEvent):
    """The whole of the editable members after the change; `changed` names those that differ."""

    job_id: str
    namespace_id: str
    name: str
    description: str | None
    environment: JSON | None
    config: JSON
    agent_id: str | None
    changed: tuple[str, ...]
    updated_by: int = 1
    upstream: JSON | None = None


@frozen(slots=True, kw_only=True)
class JobEnabled(JobEvent):
    """The job fires from schedules again; nominal times at or before `enabled_at` do not."""

    job_id: str
    enabled_at: datetime
    updated_by: int = 1
    note: str | None = None


@frozen(slots=True, kw_only=True)
class JobDisabled(JobEvent):
    """`status` is the new status: Disabled, or Created or Expired where a client asked for that."""

    job_id: str
    status: int
    updated_by: int = 1
    note: str | None = None


@frozen(slots=True, kw_only=True)
class JobDeleted(JobEvent):
    job_id: str
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class JobSealed(JobEvent):
    """No task is made of the job for a moment, while it is looked for open ones before it is deleted.

    Lapses by itself `SEAL_SECONDS` after `sealed_at`.
    """

    job_id: str
    sealed_at: datetime


@frozen(slots=True, kw_only=True)
class JobUnsealed(JobEvent):
    """It has open tasks: it was not deleted."""

    job_id: str


# --- schedule-<id> -------------------------------------------------------------------------------------------------


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
    """A range of nominal times that will not become tasks: `reason` is `misfire`, `max_age`, `overlap`, ..."""

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


@frozen(slots=True, kw_only=True)
class ScheduleReplanned(ScheduleEvent):
    """A calendar that it refers to was changed: `next_run_at` computed anew. No nominal time is decided by it."""

    schedule_id: str
    job_id: str
    next_run_at: datetime | None
    calendars: JSON


# --- calendar-<id> -------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CalendarCreated(CalendarEvent):
    """A named set of instants at which schedules that refer to it do not fire. Also made again after a deletion.

    `imported_until_at`: how far the recurring events of an imported file were expanded; None = to their end, or none.
    """

    calendar_id: str
    description: str | None
    timezone: str
    dates: tuple[str, ...]
    ranges: tuple[JSON, ...]
    yearly: tuple[str, ...]
    weekdays: tuple[JSON, ...]
    times: tuple[JSON, ...]
    periods: tuple[JSON, ...]
    imported_until_at: datetime | None
    created_at: datetime
    created_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarUpdated(CalendarEvent):
    """The whole of the editable members after the change; instants at or before `updated_at` are judged as before."""

    calendar_id: str
    description: str | None
    timezone: str
    dates: tuple[str, ...]
    ranges: tuple[JSON, ...]
    yearly: tuple[str, ...]
    weekdays: tuple[JSON, ...]
    times: tuple[JSON, ...]
    periods: tuple[JSON, ...]
    imported_until_at: datetime | None
    updated_at: datetime
    changed: tuple[str, ...]
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarDeleted(CalendarEvent):
    """It excludes nothing after `deleted_at`."""

    calendar_id: str
    deleted_at: datetime
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarSealed(CalendarEvent):
    """No schedule may refer to it anew for a moment, while it is looked for those that do before it is deleted.

    Lapses by itself `SEAL_SECONDS` after `sealed_at`.
    """

    calendar_id: str
    sealed_at: datetime


@frozen(slots=True, kw_only=True)
class CalendarUnsealed(CalendarEvent):
    """Schedules refer to it: it was not deleted."""

    calendar_id: str


# --- task-<id> -----------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class TaskCreated(TaskEvent):
    """A task with its first, Pending instance. `config` and `environment` are effective snapshots of the job's.

    `agent_id` is the job's pin. `job_version` is the version of the job's stream it was copied at. `rendered`: what came of
    the templates in its arguments, `args` and the `variables` that a shell's script refers to; None when it has none.
    """

    task_id: str
    job_id: str
    job_version: int
    namespace_id: str
    name: str
    description: str | None
    priority: int
    schedule_id: str | None
    schedule_kind: int
    nominal_at: datetime | None
    scheduled_at: datetime
    environment: JSON | None
    parameters: JSON
    config: JSON
    agent_id: str | None
    retry_count: int
    dependencies: JSON | None
    trigger: str
    instance_id: str
    attempt: int
    created_at: datetime
    created_by: int = 1
    event: JSON | None = None
    """What triggered it, where an event did: `id`, `type`, `position`, `depth`; `count` of those that it stands for."""
    flow_run_id: str | None = None
    """The flow run that it is part of."""
    rendered: JSON | None = None
    avoid: tuple[str, ...] = ()
    """Agents that are given it only when no other has a free slot: other instances of its daemon run there."""
    backfill_id: str | None = None
    """The backfill that made it."""


@frozen(slots=True, kw_only=True)
class TaskUpdated(TaskEvent):
    """The whole of the editable members after the change; `changed` names those that differ."""

    task_id: str
    name: str
    description: str | None
    namespace_id: str
    priority: int
    scheduled_at: datetime
    environment: JSON | None
    parameters: JSON
    config: JSON
    dependencies: JSON | None
    changed: tuple[str, ...]
    updated_by: int = 1
    rendered: JSON | None = None


@frozen(slots=True, kw_only=True)
class TaskLocked(TaskEvent):
    """A server has claimed the task."""

    task_id: str
    server_id: str
    locked_at: datetime


@frozen(slots=True, kw_only=True)
class TaskDispatched(TaskEvent):
    """Committed for an agent; sent to it after the commit, valid only on that `session`.

    `placement` says why there: `fitting` agents could have taken it, this one had `used` of its `slots` in use;
    `avoided` agents (of earlier attempts, of other instances of a daemon) came last. `rate`: the task's own (`count`,
    `per_seconds`), within which it was started; None when it has none.
    """

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str
    session: str
    epoch: int
    attempt: int
    dispatched_at: datetime
    placement: JSON | None = None
    rate: JSON | None = None


@frozen(slots=True, kw_only=True)
class TaskRequeued(TaskEvent):
    """The run provably never started: the same instance is Pending again, no retry is used."""

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str
    epoch: int
    reason: str


@frozen(slots=True, kw_only=True)
class TaskRetryScheduled(TaskEvent):
    """A run failed and another will follow: `instance_id` and `attempt` are those of the new, Pending instance."""

    task_id: str
    job_id: str
    retry_at: datetime
    retry_count: int
    instance_id: str
    attempt: int


@frozen(slots=True, kw_only=True)
class TaskReopened(TaskEvent):
    """An operator's retry: Pending again with a new, Pending instance, `retry_count` 0 unless it waited for a retry.

    From WaitingRetry the waiting instance itself is made due at once: `instance_id` is then unchanged.
    """

    task_id: str
    job_id: str
    instance_id: str
    attempt: int
    retry_count: int
    scheduled_at: datetime
    updated_by: int = 1
    waits_for: tuple[str, ...] = ()
    """Those of its dependencies that had not ended, which it waits for again."""


@frozen(slots=True, kw_only=True)
class TaskDependencySettled(TaskEvent):
    """A task that this one waits for has ended, with that status; `open_count` of them are still awaited."""

    task_id: str
    job_id: str
    dependency_id: str
    status: int
    open_count: int
    settled_at: datetime


@frozen(slots=True, kw_only=True)
class TaskCancelRequested(TaskEvent):
    """A cancel of a dispatched or running task is under way. `cause` as in `TaskCancelled`, which follows.

    `then_delete`: the task is deleted in the append that ends it.
    """

    task_id: str
    requested_at: datetime
    reason: str | None
    by: str
    updated_by: int = 1
    cause: str = "user"
    then_delete: bool = False


@frozen(slots=True, kw_only=True)
class TaskCancelled(TaskEvent):
    """`cause` is `user`, `cascade`, `overlap`, `dependency`, `dependency_unmet` (its own conditions on what it was to
    follow), `flow` (its flow run was cancelled), `expired` (it did not start in time) or `daemon`."""

    task_id: str
    job_id: str
    cancelled_at: datetime
    cause: str
    reason: str | None = None
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class TaskSucceeded(TaskEvent):
    task_id: str
    job_id: str
    completed_at: datetime


@frozen(slots=True, kw_only=True)
class TaskFailed(TaskEvent):
    """`reason`: of its last attempt; `not_retried`: why that was the last one (events older than the member: None)."""

    task_id: str
    job_id: str
    completed_at: datetime
    reason: str
    not_retried: str | None = None


@frozen(slots=True, kw_only=True)
class TaskDeleted(TaskEvent):
    task_id: str
    job_id: str
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class InstanceCreated(TaskEvent):
    """A record of an execution outside the agents, made over the API beside the task's own instance.

    Never dispatched, and without effect on the task.
    """

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    attempt: int
    status: int
    started_at: datetime | None
    created_at: datetime


@frozen(slots=True, kw_only=True)
class InstanceTakenOver(TaskEvent):
    """The task's own instance is driven over the API from now on: no agent is given it any more."""

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    taken_at: datetime


@frozen(slots=True, kw_only=True)
class InstanceDispatched(TaskEvent):
    """The task's own instance, driven over the API, is in the hands of whoever executes it outside."""

    task_id: str
    job_id: str
    instance_id: str
    epoch: int
    attempt: int
    dispatched_at: datetime


@frozen(slots=True, kw_only=True)
class InstanceReported(TaskEvent):
    """What the API said of an instance that it drives: all of it after the change; `changed` names what differs.

    `output`: the end of what the program wrote, at most 64 KiB; `output_truncated`: more was sent. `metrics` as in
    `InstanceSucceeded`.
    """

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    status: int
    started_at: datetime | None
    completed_at: datetime | None
    error_message: str | None
    exit_code: int | None
    reason: str | None
    metrics: JSON | None
    output: str | None
    output_truncated: bool
    changed: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class InstancePaused(TaskEvent):
    task_id: str
    job_id: str
    instance_id: str
    paused_at: datetime


@frozen(slots=True, kw_only=True)
class InstanceResumed(TaskEvent):
    task_id: str
    job_id: str
    instance_id: str
    resumed_at: datetime


@frozen(slots=True, kw_only=True)
class InstanceDeleted(TaskEvent):
    """Gone from the table; it had ended."""

    task_id: str
    job_id: str
    instance_id: str


@frozen(slots=True, kw_only=True)
class InstanceStarted(TaskEvent):
    """The process runs. `started_at` by the agent's wall clock; `agent_id` None: outside the agents."""

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    attempt: int
    epoch: int
    started_at: datetime
    pid: int | None = None
    isolation: str | None = None


@frozen(slots=True, kw_only=True)
class InstanceSucceeded(TaskEvent):
    """`metrics`: cpu_time s, memory_peak bytes, disk_read, disk_write, network_in, network_out bytes; 0 = not measured.

    `output`: per stream `bytes` written by the process, `kept` bytes and `sha256` of all of it; `dropped` bytes.
    `duration_seconds` is wall time from start to end; `started_at` is repeated so that the row needs no other event.
    `agent_id` None: it ran outside the agents.
    """

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    attempt: int
    epoch: int
    started_at: datetime | None
    completed_at: datetime
    duration_seconds: float
    exit_code: int = 0
    metrics: JSON | None = None
    output: JSON | None = None


@frozen(slots=True, kw_only=True)
class InstanceFailed(TaskEvent):
    """`status` is the instance's final status: Timeout for reason `timeout`, else Failed."""

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    attempt: int
    epoch: int
    status: int
    reason: str
    error_message: str
    started_at: datetime | None
    completed_at: datetime
    duration_seconds: float
    exit_code: int | None = None
    signal: int | None = None
    metrics: JSON | None = None
    output: JSON | None = None


@frozen(slots=True, kw_only=True)
class InstanceCancelled(TaskEvent):
    """Ended by a cancel; `agent_id` is None and `epoch` 0 when it had never been dispatched.

    `status` is Skipped where an execution outside the agents said so.
    """

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str | None
    attempt: int
    epoch: int
    started_at: datetime | None
    completed_at: datetime
    duration_seconds: float
    error_message: str
    exit_code: int | None = None
    signal: int | None = None
    metrics: JSON | None = None
    output: JSON | None = None
    status: int = 99


@frozen(slots=True, kw_only=True)
class InstanceReportRefused(TaskEvent):
    """Evidence: an agent reported something about an instance that is not, or no longer, its own."""

    task_id: str
    job_id: str
    instance_id: str
    agent_id: str
    epoch: int
    why: str
    report: JSON = Factory(dict)


# --- agent-<id> ----------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class AgentCreated(AgentEvent):
    """Made over the API, before or without a connection. Labels are those set here (None: none set)."""

    agent_id: str
    name: str
    namespace_id: str
    description: str | None
    address: str
    labels: JSON | None
    metadata: JSON | None
    max_concurrent_tasks: int | None
    config: JSON | None
    created_at: datetime


@frozen(slots=True, kw_only=True)
class AgentRegistered(AgentEvent):
    """What the agent declares of itself: recorded at its first connection and when it changes.

    `name` is the agent's current name; a first registration sets it, later ones repeat it.
    `effective_labels`, `effective_metadata`: those set over the API, else the declared ones.
    `running_instances`, `started_instances`: what an agent of this id that was removed has left, so that the new row
    counts it; 0 at every other registration.
    """

    agent_id: str
    name: str
    reported_labels: JSON
    reported_metadata: JSON
    effective_labels: JSON
    effective_metadata: JSON
    max_concurrent_tasks: int
    version: str
    host: str
    incarnation: int
    registered_at: datetime
    running_instances: int = 0
    started_instances: int = 0


@frozen(slots=True, kw_only=True)
class AgentConnected(AgentEvent):
    agent_id: str
    server_id: str
    session: str
    address: str
    incarnation: int
    effective_labels: JSON
    max_concurrent_tasks: int
    lease_seconds: float
    connected_at: datetime


@frozen(slots=True, kw_only=True)
class AgentDisconnected(AgentEvent):
    """The connection ended; its instances stay its own until the lease runs out."""

    agent_id: str
    session: str
    reason: str
    disconnected_at: datetime


@frozen(slots=True, kw_only=True)
class AgentLost(AgentEvent):
    """The lease of the last session ran out: its instances are lost."""

    agent_id: str
    session: str
    lost_at: datetime


@frozen(slots=True, kw_only=True)
class AgentUpdated(AgentEvent):
    """Edited over the API: the effective values after the change. `labels_set`: labels here replace reported ones."""

    agent_id: str
    name: str
    namespace_id: str
    description: str | None
    address: str
    labels_set: JSON | None
    metadata_set: JSON | None
    effective_labels: JSON
    effective_metadata: JSON
    max_concurrent_tasks: int
    config: JSON | None
    changed: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class AgentDrained(AgentEvent):
    agent_id: str
    drained_at: datetime
    reason: str | None


@frozen(slots=True, kw_only=True)
class AgentUndrained(AgentEvent):
    agent_id: str


@frozen(slots=True, kw_only=True)
class AgentRemoved(AgentEvent):
    """Gone from the tables; it may register again."""

    agent_id: str


# --- server-<id>, lease-<slot> -------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class ServerStarted(ServerEvent):
    server_id: str
    name: str
    address: str
    version: str
    started_at: datetime
    bind_namespaces: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class ServerUpdated(ServerEvent):
    server_id: str
    name: str
    address: str
    description: str | None
    bind_namespaces: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class ServerStopped(ServerEvent):
    server_id: str
    stopped_at: datetime


@frozen(slots=True, kw_only=True)
class ServerLost(ServerEvent):
    server_id: str
    lost_at: datetime


@frozen(slots=True, kw_only=True)
class ServerRemoved(ServerEvent):
    server_id: str


@frozen(slots=True, kw_only=True)
class LeaseTaken(LeaseEvent):
    """The server holds the scheduler's decisions for this slot; the version of this event is the epoch."""

    slot: int
    server_id: str
    taken_at: datetime


@frozen(slots=True, kw_only=True)
class LeaseReleased(LeaseEvent):
    slot: int
    server_id: str


# --- external-<source> ---------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class ExternalEventReceived(ExternalEvent):
    """Something happened outside and was told to the API. (`source`, `id`) names it for ever.

    `digest` is of what was sent, so that the same event sent again can be told from another one of its name. Its
    event id is derived from source and id.
    """

    id: str
    source: str
    type: str
    data: JSON
    time: datetime
    digest: str

    @property
    def recorded_id(self) -> UUID:
        """The event id it is recorded under."""
        return external_event_id(self.source, self.id)


# --- flow-<id> -----------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class FlowStarted(FlowEvent):
    """A run of a flow, in the append that makes all its tasks. `job_id`: its root, the first of them.

    `graph`: `nodes`, each after all that it follows, with `job_id`, `name`, `task_id` and `match`; `edges` with `from`
    and `to` (job ids) and `on`. It is the flow as it was then; later edits of jobs do not touch it.
    """

    flow_run_id: str
    job_id: str
    namespace_id: str
    name: str
    trigger: str
    schedule_id: str | None
    nominal_at: datetime | None
    parameters: JSON
    graph: JSON
    task_count: int
    started_at: datetime
    created_by: int = 1


@frozen(slots=True, kw_only=True)
class FlowCancelRequested(FlowEvent):
    """What is open of it is being cancelled; `FlowFinished` follows when all has ended."""

    flow_run_id: str
    requested_at: datetime
    reason: str | None
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class FlowRetried(FlowEvent):
    """Tasks that ended run again: task id -> the attempt that had ended. The flow run is open again.

    Each waits again for all that it follows, except those in `forced`, which a user retried by themselves: they wait only
    for what is open.
    """

    flow_run_id: str
    tasks: JSON
    retried_at: datetime
    updated_by: int = 1
    forced: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class FlowFinished(FlowEvent):
    """All its tasks have ended. `outcome` counts them: `succeeded`, `failed`, `cancelled`, `skipped` (not run, because
    what they were to follow ended otherwise)."""

    flow_run_id: str
    status: int
    finished_at: datetime
    outcome: JSON


# --- backfill-<id> -------------------------------------------------------------------------------------------------


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


EVENT_TYPES: tuple[type[Event], ...] = (
    JobCreated,
    JobUpdated,
    JobEnabled,
    JobDisabled,
    JobDeleted,
    JobSealed,
    JobUnsealed,
    ScheduleCreated,
    ScheduleUpdated,
    ScheduleEnabled,
    ScheduleDisabled,
    ScheduleDeleted,
    ScheduleExpired,
    ScheduleSuspended,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleTaskEnded,
    ScheduleEventHeld,
    SeatStarted,
    SeatRunning,
    SeatReady,
    SeatEnded,
    SeatsStopping,
    DaemonStopped,
    DaemonGaveUp,
    ScheduleReplanned,
    TaskCreated,
    TaskUpdated,
    TaskLocked,
    TaskDispatched,
    TaskRequeued,
    TaskRetryScheduled,
    TaskReopened,
    TaskDependencySettled,
    TaskCancelRequested,
    TaskCancelled,
    TaskSucceeded,
    TaskFailed,
    TaskDeleted,
    InstanceCreated,
    InstanceTakenOver,
    InstanceDispatched,
    InstanceReported,
    InstancePaused,
    InstanceResumed,
    InstanceDeleted,
    InstanceStarted,
    InstanceSucceeded,
    InstanceFailed,
    InstanceCancelled,
    InstanceReportRefused,
    AgentCreated,
    AgentRegistered,
    AgentConnected,
    AgentDisconnected,
    AgentLost,
    AgentUpdated,
    AgentDrained,
    AgentUndrained,
    AgentRemoved,
    ServerStarted,
    ServerUpdated,
    ServerStopped,
    ServerLost,
    ServerRemoved,
    ExternalEventReceived,
    LeaseTaken,
    LeaseReleased,
    FlowStarted,
    FlowCancelRequested,
    FlowRetried,
    FlowFinished,
    CalendarCreated,
    CalendarUpdated,
    CalendarDeleted,
    CalendarSealed,
    CalendarUnsealed,
    BackfillStarted,
    BackfillAdvanced,
    BackfillTaskEnded,
    BackfillCancelled,
    BackfillFinished,
)
"""Every released event type, all at schema 1; the stored name is the class name, frozen for ever by the corpus test."""
