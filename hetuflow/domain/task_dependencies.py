"""What a task waits for: other tasks, all of which must have ended before it is dispatched.

`on_failure` says what becomes of it when one of them ended otherwise than in success: `cancel` (the default) cancels it
too, `run` runs it all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hetuflow.domain import task_outcomes
from hetuflow.domain.commands import SettleDependencies
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.enums import TaskStatus, TaskTrigger
from hetuflow.domain.events import TaskCreated, TaskDependencySettled, TaskEvent
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_state import TaskState

JSON = Mapping[str, Any]

RUN = "run"
WAITING = frozenset({TaskStatus.PENDING, TaskStatus.WAITING_RETRY})


def settle(command: SettleDependencies, state: TaskState, now: datetime) -> Decision:
    """Take note of what has ended. Nothing when it does not wait for any of it."""
    spec = state.spec
    if spec is None or state.status not in WAITING:
        return NOTHING
    ended = [task_id for task_id in state.waits_for if task_id in command.settled]
    events: list[TaskEvent] = [
        TaskDependencySettled(
            task_id=spec.task_id,
            job_id=spec.job_id,
            dependency_id=task_id,
            status=int(command.settled[task_id]),
            open_count=len(state.waits_for) - place,
            settled_at=now,
        )
        for place, task_id in enumerate(ended, 1)
    ]
    failed = next((each for each in ended if command.settled[each] != TaskStatus.SUCCEEDED), None)
    if failed is not None and (spec.dependencies or {}).get("on_failure") != RUN:
        how = TaskStatus(command.settled[failed]).name.title()
        events += task_outcomes.cancelled(state, now, "dependency", f"task {failed} ended {how}")
    return Decision(events) if events else NOTHING


def overlap_of(spec: TaskCreated) -> Any:
    """The overlap policy of its schedule that made the task wait; None when a user did, whatever they wrote there."""
    return (spec.dependencies or {}).get("overlap") if spec.trigger == TaskTrigger.SCHEDULE else None


def refuse_self(task_id: str, dependencies: JSON | None) -> None:
    """Raises `Rejected` when the task would wait for itself."""
    if dependencies and task_id in (dependencies.get("task_ids") or ()):
        raise Rejected("invalid", "a task cannot wait for itself", {"path": "dependencies.task_ids"})


def cycle_in(starts: Iterable[str], waits_for: Callable[[str], Sequence[str]]) -> list[str] | None:
    """The ids of a circle of tasks that wait for each other, each for the next; None when there is none.

    Args:
      starts: the tasks to begin at.
      waits_for: the tasks that one of them waits for; asked once for each.
    """
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        path: dict[str, None] = {start: None}
        rest = [iter(waits_for(start))]
        while rest:
            following = next(rest[-1], None)
            if following is None:
                rest.pop()
                done.add(path.popitem()[0])
            elif following in path:
                names = list(path)
                return names[names.index(following) :]
            elif following not in done:
                path[following] = None
                rest.append(iter(waits_for(following)))
    return None
