"""What can be asked of each actor. Imperative, frozen; parsed and typed before they get here.

Commands carry what the decision needs from elsewhere: the job as a `JobSnapshot`, a slot as a `Placement`.
In updates, `changes` maps member names to new values (already typed); a member that is absent stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from hetuflow.domain.decider import Guard, Placement
from hetuflow.domain.events import BackfillStarted
from hetuflow.domain.exclusion import Calendar

if TYPE_CHECKING:
    from hetuflow.domain.flow_graph import FlowGraph

JSON = Mapping[str, Any]


@frozen(slots=True, kw_only=True)
class JobSnapshot:
    """A job as of `version` of its stream, to be copied into a task. A decision that uses it guards that version."""

    job_id: str
    version: int
    namespace_id: str
    name: str
    environment: JSON | None
    config: JSON
    agent_id: str | None
    status: int
    enabled_at: datetime | None
    deleted: bool = False
    sealed_until_at: datetime | None = None
    """No task is made of it before: it is about to be deleted."""
    upstream: JSON | None = None

    @property
    def guard(self) -> Guard:
        return Guard(f"job-{self.job_id}", self.version)


@frozen(slots=True, kw_only=True)
class CalendarSnapshot:
    """An exclusion calendar as it is now. A decision that uses it guards its version. One that is deleted still says
    what it excluded until then."""

    calendar: Calendar
    exists: bool = True
    sealed_until_at: datetime | None = None
    """No schedule may refer to it anew before: it is about to be deleted."""

    @property
    def guard(self) -> Guard:
        return Guard(f"calendar-{self.calendar.calendar_id}", self.calendar.version)


# --- job -----------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateJob:
    job_id: str
    namespace_id: str = "default"
    name: str
    description: str | None = None
    environment: JSON | None = None
    config: JSON
    agent_id: str | None = None
    status: int = 100
    schedule: CreateSchedule | None = None
    """A schedule to open in the same commit (the `cron_expr` shorthand)."""
    upstream: JSON | None = None
    guards: Sequence[Guard] = ()
    """The versions of the jobs that were looked at to see that `upstream` closes no circle."""


@frozen(slots=True, kw_only=True)
class UpdateJob:
    """`changes` of: namespace_id, name, description, environment, config, agent_id, upstream, status; `command` =
    `config.cmd` alone, of the config as it then is. `guards` as in `CreateJob`."""

    changes: JSON
    guards: Sequence[Guard] = ()


@frozen(slots=True)
class EnableJob:
    note: str | None = None


@frozen(slots=True)
class DisableJob:
    note: str | None = None


@frozen(slots=True)
class SealJob:
    """Make no task of it for a moment, so that its open ones can be counted before it is deleted."""


@frozen(slots=True)
class UnsealJob:
    pass


@frozen(slots=True, kw_only=True)
class DeleteJob:
    """`sealed_at`: only if that seal still holds. None: whatever runs of it."""

    sealed_at: datetime | None = None


# --- schedule ------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateSchedule:
    """`guards`: the job's version (the job must exist and not be deleted). `calendars`, here and below: those that the
    schedule refers to; one that is missing is asked for with the rejection `calendars_unknown`."""

    schedule_id: str
    job_id: str
    name: str | None = None
    description: str | None = None
    schedule_kind: int
    cron_expression: str | None = None
    interval_secs: int | None = None
    max_count: int | None = None
    timezone: str = "UTC"
    start_time: datetime | None = None
    end_time: datetime | None = None
    event_type: str | None = None
    event_filter: JSON | None = None
    status: int = 100
    misfire_policy: str = "fire_once"
    misfire_grace_seconds: int = 60
    max_age_seconds: int | None = None
    interval_mode: str = "fixed_rate"
    pause_on_failures: int | None = None
    overlap_policy: str = "allow"
    jitter_seconds: int = 0
    parameters: JSON = Factory(dict)
    priority: int = 0
    debounce_seconds: int = 0
    daemon: JSON | None = None
    exclude_calendars: tuple[str, ...] = ()
    run_flow: bool = False
    guards: Sequence[Guard] = ()
    calendars: Sequence[CalendarSnapshot] = ()


@frozen(slots=True, kw_only=True)
class UpdateSchedule:
    """`changes` of any editable member of `CreateSchedule`, and `status`."""

    changes: JSON
    calendars: Sequence[CalendarSnapshot] = ()


@frozen(slots=True)
class EnableSchedule:
    note: str | None = None
    calendars: Sequence[CalendarSnapshot] = ()


@frozen(slots=True)
class DisableSchedule:
    note: str | None = None


@frozen(slots=True, kw_only=True)
class DeleteSchedule:
    reason: str = "user"


@frozen(slots=True, kw_only=True)
class FireSchedule:
    """The ticker's question: cover every nominal time up to now.

    Opens the tasks' streams in the same append, guarded by the job's version and `guards` (the slot's lease).
    `placements` are slots held for the tasks this fire may make, in order; those not used are given back by the
    caller, who sees in the decision which tasks were dispatched. `has_ended` tells of earlier tasks of the schedule; one
    that is missing is asked for with the rejection `tasks_unknown`. `guards` has the versions of those that have ended.
    """

    job: JobSnapshot
    placements: Sequence[Placement] = ()
    guards: Sequence[Guard] = ()
    has_ended: Mapping[str, bool] = Factory(dict)
    flow: FlowGraph | None = None
    """The flow of the job, for a schedule that runs it; asked for with the rejection `flow_unknown`."""
    calendars: Sequence[CalendarSnapshot] = ()


@frozen(slots=True, kw_only=True)
class ReplanSchedule:
    """A calendar that it refers to was changed: compute anew when it fires next."""

    calendars: Sequence[CalendarSnapshot] = ()


@frozen(slots=True, kw_only=True)
class TaskEnd:
    """How and when a task of the schedule ended for the first time; `status` is a code of `TaskStatus`."""

    task_id: str
    status: int
    ended_at: datetime


@frozen(slots=True, kw_only=True)
class NoteTaskEnds:
    """Tell the schedule of these ends, in the order of the log. Told twice is told once."""

    ends: Sequence[TaskEnd]


@frozen(slots=True, kw_only=True)
class MatchedEvent:
    """An event of the log that an Event schedule's type and filter fit.

    `depth`: how many event schedules are behind it. `job_enabled_at`: the job's last enabling that the log has before
    the event, as far as it was followed. `unfit`: why no task can be made of it.
    """

    event_id: str
    position: int
    type: str
    recorded_at: datetime
    data: JSON
    depth: int = 0
    job_enabled_at: datetime | None = None
    unfit: str | None = None


@frozen(slots=True, kw_only=True)
class TriggerSchedule:
    """Decide about events that the schedule matches, as it was defined at `defined_at`: in the order of the log.

    What was decided about is left as it is; of a schedule that is defined otherwise meanwhile, nothing is decided.
    `depth_max`: an event with at least so many event schedules behind it makes no task. The rest as for `FireSchedule`.
    """

    job: JobSnapshot
    events: Sequence[MatchedEvent]
    defined_at: datetime
    depth_max: int
    placements: Sequence[Placement] = ()
    guards: Sequence[Guard] = ()
    has_ended: Mapping[str, bool] = Factory(dict)


@frozen(slots=True, kw_only=True)
class SeatTask:
    """What is known of a task that a daemon has made. `ended_at`: None while it is open.

    `outcome`: `succeeded`, `failed` or `cancelled`; `reason` of a failure; `lived_seconds` by its agent's clock, None
    when no process ran. `agent_id`: where its process runs.
    """

    task_id: str
    is_running: bool = False
    agent_id: str | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    lived_seconds: float | None = None


@frozen(slots=True, kw_only=True)
class TendDaemon:
    """Take note of what became of its tasks, and start, stop and replace what has to be.

    Opens the tasks' streams in the same append, guarded by the job's version and `guards` (the slot's lease). `tasks`:
    of its open tasks those that were looked at; the others are as they were.
    """

    job: JobSnapshot
    tasks: Sequence[SeatTask] = ()
    guards: Sequence[Guard] = ()


# --- backfill ------------------------------------------------------------------------------------------------------


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


@frozen(slots=True, kw_only=True)
class SuspendSchedule:
    error: str


# --- calendar ------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateCalendar:
    """See calendar_members.py for what the members may be."""

    calendar_id: str
    description: str | None = None
    timezone: str = "UTC"
    dates: Sequence[str] = ()
    ranges: Sequence[JSON] = ()
    yearly: Sequence[str] = ()
    weekdays: Sequence[JSON] = ()
    times: Sequence[JSON] = ()
    periods: Sequence[JSON] = ()
    imported_until_at: datetime | None = None


@frozen(slots=True, kw_only=True)
class UpdateCalendar:
    """`changes` of any member of `CreateCalendar` but the id."""

    changes: JSON


@frozen(slots=True)
class SealCalendar:
    """Let no schedule refer to it anew for a moment, so that those that do can be counted before it is deleted."""


@frozen(slots=True)
class UnsealCalendar:
    pass


@frozen(slots=True, kw_only=True)
class DeleteCalendar:
    """Only if that seal still holds."""

    sealed_at: datetime


# --- task ----------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateTask:
    """A task by hand (run, execute, api). None = inherit from job (or schedule, resolved by the caller).

    `config` members override the job's one by one; `environment` merges over job < job config, then
    `config.environment`. With a `placement`, it is dispatched in the same append when it is due now.
    """

    task_id: str
    job: JobSnapshot
    trigger: str
    name: str | None = None
    description: str | None = None
    namespace_id: str | None = None
    priority: int = 0
    schedule_id: str | None = None
    schedule_kind: int = 4
    nominal_at: datetime | None = None
    scheduled_at: datetime | None = None
    environment: JSON | None = None
    parameters: JSON = Factory(dict)
    config: JSON | None = None
    retry_count: int = 0
    dependencies: JSON | None = None
    event: JSON | None = None
    placement: Placement | None = None
    flow_run_id: str | None = None
    avoid: tuple[str, ...] = ()
    backfill_id: str | None = None


@frozen(slots=True, kw_only=True)
class UpdateTask:
    """`changes` of: name, description, namespace_id, priority, scheduled_at, environment, parameters, config,
    dependencies."""

    changes: JSON
    lock_version: int | None = None
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class CreateTasks:
    """Several tasks in one append; the actor asked is the first one's."""

    tasks: Sequence[CreateTask]


@frozen(slots=True, kw_only=True)
class SettleDependencies:
    """These tasks, which it waits for, have ended: id -> status."""

    settled: Mapping[str, int]


@frozen(slots=True, kw_only=True)
class ExpireTask:
    """It did not start in time. `guards`: the lease of the server that decides."""

    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class DispatchTask:
    """Claim and dispatch in one append: TaskLocked + TaskDispatched. The epoch is the state's plus one."""

    instance_id: str
    placement: Placement


@frozen(slots=True, kw_only=True)
class RequeueInstance:
    """The run provably never started (refused by the agent, or unknown to it on the same incarnation)."""

    instance_id: str
    epoch: int
    reason: str


@frozen(slots=True, kw_only=True)
class LoseInstance:
    """The agent's lease ran out, or the agent restarted without knowing this run. Uses a retry."""

    instance_id: str
    epoch: int
    message: str


@frozen(slots=True, kw_only=True)
class ReportStarted:
    instance_id: str
    agent_id: str
    epoch: int
    started_at: datetime
    pid: int | None = None
    isolation: str | None = None


@frozen(slots=True, kw_only=True)
class ReportEnded:
    """The agent's word on how an instance ended.

    `reason` is None for success, else an `InstanceReason`; `rejected` means that nothing was started.
    """

    instance_id: str
    agent_id: str | None
    epoch: int
    reason: str | None
    started_at: datetime | None
    completed_at: datetime
    duration_seconds: float
    error_message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    metrics: JSON | None = None
    output: JSON | None = None


@frozen(slots=True, kw_only=True)
class Report:
    """What one agent says of one task, in order, decided and appended together. Repeats are no change."""

    reports: Sequence[ReportStarted | ReportEnded]


@frozen(slots=True, kw_only=True)
class CancelTask:
    """At once when Pending, Locked or WaitingRetry; requested when dispatched or running. `cause`: user, cascade, ..."""

    reason: str | None = None
    cause: str = "user"
    by: str = "user"


@frozen(slots=True, kw_only=True)
class RetryTask:
    """`waits_for`: those of its dependencies that have not ended (again).

    `attempt`: only if that is the attempt that has ended; else it has been retried already, and nothing happens.
    `is_whole`: it waits again for all of its dependencies.
    """

    waits_for: tuple[str, ...] = ()
    attempt: int | None = None
    is_whole: bool = False


@frozen(slots=True, kw_only=True)
class DeleteTask:
    """`cascade`: cancel it first. A live instance is stopped, and the task deleted in the append that ends it."""

    cascade: bool = False


# --- flow ----------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class StartFlow:
    """Make all tasks of the flow, in one append: `tasks` are complete and in the order of `started.graph`."""

    flow_run_id: str
    name: str
    namespace_id: str
    trigger: str
    graph: JSON
    tasks: Sequence[CreateTask]
    parameters: JSON = Factory(dict)
    schedule_id: str | None = None
    nominal_at: datetime | None = None


@frozen(slots=True, kw_only=True)
class CancelFlow:
    reason: str | None = None


@frozen(slots=True, kw_only=True)
class RetryFlow:
    """Run these tasks again: task id -> the attempt that has ended. Those in `forced` wait only for what is open."""

    tasks: Mapping[str, int]
    forced: Sequence[str] = ()


@frozen(slots=True, kw_only=True)
class FlowTaskEnd:
    """How a task of a flow has ended. `is_unmet`: it was not run, for what it follows ended otherwise."""

    status: int
    attempt: int
    is_unmet: bool = False
    is_deleted: bool = False


@frozen(slots=True, kw_only=True)
class FinishFlow:
    """All its tasks have ended, so: task id -> end. `guards`: the versions of the tasks, so that it still holds."""

    ends: Mapping[str, FlowTaskEnd]
    guards: Sequence[Guard] = ()


# --- instances driven over the API ---------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateInstance:
    """A record of an execution outside, beside the task's own instance. `status`: Pending, Dispatched or Running."""

    instance_id: str
    agent_id: str | None = None
    status: int = 1
    started_at: datetime | None = None


@frozen(slots=True, kw_only=True)
class UpdateInstance:
    """`changes` of: agent_id, status, started_at, completed_at, error_message, exit_code, metrics, output,
    output_truncated. All of them differ from what is stored."""

    instance_id: str
    changes: JSON


@frozen(slots=True, kw_only=True)
class DeleteInstance:
    instance_id: str


# --- agent ---------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class CreateAgent:
    agent_id: str
    name: str | None = None
    namespace_id: str = "default"
    description: str | None = None
    address: str = ""
    labels: JSON | None = None
    metadata: JSON | None = None
    max_concurrent_tasks: int | None = None
    config: JSON | None = None


@frozen(slots=True, kw_only=True)
class LeftBehind:
    """What an agent that was removed has left: instances that hold a slot of its id, and how many of them started.

    `guards`: the versions of their tasks, so that what is counted is still so.
    """

    running: int
    started: int
    guards: tuple[Guard, ...]


@frozen(slots=True, kw_only=True)
class ConnectAgent:
    """A hello. Refused (`Rejected("incarnation_old")`) when a higher incarnation is known.

    An equal incarnation with another live session is decided by the gateway (ping), which then passes `takeover`.
    """

    agent_id: str
    server_id: str
    session: str
    address: str
    name: str
    incarnation: int
    labels: JSON
    metadata: JSON
    max_concurrent_tasks: int
    version: str
    host: str
    lease_seconds: float
    takeover: bool = False
    left: LeftBehind | None = None


@frozen(slots=True, kw_only=True)
class DisconnectAgent:
    session: str
    reason: str


@frozen(slots=True, kw_only=True)
class LoseAgent:
    """`guards`: what the decision relies on, when another server has heard the agent last: that this one has ended."""

    session: str
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class UpdateAgent:
    """`changes` of: name, namespace_id, description, address, labels, metadata, max_concurrent_tasks, config.

    `labels: None` clears the labels set here: the reported ones hold again.
    """

    changes: JSON


@frozen(slots=True, kw_only=True)
class DrainAgent:
    reason: str | None = None


@frozen(slots=True)
class UndrainAgent:
    pass


@frozen(slots=True)
class RemoveAgent:
    pass


# --- external ------------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class ReceiveEvent:
    """`known_until`: the version of the stream up to which the caller has looked for it, and not found it."""

    id: str
    source: str
    type: str
    data: JSON
    time: datetime
    digest: str
    known_until: int = 0


# --- server, lease -------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class StartServer:
    """`guards`: what must still hold. A server that was called lost says with them which word it contradicts."""

    server_id: str
    name: str
    address: str
    version: str
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class UpdateServer:
    """`changes` of: name, address, description, bind_namespaces."""

    changes: JSON


@frozen(slots=True)
class AffirmServer:
    """It lives: a beat, for other servers on the same log."""


@frozen(slots=True)
class StopServer:
    pass


@frozen(slots=True)
class LoseServer:
    pass


@frozen(slots=True)
class RemoveServer:
    pass


@frozen(slots=True, kw_only=True)
class TakeLease:
    """`over`: only from these holders, or when nobody holds it; None = whoever holds it. `guards`: what gives the right."""

    slot: int
    server_id: str
    over: Sequence[str] | None = None
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class ReleaseLease:
    slot: int
    server_id: str
