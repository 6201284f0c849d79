"""The judge of flow runs, on histories made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.by_hand import a_log, found, write
from tests.simulation.checkers import Evidence
from tests.simulation.checkers.flows import check_flows
from tests.simulation.observed import Observed

Told = tuple[float, str, str, dict[str, Any]]
"""(Second, stream, event, members)."""


def judged(match: str, on: str, *story: Told) -> set[str]:
    """A run of a, b and c, of which c follows both others; all is calm."""
    nodes = [{"job_id": f"job-{each}", "task_id": each, "match": match, "name": each} for each in "abc"]
    edges = [{"from": f"job-{each}", "to": "job-c", "on": on} for each in "ab"]
    run = {"flow_run_id": "f", "graph": {"nodes": nodes, "edges": edges}, "task_count": 3}
    log = a_log("flow-f", [("FlowStarted", run)], 0)
    for each in "abc":
        write(log, f"task-{each}", [("TaskCreated", {"flow_run_id": "f"})], 0)
    for second, stream, kind, data in story:
        write(log, stream, [(kind, data)], second)
    return found(check_flows, Evidence(log, Observed(calm=[(0, 10_000)]), lease=20, ended=1000))


def ends(second: float, task: str, how: str, **data: Any) -> Told:
    return second, f"task-{task}", f"Task{how}", data


def runs(second: float, task: str) -> Told:
    return second, f"task-{task}", "TaskDispatched", {}


def again(second: float, *tasks: str, forced: tuple[str, ...] = ()) -> list[Told]:
    retried = {"tasks": dict.fromkeys(tasks, 1), "forced": list(forced)}
    reopened = [(second, f"task-{each}", "TaskReopened", {}) for each in tasks]
    return [(second, "flow-f", "FlowRetried", retried), *reopened]


def finished(second: float, status: int, *counts: int) -> Told:
    outcome = dict(zip(("succeeded", "failed", "cancelled", "skipped"), counts, strict=True))
    return second, "flow-f", "FlowFinished", {"status": status, "outcome": outcome}


CANCEL: Told = (5, "flow-f", "FlowCancelRequested", {})
FINE = [ends(1, "a", "Succeeded"), ends(2, "b", "Succeeded")]
HALF = [ends(1, "a", "Succeeded"), ends(2, "b", "Failed")]
GIVEN_UP = ends(3, "c", "Cancelled", cause="dependency_unmet")
C_RUNS = [runs(3, "c"), ends(4, "c", "Succeeded")]


@pytest.mark.parametrize(
    ("promise", "match", "on", "story"),
    [
        (None, "all", "succeeded", [*FINE, *C_RUNS, finished(5, 100, 3, 0, 0, 0)]),
        ("V1", "all", "succeeded", [*FINE, *C_RUNS]),
        ("T1", "all", "succeeded", [ends(1, "a", "Succeeded"), runs(2, "c")]),
        ("T1", "all", "succeeded", [*HALF, *C_RUNS, finished(5, 90, 2, 1, 0, 0)]),
        (None, "any", "succeeded", [*HALF, *C_RUNS, finished(5, 90, 2, 1, 0, 0)]),
        (None, "all", "finished", [*HALF, *C_RUNS, finished(5, 90, 2, 1, 0, 0)]),
        ("T1", "all", "failed", [*HALF, *C_RUNS, finished(5, 90, 2, 1, 0, 0)]),
        (None, "all", "succeeded", [*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1)]),
        ("T1", "any", "succeeded", [*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1)]),
        ("T1", "all", "succeeded", [*HALF, GIVEN_UP, finished(5, 100, 1, 1, 0, 1)]),
        ("T1", "all", "succeeded", [*HALF, GIVEN_UP, finished(5, 90, 2, 1, 0, 0)]),
        ("T1", "all", "succeeded", [*FINE, finished(5, 100, 2, 0, 0, 0)]),
        (
            None,
            "all",
            "succeeded",
            [*HALF, ends(3, "c", "Cancelled", cause="flow"), CANCEL, finished(6, 99, 1, 1, 1, 0)],
        ),
        # b is run again with what was skipped because of it
        (
            None,
            "all",
            "succeeded",
            [
                *[*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1), *again(6, "b", "c"), ends(7, "b", "Succeeded")],
                *[runs(8, "c"), ends(9, "c", "Succeeded"), finished(10, 100, 3, 0, 0, 0)],
            ],
        ),
        # c does not wait for the new end of b
        (
            "T1",
            "all",
            "succeeded",
            [*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1), *again(6, "b", "c"), runs(7, "c")],
        ),
        # b does well, and c stays skipped
        (
            "T1",
            "all",
            "succeeded",
            [
                *[*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1), *again(6, "b"), ends(7, "b", "Succeeded")],
                finished(10, 100, 2, 0, 0, 1),
            ],
        ),
        # a user ran c again by itself
        (
            None,
            "all",
            "succeeded",
            [
                *[*HALF, GIVEN_UP, finished(5, 90, 1, 1, 0, 1), *again(6, "c", forced=("c",)), runs(7, "c")],
                *[ends(8, "c", "Succeeded"), finished(9, 90, 2, 1, 0, 0)],
            ],
        ),
    ],
)
def test_runs(promise: str | None, match: str, on: str, story: list[Told]) -> None:
    assert judged(match, on, *story) == ({promise} if promise else set())


def test_a_task_that_was_made_later_is_none_of_the_run() -> None:
    run = {"flow_run_id": "f", "graph": {"nodes": [{"job_id": "j", "task_id": "a", "match": "all"}], "edges": []}}
    log = a_log("flow-f", [("FlowStarted", {**run, "task_count": 1})], 0)
    write(log, "task-a", [("TaskCreated", {"flow_run_id": "f"})], 1)
    assert found(check_flows, Evidence(log, Observed())) == {"T1"}


@pytest.mark.parametrize("has_run", [True, False])
def test_a_fire_of_a_flow_is_a_run(has_run: bool) -> None:
    log = a_log("schedule-s", [("ScheduleCreated", {"run_flow": True}), ("ScheduleFired", {"task_id": "a"})])
    if has_run:
        run = {"flow_run_id": "f", "graph": {"nodes": [{"job_id": "j", "task_id": "a", "match": "all"}], "edges": []}}
        write(log, "flow-f", [("FlowStarted", {**run, "task_count": 1, "schedule_id": "s"})], 0)
        write(log, "task-a", [("TaskCreated", {"flow_run_id": "f"})], 0)
    assert found(check_flows, Evidence(log, Observed())) == (set() if has_run else {"F1"})
