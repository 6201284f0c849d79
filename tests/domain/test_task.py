"""A task's life by commands: creation, dispatch, retries, cancel, reopening, edits, deletion."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import evolve

from hetuflow.domain.commands import (
    CancelTask,
    DeleteTask,
    DispatchTask,
    LoseInstance,
    Report,
    RequeueInstance,
    RetryTask,
    UpdateTask,
)
from hetuflow.domain.decider import Bound, Guard, Occupy, Offer, Rate, Send, Stop
from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    TaskCancelled,
    TaskCancelRequested,
    TaskCreated,
    TaskDeleted,
    TaskDispatched,
    TaskFailed,
    TaskLocked,
    TaskReopened,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSucceeded,
    TaskUpdated,
)
from hetuflow.domain.identity import instance_id_of
from hetuflow.domain.task import EDITABLE, TASK
from tests.support.given import NOW, Outcome, given, later
from tests.support.tasks import (
    JOB_ID,
    LEASE,
    OTHER_PLACEMENT,
    PLACEMENT,
    TASK_ID,
    a_create,
    a_job,
    a_task,
    ended,
    started,
)

ONCE = a_job({"max_retries": 0})
TERMINAL = [status for status in TaskStatus if status.is_terminal]
OPEN = [status for status in TaskStatus if not status.is_terminal]
NOT_LIVE = [TaskStatus.PENDING, TaskStatus.LOCKED, TaskStatus.WAITING_RETRY]
LIVE = [TaskStatus.DISPATCHED, TaskStatus.RUNNING]


# --- creation and dispatch -----------------------------------------------------------------------------------------


def test_a_task_is_created_with_a_snapshot_of_the_job_and_its_first_instance() -> None:
    outcome = given(TASK).when(a_create(parameters={"a": 1}, priority=7))
    created = outcome.then(TaskCreated).event(TaskCreated)
    assert (created.job_id, created.job_version, created.name, created.priority) == (JOB_ID, 4, "hello", 7)
    assert created.config["timeout"] == 3600 and created.config["max_retries"] == 1
    assert (created.attempt, created.instance_id) == (1, instance_id_of(TASK_ID, 1))
    assert created.scheduled_at == created.created_at == NOW
    assert outcome.decision.guards == (Guard(f"job-{JOB_ID}", 4),)
    assert outcome.state.instance.status is InstanceStatus.PENDING


def test_what_is_sent_is_kept() -> None:
    members = {"description": "d", "schedule_id": "s-1", "schedule_kind": 2, "retry_count": 1, "trigger": "execute"}
    created = given(TASK).when(a_create(**members, dependencies={"note": 1})).event(TaskCreated)
    assert {name: getattr(created, name) for name in members} == members
    assert created.dependencies == {"note": 1}


def test_what_is_sent_overrides_the_job_member_by_member() -> None:
    job = a_job({"environment": {"B": "config", "C": "config"}}, environment={"A": "job", "B": "job"}, agent_id="pin")
    command = a_create(
        job,
        name="mine",
        namespace_id="team",
        environment={"C": "task", "D": "task"},
        config={"timeout": 5, "environment": {"D": "task config"}, "colour": "red"},
    )
    created = given(TASK).when(command).event(TaskCreated)
    assert created.environment == {"A": "job", "B": "config", "C": "task", "D": "task config"}
    assert (created.config["timeout"], created.config["retry_interval"], created.config["colour"]) == (5, 30, "red")
    assert (created.name, created.namespace_id, created.agent_id) == ("mine", "team", "pin")


def test_a_member_that_is_newer_than_the_job_gets_its_default() -> None:
    config = a_job().config
    old = evolve(a_job(), config={name: value for name, value in config.items() if name != "labels"})
    assert given(TASK).when(a_create(old)).event(TaskCreated).config == config


def test_with_a_placement_a_due_task_is_claimed_and_dispatched_in_the_same_append() -> None:
    outcome = given(TASK).when(a_create(placement=PLACEMENT)).then(TaskCreated, TaskLocked, TaskDispatched)
    assert outcome.decision.guards == (a_job().guard, LEASE)
    assert outcome.state.status is TaskStatus.DISPATCHED
    assert outcome.event(TaskDispatched).epoch == 1


def test_a_placement_is_not_used_before_the_task_is_due() -> None:
    outcome = given(TASK).when(a_create(placement=PLACEMENT, scheduled_at=later(1))).then(TaskCreated)
    assert outcome.decision.guards == (a_job().guard,)
    assert outcome.intent(Offer).not_before_at == later(1)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"config": {"timeout": -1}}, "config.timeout"),
        ({"config": {"max_retries": 1001}}, "config.max_retries"),
        ({"config": {"resource_limits": {"max_cpu": 1}}}, "config.resource_limits.max_cpu"),
        ({"retry_count": -1}, "retry_count"),
        ({"dependencies": {"task_ids": ["x", TASK_ID]}}, "dependencies.task_ids"),
    ],
)
def test_a_task_that_cannot_be_run_as_asked_is_refused(members: dict[str, object], path: str) -> None:
    given(TASK).when(a_create(**members)).then_rejected("invalid", path=path)


def test_a_second_creation_is_refused() -> None:
    given(TASK).when(a_create()).when(a_create()).then_rejected("already_exists", kind="task", id=TASK_ID)


def test_a_deleted_job_makes_no_task() -> None:
    given(TASK).when(a_create(a_job(deleted=True))).then_rejected("not_found", kind="job", id=JOB_ID)


def test_a_pending_task_is_offered_with_what_it_needs_of_an_agent() -> None:
    outcome = given(TASK).when(a_create(a_job({"labels": {"gpu": "true", "env": "x"}}, agent_id="agent-1"), priority=3))
    assert outcome.intents == {
        Offer(
            task_id=TASK_ID,
            job_id=JOB_ID,
            priority=3,
            not_before_at=NOW,
            labels=(("env", "x"), ("gpu", "true")),
            agent_id="agent-1",
            instance_id=instance_id_of(TASK_ID, 1),
            made_at=NOW,
        )
    }


def test_limits_are_told_to_whoever_gives_slots_and_the_namespace_is_that_of_the_dispatch() -> None:
    limits = {"concurrency": 3, "keys": ["z", {"name": "a", "concurrency": 2}], "rate": {"count": 5, "per_seconds": 60}}
    bounds = (Bound("job", JOB_ID, 3), Bound("key", "a", 2), Bound("key", "z", 1))
    created = given(TASK).when(a_create(a_job({"limits": limits}), namespace_id="batch"))
    (offer,) = created.intents
    assert (offer.namespace_id, offer.bounds, offer.rate, offer.epoch) == ("batch", bounds, Rate(5, 60), 0)
    command = DispatchTask(instance_id=offer.instance_id, placement=PLACEMENT)
    dispatched = created.when(command)
    assert dispatched.event(TaskDispatched).rate == limits["rate"]
    (moved,) = [
        each
        for each in dispatched.when(UpdateTask(changes={"namespace_id": "other"})).intents
        if isinstance(each, Occupy)
    ]
    assert (moved.namespace_id, moved.bounds) == ("batch", bounds)


def test_dispatch_claims_and_dispatches_with_the_next_epoch_under_the_lease() -> None:
    pending = a_task(TaskStatus.PENDING)
    command = DispatchTask(instance_id=pending.state.instance.instance_id, placement=PLACEMENT)
    outcome = pending.when(command).then(TaskLocked, TaskDispatched)
    assert outcome.decision.guards == (LEASE,)
    assert outcome.event(TaskDispatched).session == "s1"
    outcome.when(command).then_nothing()
    outcome.when(evolve(command, placement=OTHER_PLACEMENT)).then_rejected("not_offered")


@pytest.mark.parametrize("status", [TaskStatus.RUNNING, *TERMINAL])
def test_what_is_not_waiting_is_not_dispatched(status: TaskStatus) -> None:
    task = a_task(status)
    command = DispatchTask(instance_id=task.state.instance.instance_id, placement=PLACEMENT)
    task.when(command).then_rejected("not_offered")


def test_an_offer_of_an_earlier_instance_is_stale() -> None:
    waiting = a_task(TaskStatus.WAITING_RETRY)
    stale = DispatchTask(instance_id=instance_id_of(TASK_ID, 1), placement=PLACEMENT)
    waiting.next(1000).when(stale).then_rejected("not_offered")


def test_nothing_is_dispatched_before_its_time() -> None:
    pending = given(TASK).when(a_create(scheduled_at=later(60)))
    command = DispatchTask(instance_id=pending.state.instance.instance_id, placement=PLACEMENT)
    pending.next(59).when(command).then_rejected("not_due")
    pending.next(60).when(command).then(TaskLocked, TaskDispatched)


def test_a_dispatched_task_holds_its_slot_and_is_sent_with_its_final_environment() -> None:
    job = a_job({"cmd": "python", "args": ["x.py"], "timeout": 90}, environment={"MESSAGE": "hi"})
    outcome = given(TASK).when(a_create(job, parameters={"day": 3}, placement=PLACEMENT))
    instance_id = instance_id_of(TASK_ID, 1)
    assert Occupy("agent-1", instance_id, 1, TASK_ID, JOB_ID) in outcome.intents
    send = outcome.intent(Send)
    assert (send.agent_id, send.session, send.instance_id, send.epoch) == ("agent-1", "s1", instance_id, 1)
    assert (send.order.cmd, send.order.args, send.order.timeout_seconds) == ("python", ("x.py",), 90)
    assert send.order.environment["MESSAGE"] == "hi" and send.order.environment["HETUFLOW_PARAM_DAY"] == "3"
    assert len(outcome.intents) == 2


def test_a_running_task_holds_its_slot_and_is_not_sent_again() -> None:
    running = a_task(TaskStatus.RUNNING)
    assert {type(intent) for intent in running.intents} == {Occupy}


@pytest.mark.parametrize("status", TERMINAL)
def test_a_terminal_task_wants_nothing(status: TaskStatus) -> None:
    assert a_task(status).intents == frozenset()


def test_the_nominal_time_is_what_the_program_is_told() -> None:
    nominal_at = later(-600)
    outcome = given(TASK).when(a_create(nominal_at=nominal_at, placement=PLACEMENT))
    assert outcome.intent(Send).order.scheduled_at == nominal_at
    created = outcome.event(TaskCreated)
    assert (created.nominal_at, created.scheduled_at) == (nominal_at, nominal_at)
    delayed = given(TASK).when(a_create(nominal_at=nominal_at, scheduled_at=NOW, placement=PLACEMENT))
    assert delayed.intent(Send).order.scheduled_at == nominal_at
    assert delayed.event(TaskCreated).scheduled_at == NOW


# --- outcomes ------------------------------------------------------------------------------------------------------


def test_success_ends_the_task_in_the_same_decision() -> None:
    running = a_task(TaskStatus.RUNNING)
    outcome = running.when(ended(running.state, metrics={"cpu_time": 0.5})).then(InstanceSucceeded, TaskSucceeded)
    succeeded = outcome.event(InstanceSucceeded)
    assert (succeeded.started_at, succeeded.attempt, succeeded.epoch) == (later(1), 1, 1)
    assert (succeeded.metrics, outcome.event(TaskSucceeded).completed_at) == ({"cpu_time": 0.5}, later(10))


def test_start_and_end_in_one_report_are_one_decision() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    report = Report(reports=(started(task.state), ended(task.state, started_at=later(1))))
    task.when(report).then(InstanceStarted, InstanceSucceeded, TaskSucceeded)


def test_a_failure_is_retried_after_the_interval_with_a_new_instance() -> None:
    running = a_task(TaskStatus.RUNNING)
    outcome = running.when(ended(running.state, "exit_code")).then(InstanceFailed, TaskRetryScheduled)
    retry = outcome.event(TaskRetryScheduled)
    assert (retry.retry_at, retry.retry_count, retry.attempt) == (later(6 + 30), 1, 2)
    assert retry.instance_id == instance_id_of(TASK_ID, 2)
    assert outcome.event(InstanceFailed).error_message == "exit status 1"
    assert outcome.intent(Offer).not_before_at == retry.retry_at
    assert outcome.state.open_instance.instance_id == retry.instance_id


def test_an_agents_clock_that_is_ahead_delays_no_retry() -> None:
    running = a_task(TaskStatus.RUNNING)
    ahead = ended(running.state, "exit_code", completed_at=later(86_400))
    assert running.when(ahead).event(TaskRetryScheduled).retry_at == later(10 + 30)


def test_an_interval_beyond_the_calendar_waits_for_its_end() -> None:
    running = a_task(TaskStatus.RUNNING, a_job({"retry_interval": 2**53 - 1}))
    assert running.when(ended(running.state, "exit_code")).event(TaskRetryScheduled).retry_at.year == 9999


def test_retries_end_after_max_retries() -> None:
    failed = a_task(TaskStatus.FAILED, a_job({"max_retries": 2}))
    assert (failed.state.instance.attempt, failed.state.retry_count) == (3, 2)
    failed.then(InstanceFailed, TaskFailed)
    assert failed.event(TaskFailed).reason == "exit_code"


@pytest.mark.parametrize(
    ("reason", "status", "message"),
    [
        ("timeout", InstanceStatus.TIMEOUT, "ran longer than allowed"),
        ("memory", InstanceStatus.FAILED, "used more memory than allowed"),
        ("signal", InstanceStatus.FAILED, "ended by signal 9"),
    ],
)
def test_the_reason_of_a_failure_is_kept(reason: str, status: InstanceStatus, message: str) -> None:
    running = a_task(TaskStatus.RUNNING, ONCE)
    signal = 9 if reason == "signal" else None
    outcome = running.when(ended(running.state, reason, signal=signal)).then(InstanceFailed, TaskFailed)
    failed = outcome.event(InstanceFailed)
    assert (failed.reason, failed.status, failed.error_message) == (reason, status, message)


@pytest.mark.parametrize(("signal", "reason"), [(15, "signal"), (None, "lost")])
def test_an_end_that_nobody_asked_for_is_a_failure_and_retried(signal: int | None, reason: str) -> None:
    running = a_task(TaskStatus.RUNNING)
    outcome = running.when(ended(running.state, "cancelled", signal=signal)).then(InstanceFailed, TaskRetryScheduled)
    assert outcome.event(InstanceFailed).reason == reason


def test_a_start_error_uses_a_retry_and_never_ran() -> None:
    task = a_task(TaskStatus.DISPATCHED, ONCE)
    said = ended(task.state, "start_error", error_message="no such program: foo", started_at=later(1))
    outcome = task.when(said).then(InstanceFailed, TaskFailed)
    failed = outcome.event(InstanceFailed)
    assert (failed.started_at, failed.error_message) == (None, "no such program: foo")


def test_an_end_without_a_reported_start_records_the_start_too() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    outcome = task.when(ended(task.state)).then(InstanceStarted, InstanceSucceeded, TaskSucceeded)
    assert outcome.event(InstanceStarted).started_at == outcome.event(InstanceSucceeded).started_at == later(1)


def test_a_lost_instance_uses_a_retry() -> None:
    running = a_task(TaskStatus.RUNNING)
    lose = LoseInstance(instance_id=running.state.instance.instance_id, epoch=1, message="the lease ran out")
    outcome = running.when(lose).then(InstanceFailed, TaskRetryScheduled)
    lost = outcome.event(InstanceFailed)
    assert (lost.reason, lost.error_message, lost.duration_seconds) == ("lost", "the lease ran out", 9.0)
    outcome.when(lose).then_nothing()


def test_losing_an_earlier_dispatch_changes_nothing() -> None:
    running = a_task(TaskStatus.RUNNING)
    instance_id = running.state.instance.instance_id
    running.when(LoseInstance(instance_id=instance_id, epoch=0, message="x")).then_nothing()
    running.when(LoseInstance(instance_id="another", epoch=1, message="x")).then_nothing()


def test_a_run_that_never_started_is_requeued_and_uses_no_retry() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    instance_id = task.state.instance.instance_id
    outcome = task.when(RequeueInstance(instance_id=instance_id, epoch=1, reason="unknown")).then(TaskRequeued)
    assert (outcome.state.status, outcome.state.retry_count) == (TaskStatus.PENDING, 0)
    assert outcome.intent(Offer).instance_id == instance_id
    again = outcome.when(DispatchTask(instance_id=instance_id, placement=OTHER_PLACEMENT))
    assert again.event(TaskDispatched).epoch == 2
    again.when(RequeueInstance(instance_id=instance_id, epoch=1, reason="late")).then_nothing()


def test_dispatches_that_come_to_nothing_are_repeated_ever_more_slowly() -> None:
    """An agent that rejects all it gets would otherwise fill the log."""
    pauses = []
    task = a_task(TaskStatus.PENDING)
    for _ in range(10):
        now = task.now
        task = task.when(DispatchTask(instance_id=task.state.instance.instance_id, placement=PLACEMENT))
        task = task.when(ended(task.state, "rejected"))
        not_before_at = task.intent(Offer).not_before_at
        pauses.append(max((not_before_at - now).total_seconds(), 0))
        task = Outcome(TASK, task.state, max(now, not_before_at), task.decision, None)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_rejected_dispatch_is_requeued_and_its_repeat_is_nothing() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    said = ended(task.state, "rejected", error_message="no free slot")
    outcome = task.when(said).then(TaskRequeued)
    assert outcome.event(TaskRequeued).reason == "no free slot"
    outcome.when(said).then_nothing()


def test_a_run_whose_start_is_recorded_is_lost_rather_than_requeued() -> None:
    running = a_task(TaskStatus.RUNNING)
    requeue = RequeueInstance(instance_id=running.state.instance.instance_id, epoch=1, reason="unknown to its agent")
    running.when(requeue).then(InstanceFailed, TaskRetryScheduled)


# --- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", NOT_LIVE)
def test_cancel_of_what_no_agent_holds_is_done_at_once(status: TaskStatus) -> None:
    task = a_task(status)
    outcome = task.when(CancelTask(reason="not needed")).then(InstanceCancelled, TaskCancelled)
    cancelled = outcome.event(InstanceCancelled)
    assert (cancelled.agent_id, cancelled.epoch, cancelled.started_at) == (None, 0, None)
    assert outcome.event(TaskCancelled).reason == "not needed"
    assert outcome.state.status is TaskStatus.CANCELLED and outcome.intents == frozenset()


@pytest.mark.parametrize("status", LIVE)
def test_cancel_of_what_an_agent_holds_is_requested_once(status: TaskStatus) -> None:
    task = a_task(status)
    outcome = task.when(CancelTask(reason="stop", cause="cascade")).then(TaskCancelRequested)
    assert outcome.state.status is status
    assert outcome.intents == {*task.intents, Stop("agent-1", outcome.state.instance.instance_id, 1, TASK_ID, "stop")}
    outcome.when(CancelTask()).then_nothing()


@pytest.mark.parametrize("status", TERMINAL)
def test_cancel_of_an_ended_task_is_refused(status: TaskStatus) -> None:
    a_task(status).when(CancelTask()).then_rejected("already_terminal")


def test_the_agents_confirmation_ends_the_cancel() -> None:
    asked = a_task(TaskStatus.RUNNING).when(CancelTask(reason="stop", cause="cascade"))
    outcome = asked.when(ended(asked.state, "cancelled", exit_code=143, signal=15))
    outcome.then(InstanceCancelled, TaskCancelled)
    assert outcome.event(TaskCancelled).cause == "cascade"
    cancelled = outcome.event(InstanceCancelled)
    assert (cancelled.exit_code, cancelled.signal, cancelled.started_at) == (143, 15, later(1))


def test_success_before_the_kill_stays_success() -> None:
    asked = a_task(TaskStatus.RUNNING).when(CancelTask())
    asked.when(ended(asked.state)).then(InstanceSucceeded, TaskSucceeded)


@pytest.mark.parametrize("reason", ["exit_code", "timeout", "lost", "start_error"])
@pytest.mark.parametrize("status", LIVE)
def test_a_failure_after_a_cancel_is_the_cancels_end_and_never_retried(status: TaskStatus, reason: str) -> None:
    asked = a_task(status).when(CancelTask())
    outcome = asked.when(ended(asked.state, reason))
    assert [type(event) for event in outcome.decision.events][-2:] == [InstanceCancelled, TaskCancelled]


def test_a_loss_after_a_cancel_says_that_its_end_is_unknown() -> None:
    asked = a_task(TaskStatus.RUNNING).when(CancelTask(reason="stop"))
    lose = LoseInstance(instance_id=asked.state.instance.instance_id, epoch=1, message="the lease ran out")
    outcome = asked.when(lose).then(InstanceCancelled, TaskCancelled)
    assert outcome.event(InstanceCancelled).error_message == "cancelled (user): stop; the lease ran out"


@pytest.mark.parametrize("how", ["requeue", "rejected"])
def test_a_run_that_never_started_after_a_cancel_is_cancelled(how: str) -> None:
    asked = a_task(TaskStatus.DISPATCHED).when(CancelTask())
    requeue = RequeueInstance(instance_id=asked.state.instance.instance_id, epoch=1, reason="unknown")
    asked.when(requeue if how == "requeue" else ended(asked.state, "rejected")).then(InstanceCancelled, TaskCancelled)


# --- an operator's retry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_retry_reopens_with_a_new_instance_and_all_retries(status: TaskStatus) -> None:
    task = a_task(status)
    attempt = task.state.instance.attempt
    outcome = task.next(500).when(RetryTask()).then(TaskReopened)
    reopened = outcome.event(TaskReopened)
    assert (reopened.attempt, reopened.retry_count) == (attempt + 1, 0)
    assert (outcome.state.status, outcome.state.retry_count) == (TaskStatus.PENDING, 0)
    assert outcome.intent(Offer).not_before_at == reopened.scheduled_at == later(500, task.now)


def test_retry_of_a_waiting_task_makes_its_instance_due_now() -> None:
    waiting = a_task(TaskStatus.WAITING_RETRY)
    outcome = waiting.when(RetryTask()).then(TaskReopened)
    reopened = outcome.event(TaskReopened)
    assert (reopened.instance_id, reopened.retry_count) == (waiting.state.instance.instance_id, 1)
    assert outcome.intent(Offer).not_before_at == waiting.now


@pytest.mark.parametrize("status", [s for s in TaskStatus if s not in (15, 90, 99)])
def test_nothing_else_is_retried(status: TaskStatus) -> None:
    a_task(status).when(RetryTask()).then_rejected("not_retryable")


def test_a_reopened_task_forgets_its_cancel() -> None:
    asked = a_task(TaskStatus.RUNNING).when(CancelTask())
    reopened = asked.when(ended(asked.state, "cancelled"), RetryTask())
    dispatch = DispatchTask(instance_id=reopened.state.instance.instance_id, placement=PLACEMENT)
    running = reopened.when(dispatch, started(reopened.when(dispatch).state))
    running.when(ended(running.state, "exit_code")).then(InstanceFailed, TaskRetryScheduled)


# --- edits ---------------------------------------------------------------------------------------------------------


def test_an_update_records_the_whole_after_it_and_what_changed() -> None:
    task = a_task(TaskStatus.PENDING, a_job({"environment": {"A": "1"}}))
    changes = {"priority": 5, "name": "hello", "config": {"timeout": 9, "environment": {"B": "2"}}}
    updated = task.when(UpdateTask(changes=changes)).then(TaskUpdated).event(TaskUpdated)
    assert updated.changed == ("priority", "environment", "config")
    assert (updated.config["timeout"], updated.config["retry_interval"]) == (9, 30)
    assert updated.environment == {"A": "1", "B": "2"}


def test_every_editable_member_can_be_changed_and_is_then_what_counts() -> None:
    changes = {
        "name": "other",
        "description": "d",
        "namespace_id": "team",
        "priority": 9,
        "scheduled_at": later(60),
        "environment": {"A": "1"},
        "parameters": {"p": 1},
        "config": {"labels": {"gpu": "true"}},
        "dependencies": {"note": "x"},
    }
    outcome = a_task(TaskStatus.PENDING).when(UpdateTask(changes=changes)).then(TaskUpdated)
    updated, spec = outcome.event(TaskUpdated), outcome.state.spec
    assert set(changes) == set(EDITABLE) == set(updated.changed)
    for name, value in changes.items():
        wanted = {**spec.config, **value} if name == "config" else value
        assert getattr(spec, name) == getattr(updated, name) == wanted
    assert (outcome.intent(Offer).priority, outcome.intent(Offer).labels) == (9, (("gpu", "true"),))


def test_an_update_that_changes_nothing_is_nothing() -> None:
    task = a_task(TaskStatus.RUNNING)
    same = {"name": "hello", "config": dict(task.state.spec.config), "parameters": {}, "scheduled_at": NOW}
    task.when(UpdateTask(changes=same)).then_nothing()


@pytest.mark.parametrize("status", [s for s in TaskStatus if s not in (1, 15)])
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("environment", {"A": "1"}),
        ("parameters", {"a": 1}),
        ("config", {"timeout": 1}),
        ("scheduled_at", later(1)),
        ("dependencies", {"note": "x"}),
    ],
)
def test_members_without_effect_cannot_change(status: TaskStatus, member: str, value: object) -> None:
    command = UpdateTask(changes={"name": "other", member: value})
    a_task(status).when(command).then_rejected("already_started", member=member)


@pytest.mark.parametrize("status", TaskStatus)
def test_the_name_can_always_change(status: TaskStatus) -> None:
    outcome = a_task(status).when(UpdateTask(changes={"name": "other", "description": "d"}))
    assert outcome.event(TaskUpdated).changed == ("name", "description")
    assert (outcome.state.spec.name, outcome.state.status) == ("other", status)


def test_an_unknown_member_is_refused() -> None:
    a_task(TaskStatus.PENDING).when(UpdateTask(changes={"job_id": "x"})).then_rejected("invalid", path="job_id")


def test_a_stale_lock_version_is_a_conflict() -> None:
    task = a_task(TaskStatus.PENDING)
    assert task.state.lock_version == 1
    change = {"name": "other"}
    changed = task.when(UpdateTask(changes=change, lock_version=1)).then(TaskUpdated)
    changed.when(UpdateTask(changes=change, lock_version=1)).then_rejected("version_conflict", expected=1, actual=2)


def test_evidence_does_not_move_the_lock_version() -> None:
    task = a_task(TaskStatus.RUNNING)
    refused = task.when(ended(task.state, agent_id="agent-9"))
    assert (refused.state.version, refused.state.lock_version) == (task.state.version + 1, task.state.lock_version)


def test_a_later_start_is_kept_to() -> None:
    task = a_task(TaskStatus.WAITING_RETRY)
    later_start = task.state.retry_at + timedelta(seconds=60)
    outcome = task.when(UpdateTask(changes={"scheduled_at": later_start}))
    assert outcome.intent(Offer).not_before_at == later_start


# --- deletion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TERMINAL)
def test_what_has_ended_is_deleted_once(status: TaskStatus) -> None:
    outcome = a_task(status).when(DeleteTask()).then(TaskDeleted)
    for command in (DeleteTask(), CancelTask(), RetryTask(), UpdateTask(changes={"name": "x"})):
        outcome.when(command).then_rejected("not_found")
    outcome.when(a_create()).then_rejected("already_exists")


@pytest.mark.parametrize("status", OPEN)
def test_what_has_not_ended_is_not_deleted(status: TaskStatus) -> None:
    a_task(status).when(DeleteTask()).then_rejected("has_open_tasks", count=1)


@pytest.mark.parametrize("status", NOT_LIVE)
def test_a_cascade_cancels_what_waits_and_deletes_it(status: TaskStatus) -> None:
    outcome = a_task(status).when(DeleteTask(cascade=True)).then(InstanceCancelled, TaskCancelled, TaskDeleted)
    assert outcome.event(TaskCancelled).cause == "cascade"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(TaskStatus.DISPATCHED, "rejected"), *((s, reason) for s in LIVE for reason in (None, "cancelled", "lost"))],
)
def test_a_cascade_stops_what_lives_and_deletes_it_when_it_has_ended(status: TaskStatus, reason: str | None) -> None:
    asked = a_task(status).when(DeleteTask(cascade=True)).then(TaskCancelRequested)
    assert asked.intent(Stop) and asked.intent(Occupy) and not asked.state.is_deleted
    asked.when(DeleteTask(cascade=True)).then_nothing()
    gone = asked.when(ended(asked.state, reason))
    assert type(gone.decision.events[-1]) is TaskDeleted
    assert gone.state.is_deleted and gone.intents == frozenset()


def test_a_cascade_after_a_cancel_adds_the_deletion_to_it() -> None:
    asked = a_task(TaskStatus.RUNNING).when(CancelTask(reason="mine"))
    both = asked.next(60).when(DeleteTask(cascade=True)).then(TaskCancelRequested)
    request = both.event(TaskCancelRequested)
    assert (request.requested_at, request.reason, request.then_delete) == (asked.now, "mine", True)
    both.when(ended(both.state, "cancelled")).then(InstanceCancelled, TaskCancelled, TaskDeleted)


@pytest.mark.parametrize("command", [CancelTask(), RetryTask(), DeleteTask(), UpdateTask(changes={"name": "x"})])
def test_there_is_no_such_task(command: object) -> None:
    given(TASK).when(command).then_rejected("not_found", kind="task")
