"""How a task comes to be: from its job, with its parameters and arguments, and dispatched at once where a slot is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve as changed

from hetuflow.domain import task_dependencies, task_expiry, task_outcomes, task_transitions
from hetuflow.domain.commands import CreateTask
from hetuflow.domain.config import STORED, checked, effective
from hetuflow.domain.decider import Choice, Guard, Placement
from hetuflow.domain.enums import TaskTrigger
from hetuflow.domain.environment import merged
from hetuflow.domain.events import TaskCreated, TaskDispatched, TaskEvent, TaskLocked
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.limits import rate_of
from hetuflow.domain.parameters import Unfit
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.rendering import About, checked_templates, prepare, refusal
from hetuflow.domain.task_state import Instance

_BY_HAND = frozenset({TaskTrigger.RUN, TaskTrigger.EXECUTE, TaskTrigger.API})
"""Made by somebody who can be told that the parameters do not fit. What is made by itself fails, and says so."""


def opening(command: CreateTask, now: datetime) -> tuple[list[TaskEvent], tuple[Guard, ...]]:
    """Return the first events of the task's stream, and the guards they were decided under.

    With a placement, and due by now, it is claimed and dispatched in the same append; the placement's guards are
    returned only when it was used. That the agent suits the task is the caller's word.

    Raises:
      Rejected: `not_found`, the job is deleted; `invalid`, naming the member.
    """
    job = command.job
    if job.sealed_until_at is not None and now < job.sealed_until_at:
        raise Rejected(
            "version_conflict", f"job {job.job_id} is about to be deleted; try again", {"job_id": job.job_id}
        )
    if job.deleted:
        raise Rejected("not_found", f"job {job.job_id} is deleted", {"kind": "job", "id": job.job_id, "path": "job_id"})
    created, unfit = _created(command, now)
    if unfit:
        if command.trigger in _BY_HAND:
            raise refusal(unfit)
        return [created, *task_outcomes.unfit(created, unfit, now)], (job.guard,)
    placement = command.placement
    deadline_at = task_expiry.start_deadline_at(created)
    is_late = deadline_at is not None and deadline_at <= now
    if placement is None or is_late or created.scheduled_at > now or task_transitions.awaited(created.dependencies):
        return [created], (job.guard,)
    instance = Instance(created.instance_id, created.attempt)
    return [created, *dispatched(created, instance, placement, 1, now)], (job.guard, *placement.guards)


def _created(command: CreateTask, now: datetime) -> tuple[TaskCreated, Sequence[Unfit]]:
    """The event, and what does not fit in its parameters: then it cannot run."""
    job, overrides = command.job, command.config
    if overrides:
        checked(overrides)
    if command.retry_count < 0:
        raise Rejected("invalid", "retry_count must be ≥ 0", {"path": "retry_count"})
    task_dependencies.refuse_self(command.task_id, command.dependencies)
    environment = merged(
        job.environment,
        job.config.get("environment"),
        command.environment,
        overrides.get("environment") if overrides else None,
    )
    config = _effective(job.config, overrides)
    created = TaskCreated(
        task_id=command.task_id,
        job_id=job.job_id,
        job_version=job.version,
        namespace_id=job.namespace_id if command.namespace_id is None else command.namespace_id,
        name=job.name if command.name is None else command.name,
        description=command.description,
        priority=command.priority,
        schedule_id=command.schedule_id,
        schedule_kind=command.schedule_kind,
        nominal_at=command.nominal_at,
        scheduled_at=command.scheduled_at or command.nominal_at or now,
        environment=environment,
        parameters=command.parameters,
        config=config,
        agent_id=job.agent_id or None,
        retry_count=command.retry_count,
        dependencies=command.dependencies,
        event=command.event,
        trigger=command.trigger,
        instance_id=instance_id_of(command.task_id, 1),
        attempt=1,
        created_at=now,
        flow_run_id=command.flow_run_id,
        avoid=command.avoid,
        backfill_id=command.backfill_id,
    )
    if config.get("params") is None:
        return created, ()
    if overrides:
        checked_templates(config)
    is_strict = command.trigger in _BY_HAND and command.flow_run_id is None  # a flow's are those of all its jobs
    passed = () if is_strict else None
    prepared = prepare(config, command.parameters, About.of(created), passed)
    return changed(created, parameters=prepared.parameters, rendered=prepared.rendered), prepared.unfit


def _effective(job_config: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The job's own, which is effective, unless something is laid over it or a member is newer than the job."""
    if not overrides and STORED.keys() <= job_config.keys():
        return job_config
    return effective(job_config, overrides)


def dispatched(
    spec: TaskCreated, instance: Instance, placement: Placement, epoch: int, now: datetime
) -> tuple[TaskLocked, TaskDispatched]:
    choice, rate = placement.choice, rate_of(spec.config)
    return (
        TaskLocked(task_id=spec.task_id, server_id=placement.server_id, locked_at=now),
        TaskDispatched(
            task_id=spec.task_id,
            job_id=spec.job_id,
            instance_id=instance.instance_id,
            agent_id=placement.agent_id,
            session=placement.session,
            epoch=epoch,
            attempt=instance.attempt,
            dispatched_at=now,
            placement=None if choice is None else _recorded(choice),
            rate=None if rate is None else {"count": rate.count, "per_seconds": rate.per_seconds},
        ),
    )


def _recorded(choice: Choice) -> dict[str, Any]:
    figures = {"fitting": choice.fitting, "used": choice.used, "slots": choice.slots}
    return {**figures, "avoided": list(choice.avoided)} if choice.avoided else figures


def openings(commands: Sequence[CreateTask], now: datetime) -> list[tuple[str, list[TaskEvent], tuple[Guard, ...]]]:
    """Each task's first events. What does not fit in any of them is refused together, by its place."""
    made, unfit = [], []
    for index, each in enumerate(commands):
        try:
            made.append((each.task_id, *opening(each, now)))
        except Rejected as no:
            if no.code != "invalid" or "problems" not in no.detail:
                raise
            unfit += [
                Unfit(f"tasks[{index}].{p['path']}", p["message"], p["suggestion"]) for p in no.detail["problems"]
            ]
    if unfit:
        raise refusal(unfit)
    return made
