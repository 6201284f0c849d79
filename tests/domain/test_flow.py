"""A flow run: one append makes it, and however its tasks end it ends once, as they did; cancelled and retried as asked."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given as drawn
from hypothesis import strategies as st

from hetuflow.domain.commands import CancelFlow, FinishFlow, FlowTaskEnd, JobSnapshot, RetryFlow, RetryTask, StartFlow
from hetuflow.domain.decider import Address, Guard, Reopening, Tend
from hetuflow.domain.enums import FlowStatus, TaskStatus
from hetuflow.domain.events import (
    FlowCancelRequested,
    FlowFinished,
    FlowRetried,
    FlowStarted,
    TaskCreated,
    TaskReopened,
)
from hetuflow.domain.flow import FLOW, to_run_again
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.flow_plan import FlowWishes, started
from hetuflow.domain.task import TASK
from tests.support.given import Given, Outcome, given
from tests.support.tasks import a_create, a_job, a_task

RUN = "01890000-0000-7000-8000-0000000000aa"
S, F, C = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED
MEETS = {"succeeded": {S}, "failed": {F}, "finished": {S, F, C}}


def a_node(name: str, follows: dict[str, str], match: str = "all") -> JobSnapshot:
    upstream = {"jobs": [{"job_id": each, "on": on} for each, on in follows.items()], "match": match}
    return evolve(a_job(), job_id=name, name=name, upstream=upstream if follows else None)


def start(*nodes: JobSnapshot, root: str = "a") -> StartFlow:
    return started(RUN, graph_of([root], {node.job_id: node for node in nodes}), FlowWishes(parameters={"day": 1}))


CHAIN = start(a_node("a", {}), a_node("b", {"a": "succeeded"}), a_node("c", {"b": "succeeded"}))
A, B, X = (task.task_id for task in CHAIN.tasks)


def end(status: int = S, attempt: int = 1, **more: Any) -> FlowTaskEnd:
    return FlowTaskEnd(status=status, attempt=attempt, **more)


SKIPPED = end(C, is_unmet=True)


def a_run() -> Outcome:
    return given(FLOW).when(CHAIN).then(FlowStarted)


def test_a_run_and_all_its_tasks_are_one_append_guarded_by_all_its_jobs() -> None:
    run = a_run()
    assert list(run.decision.opened) == [Address("task", each) for each in (A, B, X)]
    assert set(run.decision.guards) == {Guard(f"job-{each}", 4) for each in "abc"}
    created = run.decision.opened[Address("task", B)][0]
    assert isinstance(created, TaskCreated)
    assert (created.flow_run_id, created.trigger, created.parameters) == (RUN, "flow", {"day": 1})
    assert created.dependencies == {"task_ids": [A], "on_failure": "cancel", "on": {A: "succeeded"}, "match": "all"}
    assert run.intent(Tend) == Tend(RUN, "a", (A, B, X))
    run.when(CHAIN).then_rejected("already_exists")
    assert start(*(task.job for task in CHAIN.tasks)) == CHAIN  # a repeat makes the same tasks


def test_it_ends_when_all_have_ended_and_counts_them() -> None:
    run = a_run()
    run.when(FinishFlow(ends={A: end(), B: end()})).then_rejected("not_ended")
    ended = run.when(FinishFlow(ends={A: end(), B: end(F), X: SKIPPED}, guards=(Guard("task-x", 1),)))
    ended.then(FlowFinished)
    assert ended.event(FlowFinished).outcome == {"succeeded": 1, "failed": 1, "cancelled": 0, "skipped": 1}
    assert (ended.state.status, ended.decision.guards) == (FlowStatus.FAILED, (Guard("task-x", 1),))
    assert not ended.intents
    ended.when(FinishFlow(ends={})).then_nothing()
    ended.when(CancelFlow()).then_rejected("already_terminal")


@drawn(
    st.lists(st.sampled_from(["succeeded", "failed", "cancelled", "skipped"]), min_size=3, max_size=3), st.booleans()
)
def test_how_it_ended_is_said_by_how_its_tasks_did(hows: list[str], is_cancelled: bool) -> None:
    run = a_run()
    if is_cancelled:
        run = run.when(CancelFlow()).then(FlowCancelRequested)
    one = {"succeeded": end(), "failed": end(F), "cancelled": end(C), "skipped": SKIPPED}
    ended = run.when(FinishFlow(ends=dict(zip((A, B, X), map(one.__getitem__, hows), strict=True))))
    if not {"failed", "cancelled"} & set(hows):
        assert ended.state.status is FlowStatus.SUCCEEDED
    elif is_cancelled or "failed" not in hows:
        assert ended.state.status is FlowStatus.CANCELLED
    else:
        assert ended.state.status is FlowStatus.FAILED


def test_a_cancel_is_wanted_until_all_has_ended_and_forgets_what_was_to_run_again() -> None:
    failed = a_run().when(FinishFlow(ends={A: end(F), B: SKIPPED, X: SKIPPED}))
    retried = failed.when(RetryFlow(tasks={A: 1, B: 1, X: 1})).then(FlowRetried)
    assert retried.intent(Tend).reopens == tuple(Reopening(each, 1, True) for each in (A, B, X))
    retried.when(RetryFlow(tasks={A: 1})).then_nothing()  # asked twice
    retried.when(FinishFlow(ends={A: end(F), B: SKIPPED, X: SKIPPED})).then_rejected("not_ended")
    cancelled = retried.when(CancelFlow(reason="why")).then(FlowCancelRequested)
    assert cancelled.intent(Tend) == Tend(RUN, "a", (A, B, X), True, "why")
    cancelled.when(CancelFlow()).then_nothing()
    cancelled.when(RetryFlow(tasks={A: 1})).then_rejected("not_retryable")
    ended = cancelled.when(FinishFlow(ends={A: end(F), B: SKIPPED, X: SKIPPED}))
    assert ended.state.status is FlowStatus.CANCELLED
    again = ended.when(RetryFlow(tasks={B: 1}, forced=(B,)))
    assert (again.state.status, again.intent(Tend).reopens) == (FlowStatus.RUNNING, (Reopening(B, 1, False),))
    again.when(RetryFlow(tasks={"other": 1})).then_rejected("not_retryable")
    again.when(RetryFlow(tasks={})).then_rejected("not_retryable")


def test_a_task_that_was_deleted_is_not_waited_for() -> None:
    retried = a_run().when(FinishFlow(ends={A: end(F), B: SKIPPED, X: SKIPPED}), RetryFlow(tasks={A: 1}))
    retried.when(FinishFlow(ends={A: end(F, is_deleted=True), B: SKIPPED, X: SKIPPED})).then(FlowFinished)


def test_a_retry_with_an_attempt_happens_once() -> None:
    task = a_task(TaskStatus.FAILED, a_job({"max_retries": 1}))
    attempt = task.state.instance.attempt
    task.when(RetryTask(attempt=attempt - 1)).then_nothing()
    again = task.when(RetryTask(attempt=attempt)).then(TaskReopened)
    again.when(RetryTask(attempt=attempt)).then_nothing()
    waiting = given(TASK).when(a_create(dependencies={"task_ids": ["x", "y"], "on_failure": "cancel"}))
    waiting.when(RetryTask(attempt=1)).then_nothing()  # it is open


# --- what runs again -------------------------------------------------------------------------------------------------


@st.composite
def ended_runs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, FlowTaskEnd], dict[str, dict[str, str]]]:
    """A graph, and ends that its conditions allow: a task runs only if they were met, else it was skipped."""
    names = "abcdef"[: draw(st.integers(2, 6))]
    nodes, ends, conditions, edges = [], dict[str, FlowTaskEnd](), dict[str, dict[str, str]](), []
    for index, name in enumerate(names):
        follows = draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=3)) if index else []
        match = draw(st.sampled_from(["all", "any"]))
        conditions[name] = {other: draw(st.sampled_from(sorted(MEETS))) for other in follows}
        nodes.append({"job_id": name, "name": name, "task_id": name, "match": match})
        edges += [{"from": other, "to": name, "on": on} for other, on in conditions[name].items()]
        met = [ends[other].status in MEETS[on] for other, on in conditions[name].items()]
        runs = not met or (any(met) if match == "any" else all(met))
        ends[name] = end(draw(st.sampled_from([S, F, C]))) if runs else SKIPPED
    return {"nodes": nodes, "edges": edges}, ends, conditions


@drawn(ended_runs())
def test_a_retry_keeps_what_succeeded_and_runs_the_rest_only_where_it_may_now(drawn_: Any) -> None:
    graph, ends, conditions = drawn_
    again = to_run_again(graph, ends)
    match_of = {node["job_id"]: node["match"] for node in graph["nodes"]}
    for name, how in ends.items():
        if how.status == S:
            assert name not in again
        elif not how.is_unmet:
            assert again[name] == 1
        else:  # skipped: it may run if those that run again could end in any way
            could = [other in again or ends[other].status in MEETS[on] for other, on in conditions[name].items()]
            assert (name in again) == (any(could) if match_of[name] == "any" else all(could))
    order = [node["task_id"] for node in graph["nodes"]]
    assert list(again) == sorted(again, key=order.index)


@drawn(ended_runs(), st.data())
def test_a_retry_of_one_task_takes_along_only_what_was_skipped_because_of_it(drawn_: Any, data: st.DataObject) -> None:
    graph, ends, _ = drawn_
    candidates = [name for name, how in ends.items() if how.status != S]
    if not candidates:
        return
    one = data.draw(st.sampled_from(candidates))
    again = to_run_again(graph, ends, (one,))
    assert one in again
    assert all(ends[name].is_unmet for name in again if name != one)


def test_what_was_skipped_before_a_task_was_retried_by_itself_is_found_later() -> None:
    graph = FLOW.evolve(FLOW.initial, a_run().event(FlowStarted)).spec.graph
    assert to_run_again(graph, {A: end(S, 2), B: SKIPPED, X: SKIPPED}) == {B: 1, X: 1}
    assert to_run_again(graph, {B: SKIPPED, X: SKIPPED}) == {B: 1, X: 1}  # A is open


def test_a_stream_that_cannot_follow_is_refused() -> None:
    assert isinstance(given(FLOW), Given)
    given(FLOW).when(CancelFlow()).then_rejected("not_found")
    given(FLOW).when(RetryFlow(tasks={})).then_rejected("not_found")
    given(FLOW).when(FinishFlow(ends={})).then_rejected("not_found")
