"""The task: one due moment of a job, and its instances, each try of it on an agent.

What may follow what is in task_transitions.py; what follows from an agent's word is in task_reports.py. Here are the
commands of users and of the dispatcher, and what should be so outside because of a task's state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve as changed

from hetuflow.domain import (
    execution,
    task_dependencies,
    task_expiry,
    task_external,
    task_outcomes,
    task_reports,
    task_transitions,
)
from hetuflow.domain.commands import (
    CancelTask,
    CreateInstance,
    CreateTask,
    CreateTasks,
    DeleteInstance,
    DeleteTask,
    DispatchTask,
    ExpireTask,
    LoseInstance,
    Report,
    ReportEnded,
    ReportStarted,
    RequeueInstance,
    RetryTask,
    SettleDependencies,
    UpdateInstance,
    UpdateTask,
)
from hetuflow.domain.config import checked, effective, required_labels
from hetuflow.domain.decider import (
    NOTHING,
    Address,
    Await,
    Decision,
    Expire,
    Intent,
    Occupy,
    Offer,
    Placement,
    Send,
    Stop,
)
from hetuflow.domain.enums import InstanceStatus, OverlapPolicy, TaskStatus, TaskTrigger
from hetuflow.domain.environment import dispatch_order, merged
from hetuflow.domain.events import (
    TaskCancelRequested,
    TaskCreated,
    TaskDeleted,
    TaskReopened,
    TaskUpdated,
)
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.limits import bounds_of, rate_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.rendering import About, checked_templates, prepare, refusal
from hetuflow.domain.retry import avoided_agents
from hetuflow.domain.table_decider import NO_INTENTS, TableDecider
from hetuflow.domain.task_creation import dispatched, opening, openings
from hetuflow.domain.task_state import Instance, TaskState
from hetuflow.domain.task_transitions import TASK_TRANSITIONS
from hetuflow.domain.transition import changed_members

__all__ = ["INITIAL", "TASK", "TASK_TRANSITIONS", "TaskState", "intents", "opening"]

INITIAL = TaskState()

EDITABLE = (
    "name",
    "description",
    "namespace_id",
    "priority",
    "scheduled_at",
    "environment",
    "parameters",
    "config",
    "dependencies",
)
WITHOUT_EFFECT_ONCE_STARTED = ("scheduled_at", "environment", "parameters", "config", "dependencies")
"""Members that only an instance not yet dispatched can still follow."""

_WAITING = task_dependencies.WAITING
_OFFERED = frozenset({TaskStatus.PENDING, TaskStatus.LOCKED, TaskStatus.WAITING_RETRY})
_REOPENABLE = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})


# --- commands ------------------------------------------------------------------------------------------------------


def _create(command: CreateTask, state: TaskState, now: datetime) -> Decision:
    if state.status is not None:
        raise Rejected("already_exists", f"task {command.task_id} exists", {"kind": "task", "id": command.task_id})
    events, guards = opening(command, now)
    return Decision(events, guards=guards)


def _create_all(command: CreateTasks, state: TaskState, now: datetime) -> Decision:
    """All of them, or none. The actor that is asked makes the first; the others' streams are opened with it."""
    if state.status is not None:
        first = command.tasks[0].task_id
        raise Rejected("already_exists", f"task {first} exists", {"kind": "task", "id": first})
    made = openings(command.tasks, now)
    opened = {Address("task", task_id): events for task_id, events, _ in made[1:]}
    guards = dict.fromkeys(guard for _, _, guards in made for guard in guards)
    return Decision(made[0][1], opened, tuple(guards))


def _update(command: UpdateTask, state: TaskState, now: datetime) -> Decision:
    spec = _existing(state)
    if command.lock_version is not None and command.lock_version != state.lock_version:
        raise Rejected(
            "version_conflict",
            f"lock_version is {state.lock_version}, not {command.lock_version}",
            {"expected": command.lock_version, "actual": state.lock_version},
        )
    wanted = _complete(command.changes, spec)
    rendered = spec.rendered
    if state.status in _WAITING:
        rendered = _prepare_anew(spec, wanted)
    names = changed_members(spec, wanted, EDITABLE)
    if not names:
        return NOTHING
    if state.status not in _WAITING:
        for name in names:
            if name in WITHOUT_EFFECT_ONCE_STARTED:
                raise Rejected("already_started", f"{name} has no effect any more", {"member": name})
    after = changed(spec, **{name: wanted[name] for name in names})
    members = {name: getattr(after, name) for name in EDITABLE}
    updated = TaskUpdated(task_id=spec.task_id, changed=names, rendered=rendered, **members)
    return Decision([updated], guards=command.guards)


def _prepare_anew(spec: TaskCreated, wanted: dict[str, Any]) -> Mapping[str, Any] | None:
    """What comes of its templates after the change; the parameters that are wanted get their defaults."""
    after = changed(spec, **{name: wanted[name] for name in EDITABLE if name in wanted})
    if after.config.get("params") is None:
        return None
    if "config" in wanted:
        checked_templates(after.config)
    prepared = prepare(after.config, after.parameters, About.of(after), tuple(spec.parameters))
    if prepared.unfit:
        raise refusal(prepared.unfit)
    wanted["parameters"] = prepared.parameters
    return prepared.rendered


def _complete(changes: Mapping[str, Any], spec: TaskCreated) -> dict[str, Any]:
    """The changes with a partial `config` laid over the stored one, and its variables over the task's."""
    wanted = dict(changes)
    task_dependencies.refuse_self(spec.task_id, wanted.get("dependencies"))
    if wanted.get("config") is not None:
        config = effective(spec.config, checked(wanted["config"]))
        wanted["config"] = config
        if config["environment"] != spec.config["environment"]:
            wanted["environment"] = merged(wanted.get("environment", spec.environment), config["environment"])
    return wanted


def _dispatch_task(command: DispatchTask, state: TaskState, now: datetime) -> Decision:
    """Claim and dispatch in one append.

    Raises:
      Rejected: `not_found`; `not_offered`, that instance does not wait for a slot; `not_due`, not yet;
        `expired`, not any more.
    """
    spec, instance = _existing(state), state.instance
    placement = command.placement
    assert instance is not None
    is_offered = state.status in _OFFERED and not state.waits_for and not instance.is_external
    if instance.instance_id != command.instance_id or not is_offered:
        if instance.instance_id == command.instance_id and _is_dispatched_to(instance, placement):
            return NOTHING
        raise Rejected("not_offered", f"instance {command.instance_id} does not wait for a slot")
    if state.not_before_at > now:
        raise Rejected("not_due", "it is not due yet", {"not_before_at": state.not_before_at})
    expires_at = task_expiry.expires_at(state)
    if expires_at is not None and expires_at <= now:
        raise Rejected("expired", "its time to start is over", {"expires_at": expires_at})
    locked, dispatch = dispatched(spec, instance, placement, state.epoch + 1, now)
    events = (dispatch,) if state.status is TaskStatus.LOCKED else (locked, dispatch)
    return Decision(events, guards=placement.guards)


def _is_dispatched_to(instance: Instance, placement: Placement) -> bool:
    return (instance.status, instance.agent_id, instance.session) == (
        InstanceStatus.DISPATCHED,
        placement.agent_id,
        placement.session,
    )


def _cancel(command: CancelTask, state: TaskState, now: datetime) -> Decision:
    _existing(state)
    if state.is_terminal:
        raise _terminal(state)
    if state.live_instance is None:
        return Decision(task_outcomes.cancelled(state, now, command.cause, command.reason))
    if state.cancel is not None:
        return NOTHING
    return Decision([_cancel_requested(state, now, command.cause, command.reason, command.by)])


def _cancel_requested(
    state: TaskState, now: datetime, cause: str, reason: str | None, by: str, then_delete: bool = False
) -> TaskCancelRequested:
    return TaskCancelRequested(
        task_id=_existing(state).task_id,
        requested_at=now,
        reason=reason,
        by=by,
        cause=cause,
        then_delete=then_delete,
    )


def _retry(command: RetryTask, state: TaskState, now: datetime) -> Decision:
    """An operator's retry: a new instance after Failed and Cancelled; the waiting one, due now, from WaitingRetry."""
    spec, instance = _existing(state), state.instance
    assert instance is not None and state.status is not None
    if command.attempt is not None and (instance.attempt != command.attempt or not state.is_terminal):
        return NOTHING
    if state.status is TaskStatus.WAITING_RETRY:
        instance_id, attempt, retry_count = instance.instance_id, instance.attempt, state.retry_count
    elif spec.trigger == TaskTrigger.DAEMON and state.is_terminal:
        raise Rejected(
            "not_retryable",
            "a task of a daemon is not retried: the daemon starts the next one",
            {"status": int(state.status), "schedule_id": spec.schedule_id},
        )
    elif state.status in _REOPENABLE:
        _refuse_unfit(spec)
        attempt, retry_count = instance.attempt + 1, 0
        instance_id = instance_id_of(spec.task_id, attempt)
    else:
        raise Rejected("not_retryable", f"a task in {state.status.name} is not retried", {"status": int(state.status)})
    return Decision(
        [
            TaskReopened(
                task_id=spec.task_id,
                job_id=spec.job_id,
                instance_id=instance_id,
                attempt=attempt,
                retry_count=retry_count,
                scheduled_at=now,
                waits_for=task_transitions.awaited(spec.dependencies) if command.is_whole else command.waits_for,
            )
        ]
    )


def _refuse_unfit(spec: TaskCreated) -> None:
    """A retry is given what the task was made with: one that could not run then cannot now."""
    unfit = prepare(spec.config, spec.parameters, About.of(spec), None).unfit
    if unfit:
        why = f"{unfit[0].path}: {unfit[0].message}"
        raise Rejected("not_retryable", f"it would fail again: {why}; run the job anew", {"path": unfit[0].path})


def _delete(command: DeleteTask, state: TaskState, now: datetime) -> Decision:
    """Delete what has ended; with `cascade`, end it first, however long its process takes."""
    spec = _existing(state)
    deleted = TaskDeleted(task_id=spec.task_id, job_id=spec.job_id)
    if state.is_terminal:
        return Decision([deleted])
    if not command.cascade:
        raise Rejected("has_open_tasks", "the task has not ended; ?cascade=cancel cancels it first", {"count": 1})
    if state.live_instance is None:
        return Decision([*task_outcomes.cancelled(state, now, "cascade", None), deleted])
    if state.cancel is None:
        return Decision([_cancel_requested(state, now, "cascade", None, "user", then_delete=True)])
    if state.cancel.then_delete:
        return NOTHING
    asked = state.cancel
    return Decision(
        [_cancel_requested(state, asked.requested_at, asked.cause, asked.reason, asked.by, then_delete=True)]
    )


def _existing(state: TaskState) -> TaskCreated:
    if state.spec is None or state.is_deleted:
        raise Rejected("not_found", "there is no such task", {"kind": "task"})
    return state.spec


def _terminal(state: TaskState) -> Rejected:
    assert state.status is not None
    return Rejected("already_terminal", f"the task is {state.status.name}", {"status": int(state.status)})


DECIDING: Mapping[type, Callable[[Any, TaskState, datetime], Decision]] = {
    CreateTask: _create,
    CreateTasks: _create_all,
    SettleDependencies: task_dependencies.settle,
    CreateInstance: task_external.create,
    UpdateInstance: task_external.update,
    DeleteInstance: task_external.delete,
    UpdateTask: _update,
    DispatchTask: _dispatch_task,
    ExpireTask: task_expiry.expire,
    RequeueInstance: task_reports.requeue,
    LoseInstance: task_reports.lose,
    Report: task_reports.report,
    ReportStarted: task_reports.report_one,
    ReportEnded: task_reports.report_one,
    CancelTask: _cancel,
    RetryTask: _retry,
    DeleteTask: _delete,
}


# --- intents -------------------------------------------------------------------------------------------------------


def intents(state: TaskState) -> frozenset[Intent]:
    """A slot while it waits, and its end if that takes too long; the slot, the dispatch and perhaps a stop while an agent
    holds it; then nothing."""
    instance, spec = state.instance, state.spec
    if instance is None or spec is None or instance.is_final or instance.is_external:
        return NO_INTENTS
    if instance.is_live:
        return frozenset(_wanted_of_agent(state, spec, instance))
    wanted: Intent = _offer(state, spec, instance)
    if state.waits_for:
        cancels = task_dependencies.overlap_of(spec) == OverlapPolicy.CANCEL_PREVIOUS
        wanted = Await(spec.task_id, spec.job_id, frozenset(state.waits_for), cancels)
    expires_at = task_expiry.expires_at(state)
    if expires_at is None:
        return frozenset((wanted,))
    return frozenset((wanted, Expire(spec.task_id, spec.job_id, expires_at)))


def _offer(state: TaskState, spec: TaskCreated, instance: Instance) -> Offer:
    return Offer(
        task_id=spec.task_id,
        job_id=spec.job_id,
        priority=spec.priority,
        not_before_at=state.not_before_at,
        labels=required_labels(spec.config),
        agent_id=spec.agent_id,
        instance_id=instance.instance_id,
        avoid=_avoided(state, spec),
        namespace_id=spec.namespace_id,
        bounds=bounds_of(spec.config, spec.job_id),
        rate=rate_of(spec.config),
        made_at=spec.created_at,
        epoch=state.epoch,
    )


def _avoided(state: TaskState, spec: TaskCreated) -> tuple[str, ...]:
    """Agents that are given it only when no other can take it; one that is pinned has no choice."""
    if spec.agent_id is not None:
        return ()
    failed_on = avoided_agents(spec.config, state.past, state.retry_count)
    return failed_on if not spec.avoid else tuple(dict.fromkeys((*failed_on, *spec.avoid)))


def _wanted_of_agent(state: TaskState, spec: TaskCreated, instance: Instance) -> Sequence[Intent]:
    agent_id, session = instance.agent_id, instance.session
    assert agent_id is not None and session is not None
    wanted: list[Intent] = [
        Occupy(
            agent_id,
            instance.instance_id,
            instance.epoch,
            spec.task_id,
            spec.job_id,
            instance.namespace_id or spec.namespace_id,
            bounds_of(spec.config, spec.job_id),
            execution.lost_after_seconds(spec.config),
            execution.is_kept(spec.config),
        )
    ]
    if instance.status is InstanceStatus.DISPATCHED:
        order = dispatch_order(
            task_id=spec.task_id,
            job_id=spec.job_id,
            instance_id=instance.instance_id,
            epoch=instance.epoch,
            attempt=instance.attempt,
            config=spec.config,
            environment=spec.environment,
            parameters=spec.parameters,
            scheduled_at=spec.nominal_at or spec.scheduled_at,
            event=spec.event,
            rendered=spec.rendered,
        )
        wanted.append(Send(agent_id, session, instance.instance_id, instance.epoch, order))
    if state.cancel is not None:
        reason = state.cancel.reason or state.cancel.cause
        grace_seconds = execution.kill_grace_seconds(spec.config)
        wanted.append(Stop(agent_id, instance.instance_id, instance.epoch, spec.task_id, reason, grace_seconds))
    return wanted


TASK: TableDecider[TaskState] = TableDecider(
    "task",
    INITIAL,
    DECIDING,
    dict.fromkeys(task_transitions.FOLDS, task_transitions.evolve),
    intents,
)
