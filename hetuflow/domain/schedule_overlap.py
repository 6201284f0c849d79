"""The overlap policy: what becomes of a fire while tasks that the schedule made before have not ended.

The schedule's state keeps the ids of the tasks that count (`ScheduleState.open_tasks`). Whether they have ended is told
with the question; a fire that rests on an end is guarded by the version of that task's stream, so that a task which an
operator retries in the same moment is seen. A task that waits for earlier ones does so as any task with dependencies.

Under `allow` only the newest task is kept, for a change of the policy. Runs that a user asks for, and a user's retry of a
task that had ended, are not the policy's to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from hetuflow.domain.enums import OverlapPolicy
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import ScheduleState

QUEUE_MAX = 10
"""Tasks of one schedule that wait for earlier ones under `queue`; a fire beyond is skipped."""

REASON_OVERLAP = "overlap"
TASKS_UNKNOWN = "tasks_unknown"
FLOW_UNKNOWN = "flow_unknown"


@frozen(slots=True)
class Ruling:
    """`waits_for`: the tasks that must end before the new one starts."""

    is_skipped: bool = False
    waits_for: tuple[str, ...] = ()


def open_tasks(state: ScheduleState, has_ended: Mapping[str, bool]) -> tuple[str, ...]:
    """The tasks of the schedule that count and have not ended, oldest first.

    Raises:
      Rejected: `tasks_unknown`, with the `task_ids` that the question did not tell of.
    """
    if state.overlap_policy == OverlapPolicy.ALLOW:
        return ()
    unknown = [task_id for task_id in state.open_tasks if task_id not in has_ended]
    if unknown:
        raise Rejected(TASKS_UNKNOWN, "whether the earlier tasks have ended is not told", {"task_ids": unknown})
    return tuple(task_id for task_id in state.open_tasks if not has_ended[task_id])


def ruling(policy: str, open_ids: Sequence[str], *, is_newest: bool, size: int = 1) -> Ruling:
    """What becomes of one nominal time that the misfire policy lets fire.

    Args:
      size: tasks that it makes: those of a flow run count as one.
      is_newest: of those decided together; under `cancel_previous` an earlier one would be cancelled by it at once.
    """
    match policy:
        case OverlapPolicy.SKIP:
            return Ruling(is_skipped=bool(open_ids))
        case OverlapPolicy.QUEUE:
            return Ruling(is_skipped=len(open_ids) > QUEUE_MAX * size, waits_for=tuple(open_ids))
        case OverlapPolicy.CANCEL_PREVIOUS:
            return Ruling(is_skipped=not is_newest, waits_for=tuple(open_ids))
        case _:
            return Ruling()


def dependencies(policy: str, waits_for: Sequence[str]) -> Mapping[str, Any] | None:
    """Of a task that starts when these have ended, however they end."""
    if not waits_for:
        return None
    return {"task_ids": list(waits_for), "on_failure": "run", "overlap": str(policy)}
