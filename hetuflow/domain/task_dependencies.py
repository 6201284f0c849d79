"""What a task waits for: other tasks, which must have ended before it is dispatched.

`on_failure` says what becomes of it when one of them ended otherwise than in success: `cancel` (the default) cancels it
too, `run` runs it all the same. `on` says more of single ones: how each must have ended (`succeeded`, `failed`,
`finished`), and `match` whether all of them must have (`all`, the default) or one is enough (`any`).

However many have ended, and in whichever order they are told, they come to one of three: it goes on waiting, it may run,
or that can never be any more, and it is cancelled. Under `all` the first that ended otherwise decides, under `any` the
first that ended so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from hetuflow.domain import task_outcomes
from hetuflow.domain.commands import SettleDependencies
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.enums import TaskStatus, TaskTrigger
from hetuflow.domain.events import TaskCreated, TaskDependencySettled, TaskEvent
from hetuflow.domain.flow_graph import Match, On
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_state import TaskState

JSON = Mapping[str, Any]

RUN = "run"
WAITING = frozenset({TaskStatus.PENDING, TaskStatus.WAITING_RETRY})

FAILED = "dependency"
"""The cause of the cancel of a task that was to follow the success of others."""
UNMET = "dependency_unmet"
"""The same of one that has conditions of its own: they cannot be met any more."""


class Outcome(Enum):
    """What the ends of the tasks that are waited for come to."""

    OPEN = "open"
    MET = "met"
    UNMET = "unmet"


def condition(dependencies: JSON | None, task_id: str) -> str:
    """How that task must have ended."""
    given = (dependencies or {}).get("on")
    found = given.get(task_id) if isinstance(given, Mapping) else None
    if found in frozenset(On):
        return str(found)
    return On.FINISHED if (dependencies or {}).get("on_failure") == RUN else On.SUCCEEDED


def is_met(on: str, status: int) -> bool:
    """Whether a task with this final status has ended as wanted. A cancelled one has neither succeeded nor failed."""
    match on:
        case On.SUCCEEDED:
            return status == TaskStatus.SUCCEEDED
        case On.FAILED:
            return status == TaskStatus.FAILED
    return True


def outcome(dependencies: JSON | None, ended: Mapping[str, int], open_count: int) -> Outcome:
    """What these ends come to, while `open_count` others are awaited."""
    met = [is_met(condition(dependencies, task_id), status) for task_id, status in ended.items()]
    if is_any(dependencies):
        return Outcome.MET if any(met) else Outcome.OPEN if open_count else Outcome.UNMET
    return Outcome.UNMET if not all(met) else Outcome.OPEN if open_count else Outcome.MET


def is_any(dependencies: JSON | None) -> bool:
    return (dependencies or {}).get("match") == Match.ANY


def settle(command: SettleDependencies, state: TaskState, now: datetime) -> Decision:
    """Take note of what has ended. Nothing when it does not wait for any of it."""
    spec = state.spec
    if spec is None or state.status not in WAITING:
        return NOTHING
    events: list[TaskEvent] = []
    ended, found = dict(state.settled), Outcome.OPEN
    news = [task_id for task_id in state.waits_for if task_id in command.settled]
    for place, task_id in enumerate(news, 1):
        ended[task_id] = command.settled[task_id]
        open_count = len(state.waits_for) - place
        found = outcome(spec.dependencies, ended, open_count)
        is_enough = found is Outcome.MET  # under `any`, others may still be open: they are not waited for any more
        events.append(_settled(spec, task_id, command.settled[task_id], 0 if is_enough else open_count, now))
        if is_enough:
            break
    if found is Outcome.UNMET:
        events += task_outcomes.cancelled(state, now, *_why_unmet(spec.dependencies, ended))
    return Decision(events, guards=command.guards) if events else NOTHING


def _settled(spec: TaskCreated, task_id: str, status: int, open_count: int, now: datetime) -> TaskDependencySettled:
    return TaskDependencySettled(
        task_id=spec.task_id,
        job_id=spec.job_id,
        dependency_id=task_id,
        status=int(status),
        open_count=open_count,
        settled_at=now,
    )


def _why_unmet(dependencies: JSON | None, ended: Mapping[str, int]) -> tuple[str, str]:
    """The cause and the reason of its cancel."""
    cause = UNMET if dependencies and ("on" in dependencies or "match" in dependencies) else FAILED
    wrong = [each for each, status in ended.items() if not is_met(condition(dependencies, each), status)]
    how = TaskStatus(ended[wrong[0]]).name.title()
    if cause == FAILED:
        return cause, f"task {wrong[0]} ended {how}"
    if is_any(dependencies) and len(wrong) > 1:
        return cause, f"none of the {len(wrong)} tasks that it follows ended as it wants"
    return cause, f"task {wrong[0]} ended {how}, not {condition(dependencies, wrong[0])}"


def overlap_of(spec: TaskCreated) -> Any:
    """The overlap policy of its schedule that made the task wait; None when a user did, whatever they wrote there."""
    return (spec.dependencies or {}).get("overlap") if spec.trigger == TaskTrigger.SCHEDULE else None


def refuse_self(task_id: str, dependencies: JSON | None) -> None:
    """Raises `Rejected` when the task would wait for itself."""
    if dependencies and task_id in (dependencies.get("task_ids") or ()):
        raise Rejected("invalid", "a task cannot wait for itself", {"path": "dependencies.task_ids"})
