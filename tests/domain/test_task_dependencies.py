"""Conditions on what a task waits for: every combination of ends, in every order, comes to exactly one outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given as drawn
from hypothesis import strategies as st

from hetuflow.domain.commands import CancelTask, RetryTask, SettleDependencies, UpdateTask
from hetuflow.domain.decider import Await, Offer
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import InstanceCancelled, TaskCancelled, TaskDependencySettled, TaskUpdated
from hetuflow.domain.task import TASK
from tests.support.given import Outcome, given
from tests.support.tasks import a_create, a_job

FAILED, CANCELLED, SUCCEEDED = int(TaskStatus.FAILED), int(TaskStatus.CANCELLED), int(TaskStatus.SUCCEEDED)
IDS = [f"00000000-0000-7000-8000-00000000000{n}" for n in range(1, 5)]
MEETS = {"succeeded": {SUCCEEDED}, "failed": {FAILED}, "finished": {FAILED, CANCELLED, SUCCEEDED}}


def waiting(on: Mapping[str, str], match: str = "all", **more: Any) -> Outcome:
    dependencies = {"task_ids": list(on), "on_failure": "cancel", "on": dict(on), "match": match, **more}
    return given(TASK).when(a_create(a_job(), dependencies=dependencies))


def told(task: Outcome, ends: Mapping[str, int], groups: Sequence[Sequence[str]]) -> Outcome:
    for group in groups:
        task = task.when(SettleDependencies(settled={task_id: ends[task_id] for task_id in group}))
        assert task.rejected is None
    return task


@st.composite
def tellings(draw: st.DrawFn) -> tuple[dict[str, str], str, dict[str, int], list[list[str]]]:
    ids = IDS[: draw(st.integers(1, 4))]
    on = {task_id: draw(st.sampled_from(sorted(MEETS))) for task_id in ids}
    ends = {task_id: draw(st.sampled_from([FAILED, CANCELLED, SUCCEEDED])) for task_id in ids}
    order = draw(st.permutations(ids))
    cuts = sorted(draw(st.sets(st.integers(1, 3))))
    groups = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True) if order[start:end]]
    return on, draw(st.sampled_from(["all", "any"])), ends, groups


@drawn(tellings())
def test_the_same_ends_come_to_the_same_outcome_in_whatever_order_they_are_told(drawn_: Any) -> None:
    on, match, ends, groups = drawn_
    fine = [ends[task_id] in MEETS[on[task_id]] for task_id in on]
    may_run = any(fine) if match == "any" else all(fine)
    task = told(waiting(on, match), ends, groups)
    if may_run:
        assert (task.state.status, task.state.waits_for) == (TaskStatus.PENDING, ())
        assert {type(intent) for intent in task.intents} == {Offer}
    else:
        assert (task.state.status, task.state.ended_by) == (TaskStatus.CANCELLED, "dependency_unmet")
        assert not task.intents
    told(task, ends, [[task_id] for task_id in ends]).then_nothing()  # told twice is told once


@drawn(tellings())
def test_it_is_open_exactly_while_both_outcomes_are_possible(drawn_: Any) -> None:
    on, match, ends, groups = drawn_
    task, known = waiting(on, match), dict[str, int]()
    for group in groups:
        task = told(task, ends, [group])
        known.update({task_id: ends[task_id] for task_id in group})
        if task.state.status is TaskStatus.PENDING and task.state.waits_for:
            rest = [task_id for task_id in on if task_id not in known]
            assert list(task.state.waits_for) == rest
            assert task.intent(Await).task_ids == frozenset(rest)
            met = [known[each] in MEETS[on[each]] for each in known]
            assert not any(met) if match == "any" else all(met)
        else:
            break


def test_of_any_the_first_that_ended_so_is_enough() -> None:
    task = waiting(dict.fromkeys(IDS[:3], "succeeded"), "any")
    first = task.when(SettleDependencies(settled={IDS[1]: FAILED})).then(TaskDependencySettled)
    assert (first.event(TaskDependencySettled).open_count, first.state.waits_for) == (2, (IDS[0], IDS[2]))
    second = first.when(SettleDependencies(settled={IDS[2]: SUCCEEDED, IDS[0]: SUCCEEDED})).then(TaskDependencySettled)
    assert (second.event(TaskDependencySettled).open_count, second.state.waits_for) == (0, ())


def test_the_reason_says_which_and_how() -> None:
    task = waiting({IDS[0]: "failed", IDS[1]: "finished"})
    ended = task.when(SettleDependencies(settled={IDS[0]: SUCCEEDED}))
    ended.then(TaskDependencySettled, InstanceCancelled, TaskCancelled)
    assert ended.event(TaskCancelled).reason == f"task {IDS[0]} ended Succeeded, not failed"
    none = waiting(dict.fromkeys(IDS[:2], "succeeded"), "any")
    ended = none.when(SettleDependencies(settled={IDS[0]: FAILED, IDS[1]: CANCELLED}))
    assert ended.event(TaskCancelled).reason == "none of the 2 tasks that it follows ended as it wants"


def test_a_cancelled_task_has_neither_succeeded_nor_failed() -> None:
    for on, runs in (("succeeded", False), ("failed", False), ("finished", True)):
        task = waiting({IDS[0]: on}).when(SettleDependencies(settled={IDS[0]: CANCELLED}))
        assert (task.state.status is TaskStatus.PENDING) is runs


def test_without_conditions_on_failure_says_all() -> None:
    for on_failure, cause in (("cancel", "dependency"), ("run", None)):
        made = a_create(a_job(), dependencies={"task_ids": IDS[:1], "on_failure": on_failure})
        task = given(TASK).when(made, SettleDependencies(settled={IDS[0]: FAILED}))
        assert task.state.ended_by == cause


def test_what_was_told_before_an_edit_or_a_retry_does_not_count() -> None:
    task = waiting(dict.fromkeys(IDS[:2], "succeeded"), "any").when(SettleDependencies(settled={IDS[0]: FAILED}))
    edited = task.when(UpdateTask(changes={"dependencies": {"task_ids": IDS[:2], "on_failure": "run"}}))
    assert edited.then(TaskUpdated).state.waits_for == tuple(IDS[:2])
    assert not edited.state.settled
    again = task.when(CancelTask(), RetryTask(waits_for=(IDS[1],)))
    assert (again.state.ended_by, dict(again.state.settled)) == (None, {})
    assert again.when(SettleDependencies(settled={IDS[1]: SUCCEEDED})).state.waits_for == ()
