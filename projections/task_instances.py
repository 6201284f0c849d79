"""`sched_task_instance`: one row per try of a task that is not deleted.

Partitioned by `created_at` with a default partition, so that people may add months. All events of an instance lie in
the stream of its task; the instance goes when the task is deleted.
"""

from __future__ import annotations

from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceCreated,
    InstanceDeleted,
    InstanceDispatched,
    InstanceFailed,
    InstancePaused,
    InstanceReported,
    InstanceResumed,
    InstanceStarted,
    InstanceSucceeded,
    InstanceTakenOver,
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
    NotNull,
    Table,
    Touched,
    TouchedVersion,
    When,
    always,
    same,
)

MADE = (TaskCreated, TaskRetryScheduled, TaskReopened)
OPENS = (*MADE, InstanceCreated)
ENDS = (InstanceSucceeded, InstanceFailed, InstanceCancelled)

TASK_INSTANCES = Table(
    name="sched_task_instance",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("instance_id"),
    creates=dict.fromkeys(OPENS),
    removes={TaskDeleted: None},
    ends={InstanceDeleted: None},
    scope="task_id",
    scope_source=Field("task_id"),
    items=(
        Column("task_id", Kind.UUID, same("task_id", *OPENS)),
        Column("job_id", Kind.UUID, same("job_id", *OPENS)),
        Column(
            "agent_id",
            Kind.TEXT,
            {
                **same("agent_id", TaskDispatched, InstanceCreated, InstanceTakenOver, InstanceReported),
                InstanceStarted: When(NotNull("agent_id"), Field("agent_id")),
                TaskRequeued: Constant(None),
            },
        ),
        Column(
            "status",
            Kind.INT,
            {
                **always(int(InstanceStatus.PENDING), *MADE, TaskRequeued),
                **same("status", InstanceCreated, InstanceReported),
                **always(int(InstanceStatus.DISPATCHED), TaskDispatched, InstanceDispatched),
                **always(int(InstanceStatus.RUNNING), InstanceStarted, InstanceResumed),
                InstancePaused: Constant(int(InstanceStatus.PAUSED)),
                InstanceSucceeded: Constant(int(InstanceStatus.SUCCEEDED)),
                InstanceFailed: Field("status", int(InstanceStatus.FAILED)),
                InstanceCancelled: Field("status", int(InstanceStatus.CANCELLED)),
            },
        ),
        Column("started_at", Kind.TIME, same("started_at", InstanceCreated, InstanceStarted, InstanceReported, *ENDS)),
        Column("completed_at", Kind.TIME, same("completed_at", InstanceReported, *ENDS)),
        Column("error_message", Kind.TEXT, same("error_message", InstanceReported, InstanceFailed, InstanceCancelled)),
        Column("exit_code", Kind.INT, same("exit_code", InstanceReported, *ENDS)),
        Column("signal", Kind.INT, same("signal", InstanceFailed, InstanceCancelled)),
        Column(
            "reason",
            Kind.TEXT,
            {
                **same("reason", InstanceReported, InstanceFailed),
                InstanceCancelled: Constant(str(InstanceReason.CANCELLED)),
            },
        ),
        Column("metrics", Kind.JSON, same("metrics", InstanceReported, *ENDS)),
        Column("attempt", Kind.INT, same("attempt", *OPENS)),
        Column("epoch", Kind.INT, same("epoch", TaskDispatched, InstanceDispatched, InstanceStarted), initial=0),
        Column("external", Kind.BOOL, always(True, InstanceCreated, InstanceTakenOver), initial=False),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("task_id", "created_at, id", "job_id, created_at, id", "status, created_at, id"),
    partition_by="created_at",
)
