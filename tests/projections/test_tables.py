"""What the definitions say: the columns of the REST contract, and what each event does to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import attrs
import pytest

from hetuflow.domain import events as e
from hetuflow.domain.events import EVENT_TYPES, Event
from projections.definition import (
    Add,
    Column,
    Counter,
    Equals,
    Field,
    NotNull,
    ObjectOf,
    Present,
    SecondsAsMillis,
    Streak,
    Table,
    TimeAsMillis,
    When,
)
from projections.fold import Row, Tables
from projections.tables import ALL_TABLES, LIVE_TABLES
from tests.projections.builders import INSTANCE, JOB, SCHEDULE, START, TASK, Log, an_event, an_id, at

CATALOGUE = {cls.__name__: cls for cls in EVENT_TYPES}

CONTRACT = {
    "jobs": "id namespace_id name description environment config status status_note agent_id upstream"
    " created_by updated_by created_at updated_at version",
    "schedules": "id job_id name description schedule_kind cron_expression interval_secs interval_mode max_count timezone start_time"
    " end_time event_type event_filter status misfire_policy misfire_grace_seconds"
    " max_age_seconds overlap_policy jitter_seconds pause_on_failures consecutive_failures status_note"
    " parameters priority debounce_seconds daemon next_run_at run_flow exclude_calendars calendar_versions last_run_at fire_count"
    " created_by updated_by created_at updated_at version",
    "tasks": "id job_id name description namespace_id priority status schedule_id schedule_kind scheduled_at"
    " completed_at environment parameters config rendered retry_count dependencies locked_at trigger flow_run_id backfill_id event instance_id attempt"
    " next_retry_at cancel_requested_at created_by updated_by created_at updated_at version",
    "task_instances": "id task_id job_id agent_id status started_at completed_at error_message exit_code signal reason"
    " metrics attempt epoch external created_at updated_at version",
    "agents": "id name namespace_id description address status capabilities reported_labels protected_labels config statistics"
    " running_instances draining drain last_heartbeat_at created_at updated_at version",
    "servers": "id name address bind_namespaces status description last_heartbeat_at created_at updated_at version",
    "calendars": "id description timezone dates ranges yearly weekdays times periods imported_until_at created_by"
    " updated_by created_at updated_at version",
    "flows": "id job_id name namespace_id status trigger schedule_id nominal_at parameters task_count outcome completed_at"
    " cancel_requested_at retried_at graph created_by updated_by created_at updated_at version",
    "backfills": "id schedule_id job_id status from_at until_at total max_concurrent cursor_at made left_out succeeded"
    " failed cancelled note finished_at created_by updated_by created_at updated_at version",
}
"""REST contract §4.2-4.7: the members that are neither computed on output nor write-only."""


@pytest.mark.parametrize("name", CONTRACT)
def test_the_columns_are_the_members_of_the_contract(name: str) -> None:
    assert list(LIVE_TABLES[name].column_names) == CONTRACT[name].split()


def test_every_table_is_in_the_contract() -> None:
    assert list(CONTRACT) == list(LIVE_TABLES)


# --- definitions against the catalogue -------------------------------------------------------------------------------


def paths_of(source: Any) -> Iterator[tuple[str, ...]]:
    match source:
        case When(condition, inner):
            yield from paths_of(condition)
            yield from paths_of(inner)
        case ObjectOf(members):
            for member in members.values():
                yield from paths_of(member)
        case Add(amount, when):
            yield from paths_of(amount)
            yield from paths_of(when)
        case Field() | SecondsAsMillis() | TimeAsMillis() | NotNull() | Present() | Equals():
            yield source.path


def rules_of(table: Table) -> Iterator[tuple[str, Any]]:
    for rules in (table.creates, table.removes, table.ends):
        yield from rules.items()
    for type_ in table.event_types:
        yield type_, table.scope_source
        if table.scope is None or type_ not in table.removes:  # a removal by scope has no key
            yield type_, table.key_source
    for _, column in table.plain():
        match column:
            case Column(sets=rules) | Counter(adds=rules):
                yield from rules.items()
            case Streak(grows=grows, resets=resets):
                yield from [*grows.items(), *resets.items()]


@pytest.mark.parametrize("name", ALL_TABLES)
def test_every_path_of_a_definition_is_a_member_of_its_event(name: str) -> None:
    missing = [
        (type_, path)
        for type_, source in rules_of(ALL_TABLES[name])
        for path in paths_of(source)
        if path[0] not in {field.name for field in attrs.fields(CATALOGUE[type_])}  # type: ignore[arg-type]
    ]
    assert missing == []


def test_the_fingerprint_changes_with_the_definition_and_is_the_same_in_every_process() -> None:
    tables = list(ALL_TABLES.values())
    assert len({table.fingerprint for table in tables}) == len(tables)
    changed = attrs.evolve(tables[0], items=tables[0].items[:-1])  # type: ignore[misc]
    assert changed.fingerprint != tables[0].fingerprint
    assert "0x" not in repr(tables)  # an object's address would be another in every process


# --- what events do --------------------------------------------------------------------------------------------------


class Given:
    """Folds events one after the other, and shows rows."""

    def __init__(self, *events: Event) -> None:
        self.log = Log()
        self.tables = Tables(ALL_TABLES)
        self.and_then(*events)

    def and_then(self, *events: Event) -> Given:
        for event in events:
            self.tables.apply([self.log.add(event)])
        return self

    def row(self, table: str, key: str) -> Row:
        row = self.tables.folds[table].row(key)
        assert row is not None, f"{key} is not in {table}"
        return row

    def has(self, table: str, key: str) -> bool:
        return self.tables.folds[table].row(key) is not None

    @property
    def task(self) -> Row:
        return self.row("tasks", TASK)

    @property
    def instance(self) -> Row:
        return self.row("task_instances", INSTANCE)

    @property
    def agent(self) -> Row:
        return self.row("agents", "agent-01")


def created() -> Event:
    return an_event(e.TaskCreated)


def running() -> list[Event]:
    return [created(), an_event(e.TaskLocked), an_event(e.TaskDispatched), an_event(e.InstanceStarted)]


def recorded(position: int) -> datetime:
    return at(position)


def test_created_at_is_when_it_was_recorded_and_updated_at_equals_it_until_the_first_change() -> None:
    given = Given(an_event(e.JobCreated))
    job = given.row("jobs", JOB)
    assert (job["created_at"], job["updated_at"], job["version"], job["updated_by"]) == (at(1), at(1), 1, None)
    given.and_then(an_event(e.JobDisabled, status=99))
    job = given.row("jobs", JOB)
    assert (job["created_at"], job["updated_at"], job["version"], job["updated_by"]) == (at(1), at(2), 2, 1)


def test_a_job_is_disabled_enabled_edited_and_deleted() -> None:
    given = Given(an_event(e.JobCreated), an_event(e.JobDisabled, status=98))
    assert given.row("jobs", JOB)["status"] == 98
    given.and_then(an_event(e.JobEnabled), an_event(e.JobUpdated, name="other", agent_id=None))
    assert (given.row("jobs", JOB)["status"], given.row("jobs", JOB)["name"]) == (100, "other")
    given.and_then(an_event(e.JobDeleted))
    assert not given.has("jobs", JOB)


def test_a_schedule_fires_skips_expires_and_is_enabled_again() -> None:
    given = Given(an_event(e.ScheduleCreated, next_run_at=at(10)))
    given.and_then(an_event(e.ScheduleFired, nominal_at=at(10), fire_count=1, next_run_at=at(20)))
    row = given.row("schedules", SCHEDULE)
    assert (row["last_run_at"], row["fire_count"], row["next_run_at"], row["status"]) == (at(10), 1, at(20), 100)
    given.and_then(an_event(e.ScheduleSkipped, next_run_at=at(50)))
    row = given.row("schedules", SCHEDULE)
    assert (row["last_run_at"], row["fire_count"], row["next_run_at"]) == (at(10), 1, at(50))
    given.and_then(an_event(e.ScheduleExpired))
    assert (given.row("schedules", SCHEDULE)["status"], given.row("schedules", SCHEDULE)["next_run_at"]) == (98, None)
    given.and_then(an_event(e.ScheduleEnabled, next_run_at=at(60)))
    assert (given.row("schedules", SCHEDULE)["status"], given.row("schedules", SCHEDULE)["next_run_at"]) == (
        100,
        at(60),
    )
    given.and_then(an_event(e.ScheduleSuspended))
    assert (given.row("schedules", SCHEDULE)["status"], given.row("schedules", SCHEDULE)["next_run_at"]) == (99, None)


def test_a_task_goes_through_its_statuses_with_its_instance() -> None:
    given = Given(created())
    assert (given.task["status"], given.task["attempt"], given.task["instance_id"]) == (1, 1, INSTANCE)
    assert (given.instance["status"], given.instance["agent_id"], given.instance["epoch"]) == (1, None, 0)
    given.and_then(an_event(e.TaskLocked, locked_at=at(5)))
    assert (given.task["status"], given.task["locked_at"], given.instance["status"]) == (2, at(5), 1)
    given.and_then(an_event(e.TaskDispatched, epoch=3))
    assert (given.task["status"], given.instance["status"]) == (5, 5)
    assert (given.instance["agent_id"], given.instance["epoch"]) == ("agent-01", 3)
    given.and_then(an_event(e.InstanceStarted, epoch=3, started_at=at(6)))
    assert (given.task["status"], given.instance["status"], given.instance["started_at"]) == (10, 10, at(6))
    given.and_then(an_event(e.InstanceSucceeded, completed_at=at(9), metrics={"cpu_time": 1}))
    assert (given.task["status"], given.instance["status"], given.instance["completed_at"]) == (10, 100, at(9))
    assert (given.instance["exit_code"], given.instance["metrics"]) == (0, {"cpu_time": 1})
    given.and_then(an_event(e.TaskSucceeded, completed_at=at(9)))
    assert (given.task["status"], given.task["completed_at"], given.task["version"]) == (100, at(9), 6)


def test_a_run_that_never_started_is_pending_again_without_an_agent() -> None:
    given = Given(created(), an_event(e.TaskLocked), an_event(e.TaskDispatched), an_event(e.TaskRequeued))
    assert (given.task["status"], given.task["locked_at"]) == (1, None)
    assert (given.instance["status"], given.instance["agent_id"], given.instance["epoch"]) == (1, None, 1)


def test_a_failed_run_waits_for_its_retry_as_a_new_instance() -> None:
    failed = an_event(e.InstanceFailed, status=20, reason="timeout", error_message="too long", exit_code=137, signal=9)
    retry = an_event(e.TaskRetryScheduled, instance_id=an_id(5), attempt=2, retry_count=1, retry_at=at(99))
    given = Given(*running(), failed, retry)
    assert (given.instance["status"], given.instance["reason"], given.instance["error_message"]) == (
        20,
        "timeout",
        "too long",
    )
    assert (given.instance["exit_code"], given.instance["signal"]) == (137, 9)
    task = given.task
    assert (task["status"], task["next_retry_at"], task["retry_count"]) == (15, at(99), 1)
    assert (task["instance_id"], task["attempt"], task["completed_at"]) == (an_id(5), 2, None)
    second = given.row("task_instances", an_id(5))
    assert (second["status"], second["attempt"], second["task_id"], second["started_at"]) == (1, 2, TASK, None)
    given.and_then(an_event(e.TaskLocked))
    assert (given.task["status"], given.task["next_retry_at"]) == (2, None)


def test_a_reopened_task_is_pending_with_a_new_instance_and_no_end() -> None:
    given = Given(*running(), an_event(e.InstanceFailed), an_event(e.TaskFailed, completed_at=at(7)))
    assert (given.task["status"], given.task["completed_at"]) == (90, at(7))
    given.and_then(an_event(e.TaskReopened, instance_id=an_id(5), attempt=2, scheduled_at=at(50)))
    task = given.task
    assert (task["status"], task["completed_at"], task["scheduled_at"]) == (1, None, at(50))
    assert (task["instance_id"], task["attempt"], task["updated_by"]) == (an_id(5), 2, 1)
    assert given.row("task_instances", an_id(5))["status"] == 1


def test_a_waiting_retry_made_due_keeps_its_instance() -> None:
    retry = an_event(e.TaskRetryScheduled, instance_id=an_id(5), attempt=2, retry_count=1)
    given = Given(*running(), an_event(e.InstanceFailed), retry)
    before = given.row("task_instances", an_id(5))["created_at"]
    given.and_then(an_event(e.TaskReopened, instance_id=an_id(5), attempt=2, retry_count=1))
    assert (given.task["status"], given.task["next_retry_at"], given.task["retry_count"]) == (1, None, 1)
    assert given.row("task_instances", an_id(5))["created_at"] == before
    assert len(given.tables.folds["task_instances"]) == 2


def test_a_cancel_under_way_is_shown_until_the_task_has_ended() -> None:
    given = Given(*running(), an_event(e.TaskCancelRequested, requested_at=at(8)))
    assert (given.task["status"], given.task["cancel_requested_at"]) == (10, at(8))
    given.and_then(an_event(e.InstanceCancelled, exit_code=143), an_event(e.TaskCancelled, cancelled_at=at(9)))
    assert (given.task["status"], given.task["cancel_requested_at"], given.task["completed_at"]) == (99, None, at(9))
    assert (given.instance["status"], given.instance["reason"], given.instance["exit_code"]) == (99, "cancelled", 143)


def test_a_deleted_task_goes_with_its_instances_and_nothing_brings_it_back() -> None:
    retry = an_event(e.TaskRetryScheduled, instance_id=an_id(5), attempt=2)
    given = Given(*running(), an_event(e.InstanceFailed), retry, an_event(e.TaskDeleted))
    given.and_then(an_event(e.InstanceReportRefused), an_event(e.TaskFailed))
    assert not given.has("tasks", TASK)
    assert not given.has("task_instances", INSTANCE)
    assert not given.has("task_instances", an_id(5))


def test_an_agent_comes_online_goes_offline_and_keeps_what_was_set_over_the_api() -> None:
    set_here = an_event(e.AgentCreated, namespace_id="prod", labels={"gpu": "true"}, max_concurrent_tasks=None)
    given = Given(set_here)
    assert given.agent["capabilities"] == {"max_concurrent_tasks": 0, "labels": {"gpu": "true"}, "metadata": {}}
    assert (given.agent["status"], given.agent["last_heartbeat_at"], given.agent["reported_labels"]) == (90, at(1), {})
    registered = an_event(
        e.AgentRegistered,
        reported_labels={"os": "linux"},
        effective_labels={"gpu": "true"},
        effective_metadata={"rack": "7"},
        max_concurrent_tasks=8,
    )
    given.and_then(registered, an_event(e.AgentConnected, effective_labels={"gpu": "true"}, connected_at=at(30)))
    assert given.agent["capabilities"] == {
        "max_concurrent_tasks": 5,
        "labels": {"gpu": "true"},
        "metadata": {"rack": "7"},
    }
    assert (given.agent["status"], given.agent["reported_labels"]) == (100, {"os": "linux"})
    assert (given.agent["namespace_id"], given.agent["address"]) == ("prod", "127.0.0.1:5000")
    assert given.agent["last_heartbeat_at"] == at(30)
    given.and_then(an_event(e.AgentDisconnected))
    assert given.agent["status"] == 90
    given.and_then(an_event(e.AgentConnected), an_event(e.AgentLost))
    assert given.agent["status"] == 90


def test_an_agent_registers_itself_and_again_after_its_removal() -> None:
    given = Given(an_event(e.AgentRegistered), *running(), an_event(e.AgentDrained, reason="disk"))
    assert (given.agent["name"], given.agent["namespace_id"], given.agent["description"]) == ("hello", "default", None)
    assert (given.agent["draining"], given.agent["drain"]["reason"]) == (True, "disk")
    given.and_then(an_event(e.AgentRemoved), an_event(e.AgentConnected), an_event(e.InstanceSucceeded))
    assert not given.has("agents", "agent-01")
    given.and_then(an_event(e.AgentRegistered))
    assert (given.agent["draining"], given.agent["drain"], given.agent["running_instances"]) == (False, None, 0)
    assert given.agent["statistics"]["total_tasks"] == 0
    assert given.agent["created_at"] == given.log.events[-1].recorded_at


def test_an_agents_statistics_count_runs_that_started() -> None:
    given = Given(an_event(e.AgentRegistered), *running())
    assert given.agent["running_instances"] == 1
    assert given.agent["statistics"] == {
        "success_tasks": 0,
        "failure_tasks": 0,
        "total_tasks": 1,
        "total_response_ms": 0,
        "avg_response_ms": 0,
        "last_failure_ms": 0,
        "consecutive_failures": 0,
    }
    given.and_then(an_event(e.InstanceSucceeded, duration_seconds=1.5))
    for _ in range(2):
        given.and_then(an_event(e.TaskDispatched), an_event(e.InstanceStarted))
        given.and_then(an_event(e.InstanceFailed, duration_seconds=0.25, completed_at=at(0.5)))
    statistics = given.agent["statistics"]
    assert (statistics["success_tasks"], statistics["failure_tasks"], statistics["total_tasks"]) == (1, 2, 3)
    assert (statistics["total_response_ms"], statistics["avg_response_ms"]) == (2000, pytest.approx(666.67, abs=0.01))
    assert statistics["last_failure_ms"] == int(START.timestamp() * 1000) + 500
    assert statistics["consecutive_failures"] == 2
    assert given.agent["running_instances"] == 0
    never = an_event(e.InstanceFailed, started_at=None, reason="start_error")
    given.and_then(an_event(e.TaskDispatched), never, an_event(e.TaskDispatched), an_event(e.TaskRequeued))
    assert (given.agent["statistics"], given.agent["running_instances"]) == (statistics, 0)
    given.and_then(an_event(e.InstanceSucceeded))
    assert given.agent["statistics"]["consecutive_failures"] == 0


def test_what_tasks_do_to_an_agent_is_no_change_of_the_agent() -> None:
    given = Given(an_event(e.AgentRegistered), *running())
    assert (given.agent["version"], given.agent["updated_at"]) == (1, recorded(1))


def test_a_server_starts_is_edited_stops_and_starts_again() -> None:
    given = Given(an_event(e.ServerStarted, bind_namespaces=("a",), started_at=at(3)))
    server = given.row("servers", "server-01")
    assert (server["status"], server["bind_namespaces"], server["last_heartbeat_at"]) == (100, ["a"], at(3))
    given.and_then(an_event(e.ServerUpdated, description="d", bind_namespaces=()), an_event(e.ServerStopped))
    server = given.row("servers", "server-01")
    assert (server["status"], server["description"], server["bind_namespaces"]) == (99, "d", [])
    given.and_then(an_event(e.ServerStarted))
    assert given.row("servers", "server-01")["status"] == 100
    given.and_then(an_event(e.ServerLost), an_event(e.ServerRemoved))
    assert not given.has("servers", "server-01")


# --- open work -------------------------------------------------------------------------------------------------------


def open_streams(*events: Event) -> set[str]:
    return set(Given(*events).tables.folds["open_work"].rows())


def test_a_task_is_open_until_it_has_ended_and_again_when_reopened() -> None:
    stream = f"task-{TASK}"
    assert open_streams(created()) == {stream}
    for end in (e.TaskSucceeded, e.TaskFailed, e.TaskCancelled):
        assert open_streams(created(), an_event(end)) == set()
        assert open_streams(created(), an_event(end), an_event(e.TaskReopened)) == {stream}
    assert open_streams(created(), an_event(e.TaskDeleted)) == set()


def test_a_schedule_is_open_while_enabled() -> None:
    stream = f"schedule-{SCHEDULE}"
    assert open_streams(an_event(e.ScheduleCreated)) == {stream}
    assert open_streams(an_event(e.ScheduleCreated, status=99)) == set()
    assert open_streams(an_event(e.ScheduleCreated, status=99), an_event(e.ScheduleEnabled)) == {stream}
    for end in (e.ScheduleDisabled, e.ScheduleExpired, e.ScheduleSuspended, e.ScheduleDeleted):
        assert open_streams(an_event(e.ScheduleCreated), an_event(end)) == set()


def test_an_agent_is_open_until_its_last_session_was_declared_lost() -> None:
    registered, connected = an_event(e.AgentRegistered), an_event(e.AgentConnected)
    assert open_streams(registered) == set()
    assert open_streams(registered, connected, an_event(e.AgentDisconnected)) == {"agent-agent-01"}
    assert open_streams(registered, connected, an_event(e.AgentLost)) == set()
    assert open_streams(registered, connected, an_event(e.AgentRemoved)) == set()


def test_a_server_is_open_until_it_stopped() -> None:
    assert open_streams(an_event(e.ServerStarted)) == {"server-server-01"}
    for end in (e.ServerStopped, e.ServerLost, e.ServerRemoved):
        assert open_streams(an_event(e.ServerStarted), an_event(end)) == set()


def test_open_work_tells_its_kind() -> None:
    rows = Given(created(), an_event(e.AgentConnected)).tables.folds["open_work"].rows()
    assert {row["category"] for row in rows.values()} == {"task", "agent"}


# --- the fold itself -------------------------------------------------------------------------------------------------


def test_events_that_are_in_already_are_passed_over() -> None:
    given = Given(an_event(e.AgentRegistered), *running())
    before = given.agent
    given.tables.apply(given.log.events)
    assert given.agent == before
    assert given.tables.position == len(given.log.events)
