"""How an instance ends, and what that means for its task: always in one decision.

The last event of each moves the task: succeeded, failed, waiting for a retry, cancelled, or requeued when nothing was
started. After a cancel was requested only success still counts; whatever else comes is the cancel's end, and never
retried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from hetuflow.domain import retry
from hetuflow.domain.commands import ReportEnded
from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    TaskCancelled,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskFailed,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSucceeded,
)
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.parameters import Unfit
from hetuflow.domain.task_state import TaskState

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def instance_started(state: TaskState, started_at: datetime, pid: int | None, isolation: str | None) -> InstanceStarted:
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None
    return InstanceStarted(
        task_id=spec.task_id,
        job_id=spec.job_id,
        instance_id=instance.instance_id,
        agent_id=instance.agent_id,
        attempt=instance.attempt,
        epoch=instance.epoch,
        started_at=started_at,
        pid=pid,
        isolation=isolation,
    )


def successful(state: TaskState, end: ReportEnded, now: datetime) -> Sequence[TaskEvent]:
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None
    return (
        InstanceSucceeded(
            task_id=spec.task_id,
            job_id=spec.job_id,
            instance_id=instance.instance_id,
            agent_id=end.agent_id,
            attempt=instance.attempt,
            epoch=instance.epoch,
            started_at=end.started_at,
            completed_at=end.completed_at,
            duration_seconds=end.duration_seconds,
            exit_code=end.exit_code or 0,
            metrics=end.metrics,
            output=end.output,
            artifacts=end.artifacts,
        ),
        TaskSucceeded(task_id=spec.task_id, job_id=spec.job_id, completed_at=now),
        *_deletion(state),
    )


def unsuccessful(state: TaskState, end: ReportEnded, now: datetime) -> Sequence[TaskEvent]:
    """The instance ended otherwise than in success: cancelled, retried, or failed for good."""
    if state.cancel is not None:
        return cancelled(state, now, state.cancel.cause, state.cancel.reason, end)
    failed = _instance_failed(state, end)
    assert state.spec is not None
    why_not = retry.why_not(state.spec.config, state.retry_count, failed.reason, failed.exit_code)
    return failed, _retried(state, failed, now) if why_not is None else _given_up(failed, why_not, now)


def _instance_failed(state: TaskState, end: ReportEnded) -> InstanceFailed:
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None
    reason = _failure_reason(end)
    return InstanceFailed(
        task_id=spec.task_id,
        job_id=spec.job_id,
        instance_id=instance.instance_id,
        agent_id=end.agent_id,
        attempt=instance.attempt,
        epoch=instance.epoch,
        status=InstanceStatus.TIMEOUT if reason == InstanceReason.TIMEOUT else InstanceStatus.FAILED,
        reason=reason,
        error_message=end.error_message or _message(reason, end),
        started_at=end.started_at,
        completed_at=end.completed_at,
        duration_seconds=end.duration_seconds,
        exit_code=end.exit_code,
        signal=end.signal,
        metrics=end.metrics,
        output=end.output,
        artifacts=end.artifacts,
    )


def _failure_reason(end: ReportEnded) -> str:
    """The reason, except that nobody's cancel is none: the agent ended the run of its own accord."""
    if end.reason == InstanceReason.CANCELLED:
        return InstanceReason.LOST if end.signal is None else InstanceReason.SIGNAL
    assert end.reason is not None
    return end.reason


def _message(reason: str, end: ReportEnded) -> str:
    if reason == InstanceReason.EXIT_CODE:
        return f"exit status {end.exit_code}"
    if reason == InstanceReason.SIGNAL:
        return f"ended by signal {end.signal}"
    return _MESSAGES.get(reason, reason)


_MESSAGES: Mapping[str, str] = {
    InstanceReason.TIMEOUT: "ran longer than allowed",
    InstanceReason.MEMORY: "used more memory than allowed",
    InstanceReason.CPU: "used more CPU than allowed",
    InstanceReason.PROCESSES: "had more processes than allowed",
    InstanceReason.OUTPUT: "wrote more output than allowed",
    InstanceReason.LOST: "the agent lost it",
    InstanceReason.ARTIFACT: "did not leave the files that it should",
    InstanceReason.START_ERROR: "could not be started",
}


def _retried(state: TaskState, failed: InstanceFailed, now: datetime) -> TaskRetryScheduled:
    """The retry that follows. Counted from the end, or from now if that is in the future: an agent's clock that is ahead
    must not delay a retry."""
    assert state.spec is not None
    number = state.retry_count + 1
    delay_seconds = retry.delay_seconds(state.spec.config, failed.task_id, failed.attempt, number)
    return TaskRetryScheduled(
        task_id=failed.task_id,
        job_id=failed.job_id,
        retry_at=_later(min(failed.completed_at, now), delay_seconds),
        retry_count=number,
        instance_id=instance_id_of(failed.task_id, failed.attempt + 1),
        attempt=failed.attempt + 1,
    )


def _given_up(failed: InstanceFailed, why_not: str, now: datetime) -> TaskFailed:
    return TaskFailed(
        task_id=failed.task_id, job_id=failed.job_id, completed_at=now, reason=failed.reason, not_retried=why_not
    )


def unfit(spec: TaskCreated, found: Sequence[Unfit], now: datetime) -> Sequence[TaskEvent]:
    """The end of a task that was made by itself, of parameters that do not fit: nothing is started, nothing is retried."""
    message = "not started: " + "; ".join(f"{each.path}: {each.message}" for each in found)
    failed = InstanceFailed(
        task_id=spec.task_id,
        job_id=spec.job_id,
        instance_id=spec.instance_id,
        agent_id=None,
        attempt=spec.attempt,
        epoch=0,
        status=InstanceStatus.FAILED,
        reason=InstanceReason.START_ERROR,
        error_message=message,
        started_at=None,
        completed_at=now,
        duration_seconds=0.0,
    )
    return failed, _given_up(failed, "a retry would be given the same parameters", now)


def requeued(state: TaskState, reason: str, now: datetime) -> Sequence[TaskEvent]:
    """Nothing was started: the same instance waits again, or the cancel has its end."""
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None and instance.agent_id is not None
    if state.cancel is not None:
        return cancelled(state, now, state.cancel.cause, state.cancel.reason)
    return (
        TaskRequeued(
            task_id=spec.task_id,
            job_id=spec.job_id,
            instance_id=instance.instance_id,
            agent_id=instance.agent_id,
            epoch=instance.epoch,
            reason=reason,
        ),
    )


def _deletion(state: TaskState) -> Sequence[TaskEvent]:
    """What a cascading delete has asked to follow the end."""
    if state.cancel is None or not state.cancel.then_delete:
        return ()
    assert state.spec is not None
    return (TaskDeleted(task_id=state.spec.task_id, job_id=state.spec.job_id),)


def cancelled(
    state: TaskState,
    now: datetime,
    cause: str,
    reason: str | None,
    end: ReportEnded | None = None,
    *,
    status: InstanceStatus = InstanceStatus.CANCELLED,
) -> list[TaskEvent]:
    """The end of the newest instance and of the task by a cancel; `end` is how a live instance ended.

    `status` of the instance: Skipped where an execution outside the agents said so.
    """
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None
    message = f"cancelled ({cause})" + (f": {reason}" if reason else "")
    if end is not None and end.error_message:
        message += f"; {end.error_message}"
    return [
        InstanceCancelled(
            task_id=spec.task_id,
            job_id=spec.job_id,
            instance_id=instance.instance_id,
            agent_id=instance.agent_id,
            attempt=instance.attempt,
            epoch=instance.epoch,
            started_at=instance.started_at or (end.started_at if end else None),
            completed_at=end.completed_at if end else now,
            duration_seconds=end.duration_seconds if end else 0.0,
            error_message=message,
            exit_code=end.exit_code if end else None,
            signal=end.signal if end else None,
            metrics=end.metrics if end else None,
            output=end.output if end else None,
            artifacts=end.artifacts if end else (),
            status=status,
        ),
        TaskCancelled(task_id=spec.task_id, job_id=spec.job_id, cancelled_at=now, cause=cause, reason=reason),
        *_deletion(state),
    ]


def _later(at: datetime, seconds: float) -> datetime:
    """`at` + seconds, or the end of the calendar."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return _END_OF_TIME
