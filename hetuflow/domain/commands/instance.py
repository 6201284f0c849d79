"""What can be asked of the instances of a task, and told of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands.snapshots import JSON
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class RequeueInstance:
    """The run provably never started (refused by the agent, or unknown to it on the same incarnation)."""

    instance_id: str
    epoch: int
    reason: str


@frozen(slots=True, kw_only=True)
class LoseInstance:
    """The lease ran out, or the agent restarted without knowing this run. Uses a retry.

    `guards`: what the loss was decided from, so that an agent which has come back meanwhile keeps its run.
    """

    instance_id: str
    epoch: int
    message: str
    guards: Sequence[Guard] = ()


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
    artifacts: tuple[JSON, ...] = ()


@frozen(slots=True, kw_only=True)
class Report:
    """What one agent says of one task, in order, decided and appended together. Repeats are no change."""

    reports: Sequence[ReportStarted | ReportEnded]


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
