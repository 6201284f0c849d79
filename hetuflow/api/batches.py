"""T9: many tasks at once, all of them or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.errors import WrongExpectedVersion
from hetuflow.actors import Context, GuardLost
from hetuflow.api.call import RACES_MAX, Call, Reply, lost_for_good
from hetuflow.api.dependencies import require_known, require_no_circle_within
from hetuflow.api.errors import ApiError, conflict, invalid, not_found
from hetuflow.api.idempotency import once_each
from hetuflow.api.kinds import Array
from hetuflow.api.problems import Problem, Problems
from hetuflow.api.reads import BatchOfIds
from hetuflow.api.routing import Endpoint
from hetuflow.api.runs import snapshot
from hetuflow.api.schemas.task import TASK
from hetuflow.api.shapes import Member, Shape, read
from hetuflow.api.task_creation import why_not_valid
from hetuflow.domain.commands import CreateTask, CreateTasks
from hetuflow.domain.decider import Address

TASKS_MAX = 1000
BATCH_BYTES_MAX = 16 * 1024 * 1024

BATCH = Shape(
    title="TaskBatch",
    members=[Member(name="tasks", kind=Array(TASK.create, high=TASKS_MAX, low=1), write="C!")],
)

_INDEX = re.compile(r"tasks\[(\d+)\]")


async def create_all(call: Call) -> Reply:
    """Every problem of every task is found before anything is asked; then one append makes them all."""
    problems = Problems()
    given = call.read(BATCH, problems).members.get("tasks")
    tasks = dict(enumerate(given)) if given is not None else _those_that_can_be_read(call.members.get("tasks"))
    await _check(call, tasks, problems)
    if problems:
        raise invalid(sorted(problems, key=_place))
    elements = list(tasks.values())
    await _require_jobs(call, elements)
    chosen = [members.pop("id", None) for members in elements]

    async def perform(ids: Sequence[str], context: Context) -> int:
        await _require_unused(call, [each for each in chosen if each is not None])
        await _require_schedules(call, elements)
        return await _make(call, context, ids, elements)

    return await once_each(call, chosen, perform)


def _those_that_can_be_read(documents: Any) -> dict[int, dict[str, Any]]:
    """Of a batch with problems the tasks that have none of their own, so that what is wrong with these is told too."""
    found: dict[int, dict[str, Any]] = {}
    for index, document in enumerate(documents[:TASKS_MAX] if isinstance(documents, list) else ()):
        own = Problems()
        if isinstance(document, dict):
            members = read(TASK.create, document, own).members
            if not own:
                found[index] = members
    return found


async def _check(call: Call, tasks: Mapping[int, dict[str, Any]], problems: Problems) -> None:
    made_here: dict[str, tuple[str, Any]] = {}
    for index, members in tasks.items():
        path = f"tasks[{index}]"
        members.pop("status", None)  # a new task waits
        if (task_id := members.get("id")) is not None:
            if task_id in made_here:
                problems.add(f"{path}.id", f"is used twice in this batch: {task_id}")
            made_here[task_id] = (f"{path}.dependencies", members.get("dependencies"))
    ids = frozenset(made_here)
    for index, members in tasks.items():
        dependencies = members.get("dependencies")
        await require_known(call, dependencies, f"tasks[{index}].dependencies", problems, ids)
        await _check_schedule(call, members, f"tasks[{index}]", problems)
    require_no_circle_within(made_here, problems)


async def _check_schedule(call: Call, members: Mapping[str, Any], path: str, problems: Problems) -> None:
    if (schedule_id := members.get("schedule_id")) is None:
        return
    state = (await call.rooms.system.read(Address("schedule", schedule_id))).state
    if not state.exists:
        return  # 404, told below
    if state.job_id != members["job_id"]:
        problems.add(f"{path}.schedule_id", f"is a schedule of job {state.job_id}, not of {members['job_id']}")
    if members.get("schedule_kind", state.schedule_kind) != state.schedule_kind:
        problems.add(f"{path}.schedule_kind", f"must be the schedule's kind, {state.schedule_kind}")


def _place(problem: Problem) -> int:
    found = _INDEX.match(problem.path)
    return int(found[1]) if found else -1


async def _require_jobs(call: Call, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Raises `ApiError` 404 that names every reference to a job or schedule that there is not."""
    missing = []
    for index, members in enumerate(tasks):
        for category in ("job", "schedule"):
            entity_id = members.get(f"{category}_id")
            if entity_id is not None and not (await call.rooms.system.read(Address(category, entity_id))).state.exists:
                missing.append({"kind": category, "id": entity_id, "path": f"tasks[{index}].{category}_id"})
    if missing:
        first = not_found(missing[0]["kind"], missing[0]["id"], missing[0]["path"])
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ApiError(404, first.message + more, {**missing[0], "all": missing})


async def _require_unused(call: Call, ids: Sequence[str]) -> None:
    for address, reading in (await call.rooms.system.read_many([Address("task", each) for each in ids])).items():
        if reading.version:
            raise _used(address.id)


def _used(task_id: str) -> ApiError:
    return conflict("already_exists", f"task {task_id} exists", kind="task", id=task_id)


async def _require_schedules(call: Call, tasks: Sequence[Mapping[str, Any]]) -> None:
    for index, members in enumerate(tasks):
        if (schedule_id := members.get("schedule_id")) is not None:
            state = (await call.rooms.system.read(Address("schedule", schedule_id))).state
            if why := why_not_valid(state, call.rooms.clock.now()):
                path = f"tasks[{index}].schedule_id"
                raise conflict("schedule_not_valid", f"{path}: the schedule {why}", schedule_id=schedule_id, path=path)


async def _make(call: Call, context: Context, ids: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> int:
    """One append, from the jobs as they are now; again when one of them changes meanwhile."""
    for attempt in range(1, RACES_MAX + 1):
        jobs = await call.rooms.system.read_many([Address("job", members["job_id"]) for members in tasks])
        commands = []
        for index, (task_id, members) in enumerate(zip(ids, tasks, strict=True)):
            reading = jobs[Address("job", members["job_id"])]
            if not reading.state.exists:
                raise not_found("job", members["job_id"], f"tasks[{index}].job_id")
            rest = {name: value for name, value in members.items() if name != "job_id"}
            job = snapshot(members["job_id"], reading)
            commands.append(CreateTask(task_id=task_id, job=job, **{"trigger": "api", **rest}))
        try:
            return (await call.ask("task", ids[0], CreateTasks(tasks=commands), context)).position
        except GuardLost as error:
            if attempt == RACES_MAX:
                raise lost_for_good(error) from error
        except WrongExpectedVersion as error:
            raise _used(Address.of_stream(error.stream_id).id) from error
    raise AssertionError("the loop returns or raises")


ENDPOINTS = (
    Endpoint(
        number="T9",
        method="POST",
        path="/api/v1/tasks/batch",
        handler=create_all,
        body=BATCH,
        body_bytes_max=BATCH_BYTES_MAX,
        reply=BatchOfIds(),
        summary="Create up to 1000 tasks in one commit, all or none",
        tag="tasks",
        also=(404, 409),
        is_keyed=True,
        example={
            "tasks": [
                {"id": "550e8400-e29b-41d4-a716-446655440010", "job_id": "550e8400-e29b-41d4-a716-446655440000"},
                {
                    "job_id": "550e8400-e29b-41d4-a716-446655440000",
                    "dependencies": {"task_ids": ["550e8400-e29b-41d4-a716-446655440010"], "on_failure": "cancel"},
                },
            ]
        },
    ),
)
