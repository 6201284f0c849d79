"""From a graph of jobs to the command that starts a run of it: one task per job, each waiting for those it follows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import Factory, frozen

from hetuflow.domain.commands import CreateTask, StartFlow
from hetuflow.domain.decider import Placement
from hetuflow.domain.enums import ScheduleKind, TaskTrigger
from hetuflow.domain.flow_graph import FlowGraph, match_of
from hetuflow.domain.identity import flow_task_id_of

JSON = Mapping[str, Any]


@frozen(slots=True, kw_only=True)
class RootTask:
    """What the first task of a run has of its own: where a schedule made it, its id, times and waits are the schedule's."""

    task_id: str
    trigger: str
    schedule_id: str | None = None
    schedule_kind: int = ScheduleKind.FLOW
    dependencies: JSON | None = None
    placement: Placement | None = None


@frozen(slots=True, kw_only=True)
class FlowWishes:
    """What all tasks of a run have in common; None and {} = as their jobs have it."""

    name: str | None = None
    description: str | None = None
    priority: int = 0
    parameters: JSON = Factory(dict)
    environment: JSON | None = None
    scheduled_at: datetime | None = None
    nominal_at: datetime | None = None


def started(flow_run_id: str, graph: FlowGraph, wishes: FlowWishes, root: RootTask | None = None) -> StartFlow:
    """Return the command; the ids of its tasks are derived, so that a repeat makes the same ones.

    Args:
      root: of the graph's first job.
    """
    task_of = {job.job_id: flow_task_id_of(flow_run_id, job.job_id) for job in graph.jobs}
    first = graph.jobs[0]
    if root is not None:
        task_of[first.job_id] = root.task_id
    conditions = graph.conditions()
    tasks = []
    for job in graph.jobs:
        own = root if job is first else None
        tasks.append(
            CreateTask(
                task_id=task_of[job.job_id],
                job=job,
                trigger=TaskTrigger.FLOW if own is None else own.trigger,
                description=wishes.description,
                priority=wishes.priority,
                schedule_id=None if own is None else own.schedule_id,
                schedule_kind=int(ScheduleKind.FLOW if own is None else own.schedule_kind),
                nominal_at=wishes.nominal_at,
                scheduled_at=wishes.scheduled_at,
                environment=wishes.environment,
                parameters=wishes.parameters,
                dependencies=_dependencies(conditions[job.job_id], match_of(job.upstream), task_of)
                if own is None or conditions[job.job_id]
                else own.dependencies,
                placement=None if own is None else own.placement,
                flow_run_id=flow_run_id,
            )
        )
    return StartFlow(
        flow_run_id=flow_run_id,
        name=first.name if wishes.name is None else wishes.name,
        namespace_id=first.namespace_id,
        trigger=TaskTrigger.FLOW if root is None else root.trigger,
        graph=graph.as_json(task_of),
        tasks=tasks,
        parameters=wishes.parameters,
        schedule_id=None if root is None else root.schedule_id,
        nominal_at=wishes.nominal_at,
    )


def _dependencies(follows: Mapping[str, str], match: str, task_of: Mapping[str, str]) -> JSON | None:
    if not follows:
        return None
    on = {task_of[job_id]: condition for job_id, condition in follows.items()}
    return {"task_ids": list(on), "on_failure": "cancel", "on": on, "match": match}
