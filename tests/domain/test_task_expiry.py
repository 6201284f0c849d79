"""A task that did not start in time: when it expires, when not any more, and what it looks like then."""

from __future__ import annotations

import pytest

from hetuflow.domain.commands import DispatchTask, ExpireTask, LoseInstance, RequeueInstance, RetryTask, UpdateTask
from hetuflow.domain.decider import Await, Expire, Offer
from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    TaskCancelled,
    TaskCreated,
    TaskDispatched,
    TaskLocked,
    TaskReopened,
    TaskRequeued,
)
from hetuflow.domain.task import TASK
from tests.support.given import NOW, Outcome, given, later
from tests.support.tasks import JOB_ID, LEASE, PLACEMENT, TASK_ID, a_create, a_job, started

EXPIRE = ExpireTask(guards=(LEASE,))


def waiting(seconds: int = 60, **members: object) -> Outcome:
    return given(TASK).when(a_create(a_job({"start_deadline_seconds": seconds}), **members))


def dispatch(outcome: Outcome) -> DispatchTask:
    return DispatchTask(instance_id=outcome.state.instance.instance_id, placement=PLACEMENT)


def test_it_expires_at_the_second_and_not_before() -> None:
    task = waiting()
    assert task.intent(Expire) == Expire(TASK_ID, JOB_ID, later(60))
    task.next(59).when(EXPIRE).then_rejected("not_due")
    expired = task.next(60).when(EXPIRE).then(InstanceCancelled, TaskCancelled)
    assert expired.decision.guards == (LEASE,)
    assert (expired.event(TaskCancelled).cause, expired.state.status) == ("expired", TaskStatus.CANCELLED)
    assert expired.state.instance.status is InstanceStatus.CANCELLED
    assert expired.event(InstanceCancelled).error_message == (
        "cancelled (expired): not started within 60 s of its scheduled time"
    )
    assert not expired.intents
    expired.when(EXPIRE).then_nothing()


def test_the_seconds_count_from_the_scheduled_time() -> None:
    task = waiting(scheduled_at=later(1000))
    assert task.intent(Expire).at == later(1060)
    moved = task.when(UpdateTask(changes={"scheduled_at": later(5)}))
    assert moved.intent(Expire).at == later(65)
    without = moved.when(UpdateTask(changes={"config": {"start_deadline_seconds": 0}}))
    assert {type(intent) for intent in without.intents} == {Offer}


def test_nothing_is_dispatched_after_it() -> None:
    task = waiting()
    task.next(59.9).when(dispatch(task)).then(TaskLocked, TaskDispatched)
    task.next(60).when(dispatch(task)).then_rejected("expired")


def test_a_task_that_is_made_too_late_is_not_dispatched_with_its_making() -> None:
    made = waiting(nominal_at=later(-60), placement=PLACEMENT).then(TaskCreated)
    assert made.intent(Expire).at == NOW
    waiting(nominal_at=later(-59), placement=PLACEMENT).then(TaskCreated, TaskLocked, TaskDispatched)


def test_what_an_agent_was_given_in_time_does_not_expire_unless_it_comes_back() -> None:
    task = waiting(placement=PLACEMENT)
    assert all(type(intent) is not Expire for intent in task.intents)
    task.next(61).when(EXPIRE).then_nothing()
    instance = task.state.instance
    command = RequeueInstance(instance_id=instance.instance_id, epoch=instance.epoch, reason="refused")
    back = task.next(61).when(command).then(TaskRequeued)
    assert back.intent(Expire).at == later(60)
    back.next(61).when(EXPIRE).then(InstanceCancelled, TaskCancelled)


def test_once_started_it_does_not_expire_and_its_retries_neither() -> None:
    running = waiting(placement=PLACEMENT)
    running = running.when(started(running.state))
    instance = running.state.instance
    retry = running.when(LoseInstance(instance_id=instance.instance_id, epoch=instance.epoch, message="gone"))
    assert {type(intent) for intent in retry.intents} == {Offer}
    retry.next(1000).when(EXPIRE).then_nothing()
    retry.next(1000).when(dispatch(retry)).then(TaskLocked, TaskDispatched)


def test_a_retry_by_hand_is_a_new_beginning() -> None:
    expired = waiting().next(60).when(EXPIRE)
    again = expired.next(500).when(RetryTask()).then(TaskReopened)
    assert again.intent(Expire).at == later(60, again.state.spec.scheduled_at)


def test_a_task_that_waits_for_others_expires_too() -> None:
    task = waiting(dependencies={"task_ids": ["other"], "on_failure": "cancel"})
    assert {type(intent) for intent in task.intents} == {Await, Expire}
    task.next(60).when(EXPIRE).then(InstanceCancelled, TaskCancelled)


@pytest.mark.parametrize("seconds", [0, 2**53 - 1])
def test_no_deadline_or_one_beyond_the_calendar_is_none(seconds: int) -> None:
    task = waiting(seconds)
    assert {type(intent) for intent in task.intents} == {Offer}
    task.next(10**6).when(EXPIRE).then_nothing()
