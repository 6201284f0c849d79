"""Builders of jobs, placements and tasks in any status."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from hetuflow.domain.commands import (
    CancelTask,
    CreateTask,
    DispatchTask,
    JobSnapshot,
    ReportEnded,
    ReportStarted,
)
from hetuflow.domain.config import effective
from hetuflow.domain.decider import NOTHING, Guard, Placement
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import TaskLocked
from hetuflow.domain.task import TASK
from hetuflow.domain.task_state import TaskState
from tests.support.given import NOW, Given, Outcome, given, later

JOB_ID = "550e8400-e29b-41d4-a716-446655440000"
TASK_ID = "01890000-0000-7000-8000-000000000001"
LEASE = Guard("lease-7", 3)
PLACEMENT = Placement(agent_id="agent-1", session="s1", server_id="server-1", guards=(LEASE,))
OTHER_PLACEMENT = Placement(agent_id="agent-2", session="s2", server_id="server-1", guards=(LEASE,))


def a_job(config: dict[str, Any] | None = None, **members: Any) -> JobSnapshot:
    job = JobSnapshot(
        job_id=JOB_ID,
        version=4,
        namespace_id="default",
        name="hello",
        environment=None,
        config=effective({"max_retries": 1, "retry_interval": 30, **(config or {})}),
        agent_id=None,
        status=100,
        enabled_at=NOW,
    )
    return evolve(job, **members)


def a_create(job: JobSnapshot | None = None, **members: Any) -> CreateTask:
    return evolve(CreateTask(task_id=TASK_ID, job=job or a_job(), trigger="run"), **members)


def started(state: TaskState, **members: Any) -> ReportStarted:
    """The agent's word that the newest instance runs."""
    instance = state.instance
    assert instance is not None and instance.agent_id is not None
    said = ReportStarted(
        instance_id=instance.instance_id, agent_id=instance.agent_id, epoch=instance.epoch, started_at=later(1), pid=42
    )
    return evolve(said, **members)


def ended(state: TaskState, reason: str | None = None, **members: Any) -> ReportEnded:
    """The agent's word that the newest instance ended, five seconds after its start."""
    instance = state.instance
    assert instance is not None and instance.agent_id is not None
    said = ReportEnded(
        instance_id=instance.instance_id,
        agent_id=instance.agent_id,
        epoch=instance.epoch,
        reason=reason,
        started_at=instance.started_at,
        completed_at=later(6),
        duration_seconds=5.0,
        exit_code=0 if reason is None else 1,
    )
    return evolve(said, **members)


def a_task(status: TaskStatus, job: JobSnapshot | None = None, **members: Any) -> Outcome:
    """A task brought to this status by commands, as late as `later(10)`."""
    pending = given(TASK).when(a_create(job, **members)).next(10)
    return _REACH[status](pending)


def _dispatched(pending: Given) -> Outcome:
    return pending.when(DispatchTask(instance_id=pending.state.instance.instance_id, placement=PLACEMENT))


def _running(pending: Given) -> Outcome:
    dispatched = _dispatched(pending)
    return dispatched.when(started(dispatched.state))


def _ended(pending: Given, reason: str | None) -> Outcome:
    running = _running(pending)
    return running.when(ended(running.state, reason))


def _failed(pending: Given) -> Outcome:
    waiting = _ended(pending, "exit_code")
    assert waiting.state.status is TaskStatus.WAITING_RETRY, "build a task with max_retries 1 or more"
    outcome = waiting
    while outcome.state.status is TaskStatus.WAITING_RETRY:
        outcome = _ended(outcome.next(100), "exit_code")
    return outcome


def _locked(pending: Given) -> Outcome:
    """Never at rest: claim and dispatch are one append. Folded here by hand."""
    event = TaskLocked(task_id=TASK_ID, server_id="server-1", locked_at=pending.now)
    return _standing(Given(TASK, TASK.evolve(pending.state, event), pending.now))


def _standing(at: Given) -> Outcome:
    return Outcome(TASK, at.state, at.now, NOTHING, None)


_REACH = {
    TaskStatus.PENDING: _standing,
    TaskStatus.LOCKED: _locked,
    TaskStatus.DISPATCHED: _dispatched,
    TaskStatus.RUNNING: _running,
    TaskStatus.WAITING_RETRY: lambda pending: _ended(pending, "exit_code"),
    TaskStatus.FAILED: _failed,
    TaskStatus.CANCELLED: lambda pending: pending.when(CancelTask()),
    TaskStatus.SUCCEEDED: lambda pending: _ended(pending, None),
}
