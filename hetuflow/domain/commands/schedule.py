"""What can be asked of a schedule. Of its seats, if it is a daemon: see daemon.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain import flow_graph  # the module: each of the two needs the other, and recorded commands its types
from hetuflow.domain.commands.snapshots import JSON, CalendarSnapshot, JobSnapshot
from hetuflow.domain.decider import Guard, Placement


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
    `is_backfilled` tells which of the tasks that it would make a backfill has made already; None: none of them, as far as
    is known. One that is missing then is asked for with the rejection `backfills_unknown`.
    """

    job: JobSnapshot
    placements: Sequence[Placement] = ()
    guards: Sequence[Guard] = ()
    has_ended: Mapping[str, bool] = Factory(dict)
    is_backfilled: Mapping[str, bool] | None = None
    flow: flow_graph.FlowGraph | None = None
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
class SuspendSchedule:
    error: str
