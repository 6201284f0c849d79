"""Instances driven over the API: executions outside the agents, and what the task makes of them.

The task's own instance, while no agent holds it, can be taken over: no agent gets it any more, and the task follows it
as it follows an agent's report. Beside it there may be records of other executions (`Aside`), which change nothing.
Either goes forward only: Pending, Dispatched, Running or Paused, a final status; skipping ahead is fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from typing import Any

from hetuflow.domain.commands import CreateInstance, DeleteInstance, ReportEnded, UpdateInstance
from hetuflow.domain.decider import Decision
from hetuflow.domain.enums import InstanceReason, InstanceStatus
from hetuflow.domain.events import (
    InstanceCreated,
    InstanceDeleted,
    InstanceDispatched,
    InstancePaused,
    InstanceReported,
    InstanceResumed,
    InstanceTakenOver,
    TaskCreated,
    TaskEvent,
)
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_outcomes import cancelled, instance_started, successful, unsuccessful
from hetuflow.domain.task_state import Aside, Instance, TaskState
from hetuflow.domain.task_transitions import evolve

S = InstanceStatus

CREATED_AS = (S.PENDING, S.DISPATCHED, S.RUNNING)
RAN = (S.RUNNING, S.PAUSED, S.TIMEOUT, S.FAILED, S.SUCCEEDED)
"""Statuses that imply that a process was started."""

FOLLOWING: Mapping[S, frozenset[S]] = {
    S.PENDING: frozenset(S) - {S.PENDING},
    S.DISPATCHED: frozenset(S) - {S.PENDING, S.DISPATCHED},
    S.RUNNING: frozenset(status for status in S if status is S.PAUSED or status.is_final),
    S.PAUSED: frozenset(status for status in S if status is S.RUNNING or status.is_final),
}

REPORTED = ("agent_id", "started_at", "completed_at", "error_message", "exit_code", "metrics", "output")


def create(command: CreateInstance, state: TaskState, now: datetime) -> Decision:
    """Record an execution beside the task's own instance. An open task always has one of its own."""
    spec = _existing(state)
    instance = state.instance
    assert instance is not None
    if _is_used(command.instance_id, state):
        raise Rejected(
            "already_exists",
            f"instance {command.instance_id} exists",
            {"kind": "task_instance", "id": command.instance_id},
        )
    if state.is_terminal:
        raise _terminal("the task has ended: an instance of it is made by a retry", state)
    status = S(command.status)
    if status not in CREATED_AS:
        raise Rejected("invalid", "must be 1, 5 or 10", {"path": "status"})
    started_at = command.started_at or (now if status is S.RUNNING else None)
    created = InstanceCreated(
        task_id=spec.task_id,
        job_id=spec.job_id,
        instance_id=command.instance_id,
        agent_id=command.agent_id,
        attempt=instance.attempt,
        status=status,
        started_at=started_at,
        created_at=now,
    )
    return Decision([created])


def update(command: UpdateInstance, state: TaskState, now: datetime) -> Decision:
    """Take over what is said of an instance.

    Raises:
      Rejected: `not_found`; `already_terminal`, it has ended; `held_by_agent`; `transition_not_allowed`.
    """
    _existing(state)
    aside = state.asides.get(command.instance_id)
    if aside is not None and not aside.is_deleted:
        return Decision([_aside_reported(command, aside, state, now)])
    instance = _own(command.instance_id, state)
    if instance.is_final:
        raise _terminal(f"the instance is {instance.status.name}", state)
    if instance.is_live:
        raise Rejected(
            "held_by_agent",
            f"agent {instance.agent_id} is executing the instance: only its own reports count",
            {"agent_id": instance.agent_id},
        )
    wanted = _followed(instance.status, command.changes)
    return Decision(_driven(command.changes, wanted, state, now))


def delete(command: DeleteInstance, state: TaskState, now: datetime) -> Decision:
    """Forget an instance that has ended."""
    spec = _existing(state)
    aside = state.asides.get(command.instance_id)
    if aside is not None and aside.is_deleted:
        raise _absent(command.instance_id)
    status = aside.status if aside is not None else _own(command.instance_id, state).status
    if not status.is_final:
        raise Rejected("not_terminal", f"the instance is {status.name}", {"status": int(status)})
    deleted = InstanceDeleted(task_id=spec.task_id, job_id=spec.job_id, instance_id=command.instance_id)
    return Decision([deleted])


# --- the task's own instance ---------------------------------------------------------------------------------------


def _driven(changes: Mapping[str, Any], wanted: S, state: TaskState, now: datetime) -> list[TaskEvent]:
    """The events on the way to that status, one by one, so that the task follows each."""
    spec, instance = state.spec, state.instance
    assert spec is not None and instance is not None
    events: list[TaskEvent] = []

    def happen(*news: TaskEvent) -> TaskState:
        events.extend(news)
        return reduce(evolve, news, state)

    names = {"task_id": spec.task_id, "job_id": spec.job_id, "instance_id": instance.instance_id}
    if not instance.is_external:
        state = happen(InstanceTakenOver(**names, agent_id=changes.get("agent_id"), taken_at=now))
    if instance.status is S.PENDING and wanted not in (S.PENDING, S.CANCELLED, S.SKIPPED):
        epoch, attempt = state.epoch + 1, instance.attempt
        state = happen(InstanceDispatched(**names, epoch=epoch, attempt=attempt, dispatched_at=now))
    if state.instance is not None and state.instance.status is S.DISPATCHED and wanted in RAN:
        started_at = changes.get("started_at") or instance.started_at or now
        state = happen(instance_started(state, started_at, None, None))
    if wanted is S.PAUSED and instance.status is not S.PAUSED:
        state = happen(InstancePaused(**names, paused_at=now))
    if wanted is S.RUNNING and instance.status is S.PAUSED:
        state = happen(InstanceResumed(**names, resumed_at=now))
    if any(name in changes for name in REPORTED) and (not wanted.is_final or changes.get("output") is not None):
        assert state.instance is not None
        state = happen(_reported(changes, state.instance, spec, state.instance.status, now))
    if wanted.is_final:
        happen(*_end(changes, wanted, state, now))
    return events


def _reported(
    changes: Mapping[str, Any], before: Instance | Aside, spec: TaskCreated, status: S, now: datetime, id_: str = ""
) -> InstanceReported:
    """All that is said of the instance after the change; times that its status implies default to now."""
    last = before.reported
    members = {name: changes[name] if name in changes else getattr(last, name, None) for name in REPORTED}
    if "agent_id" not in changes and last is None:
        members["agent_id"] = before.agent_id
    if members["started_at"] is None:
        members["started_at"] = before.started_at or (now if status in RAN else None)
    if members["completed_at"] is None and status.is_final:
        members["completed_at"] = now
    is_output_cut = (
        changes.get("output_truncated", False) if "output" in changes else bool(last and last.output_truncated)
    )
    return InstanceReported(
        task_id=spec.task_id,
        job_id=spec.job_id,
        instance_id=id_ or before.instance_id,  # type: ignore[union-attr]
        status=status,
        reason=_reason(status),
        output_truncated=is_output_cut,
        changed=tuple(name for name in (*REPORTED, "status") if name in changes),
        **members,
    )


def _end(changes: Mapping[str, Any], wanted: S, state: TaskState, now: datetime) -> list[TaskEvent]:
    """As an agent's report of the end would be taken."""
    instance = state.instance
    assert instance is not None
    said = {name: changes.get(name, getattr(instance.reported, name, None)) for name in REPORTED}
    completed_at = said["completed_at"] or now
    started_at = instance.started_at
    ran = (completed_at - started_at).total_seconds() if started_at is not None else 0.0
    end = ReportEnded(
        instance_id=instance.instance_id,
        agent_id=None,
        epoch=instance.epoch,
        reason=_reason(wanted),
        started_at=started_at,
        completed_at=completed_at,
        duration_seconds=max(ran, 0.0),
        error_message=said["error_message"],
        exit_code=said["exit_code"],
        metrics=said["metrics"],
    )
    if wanted is S.SUCCEEDED:
        return [*successful(state, end, now)]
    if wanted in (S.CANCELLED, S.SKIPPED):
        return cancelled(state, now, "user", None, end, status=wanted)
    return [*unsuccessful(state, end, now)]


# --- records beside it ---------------------------------------------------------------------------------------------


def _aside_reported(command: UpdateInstance, aside: Aside, state: TaskState, now: datetime) -> InstanceReported:
    assert state.spec is not None
    if aside.status.is_final:
        raise _terminal(f"the instance is {aside.status.name}", state)
    wanted = _followed(aside.status, command.changes)
    return _reported(command.changes, aside, state.spec, wanted, now, command.instance_id)


# --- both ----------------------------------------------------------------------------------------------------------


def _followed(current: S, changes: Mapping[str, Any]) -> S:
    wanted = S(changes.get("status", current))
    if wanted is not current and wanted not in FOLLOWING[current]:
        raise Rejected(
            "transition_not_allowed",
            f"an instance that is {current.name} does not become {wanted.name}",
            {"from": int(current), "to": int(wanted)},
        )
    return wanted


def _reason(status: S) -> str | None:
    """What the report of such an end would give as its reason."""
    if status is S.TIMEOUT:
        return InstanceReason.TIMEOUT
    if status is S.FAILED:
        return InstanceReason.EXIT_CODE
    return InstanceReason.CANCELLED if status in (S.CANCELLED, S.SKIPPED) else None


def _own(instance_id: str, state: TaskState) -> Instance:
    """One of the task's attempts; of those long past it is known only that they ended."""
    assert state.spec is not None and state.instance is not None
    for instance in (state.instance, *state.past):
        if instance.instance_id == instance_id:
            return instance
    if _is_attempt(instance_id, state):
        return Instance(instance_id, 1, S.FAILED)
    raise _absent(instance_id)


def _is_used(instance_id: str, state: TaskState) -> bool:
    return instance_id in state.asides or _is_attempt(instance_id, state)


def _is_attempt(instance_id: str, state: TaskState) -> bool:
    assert state.spec is not None and state.instance is not None
    attempts = range(1, state.instance.attempt + 1)
    return any(instance_id_of(state.spec.task_id, attempt) == instance_id for attempt in attempts)


def _existing(state: TaskState) -> TaskCreated:
    if state.spec is None or state.is_deleted:
        raise Rejected("not_found", "there is no such task", {"kind": "task"})
    return state.spec


def _absent(instance_id: str) -> Rejected:
    return Rejected("not_found", "there is no such instance", {"kind": "task_instance", "id": instance_id})


def _terminal(message: str, state: TaskState) -> Rejected:
    assert state.status is not None
    return Rejected("already_terminal", message, {"status": int(state.status)})
