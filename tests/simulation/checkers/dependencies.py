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
        return before - {fact.data["dependency_id"]}
    return frozenset() if fact.type == "InstanceTakenOver" else before


def _dependencies(fact: Fact) -> dict[str, Any]:
    return dict(fact.data.get("dependencies") or {})


def _check_waiting(name: str, stream: Sequence[Fact], ends: dict[str, list[tuple[int, int]]], verdict: Verdict) -> None:
    awaited: frozenset[str] = frozenset()
    is_run_anyway = is_doomed = False

    def fail(what: str, fact: Fact) -> None:
        verdict.fail("T1", f"{name} at position {fact.position} ({fact.type}): {what}", streams=[name])

    for fact in stream:
        if "dependencies" in fact.data:
            is_run_anyway = _dependencies(fact).get("on_failure") == "run"
        if fact.type == "TaskDispatched" and awaited:
            fail(f"dispatched while it waits for {sorted(awaited)}", fact)
        if fact.type == "TaskDependencySettled":
            other, status = fact.data["dependency_id"], fact.data["status"]
            verdict.note("dependencies settled")
            if other not in awaited:
                fail(f"it does not wait for task {other}", fact)
            if not any(position < fact.position and status == how for position, how in ends.get(other, ())):
                fail(f"task {other} had not ended so", fact)
            is_doomed = is_doomed or (status != ENDS["TaskSucceeded"] and not is_run_anyway)
        elif is_doomed:
            if fact.type == "InstanceCancelled":
                verdict.note("cancelled by a dependency")
            else:
                fail("a task that it waits for has failed, and it is not cancelled", fact)
            is_doomed = False
        awaited = awaited_after(fact, awaited)
    if is_doomed:
        fail("a task that it waits for has failed, and it is not cancelled", stream[-1])
