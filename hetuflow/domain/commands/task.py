"""What can be asked of a task. Of its instances: see instance.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain.commands.snapshots import JSON, JobSnapshot
from hetuflow.domain.decider import Guard, Placement


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
    """These tasks, which it waits for, have ended: id -> status. `guards`: their versions, so that none has been reopened."""

    settled: Mapping[str, int]
    guards: Sequence[Guard] = ()


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
