"""`sched_task`: one row per task that is not deleted, open or ended."""

from __future__ import annotations

from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import (
    InstanceDispatched,
    InstanceStarted,
    InstanceTakenOver,
    TaskCancelled,
    TaskCancelRequested,
    TaskCreated,
    TaskDeleted,
    TaskDispatched,
    TaskFailed,
    TaskLocked,
    TaskReopened,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSucceeded,
    TaskUpdated,
)
from projections.definition import (
    Born,
    Column,
    Constant,
    Field,
    Kind,
    Table,
    Touched,
    TouchedVersion,
    always,
    same,
)

STATUS_OF = {
    TaskCreated: TaskStatus.PENDING,
    TaskLocked: TaskStatus.LOCKED,
    TaskDispatched: TaskStatus.DISPATCHED,
    InstanceStarted: TaskStatus.RUNNING,
    TaskRequeued: TaskStatus.PENDING,
    InstanceTakenOver: TaskStatus.PENDING,
    InstanceDispatched: TaskStatus.DISPATCHED,
    TaskRetryScheduled: TaskStatus.WAITING_RETRY,
    TaskReopened: TaskStatus.PENDING,
    TaskSucceeded: TaskStatus.SUCCEEDED,
    TaskFailed: TaskStatus.FAILED,
    TaskCancelled: TaskStatus.CANCELLED,
}
"""The status that each event means. The lifecycle's check is the domain's; a fold only repeats what was decided."""

ENDS = (TaskSucceeded, TaskFailed, TaskCancelled)


def _member(name: str, kind: Kind) -> Column:
    return Column(name, kind, same(name, TaskCreated, TaskUpdated))


TASKS = Table(
    name="sched_task",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("task_id"),
    creates={TaskCreated: None},
    removes={TaskDeleted: None},
    items=(
        Column("job_id", Kind.UUID, same("job_id", TaskCreated)),
        _member("name", Kind.TEXT),
        _member("description", Kind.TEXT),
        _member("namespace_id", Kind.TEXT),
        _member("priority", Kind.INT),
        Column("status", Kind.INT, {event: Constant(int(status)) for event, status in STATUS_OF.items()}),
        Column("schedule_id", Kind.UUID, same("schedule_id", TaskCreated)),
        Column("schedule_kind", Kind.INT, same("schedule_kind", TaskCreated)),
        Column("scheduled_at", Kind.TIME, same("scheduled_at", TaskCreated, TaskUpdated, TaskReopened)),
        Column(
            "completed_at",
            Kind.TIME,
            {
                TaskSucceeded: Field("completed_at"),
                TaskFailed: Field("completed_at"),
                TaskCancelled: Field("cancelled_at"),
                TaskReopened: Constant(None),
            },
        ),
        _member("environment", Kind.JSON),
        _member("parameters", Kind.JSON),
        _member("config", Kind.JSON),
        _member("rendered", Kind.JSON),
        Column("retry_count", Kind.INT, same("retry_count", TaskCreated, TaskRetryScheduled, TaskReopened)),
        _member("dependencies", Kind.JSON),
        Column(
            "locked_at",
            Kind.TIME,
            {TaskLocked: Field("locked_at"), **always(None, TaskRequeued, TaskRetryScheduled, TaskReopened)},
        ),
        Column("trigger", Kind.TEXT, same("trigger", TaskCreated)),
        Column("flow_run_id", Kind.UUID, same("flow_run_id", TaskCreated)),
        Column("backfill_id", Kind.UUID, same("backfill_id", TaskCreated)),
        Column("event", Kind.JSON, same("event", TaskCreated)),
        Column("instance_id", Kind.UUID, same("instance_id", TaskCreated, TaskRetryScheduled, TaskReopened)),
        Column("attempt", Kind.INT, same("attempt", TaskCreated, TaskRetryScheduled, TaskReopened)),
        Column(
            "next_retry_at",
            Kind.TIME,
            {
                TaskRetryScheduled: Field("retry_at"),
                **always(None, TaskLocked, TaskDispatched, InstanceTakenOver, TaskReopened, *ENDS),
            },
        ),
        Column(
            "cancel_requested_at",
            Kind.TIME,
            {TaskCancelRequested: Field("requested_at"), **always(None, TaskReopened, *ENDS)},
        ),
        Column("created_by", Kind.INT, same("created_by", TaskCreated, default=1)),
        Column(
            "updated_by",
            Kind.INT,
            same("updated_by", TaskUpdated, TaskReopened, TaskCancelRequested, TaskCancelled, default=1),
        ),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=(
        "created_at, id",
        "job_id, created_at, id",
        "schedule_id, created_at, id",
        "status, created_at, id",
        "flow_run_id, created_at, id",
    ),
)
