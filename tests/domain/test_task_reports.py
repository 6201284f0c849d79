"""Which reports are believed, which are repeats, and which are kept as evidence."""

from __future__ import annotations

from typing import Any

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
)
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceFailed,
    InstanceReportRefused,
    InstanceStarted,
    InstanceSucceeded,
    TaskRetryScheduled,
    TaskSucceeded,
)
from hetuflow.domain.explanation import Circumstances, Told, explain
from hetuflow.domain.task import TASK
from hetuflow.domain.task_state import REMEMBERED_MAX
from tests.support.given import Outcome, given, later
from tests.support.stored import stored
from tests.support.tasks import OTHER_PLACEMENT, PLACEMENT, a_job, a_task, ended, started


def requeued_and_dispatched_again() -> tuple[Outcome, Outcome]:
    first = a_task(TaskStatus.DISPATCHED)
    instance_id = first.state.instance.instance_id
    second = first.when(
        RequeueInstance(instance_id=instance_id, epoch=1, reason="unknown"),
        DispatchTask(instance_id=instance_id, placement=OTHER_PLACEMENT),
    )
    return first, second


def refused_why(outcome: Outcome) -> str:
    why: str = outcome.then(InstanceReportRefused).event(InstanceReportRefused).why
    return why


def test_what_came_back_unstarted_is_explained_with_the_last_reason() -> None:
    _, second = requeued_and_dispatched_again()
    instance_id = second.state.instance.instance_id
    third = second.when(RequeueInstance(instance_id=instance_id, epoch=2, reason="disk: 80 MB are free"))
    told = [Told(event, later(0), number, None) for number, event in enumerate(third.decision.events, 1)]
    (awaited,) = explain(told, third.state, Circumstances(now=later(0))).waiting_for
    assert (
        "2 times from agents that did not start it, the last time because: disk: 80 MB are free; it is"
        in awaited.message
    )
    assert awaited.details == {"requeues": 2, "reason": "disk: 80 MB are free"}


def test_a_report_of_an_older_dispatch_is_refused() -> None:
    first, second = requeued_and_dispatched_again()
    assert refused_why(second.when(started(first.state))) == "old_epoch"
    assert refused_why(second.when(ended(first.state))) == "old_epoch"
    second.when(started(second.state)).then(InstanceStarted)


def test_a_report_after_a_requeue_is_refused() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    requeue = RequeueInstance(instance_id=task.state.instance.instance_id, epoch=1, reason="unknown")
    assert refused_why(task.when(requeue).when(started(task.state))) == "not_dispatched"


def test_what_an_agent_reports_is_kept() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    begun = task.when(started(task.state, pid=77, isolation="cgroup"))
    start = begun.event(InstanceStarted)
    assert (start.pid, start.isolation, start.started_at, start.agent_id) == (77, "cgroup", later(1), "agent-1")
    measured = {
        "completed_at": later(9),
        "duration_seconds": 8.5,
        "exit_code": 137,
        "signal": 9,
        "metrics": {"cpu_time": 1.5},
        "output": {"stdout": {"bytes": 3}},
        "error_message": "killed",
    }
    failed = begun.when(ended(begun.state, "signal", **measured)).event(InstanceFailed)
    assert {name: getattr(failed, name) for name in measured} == measured
    cancelled = begun.when(CancelTask()).when(ended(begun.state, "cancelled", **measured)).event(InstanceCancelled)
    assert {name: getattr(cancelled, name) for name in measured if name != "error_message"} == {
        name: value for name, value in measured.items() if name != "error_message"
    }
    assert cancelled.error_message == "cancelled (user); killed"
    good = {**measured, "exit_code": 0}
    del good["signal"], good["error_message"]
    succeeded = begun.when(ended(begun.state, **good)).event(InstanceSucceeded)
    assert {name: getattr(succeeded, name) for name in good} == good


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"agent_id": "agent-9"}, "other_agent"),
        ({"epoch": 7}, "unknown_epoch"),
        ({"instance_id": "01890000-0000-7000-8000-0000000000ff"}, "unknown_instance"),
    ],
)
def test_a_report_of_somebody_else_is_refused(members: dict[str, Any], why: str) -> None:
    task = a_task(TaskStatus.RUNNING)
    outcome = task.when(ended(task.state, **members))
    assert refused_why(outcome) == why
    assert outcome.state.instance == task.state.instance and outcome.intents == task.intents


def test_evidence_is_kept_once_per_content_and_holds_what_was_said() -> None:
    task = a_task(TaskStatus.RUNNING)
    said = ended(task.state, "signal", agent_id="agent-9", signal=9, metrics={"cpu_time": 0.25})
    first = task.when(said)
    report = first.event(InstanceReportRefused).report
    assert (report["kind"], report["reason"], report["signal"], report["metrics"]) == (
        "ended",
        "signal",
        9,
        {"cpu_time": 0.25},
    )
    assert report["completed_at"] == "2026-03-01T12:00:06Z"
    first.when(said).then_nothing()
    other = ended(task.state, "signal", agent_id="agent-9", signal=15)
    first.when(other).then(InstanceReportRefused)


def test_a_repeat_of_evidence_is_recognised_after_a_restart() -> None:
    """The state then comes from stored JSON, whose members have another order."""
    task = a_task(TaskStatus.RUNNING)
    said = ended(task.state, agent_id="agent-9", metrics={"zeta": 1, "a": {"y": 1, "b": 2}}, output={"bytes": 3})
    refused = task.when(said)
    events = stored([refused.event(InstanceReportRefused)])
    restarted = Outcome(TASK, TASK.evolve(task.state, events[0]), task.now, refused.decision, None)
    restarted.when(said).then_nothing()


def test_remembered_evidence_is_bounded() -> None:
    outcome = a_task(TaskStatus.RUNNING)
    said = [ended(outcome.state, agent_id=f"agent-{n}") for n in range(10, 12 + REMEMBERED_MAX)]
    for report in said:
        outcome = outcome.when(report).then(InstanceReportRefused)
    assert len(outcome.state.refused) == REMEMBERED_MAX
    outcome.when(said[-1]).then_nothing()
    outcome.when(said[0]).then(InstanceReportRefused)


def test_a_repeated_start_is_nothing() -> None:
    task = a_task(TaskStatus.RUNNING)
    task.when(started(task.state)).then_nothing()


def test_repeats_of_start_and_end_after_the_end_are_nothing() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    report = Report(reports=(started(task.state), ended(task.state, started_at=later(1))))
    task.when(report).then(InstanceStarted, InstanceSucceeded, TaskSucceeded).when(report).then_nothing()


def test_the_same_report_twice_in_one_is_taken_once() -> None:
    task = a_task(TaskStatus.DISPATCHED)
    said = (started(task.state), ended(task.state, started_at=later(1)))
    task.when(Report(reports=said + said)).then(InstanceStarted, InstanceSucceeded, TaskSucceeded)


def test_a_repeated_failure_is_nothing_while_the_retry_waits_and_after_it_started() -> None:
    running = a_task(TaskStatus.RUNNING)
    said = ended(running.state, "exit_code")
    waiting = running.when(said).then(InstanceFailed, TaskRetryScheduled)
    waiting.when(said).then_nothing()
    retry = DispatchTask(instance_id=waiting.state.instance.instance_id, placement=PLACEMENT)
    again = waiting.next(100).when(retry)
    again.when(said).then_nothing()
    assert refused_why(again.when(ended(running.state, "timeout", completed_at=later(8)))) == "already_ended"


@pytest.mark.parametrize("differs", [{"exit_code": 3}, {"signal": 15}, {"completed_at": later(7)}])
@pytest.mark.parametrize("cancelled", [False, True])
def test_another_end_of_the_same_run_is_refused_and_the_same_is_nothing(
    differs: dict[str, Any], cancelled: bool
) -> None:
    running = a_task(TaskStatus.RUNNING)
    if cancelled:
        running = running.when(CancelTask())
    said = ended(running.state, "signal", exit_code=137, signal=9)
    over = running.when(said)
    over.when(said).then_nothing()
    assert refused_why(over.when(evolve(said, **differs))) == "already_ended"


def test_a_success_after_a_loss_is_refused() -> None:
    running = a_task(TaskStatus.RUNNING, a_job({"max_retries": 0}))
    lose = LoseInstance(instance_id=running.state.instance.instance_id, epoch=1, message="the lease ran out")
    lost = running.when(lose)
    outcome = lost.when(ended(running.state))
    assert refused_why(outcome) == "already_ended"
    assert outcome.state.status is TaskStatus.FAILED
    lost.when(started(running.state)).then_nothing()


def test_a_rejection_of_what_is_recorded_as_started_is_refused() -> None:
    task = a_task(TaskStatus.RUNNING)
    assert refused_why(task.when(ended(task.state, "rejected"))) == "contradicts_start"


def test_reports_on_a_deleted_task_are_refused() -> None:
    running = a_task(TaskStatus.RUNNING)
    deleted = running.when(ended(running.state), DeleteTask())
    deleted.when(ended(running.state)).then_nothing()
    outcome = deleted.when(ended(running.state, "exit_code", completed_at=later(7)))
    assert refused_why(outcome) == "task_deleted"
    assert outcome.state.is_deleted


def test_a_report_on_a_reopened_tasks_earlier_instance_is_not_news() -> None:
    running = a_task(TaskStatus.RUNNING, a_job({"max_retries": 0}))
    said = ended(running.state, "exit_code")
    reopened = running.when(said, RetryTask())
    reopened.when(said).then_nothing()
    assert refused_why(reopened.when(ended(running.state))) == "already_ended"


def test_an_instance_longer_ago_than_is_remembered_is_unknown_and_not_obeyed() -> None:
    outcome = a_task(TaskStatus.PENDING, a_job({"max_retries": 1000, "retry_interval": 0}))
    reports = []
    for _ in range(REMEMBERED_MAX + 1):
        dispatched = outcome.when(DispatchTask(instance_id=outcome.state.instance.instance_id, placement=PLACEMENT))
        reports.append(ended(dispatched.state, "exit_code"))
        outcome = dispatched.when(reports[-1])
    outcome.when(reports[1]).then_nothing()
    assert refused_why(outcome.when(reports[0])) == "unknown_instance"


def test_a_report_on_a_task_that_never_was_is_rejected() -> None:
    task = a_task(TaskStatus.RUNNING)
    given(TASK).when(ended(task.state)).then_rejected("not_found")


def test_an_unknown_reason_is_rejected() -> None:
    task = a_task(TaskStatus.RUNNING)
    task.when(ended(task.state, "gremlins")).then_rejected("invalid", path="reason")


def test_an_empty_report_is_nothing() -> None:
    a_task(TaskStatus.RUNNING).when(Report(reports=())).then_nothing()
