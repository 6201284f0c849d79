"""I2, I4-I6: executions outside the agents, told over the API."""

from __future__ import annotations

from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import TASK_INSTANCES
from hetuflow.api.deleted_tasks import task_of
from hetuflow.api.errors import ApiError, conflict, invalid, not_found
from hetuflow.api.idempotency import once
from hetuflow.api.kinds import INVALID, Uuid
from hetuflow.api.problems import Problem, Problems
from hetuflow.api.reads import BareId, Nothing, require_exists, row_of
from hetuflow.api.reported_output import OUTPUT_BYTES_MAX, end_of, reported_tails
from hetuflow.api.routing import Endpoint, Parameter, PathId
from hetuflow.api.schemas.instance import INSTANCE, INSTANCE_UPDATE_BY_ID
from hetuflow.domain.commands import CreateInstance, DeleteInstance, UpdateInstance
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceStatus


async def create(call: Call) -> Reply:
    """A record beside the task's own instance: an open task always has one."""
    problems = Problems()
    members = call.read(INSTANCE.create, problems).members
    call.refuse(problems)
    chosen, task_id, job_id = members.pop("id", None), members.pop("task_id"), members.pop("job_id", None)
    status = members.pop("status", InstanceStatus.PENDING)

    async def perform(instance_id: str, context: Context) -> int:
        state = (await call.rooms.system.read(Address("task", task_id))).state
        require_exists(state.exists, "task", task_id, "task_id")
        if job_id is not None and job_id != state.spec.job_id:
            raise invalid([Problem("job_id", f"must be the task's, {state.spec.job_id}")])
        if chosen is not None:
            await _require_unused(call, instance_id, task_id)
        command = CreateInstance(instance_id=instance_id, status=int(status), **members)
        return (await call.ask("task", task_id, command, context)).position

    return await once(call, "task_instance", chosen, perform, stream_id=f"task-{task_id}", bare=True)


async def _require_unused(call: Call, instance_id: str, task_id: str) -> None:
    """Instances of other tasks are in other streams: the table knows them, and the log those of deleted tasks."""
    await call.visible(await call.rooms.store.head(), projection=TASK_INSTANCES.name)
    row = await call.rooms.rows.get(TASK_INSTANCES.name, instance_id)
    other = str(row["task_id"]) if row is not None else await task_of(call, instance_id)
    if other is not None and other != task_id:
        raise conflict("already_exists", f"instance {instance_id} exists", kind="task_instance", id=instance_id)


async def update_by_id(call: Call) -> Reply:
    """I4: which one is said in the body or the query."""
    members = dict(call.members)
    problems = Problems()
    sent = members.pop("id", None)
    in_body = None if sent is None else Uuid().parse(sent, "id", problems)
    in_query = call.query.get("id")
    if in_body is not INVALID and None not in (in_body, in_query) and in_body != in_query:
        problems.add("id", f"is {in_body}, and {in_query} in the query")
    call.refuse(problems)
    if in_body is None and in_query is None:
        raise ApiError(400, "which instance? id is required, in the body or as ?id=")
    call.document, call.id = members, in_body or in_query or ""
    return await update(call)


async def update(call: Call) -> Reply:
    row, position = await row_of(call, TASK_INSTANCES, "task_instance")
    tails = {**await call.rooms.output.tails([call.id], OUTPUT_BYTES_MAX)}
    tails |= await reported_tails(call, [row], OUTPUT_BYTES_MAX)
    stored = rendering.instance(row, tails.get(call.id))
    problems = Problems()
    given = call.update(INSTANCE.update, {**stored, "id": call.id}, problems).members
    call.refuse(problems)
    changes: dict[str, Any] = {name: value for name, value in given.items() if value != stored[name]}
    if changes.get("output") is not None:
        changes["output"], changes["output_truncated"] = end_of(changes["output"])
    if not changes:
        return call.written(position)
    command = UpdateInstance(instance_id=call.id, changes=changes)
    return call.written((await call.ask("task", str(row["task_id"]), command)).position)


async def delete(call: Call) -> Reply:
    await call.visible(await call.rooms.store.head(), projection=TASK_INSTANCES.name)
    row = await call.rooms.rows.get(TASK_INSTANCES.name, call.id)
    if row is None:
        raise not_found("task_instance", call.id)
    answer = await call.ask("task", str(row["task_id"]), DeleteInstance(instance_id=call.id))
    return call.written(answer.position)


_ITEM = "/api/v1/task-instances/item/{id}"
_EXAMPLE = {"status": "Succeeded", "exit_code": 0, "output": "42 rows"}

ENDPOINTS = (
    Endpoint(
        number="I2",
        method="POST",
        path="/api/v1/task-instances/item",
        handler=create,
        body=INSTANCE.create,
        reply=BareId(),
        summary="Record an execution outside the agents, beside the task's own instance",
        tag="task instances",
        also=(404, 409),
        is_keyed=True,
        example={"task_id": "550e8400-e29b-41d4-a716-446655440001", "status": "Running"},
    ),
    Endpoint(
        number="I4",
        method="POST",
        path="/api/v1/task-instances/item/update",
        handler=update_by_id,
        parameters=(Parameter(name="id", kind=Uuid(), doc="of the instance, unless the body has it"),),
        body=INSTANCE_UPDATE_BY_ID,
        reply=Nothing(),
        summary="Report an execution outside the agents; the id is in the body or the query",
        tag="task instances",
        also=(404, 409),
        example={"id": "550e8400-e29b-41d4-a716-446655440002", **_EXAMPLE},
    ),
    Endpoint(
        number="I5",
        method="POST",
        path=f"{_ITEM}/update",
        aliases=(("PUT", _ITEM),),
        path_id=PathId.UUID,
        handler=update,
        body=INSTANCE.update,
        reply=Nothing(),
        summary="Report an execution outside the agents",
        tag="task instances",
        also=(409,),
        example=_EXAMPLE,
    ),
    Endpoint(
        number="I6",
        method="DELETE",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=delete,
        reply=Nothing(),
        summary="Delete a task instance that has ended",
        tag="task instances",
        also=(409,),
    ),
)
