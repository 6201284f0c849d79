"""The task of an instance whose row is gone with it: what was printed stays readable.

No table keeps deleted tasks. But an instance's id is derived from its task's, and begins with the same digits: the few
streams of tasks that begin like it are asked which of them it belongs to, without reading one.
"""

from __future__ import annotations

import json

import trio

from hetuflow.api.call import Call
from hetuflow.domain.events import TaskDeleted
from hetuflow.domain.identity import instance_id_of

PREFIX_CHARACTERS = 13
"""The milliseconds in a UUID of version 7, as text: `instance_id_of` takes them over."""


async def task_of(call: Call, instance_id: str) -> str | None:
    """The id of the task whose instance it was; None when there was never such an instance.

    Ten thousand tasks of one nominal time share the prefix: 10 ms of hashes per attempt.
    """
    prefix = "task-" + instance_id[:PREFIX_CHARACTERS]
    versions = {name.partition("-")[2]: version for name, version in (await call.rooms.rows.streams(prefix)).items()}
    for attempt in range(1, max(versions.values(), default=0) + 1):  # each attempt has an event of its own at least
        for task_id, version in versions.items():
            if attempt <= version and instance_id_of(task_id, attempt) == instance_id:
                return task_id if await _had(call, task_id, attempt) else None
        await trio.lowlevel.checkpoint()
    return None


async def _had(call: Call, task_id: str, attempt: int) -> bool:
    """Whether the task came to that attempt, and is deleted."""
    events = await call.rooms.store.read_stream(f"task-{task_id}")
    newest = max(json.loads(event.data).get("attempt", 0) for event in events)
    return attempt <= newest and events[-1].type == TaskDeleted.__name__
