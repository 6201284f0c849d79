"""What becomes of a fire while earlier tasks of the schedule have not ended."""

from __future__ import annotations

from typing import Any

import pytest

from hetuflow.domain.commands import SettleDependencies, UpdateSchedule
from hetuflow.domain.decider import Address, Await, Guard
from hetuflow.domain.enums import OverlapPolicy, TaskStatus
from hetuflow.domain.events import (
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    TaskCreated,
    TaskDispatched,
    TaskLocked,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.schedule_overlap import QUEUE_MAX
from hetuflow.domain.task import TASK
from tests.support.given import Outcome, given, later
from tests.support.schedules import SCHEDULE_ID, a_fire, a_minutely, a_schedule
from tests.support.tasks import PLACEMENT, a_create


def task_id(number: int) -> str:
    return task_id_of(SCHEDULE_ID, later(60 * number))


def once_fired(policy: str, **members: Any) -> Outcome:
    return a_schedule(a_minutely(overlap_policy=policy, **members)).next(60).when(a_fire())


OPEN, ENDED = {task_id(1): False}, {task_id(1): True}


def test_allow_asks_for_nothing() -> None:
    once_fired("allow").next(60).when(a_fire()).then(ScheduleFired)


@pytest.mark.parametrize("policy", ["skip", "queue", "cancel_previous"])
def test_the_others_ask_what_became_of_the_task_before_and_fire_when_it_has_ended(policy: str) -> None:
    fired = once_fired(policy)
    fired.next(60).when(a_fire()).then_rejected("tasks_unknown", task_ids=[task_id(1)])
    guard = Guard(f"task-{task_id(1)}", 6)
    outcome = fired.next(60).when(a_fire(has_ended=ENDED, guards=(guard,), placements=(PLACEMENT,))).then(ScheduleFired)
    assert guard in outcome.decision.guards
    assert outcome.event(ScheduleFired).waits_for == ()
    (task,) = outcome.decision.opened.values()
    assert [type(event) for event in task] == [TaskCreated, TaskLocked, TaskDispatched]
    assert outcome.state.open_tasks == (task_id(2),)


def test_skip_skips_and_goes_on_asking_of_the_same_task() -> None:
    outcome = once_fired("skip").next(60).when(a_fire(has_ended=OPEN)).then(ScheduleSkipped)
    skipped = outcome.event(ScheduleSkipped)
    assert (skipped.reason, skipped.count, skipped.first_nominal_at) == ("overlap", 1, later(120))
    assert (skipped.next_run_at, outcome.state.fire_count) == (later(180), 1)
    outcome.next(60).when(a_fire(has_ended=ENDED)).then(ScheduleFired)


def test_of_several_late_ones_skip_fires_the_first() -> None:
    schedule = a_schedule(a_minutely(overlap_policy="skip", misfire_policy="fire_all"))
    outcome = schedule.next(180).when(a_fire()).then(ScheduleFired, ScheduleSkipped, ScheduleSkipped)
    assert outcome.state.open_tasks == (task_id(1),) and outcome.state.next_run_at == later(240)


def test_a_skipped_one_does_not_count_as_a_fire() -> None:
    fired = once_fired("skip", max_count=2)
    skipped = fired.next(60).when(a_fire(has_ended=OPEN)).then(ScheduleSkipped)
    assert skipped.state.next_run_at == later(180)
    last = skipped.next(60).when(a_fire(has_ended=ENDED)).then(ScheduleFired, ScheduleExpired)
    assert last.event(ScheduleExpired).reason == "max_count"
    both = a_schedule(a_minutely(overlap_policy="skip", misfire_policy="fire_all", max_count=2)).next(120)
    both.when(a_fire()).then(ScheduleFired, ScheduleSkipped)


def test_queue_waits_for_every_task_before_it_that_is_open() -> None:
    second = once_fired("queue").next(60).when(a_fire(has_ended=OPEN, placements=(PLACEMENT,))).then(ScheduleFired)
    assert second.event(ScheduleFired).waits_for == (task_id(1),)
    (task,) = second.decision.opened.values()
    (created,) = task  # the slot in hand is not used
    assert created.dependencies == {"task_ids": [task_id(1)], "on_failure": "run", "overlap": "queue"}
    third = second.next(60).when(a_fire(has_ended={**OPEN, task_id(2): False}))
    assert third.event(ScheduleFired).waits_for == (task_id(1), task_id(2))
    fourth = third.next(60).when(a_fire(has_ended={**OPEN, task_id(2): True, task_id(3): False}))
    assert fourth.state.open_tasks == (task_id(1), task_id(3), task_id(4))  # the second was cancelled, say


def test_the_queue_is_bounded() -> None:
    schedule = once_fired("queue")
    for _ in range(QUEUE_MAX):
        open_ids = dict.fromkeys(schedule.state.open_tasks, False)
        schedule = schedule.next(60).when(a_fire(has_ended=open_ids)).then(ScheduleFired)
    open_ids = dict.fromkeys(schedule.state.open_tasks, False)
    full = schedule.next(60).when(a_fire(has_ended=open_ids)).then(ScheduleSkipped)
    assert full.event(ScheduleSkipped).reason == "overlap"
    one_ended = {**open_ids, task_id(1): True}
    full.next(60).when(a_fire(has_ended=one_ended)).then(ScheduleFired)


def test_cancel_previous_makes_a_task_that_wants_those_before_it_ended() -> None:
    second = once_fired("cancel_previous").next(60).when(a_fire(has_ended=OPEN)).then(ScheduleFired)
    task = given(TASK, *second.decision.opened[Address("task", task_id(2))])
    (wish,) = TASK.intents(task.state)
    assert isinstance(wish, Await) and wish.cancels and wish.task_ids == {task_id(1)}
    settled = task.when(SettleDependencies(settled={task_id(1): int(TaskStatus.CANCELLED)}))
    assert settled.state.status is TaskStatus.PENDING and not settled.state.waits_for
    late = a_schedule(a_minutely(overlap_policy="cancel_previous", misfire_policy="fire_all"))
    late.next(120).when(a_fire()).then(ScheduleSkipped, ScheduleFired)  # the first would be cancelled at once


def test_dependencies_that_a_user_wrote_cancel_nothing() -> None:
    wanted = {"task_ids": [task_id(1)], "overlap": "cancel_previous"}
    (wish,) = given(TASK).when(a_create(dependencies=wanted)).intents
    assert isinstance(wish, Await) and not wish.cancels


def test_a_change_of_the_policy_counts_the_newest_task() -> None:
    schedule = once_fired("allow").next(60).when(a_fire())
    changed = schedule.next(1).when(UpdateSchedule(changes={"overlap_policy": str(OverlapPolicy.SKIP)}))
    changed.next(59).when(a_fire(has_ended={task_id(2): False})).then(ScheduleSkipped)
