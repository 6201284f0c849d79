"""J1-J8: jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply, while_guards_are_lost
from hetuflow.api.coded import Word
from hetuflow.api.collections import JOBS
from hetuflow.api.errors import ApiError, conflict
from hetuflow.api.idempotency import once
from hetuflow.api.problems import Problems
from hetuflow.api.reads import (
    NewId,
    Nothing,
    OneOf,
    PageOf,
    by,
    count_where,
    first_where,
    for_each,
    page_of,
    require_exists,
    row_of,
)
from hetuflow.api.rooms import Row
from hetuflow.api.routing import AS_OF, Endpoint, Parameter, PathId
from hetuflow.api.runs import OPEN_TASKS, Cascade, afterwards, cancel_open_tasks, make_task
from hetuflow.api.schemas.job import JOB, check_job_update
from hetuflow.api.schemas.schedule import check_expression
from hetuflow.api.schemas.switch import SWITCH
from hetuflow.api.schemas.task import RUN
from hetuflow.api.upstream import require_upstream
from hetuflow.domain.commands import (
    CreateJob,
    CreateSchedule,
    DeleteJob,
    DeleteSchedule,
    DisableJob,
    EnableJob,
    SealJob,
    UnsealJob,
    UpdateJob,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.parameters import unfit_for_schedule

CRON_NAME = "cron"
"""The name of the schedule that `cron_expr` stands for."""

CASCADE = Parameter(name="cascade", kind=Word(Cascade), doc="`cancel`: cancel what is open first")


async def page(call: Call) -> Reply:
    return await page_of(call, JOBS, by(rendering.job))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, JOBS, "job")
    return Reply(rendering.job(row), position)


async def create(call: Call) -> Reply:
    problems = Problems()
    given = call.read(JOB.create, problems)
    members = given.members
    cron_expr = members.pop("cron_expr", None)
    zone = call.rooms.identity.timezone
    if cron_expr is not None:
        check_expression(cron_expr, zone, "cron_expr", problems)
        for unfit in unfit_for_schedule((members.get("config") or {}).get("params"), {}, ScheduleKind.CRON):
            problems.add("cron_expr", f"gives its tasks no parameters, but {unfit.path} {unfit.message}")
    call.refuse(problems)
    chosen = members.pop("id", None)

    async def perform(job_id: str, context: Context) -> int:
        schedule = None if cron_expr is None else _cron_schedule(call, job_id, cron_expr)

        async def ask() -> int:
            guards = await require_upstream(call, job_id, members["name"], members.get("upstream"))
            command = CreateJob(**{"config": {}, **members}, job_id=job_id, schedule=schedule, guards=guards)
            return (await call.ask("job", job_id, command, context)).position

        return await while_guards_are_lost(ask)

    return await once(call, "job", chosen, perform)


def _cron_schedule(call: Call, job_id: str, expression: str, guards: tuple[Guard, ...] = ()) -> CreateSchedule:
    return CreateSchedule(
        schedule_id=str(call.rooms.ids.uuid7()),
        job_id=job_id,
        name=CRON_NAME,
        schedule_kind=int(ScheduleKind.CRON),
        cron_expression=expression,
        timezone=call.rooms.identity.timezone,
        guards=guards,
    )


async def update(call: Call) -> Reply:
    reading = await call.rooms.system.read(Address("job", call.id))
    state = reading.state
    require_exists(state.exists, "job", call.id)
    problems = Problems()
    given = call.update(JOB.update, {**_stored(state), "id": call.id}, problems)
    check_job_update(given, problems)
    changes = given.members
    cron_expr = changes.pop("cron_expr", None)
    if cron_expr is not None:
        check_expression(cron_expr, call.rooms.identity.timezone, "cron_expr", problems)
    call.refuse(problems)

    async def ask() -> int:
        upstream = changes.get("upstream")
        guards: tuple[Guard, ...] = ()
        if upstream is not None and upstream != state.upstream:
            guards = await require_upstream(call, call.id, changes.get("name") or state.name, upstream)
        return (await call.ask("job", call.id, UpdateJob(changes=changes, guards=guards))).position

    position = await while_guards_are_lost(ask)
    if cron_expr is not None:
        position = max(position, await _set_cron(call, cron_expr))
    return call.written(position)


async def _set_cron(call: Call, expression: str) -> int:
    """Give the job's schedule named `cron` this expression, or add it."""
    row = await first_where(call, "schedules", job_id=call.id, name=CRON_NAME, schedule_kind=int(ScheduleKind.CRON))
    if row is not None:
        command = UpdateSchedule(changes={"cron_expression": expression})
        return (await call.ask("schedule", str(row["id"]), command)).position
    reading = await call.rooms.system.read(Address("job", call.id))
    created = _cron_schedule(call, call.id, expression, (Guard(f"job-{call.id}", reading.version),))
    return (await call.ask("schedule", created.schedule_id, created)).position


def _stored(state: Any) -> dict[str, Any]:
    names = ("namespace_id", "name", "description", "environment", "config", "agent_id", "upstream")
    return {**{name: getattr(state, name) for name in names}, "status": int(state.status)}


async def delete(call: Call) -> Reply:
    """Cancel what is open when asked to, delete, and look once more for what began in between.

    Whatever interrupts it, the same request goes on where it stopped; of a deleted job it cancels what is left, and
    answers 404. Without `cascade` the job is sealed while it is looked for open tasks: no run can be committed between
    the count and the delete.
    """
    state = (await call.rooms.system.read(Address("job", call.id))).state
    is_cascade, position = "cascade" in call.query, 0
    if is_cascade and state.status is not None:
        position = await cancel_open_tasks(call, job_id=call.id)
    require_exists(state.exists, "job", call.id)
    sealed_at = None if is_cascade else await _sealed_without_open_tasks(call)
    position = max(position, (await call.ask("job", call.id, DeleteJob(sealed_at=sealed_at))).position)
    position = max(position, await afterwards(_delete_schedules(call), f"schedules of the deleted job {call.id}"))
    if is_cascade:
        rest = afterwards(cancel_open_tasks(call, job_id=call.id), f"open tasks of the deleted job {call.id}")
        position = max(position, await rest)
    return call.written(position)


async def _sealed_without_open_tasks(call: Call) -> datetime:
    """Seal the job and make sure that it has no open tasks; it is found so while the seal holds.

    Raises:
      ApiError: 409 `has_open_tasks`; the seal is taken off then.
    """
    await _refuse_open_tasks(call)  # the usual refusal leaves no trace in the log
    state = (await call.ask("job", call.id, SealJob())).state
    try:
        await _refuse_open_tasks(call)
    except ApiError:
        await call.ask("job", call.id, UnsealJob())
        raise
    sealed_at: datetime = state.sealed_at
    return sealed_at


async def _refuse_open_tasks(call: Call) -> None:
    count = await count_where(call, "tasks", job_id=call.id, status=OPEN_TASKS)
    if count:
        message = f"the job has {count} tasks that have not ended; ?cascade=cancel cancels them"
        raise conflict("has_open_tasks", message, count=count)


async def _delete_schedules(call: Call) -> int:
    async def delete_schedule(row: Row) -> int:
        # the scheduler's reaction to the job's deletion may have been faster
        gone = DeleteSchedule(reason="job_deleted")
        return await call.ask_unless(("not_found",), "schedule", str(row["id"]), gone)

    return await for_each(call, "schedules", delete_schedule, job_id=call.id)


async def enable(call: Call) -> Reply:
    note = call.given(SWITCH).members.get("note")
    return call.written((await call.ask("job", call.id, EnableJob(note=note))).position)


async def disable(call: Call) -> Reply:
    note = call.given(SWITCH).members.get("note")
    return call.written((await call.ask("job", call.id, DisableJob(note=note))).position)


async def run(call: Call) -> Reply:
    members = call.given(RUN).members
    chosen = members.pop("id", None)

    async def perform(task_id: str, context: Context) -> int:
        return await make_task(call, context, task_id, call.id, None, {"trigger": "run", **members})

    return await once(call, "task", chosen, perform)


_ITEM = "/api/v1/jobs/item/{id}"
_CONFIG = {"cmd": "bash", "args": ["-c", "echo $MESSAGE"], "timeout": 300, "max_retries": 2, "retry_interval": 30}

ENDPOINTS = (
    Endpoint(
        number="J1",
        method="POST",
        path="/api/v1/jobs/page",
        aliases=(("POST", "/api/v1/jobs/query"),),
        handler=page,
        body=JOBS,
        reply=PageOf(JOB),
        summary="Find jobs",
        tag="jobs",
        example={"filter": {"name": {"$contains": "hello"}}, "page": {"limit": 20}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="J2",
        method="POST",
        path="/api/v1/jobs/item",
        handler=create,
        body=JOB.create,
        reply=NewId(),
        summary="Create a job",
        tag="jobs",
        also=(404, 409),
        is_keyed=True,
        example={"name": "hello-world", "environment": {"MESSAGE": "Hello"}, "config": _CONFIG},
    ),
    Endpoint(
        number="J3",
        method="GET",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(JOB),
        summary="Show a job",
        tag="jobs",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="J4",
        method="PUT",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=update,
        body=JOB.update,
        reply=Nothing(),
        summary="Change a job",
        tag="jobs",
        also=(409,),
        example={"description": "says hello"},
    ),
    Endpoint(
        number="J5",
        method="DELETE",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=delete,
        parameters=(CASCADE,),
        reply=Nothing(),
        summary="Delete a job, and its schedules",
        tag="jobs",
        also=(409,),
    ),
    Endpoint(
        number="J6",
        method="POST",
        path=f"{_ITEM}/enable",
        path_id=PathId.UUID,
        handler=enable,
        body=SWITCH,
        reply=Nothing(),
        summary="Enable a job",
        tag="jobs",
    ),
    Endpoint(
        number="J7",
        method="POST",
        path=f"{_ITEM}/disable",
        path_id=PathId.UUID,
        handler=disable,
        body=SWITCH,
        reply=Nothing(),
        summary="Disable a job",
        tag="jobs",
    ),
    Endpoint(
        number="J8",
        method="POST",
        path=f"{_ITEM}/run",
        path_id=PathId.UUID,
        handler=run,
        body=RUN,
        reply=NewId(),
        summary="Run a job now",
        tag="jobs",
        also=(409,),
        is_keyed=True,
        example={"parameters": {"who": "world"}},
    ),
)
