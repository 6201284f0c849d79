"""T1 of tasks that wait for others: none is dispatched before all of them have ended, and a failure is followed.

What a task waits for is said by its own stream; that the others had ended then, by theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict

ENDS = {"TaskFailed": 90, "TaskCancelled": 99, "TaskSucceeded": 100}
"""What ends a task, and the number by which that end is known."""


def check_dependencies(evidence: Evidence, verdict: Verdict) -> None:
    """T1, of each task with dependencies."""
    ends = {
        name.partition("-")[2]: [(fact.position, ENDS[fact.type]) for fact in stream if fact.type in ENDS]
        for name, stream in evidence.streams("task")
    }
    for name, stream in evidence.streams("task"):
        _check_waiting(name, stream, ends, verdict)


def awaited_after(fact: Fact, before: frozenset[str]) -> frozenset[str]:
    """The tasks that it waits for after this event of its stream."""
    if fact.type == "TaskCreated" or (fact.type == "TaskUpdated" and "dependencies" in fact.data.get("changed", ())):
        return frozenset(_dependencies(fact).get("task_ids") or ())
    if fact.type == "TaskReopened":
        return frozenset(fact.data.get("waits_for") or ())
    if fact.type == "TaskDependencySettled":
        # where one is enough, the others are not waited for any more
        return before - {fact.data["dependency_id"]} if fact.data.get("open_count", 1) else frozenset()
    return frozenset() if fact.type == "InstanceTakenOver" else before


def _dependencies(fact: Fact) -> dict[str, Any]:
    return dict(fact.data.get("dependencies") or {})


def _is_doomed(dependencies: dict[str, Any], ended: dict[str, int], awaited: frozenset[str]) -> bool:
    """Whether its conditions can never be met any more, said without the domain's own words for it."""
    usual = "finished" if dependencies.get("on_failure") == "run" else "succeeded"
    wanted = {"succeeded": {100}, "failed": {90}, "finished": {90, 99, 100}}
    fine = [status in wanted[(dependencies.get("on") or {}).get(task_id, usual)] for task_id, status in ended.items()]
    return not any(fine) and not awaited if dependencies.get("match") == "any" else not all(fine)


def _check_waiting(name: str, stream: Sequence[Fact], ends: dict[str, list[tuple[int, int]]], verdict: Verdict) -> None:
    awaited: frozenset[str] = frozenset()
    dependencies: dict[str, Any] = {}
    ended: dict[str, int] = {}
    is_doomed = False

    def fail(what: str, fact: Fact) -> None:
        verdict.fail("T1", f"{name} at position {fact.position} ({fact.type}): {what}", streams=[name])

    for fact in stream:
        if "dependencies" in fact.data:
            dependencies = _dependencies(fact)
        if fact.type in ("TaskCreated", "TaskUpdated", "TaskReopened"):
            ended = {}
        if fact.type == "TaskDispatched" and awaited:
            fail(f"dispatched while it waits for {sorted(awaited)}", fact)
        if fact.type == "TaskDependencySettled":
            other, status = fact.data["dependency_id"], fact.data["status"]
            verdict.note("dependencies settled")
            if other not in awaited:
                fail(f"it does not wait for task {other}", fact)
            if not any(position < fact.position and status == how for position, how in ends.get(other, ())):
                fail(f"task {other} had not ended so", fact)
            ended[other] = status
            is_doomed = is_doomed or _is_doomed(dependencies, ended, awaited_after(fact, awaited))
        elif is_doomed:
            if fact.type == "InstanceCancelled":
                verdict.note("cancelled by a dependency")
            else:
                fail("a task that it waits for has failed, and it is not cancelled", fact)
            is_doomed = False
        awaited = awaited_after(fact, awaited)
    if is_doomed:
        fail("a task that it waits for has failed, and it is not cancelled", stream[-1])
