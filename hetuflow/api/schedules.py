"""C1-C9: schedules."""

from __future__ import annotations

from typing import Any

from hetuflow.actors import Context, GuardLost
from hetuflow.api import rendering
from hetuflow.api.call import RACES_MAX, Call, Reply, lost_for_good
from hetuflow.api.collections import SCHEDULES
from hetuflow.api.excluding import check_calendars
from hetuflow.api.flow_runs import start_flow
from hetuflow.api.idempotency import once
from hetuflow.api.jobs import CASCADE
from hetuflow.api.kinds import Time
from hetuflow.api.parameters import check_schedule_parameters
from hetuflow.api.problems import Problems
from hetuflow.api.reads import (
    AllOf,
    NewId,
    Nothing,
    OneOf,
    PageOf,
    by,
    for_each,
    page_of,
    require_exists,
    row_of,
    rows_of,
    where,
)
from hetuflow.api.rooms import Row
from hetuflow.api.routing import AS_OF, Endpoint, Parameter, PathId, time_text
from hetuflow.api.runs import afterwards, cancel_open_tasks, make_task
from hetuflow.api.schedule_explain import explain_at
from hetuflow.api.schemas.schedule import SCHEDULE, check_schedule
from hetuflow.api.schemas.schedule_explanation import SCHEDULE_EXPLANATION
from hetuflow.api.schemas.switch import SWITCH
from hetuflow.api.schemas.task import RUN
from hetuflow.domain.commands import (
    CancelFlow,
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import FlowStatus, ScheduleKind, ScheduleStatus
from hetuflow.domain.flow_plan import RootTask
from hetuflow.domain.identity import flow_run_id_of

SCHEDULABLE_MAX = 5000


async def page(call: Call) -> Reply:
    return await page_of(call, SCHEDULES, by(rendering.schedule))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, SCHEDULES, "schedule")
    return Reply(rendering.schedule(row), position)


async def schedulable(call: Call) -> Reply:
    kinds = [int(ScheduleKind.CRON), int(ScheduleKind.INTERVAL)]
    request = where(SCHEDULES, limit=SCHEDULABLE_MAX, schedule_kind=kinds, status=int(ScheduleStatus.ENABLED))
    rows, position = await rows_of(call, SCHEDULES, request)
    return Reply([rendering.schedule(row) for row in rows], position)


async def create(call: Call) -> Reply:
    problems = Problems()
    given = call.read(SCHEDULE.create, problems)
    members = given.members
    members.setdefault("timezone", call.rooms.identity.timezone)
    check_schedule(given, problems, {}, call.rooms.identity.timezone)
    await check_calendars(call, given, problems)
    call.refuse(problems)
    chosen = members.pop("id", None)

    async def perform(schedule_id: str, context: Context) -> int:
        for _ in range(RACES_MAX):
            job = await call.rooms.system.read(Address("job", members["job_id"]))
            require_exists(job.state.exists, "job", members["job_id"], "job_id")
            check_schedule_parameters(job.state, members.get("parameters"), members["schedule_kind"], problems)
            call.refuse(problems)
            guard = Guard(f"job-{members['job_id']}", job.version)
            command = CreateSchedule(schedule_id=schedule_id, guards=(guard,), **members)
            try:
                return (await call.ask("schedule", schedule_id, command, context)).position
            except GuardLost as error:
                lost = error
        raise lost_for_good(lost)

    return await once(call, "schedule", chosen, perform)


async def update(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("schedule", call.id))).state
    require_exists(state.exists, "schedule", call.id)
    stored = {member.name: getattr(state, member.name) for member in SCHEDULE.update.members}
    stored["exclude_calendars"] = list(state.exclude_calendars)
    problems = Problems()
    given = call.update(SCHEDULE.update, {**stored, "id": call.id, "job_id": state.job_id}, problems)
    check_schedule(given, problems, stored, call.rooms.identity.timezone)
    await check_calendars(call, given, problems)
    after = {**stored, **given.members}
    if after["parameters"] != stored["parameters"] or after["schedule_kind"] != stored["schedule_kind"]:
        job = (await call.rooms.system.read(Address("job", state.job_id))).state
        check_schedule_parameters(job, after["parameters"], after["schedule_kind"], problems)
    call.refuse(problems)
    return call.written((await call.ask("schedule", call.id, UpdateSchedule(changes=given.members))).position)


async def delete(call: Call) -> Reply:
    """Interrupted, the same request goes on where it stopped: of a deleted schedule too, which then is 404."""
    is_cascade, position = "cascade" in call.query, 0
    if is_cascade:
        state = (await call.rooms.system.read(Address("schedule", call.id))).state
        if state.status is not None:
            position = await _cancel_open(call)
    position = max(position, (await call.ask("schedule", call.id, DeleteSchedule())).position)
    if is_cascade:
        rest = afterwards(_cancel_open(call), f"open tasks of the deleted schedule {call.id}")
        position = max(position, await rest)
    return call.written(position)


async def _cancel_open(call: Call) -> int:
    """What the schedule has made and is open: runs of flows as a whole."""

    async def cancel(row: Row) -> int:
        return await call.ask_unless(("already_terminal",), "flow", str(row["id"]), CancelFlow())

    position = await for_each(call, "flows", cancel, schedule_id=call.id, status=int(FlowStatus.RUNNING))
    return max(position, await cancel_open_tasks(call, schedule_id=call.id))


async def enable(call: Call) -> Reply:
    note = call.given(SWITCH).members.get("note")
    return call.written((await call.ask("schedule", call.id, EnableSchedule(note=note))).position)


async def disable(call: Call) -> Reply:
    note = call.given(SWITCH).members.get("note")
    return call.written((await call.ask("schedule", call.id, DisableSchedule(note=note))).position)


async def execute(call: Call) -> Reply:
    given = call.given(RUN).members
    chosen = given.pop("id", None)

    async def perform(task_id: str, context: Context) -> int:
        state = (await call.rooms.system.read(Address("schedule", call.id))).state
        require_exists(state.exists, "schedule", call.id)
        members: dict[str, Any] = {
            "priority": state.priority,
            **given,
            "parameters": {**(state.parameters or {}), **given.get("parameters", {})},
        }
        by_whom = {"trigger": "execute", "schedule_id": call.id, "schedule_kind": state.schedule_kind}
        if state.runs_flow:
            _refuse_config(call, members)
            root = RootTask(task_id=task_id, **by_whom)
            return await start_flow(call, context, flow_run_id_of(task_id), [state.job_id], [None], members, root)
        return await make_task(call, context, task_id, state.job_id, None, {**by_whom, **members})

    return await once(call, "task", chosen, perform)


def _refuse_config(call: Call, members: dict[str, Any]) -> None:
    """Jobs of a flow have configs of their own."""
    if members.pop("config", None) is not None:
        problems = Problems()
        problems.add("config", "cannot be given for a schedule that runs a flow: its jobs have their own")
        call.refuse(problems)


_ITEM = "/api/v1/schedules/item/{id}"

ENDPOINTS = (
    Endpoint(
        number="C1",
        method="POST",
        path="/api/v1/schedules/page",
        aliases=(("POST", "/api/v1/schedules/query"),),
        handler=page,
        body=SCHEDULES,
        reply=PageOf(SCHEDULE),
        summary="Find schedules",
        tag="schedules",
        example={"filter": {"enabled": {"$eq": True}}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="C2",
        method="POST",
        path="/api/v1/schedules/item",
        handler=create,
        body=SCHEDULE.create,
        reply=NewId(),
        summary="Create a schedule",
        tag="schedules",
        also=(404, 409),
        is_keyed=True,
        example={"job_id": "550e8400-e29b-41d4-a716-446655440000", "kind": "interval", "interval_seconds": 60},
    ),
    Endpoint(
        number="C3",
        method="GET",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(SCHEDULE),
        summary="Show a schedule",
        tag="schedules",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="C4",
        method="PUT",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=update,
        body=SCHEDULE.update,
        reply=Nothing(),
        summary="Change a schedule",
        tag="schedules",
        also=(409,),
        example={"interval_seconds": 120},
    ),
    Endpoint(
        number="C5",
        method="DELETE",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=delete,
        parameters=(CASCADE,),
        reply=Nothing(),
        summary="Delete a schedule",
        tag="schedules",
    ),
    Endpoint(
        number="C6",
        method="GET",
        path="/api/v1/schedules/schedulable",
        handler=schedulable,
        reply=AllOf(SCHEDULE),
        summary="All enabled Cron and Interval schedules",
        tag="schedules",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="C7",
        method="POST",
        path=f"{_ITEM}/enable",
        path_id=PathId.UUID,
        handler=enable,
        body=SWITCH,
        reply=Nothing(),
        summary="Enable a schedule",
        tag="schedules",
    ),
    Endpoint(
        number="C8",
        method="POST",
        path=f"{_ITEM}/disable",
        path_id=PathId.UUID,
        handler=disable,
        body=SWITCH,
        reply=Nothing(),
        summary="Disable a schedule",
        tag="schedules",
    ),
    Endpoint(
        number="C9",
        method="POST",
        path=f"{_ITEM}/execute",
        path_id=PathId.UUID,
        handler=execute,
        body=RUN,
        reply=NewId(),
        summary="Run a schedule's job now",
        tag="schedules",
        also=(409,),
        is_keyed=True,
    ),
    Endpoint(
        number="C12",
        method="GET",
        path=f"{_ITEM}/explain",
        path_id=PathId.UUID,
        handler=explain_at,
        parameters=(Parameter(name="at", kind=Time(), from_text=time_text, doc="default: now"),),
        reply=SCHEDULE_EXPLANATION,
        summary="What a schedule did, or will do, at one moment",
        tag="schedules",
    ),
)
