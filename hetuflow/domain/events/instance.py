"""What happens to the instances of a task, in the stream of the task."""

from __future__ import annotations

from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain.events.base import JSON
from hetuflow.domain.events.task import TaskEvent


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
    `artifacts`: of each file that was kept `path`, `bytes`, `sha256`; of each that was not, or of a glob that fits none,
    `path` and `problem`.
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
    artifacts: tuple[JSON, ...] = ()


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
    artifacts: tuple[JSON, ...] = ()


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
    artifacts: tuple[JSON, ...] = ()
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
