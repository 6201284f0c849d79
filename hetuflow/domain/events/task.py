"""What happens to a task: stream `task-<id>`. Its instances: see instance.py."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class TaskEvent(Event):
    """An event of a `task-<id>` stream, its instances included."""

    __slots__ = ()


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
