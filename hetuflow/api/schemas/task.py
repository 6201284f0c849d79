"""Tasks: one due moment each, with the shape of a run by hand."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from hetuflow.api.coded import Code, CodeOut
from hetuflow.api.kinds import INT32, INT32_MAX, Integer, Text, Time, Uuid
from hetuflow.api.objects import FreeObject, Variables
from hetuflow.api.schemas.config import CONFIG_OF_TASK, CONFIG_OVERRIDES, MAX_RETRIES
from hetuflow.api.schemas.dependencies import Dependencies
from hetuflow.api.schemas.job import BY_WHOM, CREATED_UPDATED, DESCRIPTION, NAME, NAMESPACE
from hetuflow.api.shapes import Entity, Member, Shape
from hetuflow.domain.enums import ScheduleKind, TaskStatus

TASK_STATUS = Code(TaskStatus, {"doing": int(TaskStatus.RUNNING)})

_ID = Member(name="id", kind=Uuid(chosen=True), write="C", doc="default: a new UUID v7")
_NAME = Member(name="name", kind=NAME, write="CU", nullable=True, doc="default: the job's name")
_DESCRIPTION = Member(name="description", kind=DESCRIPTION, write="CU", nullable=True, default=None)
_PRIORITY = Member(name="priority", kind=INT32, write="CU", doc="larger runs first; default: the schedule's, else 0")
_SCHEDULED_AT = Member(name="scheduled_at", kind=Time(), write="CU", doc="not started before; default: now")
_ENVIRONMENT = Member(
    name="environment",
    kind=Variables(),
    write="CU",
    nullable=True,
    doc="effective variables: job < job `config` < sent here < `config.environment` sent here",
)
_PARAMETERS = Member(
    name="parameters",
    kind=FreeObject(),
    write="CU",
    default={},
    doc="reach the program as `HETUFLOW_PARAM_<NAME>`",
)
_CONFIG = Member(
    name="config",
    kind=CONFIG_OVERRIDES,
    write="CU",
    out=CONFIG_OF_TASK,
    doc="default: the job's, copied; members sent override one by one",
)

TRIGGERING_EVENT = Shape(
    title="TriggeringEvent",
    members=[
        Member(name="id", kind=Uuid(), doc="the `event_id` of its record"),
        Member(name="type", kind=Text()),
        Member(name="position", kind=Integer(1)),
        Member(name="depth", kind=Integer(1), doc="event schedules in the chain that led here"),
        Member(name="count", kind=Integer(1), nullable=True, doc="events it stands for, of a debounced schedule"),
    ],
)

TASK = Entity(
    title="SchedTask",
    ignored_on_update=frozenset({"completed_at", "locked_at", "retry_count"}),
    members=[
        _ID,
        Member(name="job_id", kind=Uuid(), write="C!"),
        _NAME,
        _DESCRIPTION,
        Member(name="namespace_id", kind=NAMESPACE, write="CU", doc="default: the job's"),
        _PRIORITY,
        Member(
            name="status",
            kind=TASK_STATUS,
            created=Code(TaskStatus, among=[TaskStatus.PENDING]),
            write="CU",
            default=int(TaskStatus.PENDING),
            out=CodeOut(TaskStatus),
            doc="create: only 1. Update: 99 cancels, 1 retries, the current one is nothing",
        ),
        Member(name="schedule_id", kind=Uuid(), write="C", nullable=True, default=None, doc="of the same job"),
        Member(
            name="schedule_kind",
            kind=Code(ScheduleKind),
            write="C",
            out=CodeOut(ScheduleKind),
            doc="default: the schedule's, else 4",
        ),
        _SCHEDULED_AT,
        Member(name="completed_at", kind=Time(), nullable=True, doc="when it became terminal"),
        _ENVIRONMENT,
        _PARAMETERS,
        _CONFIG,
        Member(
            name="rendered",
            kind=FreeObject(),
            nullable=True,
            doc="what came of the templates in `config.args` when the task was made or edited: `args`, and the `variables`"
            " that the script of a shell refers to; null when there are none",
        ),
        Member(
            name="retry_count",
            kind=Integer(0, INT32_MAX),
            write="C",
            default=0,
            doc="retries used; starts at the given number",
        ),
        Member(
            name="max_retries",
            kind=MAX_RETRIES,
            write="U",
            doc="mirror and alias of `config.max_retries`",
        ),
        Member(name="dependencies", kind=Dependencies(), write="CU", nullable=True, default=None, out=FreeObject()),
        Member(name="locked_at", kind=Time(), nullable=True, doc="when a server claimed it"),
        Member(
            name="lock_version",
            kind=Integer(1),
            write="U",
            doc="equals `version`; sent on update it must equal it",
        ),
        Member(
            name="trigger",
            kind=Text(),
            doc="`schedule`, `execute`, `run`, `api`, `event`, `daemon`, `backfill` or `flow`",
        ),
        Member(name="flow_run_id", kind=Uuid(), nullable=True, doc="the flow run that it is part of"),
        Member(name="backfill_id", kind=Uuid(), nullable=True, doc="the backfill that made it"),
        Member(
            name="event",
            kind=TRIGGERING_EVENT,
            nullable=True,
            doc="what triggered it, where an event did",
        ),
        Member(name="instance_id", kind=Uuid(), doc="newest instance"),
        Member(name="attempt", kind=Integer(1), doc="its number"),
        Member(name="next_retry_at", kind=Time(), nullable=True, doc="in WaitingRetry"),
        Member(name="cancel_requested_at", kind=Time(), nullable=True, doc="a cancel is under way"),
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)

RUN = Shape(
    title="Run",
    members=[
        evolve(member, write="C")
        for member in (_ID, _NAME, _DESCRIPTION, _PARAMETERS, _ENVIRONMENT, _PRIORITY, _SCHEDULED_AT, _CONFIG)
    ],
)
"""Run now (J8, C9): everything optional."""

CANCEL = Shape(title="Cancel", members=[Member(name="reason", kind=Text(1000), nullable=True)])


def with_mirror(config: dict[str, Any], retry_count: int) -> dict[str, Any]:
    """A task's config as its answer has it."""
    return {**config, "retry_count": retry_count}
