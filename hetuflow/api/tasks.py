"""T1-T8, T11: tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import TASKS
from hetuflow.api.dependencies import require_known, require_no_circle, still_open
from hetuflow.api.errors import conflict
from hetuflow.api.explain import explain
from hetuflow.api.flow_runs import retry_flow
from hetuflow.api.idempotency import once
from hetuflow.api.jobs import CASCADE
from hetuflow.api.kinds import Integer
from hetuflow.api.problems import Problems
from hetuflow.api.reads import NewId, Nothing, OneOf, PageOf, by, page_of, require_exists, row_of
from hetuflow.api.records import EVENT_LIMIT_MAX, event_page
from hetuflow.api.routing import AS_OF, NO_BODY, Endpoint, Parameter, PathId, integer_text
from hetuflow.api.runs import make_task
from hetuflow.api.schemas.event import EVENT_PAGE
from hetuflow.api.schemas.explanation import EXPLANATION
from hetuflow.api.schemas.task import CANCEL, TASK
from hetuflow.api.shapes import Given
from hetuflow.api.task_creation import require_schedule
from hetuflow.domain.commands import CancelTask, DeleteTask, RetryTask, UpdateTask
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import TaskStatus

REOPENED_WITH_ITS_FLOW = (TaskStatus.FAILED, TaskStatus.CANCELLED)


async def page(call: Call) -> Reply:
    return await page_of(call, TASKS, by(rendering.task))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, TASKS, "task")
    return Reply(rendering.task(row), position)


# --- creating ---------------------------------------------------------------------------------------------------------


async def create(call: Call) -> Reply:
    problems = Problems()
    given = call.read(TASK.create, problems)
    members = given.members
    members.pop("status", None)  # a new task waits
    await require_known(call, members.get("dependencies"), "dependencies", problems, frozenset())
    call.refuse(problems)
    chosen, job_id = members.pop("id", None), members.pop("job_id")

    async def perform(task_id: str, context: Context) -> int:
        job = (await call.rooms.system.read(Address("job", job_id))).state
        require_exists(job.exists, "job", job_id, "job_id")
        if (schedule_id := members.get("schedule_id")) is not None:
            await require_schedule(call, schedule_id, job_id, members)
        return await make_task(call, context, task_id, job_id, "job_id", {"trigger": "api", **members})

    return await once(call, "task", chosen, perform)


# --- changing ---------------------------------------------------------------------------------------------------------


async def update(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("task", call.id))).state
    require_exists(state.exists, "task", call.id)
    stored = _stored(state, call.id)
    problems = Problems()
    given = call.update(TASK.update, stored, problems)
    _fold_max_retries(given, stored, problems)
    changes = given.members
    guards = await _check_dependencies(call, changes, stored, problems)
    call.refuse(problems)
    status, lock_version = changes.pop("status", state.status), changes.pop("lock_version", None)
    command = UpdateTask(changes=changes, lock_version=lock_version, guards=tuple(guards))
    _refuse_transition(state.status, status)
    position = (await call.ask("task", call.id, command)).position
    if status != state.status:
        is_cancel = status == TaskStatus.CANCELLED
        position = (await call.ask("task", call.id, CancelTask())).position if is_cancel else await _retried(call)
    return call.written(position)


async def _check_dependencies(
    call: Call, changes: Mapping[str, Any], stored: Mapping[str, Any], problems: Problems
) -> list[Guard]:
    """Hold changed dependencies against the tasks there are; return what the update then relies on."""
    dependencies = changes.get("dependencies")
    if dependencies is None or dependencies == stored["dependencies"]:
        return []
    await require_known(call, dependencies, "dependencies", problems, frozenset())
    return await require_no_circle(call, call.id, dependencies, problems)


async def _retried(call: Call) -> int:
    """An operator's retry waits again for those of its dependencies that have not ended (again).

    That of a task of a flow run which has ended is the run's too: it is open again, and what was skipped because of the
    task may run now.
    """
    state = (await call.rooms.system.read(Address("task", call.id))).state
    spec = state.spec
    if spec is not None and spec.flow_run_id is not None and state.status in REOPENED_WITH_ITS_FLOW and state.exists:
        return await retry_flow(call, spec.flow_run_id, (call.id,))
    waits_for = await still_open(call, None if spec is None else spec.dependencies)
    return (await call.ask("task", call.id, RetryTask(waits_for=waits_for))).position


def _stored(state: Any, task_id: str) -> dict[str, Any]:
    spec = state.spec
    names = [m.name for m in TASK.update.members if m.name not in ("status", "max_retries", "lock_version")]
    return {
        **{name: getattr(spec, name) for name in names},
        "id": task_id,
        "job_id": spec.job_id,
        "schedule_id": spec.schedule_id,
        "schedule_kind": spec.schedule_kind,
        "status": int(state.status),
        "max_retries": spec.config["max_retries"],
        "lock_version": state.lock_version,
    }


def _fold_max_retries(given: Given, stored: Mapping[str, Any], problems: Problems) -> None:
    """`max_retries` is another name of `config.max_retries`; the one that equals what is stored gives way."""
    members = given.members
    wanted = members.pop("max_retries", None)
    if wanted is None:
        return
    config = members.get("config") or {}
    inside = config.get("max_retries", wanted)
    if inside != wanted and stored["max_retries"] not in (inside, wanted):
        problems.add(given.path("max_retries"), "is another name of config.max_retries and has another value")
    chosen = inside if wanted == stored["max_retries"] else wanted
    members["config"] = {**config, "max_retries": chosen}


def _refuse_transition(current: int, wanted: int) -> None:
    if wanted not in (current, TaskStatus.CANCELLED, TaskStatus.PENDING):
        raise conflict(
            "transition_not_allowed",
            f"a task's status cannot be set to {int(wanted)}; 99 cancels, 1 retries",
            **{"from": int(current), "to": int(wanted)},
        )


async def delete(call: Call) -> Reply:
    return call.written((await call.ask("task", call.id, DeleteTask(cascade="cascade" in call.query))).position)


async def retry(call: Call) -> Reply:
    call.given(NO_BODY)
    return call.written(await _retried(call))


async def cancel(call: Call) -> Reply:
    reason = call.given(CANCEL).members.get("reason")
    return call.written((await call.ask("task", call.id, CancelTask(reason=reason))).position)


async def history(call: Call) -> Reply:
    after, limit = call.query.get("after", 0), call.query.get("limit", 20)
    position = await call.log_head()
    stream_id = f"task-{call.id}"
    events = await call.rooms.store.read_stream(stream_id, after_version=after)
    if not events and not (after and await call.rooms.store.read_stream(stream_id)):
        require_exists(False, "task", call.id)
    found = events[:limit]
    following = found[-1].version if len(events) > limit else None
    return Reply(event_page(found, following), position)


_TASK = "/api/v1/tasks/{id}"

HISTORY_PARAMETERS = (
    Parameter(name="after", kind=Integer(), from_text=integer_text, doc="version in the stream, exclusive"),
    Parameter(name="limit", kind=Integer(1, EVENT_LIMIT_MAX), from_text=integer_text, doc="default 20"),
)

ENDPOINTS = (
    Endpoint(
        number="T1",
        method="POST",
        path="/api/v1/tasks/query",
        aliases=(("POST", "/api/v1/tasks/page"),),
        handler=page,
        body=TASKS,
        reply=PageOf(TASK),
        summary="Find tasks",
        tag="tasks",
        example={"filter": {"status": {"$in": ["Running", "WaitingRetry"]}}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="T3",
        method="POST",
        path="/api/v1/tasks/create",
        handler=create,
        body=TASK.create,
        reply=NewId(),
        summary="Create a task",
        tag="tasks",
        also=(404, 409),
        is_keyed=True,
        example={"job_id": "550e8400-e29b-41d4-a716-446655440000", "name": "by hand"},
    ),
    Endpoint(
        number="T4",
        method="GET",
        path=_TASK,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(TASK),
        summary="Show a task",
        tag="tasks",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="T5",
        method="POST",
        path=f"{_TASK}/update",
        aliases=(("PUT", _TASK),),
        path_id=PathId.UUID,
        handler=update,
        body=TASK.update,
        reply=Nothing(),
        summary="Change a task",
        tag="tasks",
        also=(409,),
        example={"priority": 10},
    ),
    Endpoint(
        number="T6",
        method="DELETE",
        path=_TASK,
        path_id=PathId.UUID,
        handler=delete,
        parameters=(CASCADE,),
        reply=Nothing(),
        summary="Delete a task that has ended",
        tag="tasks",
        also=(409,),
    ),
    Endpoint(
        number="T7",
        method="POST",
        path=f"{_TASK}/retry",
        path_id=PathId.UUID,
        handler=retry,
        body=NO_BODY,
        reply=Nothing(),
        summary="Retry a task that failed, was cancelled, or waits for its retry",
        tag="tasks",
        also=(409,),
    ),
    Endpoint(
        number="T8",
        method="POST",
        path=f"{_TASK}/cancel",
        path_id=PathId.UUID,
        handler=cancel,
        body=CANCEL,
        reply=Nothing(),
        summary="Cancel a task",
        tag="tasks",
        also=(409,),
    ),
    Endpoint(
        number="T10",
        method="GET",
        path=f"{_TASK}/explain",
        path_id=PathId.UUID,
        handler=explain,
        parameters=(AS_OF,),
        reply=EXPLANATION,
        summary="Why the task is where it is",
        tag="tasks",
        also=(410,),
    ),
    Endpoint(
        number="T11",
        method="GET",
        path=f"{_TASK}/history",
        path_id=PathId.UUID,
        handler=history,
        parameters=HISTORY_PARAMETERS,
        reply=EVENT_PAGE,
        summary="The task's events, its instances included",
        tag="tasks",
    ),
)
