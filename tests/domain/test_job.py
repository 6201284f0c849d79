"""The job's decider."""

from __future__ import annotations

from typing import Any

import pytest

from hetuflow.domain.commands import (
    CreateJob,
    CreateSchedule,
    DeleteJob,
    DisableJob,
    EnableJob,
    UpdateJob,
)
from hetuflow.domain.config import effective
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import (
    JobCreated,
    JobDeleted,
    JobDisabled,
    JobEnabled,
    JobUpdated,
    ScheduleCreated,
)
from hetuflow.domain.job import EDITABLE, JOB, snapshot
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, Outcome, given, later
from tests.support.tasks import JOB_ID


def a_job(**members: Any) -> Outcome:
    return given(JOB).when(CreateJob(job_id=JOB_ID, **{"name": "hello", "config": {"timeout": 5}, **members}))


def test_a_job_is_created_with_its_effective_config() -> None:
    created = a_job(agent_id="").then(JobCreated).event(JobCreated)
    assert created.config == effective({"timeout": 5})
    assert (created.status, created.agent_id, created.created_at) == (100, None, NOW)


def test_an_id_is_never_free_again() -> None:
    again = CreateJob(job_id=JOB_ID, name="x", config={})
    a_job().when(again).then_rejected("already_exists", kind="job", id=JOB_ID)
    a_job().when(DeleteJob(), again).then_rejected("already_exists")


def test_a_schedule_can_be_opened_in_the_same_append() -> None:
    schedule = CreateSchedule(schedule_id="s-1", job_id=JOB_ID, schedule_kind=1, cron_expression="0 0 12 * * ?")
    outcome = a_job(schedule=schedule).then(JobCreated)
    (opened,) = outcome.decision.opened[Address("schedule", "s-1")]
    assert isinstance(opened, ScheduleCreated) and opened.job_id == JOB_ID
    wrong = CreateSchedule(schedule_id="s-1", job_id="another", schedule_kind=2, interval_secs=1)
    a_job(schedule=wrong).then_rejected("invalid", path="cron_expr")


@pytest.mark.parametrize(
    ("members", "path"), [({"config": {"timeout": -1}}, "config.timeout"), ({"status": 7}, "status")]
)
def test_what_cannot_be_is_refused(members: dict[str, Any], path: str) -> None:
    a_job(**members).then_rejected("invalid", path=path)


def test_an_update_records_the_whole_and_what_changed() -> None:
    updated = a_job().when(UpdateJob(changes={"description": "d", "name": "hello"})).then(JobUpdated).event(JobUpdated)
    assert (updated.changed, updated.description, updated.name) == (("description",), "d", "hello")
    assert updated.config == effective({"timeout": 5})


def test_every_editable_member_can_be_changed_and_is_then_what_counts() -> None:
    changes = {
        "namespace_id": "team",
        "name": "other",
        "description": "d",
        "environment": {"A": 1},
        "config": effective({"cmd": "node"}),
        "agent_id": "pin",
        "upstream": {"jobs": [{"job_id": "other", "on": "finished"}], "match": "all"},
    }
    outcome = a_job().when(UpdateJob(changes=changes)).then(JobUpdated)
    assert set(changes) == set(EDITABLE) == set(outcome.event(JobUpdated).changed)
    assert {name: getattr(outcome.state, name) for name in changes} == changes
    created = a_job(**changes)
    assert {name: getattr(created.event(JobCreated), name) for name in changes} == changes
    assert {name: getattr(created.state, name) for name in changes} == changes


def test_an_update_replaces_the_config_as_a_whole() -> None:
    outcome = a_job().when(UpdateJob(changes={"config": {"cmd": "node"}}))
    assert outcome.state.config == effective({"cmd": "node"})


def test_an_update_that_changes_nothing_is_nothing() -> None:
    same = {"name": "hello", "config": {"timeout": 5}, "agent_id": "", "status": 100, "environment": None}
    a_job().when(UpdateJob(changes=same)).then_nothing()


@pytest.mark.parametrize("status", [1, 98, 99])
def test_a_status_can_be_set_by_an_update(status: int) -> None:
    outcome = a_job().when(UpdateJob(changes={"status": status, "name": "x"})).then(JobUpdated, JobDisabled)
    assert outcome.state.status == status
    outcome.when(UpdateJob(changes={"status": 100})).then(JobEnabled)
    outcome.when(UpdateJob(changes={"status": 42})).then_rejected("invalid", path="status")


def test_enable_and_disable_repeat_without_effect() -> None:
    job = a_job()
    job.when(EnableJob()).then_nothing()
    disabled = job.when(DisableJob()).then(JobDisabled)
    disabled.when(DisableJob()).then_nothing()
    enabled = disabled.next(60).when(EnableJob()).then(JobEnabled)
    assert (enabled.state.enabled_at, enabled.state.status) == (later(60), JobStatus.ENABLED)


@pytest.mark.parametrize("command", [UpdateJob(changes={"name": "x"}), EnableJob(), DisableJob(), DeleteJob()])
def test_what_is_deleted_or_never_was_is_not_found(command: Any) -> None:
    given(JOB).when(command).then_rejected("not_found", kind="job")
    a_job().when(DeleteJob()).when(command).then_rejected("not_found", kind="job")


def test_an_unknown_member_is_refused() -> None:
    a_job().when(UpdateJob(changes={"cron_expr": "x"})).then_rejected("invalid", path="cron_expr")


def test_a_snapshot_carries_the_version_it_is_guarded_by() -> None:
    job = a_job(environment={"A": 1}, agent_id="pin")
    copy = snapshot(job.state, 3)
    assert copy.guard == Guard(f"job-{JOB_ID}", 3)
    assert (copy.name, copy.environment, copy.agent_id, copy.status) == ("hello", {"A": 1}, "pin", 100)
    assert (copy.config["timeout"], copy.enabled_at, copy.deleted) == (5, NOW, False)
    assert snapshot(job.when(DeleteJob()).state, 4).deleted
    with pytest.raises(Rejected, match="no such job"):
        snapshot(JOB.initial, 0)


def test_a_job_created_disabled_was_never_enabled() -> None:
    assert snapshot(a_job(status=99).state, 1).enabled_at is None


def test_events_that_cannot_follow_are_refused() -> None:
    job = a_job()
    created, deleted = job.event(JobCreated), JobDeleted(job_id=JOB_ID)
    for state, event in [(job.state, created), (JOB.initial, deleted), (JOB.evolve(job.state, deleted), deleted)]:
        with pytest.raises(IllegalTransition):
            JOB.evolve(state, event)
