"""`sched_task_instance`: one row per try of a task that is not deleted.

Partitioned by `created_at` with a default partition, so that people may add months. All events of an instance lie in
the stream of its task; the instance goes when the task is deleted.
"""

from __future__ import annotations

from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    TaskCreated,
    TaskDeleted,
    TaskDispatched,
    TaskReopened,
    TaskRequeued,
    TaskRetryScheduled,
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

OPENS = (TaskCreated, TaskRetryScheduled, TaskReopened)
ENDS = (InstanceSucceeded, InstanceFailed, InstanceCancelled)

TASK_INSTANCES = Table(
    name="sched_task_instance",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("instance_id"),
    creates=dict.fromkeys(OPENS),
    removes={TaskDeleted: None},
    scope="task_id",
    scope_source=Field("task_id"),
    items=(
        Column("task_id", Kind.UUID, same("task_id", *OPENS)),
        Column("job_id", Kind.UUID, same("job_id", *OPENS)),
        Column(
            "agent_id",
            Kind.TEXT,
            {**same("agent_id", TaskDispatched, InstanceStarted), TaskRequeued: Constant(None)},
        ),
        Column(
            "status",
            Kind.INT,
            {
                **always(int(InstanceStatus.PENDING), *OPENS, TaskRequeued),
                TaskDispatched: Constant(int(InstanceStatus.DISPATCHED)),
                InstanceStarted: Constant(int(InstanceStatus.RUNNING)),
                InstanceSucceeded: Constant(int(InstanceStatus.SUCCEEDED)),
                InstanceFailed: Field("status", int(InstanceStatus.FAILED)),
                InstanceCancelled: Constant(int(InstanceStatus.CANCELLED)),
            },
        ),
        Column("started_at", Kind.TIME, same("started_at", InstanceStarted, *ENDS)),
        Column("completed_at", Kind.TIME, same("completed_at", *ENDS)),
        Column("error_message", Kind.TEXT, same("error_message", InstanceFailed, InstanceCancelled)),
        Column("exit_code", Kind.INT, same("exit_code", *ENDS)),
        Column("signal", Kind.INT, same("signal", InstanceFailed, InstanceCancelled)),
        Column(
            "reason",
            Kind.TEXT,
            {InstanceFailed: Field("reason"), InstanceCancelled: Constant(str(InstanceReason.CANCELLED))},
        ),
        Column("metrics", Kind.JSON, same("metrics", *ENDS)),
        Column("attempt", Kind.INT, same("attempt", *OPENS)),
        Column("epoch", Kind.INT, same("epoch", TaskDispatched, InstanceStarted), initial=0),
        Column("external", Kind.BOOL, {}, initial=False),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("task_id", "created_at, id", "job_id, created_at, id", "status, created_at, id"),
    partition_by="created_at",
)
