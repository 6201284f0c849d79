"""Tasks made by hand: from a job's newest version, with a slot at once when one is free; and their cancelling."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from hetuflow.actors import Answer, Context, GuardLost, Reading
from hetuflow.api.call import RACES_MAX, Call, lost_for_good
from hetuflow.api.errors import as_api_error, not_found
from hetuflow.api.reads import for_each
from hetuflow.api.rooms import Row
from hetuflow.domain.commands import CancelTask, CreateTask, JobSnapshot
from hetuflow.domain.config import effective
from hetuflow.domain.decider import Address, Placement
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.need import Need

log = logging.getLogger(__name__)

OPEN_TASKS = [int(status) for status in TaskStatus if not status.is_terminal]


class Cascade(StrEnum):
    CANCEL = "cancel"


def snapshot(job_id: str, reading: Reading[Any]) -> JobSnapshot:
    state = reading.state
    return JobSnapshot(
        job_id=job_id,
        version=reading.version,
        namespace_id=state.namespace_id,
        name=state.name,
        environment=state.environment,
        config=state.config,
        agent_id=state.agent_id,
        status=int(state.status),
        enabled_at=state.enabled_at,
        deleted=state.is_deleted,
        sealed_until_at=state.sealed_until_at,
        upstream=state.upstream,
    )


async def make_task(
    call: Call, context: Context, task_id: str, job_id: str, job_path: str | None, members: Mapping[str, Any]
) -> int:
    """Create the task from the job as it is now; return the position of its last event.

    A job that changes meanwhile is read again, at most `RACES_MAX` times.

    Raises:
      ApiError: 404, there is no such job; 409 `version_conflict`.
      Rejected: `already_exists`.
    """
    wants_slot = True
    for attempt in range(1, RACES_MAX + 1):
        reading = await call.rooms.system.read(Address("job", job_id))
        if not reading.state.exists:
            raise not_found("job", job_id, job_path)
        job = snapshot(job_id, reading)
        try:
            answer = await _create(call, context, task_id, job, members, wants_slot=wants_slot)
        except GuardLost as error:
            if attempt == RACES_MAX:
                raise lost_for_good(error) from error
            wants_slot = wants_slot and Address.of_stream(error.stream_id).category != "agent"
            continue
        return answer.position
    raise AssertionError("the loop returns or raises")


async def _create(
    call: Call, context: Context, task_id: str, job: JobSnapshot, members: Mapping[str, Any], *, wants_slot: bool
) -> Answer:
    """One try, with a slot held when the task is due now and an agent has one free."""
    placement = _slot(call, job, members) if wants_slot else None
    try:
        command = CreateTask(task_id=task_id, job=job, placement=placement, **members)
        return await call.ask("task", task_id, command, context)
    finally:
        if placement is not None:
            call.rooms.scheduler.release(placement)


def _slot(call: Call, job: JobSnapshot, members: Mapping[str, Any]) -> Placement | None:
    scheduled_at: datetime | None = members.get("scheduled_at")
    if members.get("dependencies"):
        return None
    if scheduled_at is not None and scheduled_at > call.rooms.clock.now():
        return None
    config = effective(job.config, members.get("config"))
    return call.rooms.scheduler.reserve(Need.of(job, config, members.get("namespace_id")))


async def cancel_open_tasks(call: Call, **conditions: Any) -> int:
    """Cancel every open task that meets the conditions; return the position of the last event."""

    async def cancel(row: Row) -> int:
        return await cancel_task(call, str(row["id"]))

    return await for_each(call, "tasks", cancel, status=OPEN_TASKS, **conditions)


async def cancel_task(call: Call, task_id: str) -> int:
    """Cancel a task that may have ended by itself meanwhile."""
    return await call.ask_unless(("already_terminal", "not_found"), "task", task_id, CancelTask(cause="cascade"))


async def afterwards(work: Awaitable[int], what: str) -> int:
    """The rest of a deletion that is committed: its position, 0 when it could not be done.

    A refusal or an unreachable store must not become an answer that says nothing was done. It is logged, and the same
    request, sent again, does what remains.
    """
    try:
        return await work
    except Exception as problem:
        if as_api_error(problem) is None:
            raise
        log.warning("%s: not yet, repeat the delete: %s", what, problem)
        return 0
