"""What follows from an agent's word on an instance, or from its silence.

A report is believed only about the newest instance, while it is live, from the agent it was dispatched to, with the
epoch of that dispatch. A repeat of what is recorded changes nothing. Anything else is evidence: `InstanceReportRefused`,
once per content, never shown as current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

from attrs import evolve as changed

from hetuflow.domain.commands import LoseInstance, Report, ReportEnded, ReportStarted, RequeueInstance
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.events import InstanceReportRefused, TaskEvent
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.report_digest import digest_of, evidence_of
from hetuflow.domain.task_outcomes import instance_started, requeued, successful, unsuccessful
from hetuflow.domain.task_state import Instance, TaskState
from hetuflow.domain.task_transitions import evolve

_REPEAT: Final = "repeat"

_NEVER_RAN = frozenset(
    {InstanceReason.REJECTED, InstanceReason.START_ERROR, InstanceReason.LOST, InstanceReason.CANCELLED}
)
"""Reasons that do not imply that a process ever ran; the others do, also when its start was not reported."""

_REASONS = frozenset(InstanceReason)


def report(command: Report, state: TaskState, now: datetime) -> Decision:
    """Take over an agent's reports in order.

    Raises:
      Rejected: `not_found`, there was never such a task; `invalid`, an unknown reason.
    """
    if state.status is None:
        raise Rejected("not_found", "there is no such task", {"kind": "task"})
    events: list[TaskEvent] = []
    new: Sequence[TaskEvent] = ()
    for item in command.reports:
        state = reduce(evolve, new, state)
        new = _reported(item, state, now)
        events += new
    return Decision(events) if events else NOTHING


def report_one(command: ReportStarted | ReportEnded, state: TaskState, now: datetime) -> Decision:
    return report(Report(reports=(command,)), state, now)


def requeue(command: RequeueInstance, state: TaskState, now: datetime) -> Decision:
    """Back to Pending without using a retry; a run whose start *is* recorded is lost instead."""
    instance = _still_live(command, state)
    if instance is None:
        return NOTHING
    if instance.status is InstanceStatus.RUNNING:
        return Decision(unsuccessful(state, _lost(instance, command.reason, now), now))
    return Decision(requeued(state, command.reason, now))


def lose(command: LoseInstance, state: TaskState, now: datetime) -> Decision:
    """The instance is lost. Nothing when it has ended or was dispatched again meanwhile."""
    instance = _still_live(command, state)
    if instance is None:
        return NOTHING
    lost = unsuccessful(state, _lost(instance, command.message, now), now)
    return Decision(lost, guards=command.guards)


# --- one report ----------------------------------------------------------------------------------------------------


def _reported(said: ReportStarted | ReportEnded, state: TaskState, now: datetime) -> Sequence[TaskEvent]:
    why = _doubt(said, state)
    if why is None:
        return _BELIEVED[type(said)](state, said, now)
    return () if why is _REPEAT else _refused(state, said, why)


def _doubt(said: ReportStarted | ReportEnded, state: TaskState) -> str | None:
    """Why the report is not news about the live instance; None when it is."""
    instance = _named(said.instance_id, state)
    if instance is None:
        return "unknown_instance"
    if said.epoch > instance.epoch:
        return "unknown_epoch"
    if said.epoch < instance.epoch or instance.agent_id is None:
        if _says_nothing_ran(said):
            return _REPEAT
        return "old_epoch" if said.epoch < instance.epoch else "not_dispatched"
    if said.agent_id != instance.agent_id:
        return "other_agent"
    if instance.is_live:
        return None
    if _is_recorded(said, instance):
        return _REPEAT
    return "task_deleted" if state.is_deleted else "already_ended"


def _says_nothing_ran(said: ReportStarted | ReportEnded) -> bool:
    """A rejection of a dispatch that has been taken back contradicts nothing."""
    return isinstance(said, ReportEnded) and said.reason == InstanceReason.REJECTED


def _named(instance_id: str, state: TaskState) -> Instance | None:
    newest = state.instance
    if newest is not None and newest.instance_id == instance_id:
        return newest
    return next((old for old in reversed(state.past) if old.instance_id == instance_id), None)


def _is_recorded(said: ReportStarted | ReportEnded, ended: Instance) -> bool:
    """Whether this is how the ended instance is known to have started, or ended. Times are the agent's own."""
    if isinstance(said, ReportStarted):
        return said.started_at == ended.started_at
    return (said.completed_at, said.exit_code or 0, said.signal) == (
        ended.completed_at,
        ended.exit_code or 0,
        ended.signal,
    )


def _refused(state: TaskState, said: ReportStarted | ReportEnded, why: str) -> Sequence[TaskEvent]:
    assert said.agent_id is not None
    evidence = evidence_of(said)
    if digest_of(said.instance_id, said.agent_id, said.epoch, evidence) in state.refused:
        return ()
    assert state.spec is not None
    return (
        InstanceReportRefused(
            task_id=state.spec.task_id,
            job_id=state.spec.job_id,
            instance_id=said.instance_id,
            agent_id=said.agent_id,
            epoch=said.epoch,
            why=why,
            report=evidence,
        ),
    )


def _started(state: TaskState, said: ReportStarted, now: datetime) -> Sequence[TaskEvent]:
    assert state.instance is not None
    if state.instance.status is InstanceStatus.RUNNING:
        return ()
    return (instance_started(state, said.started_at, said.pid, said.isolation),)


def _ended(state: TaskState, said: ReportEnded, now: datetime) -> Sequence[TaskEvent]:
    instance = state.instance
    assert instance is not None
    if said.reason is not None and said.reason not in _REASONS:
        raise Rejected("invalid", f"reason {said.reason!r} is not known", {"path": "reason"})
    if said.reason == InstanceReason.REJECTED:
        if instance.status is InstanceStatus.RUNNING:
            return _refused(state, said, "contradicts_start")
        return requeued(state, said.error_message or "rejected by the agent", now)
    started: Sequence[TaskEvent] = ()
    if instance.status is InstanceStatus.DISPATCHED:
        started_at = _start_of(said)
        if started_at is not None:
            started = (instance_started(state, started_at, None, None),)
    else:
        started_at = instance.started_at
    if said.started_at != started_at:
        said = changed(said, started_at=started_at)
    if said.reason is None:
        return (*started, *successful(state, said, now))
    return (*started, *unsuccessful(state, said, now))


_BELIEVED: Mapping[type, Callable[[TaskState, Any, datetime], Sequence[TaskEvent]]] = {
    ReportStarted: _started,
    ReportEnded: _ended,
}


def _start_of(said: ReportEnded) -> datetime | None:
    """When the process of a run started whose start was not reported; None when none did."""
    if said.reason == InstanceReason.START_ERROR:
        return None
    if said.started_at is not None or said.reason in _NEVER_RAN:
        return said.started_at
    return said.completed_at - timedelta(seconds=said.duration_seconds)


def _still_live(command: RequeueInstance | LoseInstance, state: TaskState) -> Instance | None:
    live = state.live_instance
    if live is None or live.instance_id != command.instance_id or live.epoch != command.epoch:
        return None
    return live


def _lost(instance: Instance, message: str, now: datetime) -> ReportEnded:
    """An agent's silence as the end it amounts to."""
    assert instance.agent_id is not None
    ran = (now - instance.started_at).total_seconds() if instance.started_at is not None else 0.0
    return ReportEnded(
        instance_id=instance.instance_id,
        agent_id=instance.agent_id,
        epoch=instance.epoch,
        reason=InstanceReason.LOST,
        started_at=instance.started_at,
        completed_at=now,
        duration_seconds=max(ran, 0.0),
        error_message=message,
    )
