"""The judges of retries, of the overlap policies and of limits, on histories made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.simulation.by_hand import (
    CONFIG,
    LAWFUL,
    RUN_1,
    SCHEDULE,
    TASK,
    Events,
    a_log,
    a_machine,
    a_process,
    at,
    found,
    write,
)
from tests.simulation.checkers import Evidence
from tests.simulation.checkers.limits import check_config_limits
from tests.simulation.checkers.overlap_rules import check_overlap_rules
from tests.simulation.checkers.pending import check_pending
from tests.simulation.checkers.retries import check_retries
from tests.simulation.checkers.rows_of_failures import check_rows_of_failures
from tests.simulation.checkers.schedules import check_fires
from tests.simulation.observed import Observed
from tests.support.ports import EPOCH

# --- retries -----------------------------------------------------------------------------------------------------------


def retried(retry_at: float, policy: Mapping[str, Any] | None = None, ended: float = 100.0, **end: Any) -> set[str]:
    """Of a task whose first attempt ended at that second, which is recorded at second 101."""
    config = {**CONFIG, "retry_interval": 10, "retry": policy}
    failed = {**RUN_1, "reason": "exit_code", "exit_code": 3, "completed_at": at(ended), **end}
    log = a_log("task-t", [("TaskCreated", {**TASK, "config": config}), *LAWFUL[1:4]], 1)
    write(log, "task-t", [("InstanceFailed", failed)], 101)
    again = {"instance_id": "i2", "retry_at": at(retry_at)}
    write(log, "task-t", [("TaskRetryScheduled", again), *LAWFUL[6:]], 101)
    return found(check_retries, Evidence(log, started_at=EPOCH))


@pytest.mark.parametrize(
    ("is_lawful", "retry_at", "more"),
    [
        (True, 110, {}),
        (False, 120, {}),
        (False, 100, {}),
        (True, 106, {"policy": {"jitter": 0.5}}),
        (False, 99, {"policy": {"jitter": 0.5}}),
        (True, 107, {"policy": {"max_seconds": 7}}),
        (True, 111, {"ended": 9000.0}),
        (False, 9010, {"ended": 9000.0}),
        (False, 110, {"policy": {"on": ["timeout"]}}),
        (True, 110, {"policy": {"on": ["timeout"]}, "reason": "timeout"}),
        (False, 110, {"policy": {"exit_codes": {"not": [3]}}}),
        (False, 110, {"policy": {"exit_codes": [4]}}),
        (True, 110, {"policy": {"exit_codes": [3]}}),
    ],
)
def test_a_retry_is_held_against_its_policy(is_lawful: bool, retry_at: float, more: Mapping[str, Any]) -> None:
    """An agent's clock that is ahead delays nothing: then it counts from the decision."""
    assert retried(retry_at, **more) == (set() if is_lawful else {"T4"})


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ({}, [10, 10, 10]),
        ({"strategy": "linear"}, [10, 20, 30]),
        ({"strategy": "exponential"}, [10, 20, 40]),
        ({"strategy": "exponential", "factor": 3, "max_seconds": 50}, [10, 30, 50]),
    ],
)
def test_delays_grow_as_the_strategy_says(policy: Mapping[str, Any], delays: list[float]) -> None:
    def lived(delays: list[float]) -> set[str]:
        config = {"max_retries": 3, "labels": None, "retry_interval": 10, "retry": policy}
        log = a_log("task-t", [("TaskCreated", {**TASK, "config": config})])
        for number, delay in enumerate(delays):
            failed = {"reason": "exit_code", "exit_code": 3, "completed_at": at(1000 * number)}
            write(log, "task-t", [("InstanceFailed", failed)], 1000 * number)
            write(log, "task-t", [("TaskRetryScheduled", {"retry_at": at(1000 * number + delay)})], 1000 * number)
        return found(check_retries, Evidence(log, started_at=EPOCH))

    assert lived(delays) == set()
    assert lived([*delays[:-1], delays[-1] + 1]) == {"T4"}
    assert lived([*delays, delays[-1]]) == {"T4"}, "there is no fourth"


def test_a_task_that_gives_up_early_or_starts_too_early_is_found() -> None:
    def judged(events: Events) -> set[str]:
        return found(check_retries, Evidence(a_log("task-t", events), started_at=EPOCH))

    config = {**CONFIG, "retry_interval": 10, "retry": {"on": ["timeout"]}}
    failed = ("InstanceFailed", {**RUN_1, "reason": "exit_code", "exit_code": 3, "completed_at": at(0)})
    made = ("TaskCreated", {**TASK, "config": {**config, "retry": None}})
    gave_up = ("TaskFailed", {"reason": "exit_code"})
    assert judged([made, failed, gave_up]) == {"T4"}
    assert judged([("TaskCreated", {**TASK, "config": config}), failed, gave_up]) == set()
    waits = ("TaskRetryScheduled", {"instance_id": "i2", "retry_at": at(10)})
    early, late = (("TaskDispatched", {"instance_id": "i2", "dispatched_at": at(second)}) for second in (9, 10))
    assert judged([made, failed, waits, early]) == {"T4"}
    assert judged([made, failed, waits, late]) == set()


# --- overlap -----------------------------------------------------------------------------------------------------------

ENDED = {"TaskSucceeded", "TaskCancelled"}


def overlapped(policy: str, *story: tuple[str, str, Any]) -> set[str]:
    """Of a schedule with this policy; the story is told second by second: (stream, event, members)."""
    log = a_log("schedule-s", [("ScheduleCreated", {**SCHEDULE, "overlap_policy": policy})], 0)
    for second, (stream, kind, members) in enumerate(story, 1):
        seconds = members.pop("at", 100 * second)
        write(log, stream, [(kind, members)], seconds)
    observed = Observed(calm=[(0, 10_000)])
    return found(check_overlap_rules, Evidence(log, observed, lease=20, started_at=EPOCH, ended=10_000))


def fire(task_id: str, *waits_for: str) -> tuple[str, str, Any]:
    return ("schedule-s", "ScheduleFired", {"task_id": task_id, "waits_for": list(waits_for)})


def skip(**more: Any) -> tuple[str, str, Any]:
    return ("schedule-s", "ScheduleSkipped", {"reason": "overlap", **more})


def say(task_id: str, kind: str) -> tuple[str, str, Any]:
    return (f"task-{task_id}", kind, {})


A, B = say("a", "TaskCreated"), say("b", "TaskCreated")
A_ENDS, B_ENDS = say("a", "TaskSucceeded"), say("b", "TaskSucceeded")
A_IS_CANCELLED, A_AGAIN = say("a", "TaskCancelled"), say("a", "TaskReopened")


@pytest.mark.parametrize(
    ("is_lawful", "policy", "story"),
    [
        (True, "skip", [A, fire("a"), skip(), A_ENDS, B, fire("b")]),
        (False, "skip", [A, fire("a"), B, fire("b"), A_ENDS]),
        (False, "skip", [A, fire("a"), A_ENDS, skip()]),
        (True, "skip", [A, fire("a"), A_ENDS, A_AGAIN, skip(), B, fire("b")]),
        (False, "skip", [skip()]),
        (False, "allow", [A, fire("a"), skip()]),
        (True, "queue", [A, fire("a"), B, fire("b", "a"), A_ENDS]),
        (True, "queue", [A, fire("a"), A_ENDS, B, fire("b")]),
        (False, "queue", [A, fire("a"), B, fire("b"), A_ENDS]),
        (False, "queue", [A, fire("a"), skip()]),
        (True, "cancel_previous", [A, fire("a"), B, fire("b", "a"), A_IS_CANCELLED, B_ENDS]),
        (False, "cancel_previous", [A, fire("a"), B, fire("b", "a"), A_ENDS, B_ENDS]),
        (False, "cancel_previous", [A, fire("a"), B, fire("b"), A_IS_CANCELLED]),
        (False, "cancel_previous", [A, fire("a"), skip(), B, fire("b", "a"), A_IS_CANCELLED]),
        (True, "cancel_previous", [A, fire("a"), B, skip(at=350), fire("b", "a"), A_IS_CANCELLED]),
    ],
)
def test_overlap_policies_are_held_in_the_log(is_lawful: bool, policy: str, story: list[tuple[str, str, Any]]) -> None:
    told = [(stream, kind, dict(members)) for stream, kind, members in story]
    if any("at" in members for _, _, members in told):
        told[4][2]["at"] = 350
    assert overlapped(policy, *told) == (set() if is_lawful else {"F4"})


# --- limits ------------------------------------------------------------------------------------------------------------


def limited(limits: Mapping[str, Any], *runs: tuple[float, float], namespaces_max: Any = None) -> set[str]:
    """Of as many tasks of one job as there are runs, each started and ended then."""
    config = {**CONFIG, "limits": limits}
    log = a_log("job-j", [])
    processes = []
    for number, (since, until) in enumerate(runs):
        key = {"instance_id": f"i{number}", "epoch": 1, "agent_id": "m"}
        made = {**TASK, "task_id": f"t{number}", "job_id": "j", "namespace_id": "narrow", "config": config}
        write(log, f"task-t{number}", [("TaskCreated", made), ("TaskLocked", {})], since)
        write(log, f"task-t{number}", [("TaskDispatched", {**key, "dispatched_at": at(since)})], since)
        processes.append(a_process(key, since, until, task_id=f"t{number}"))
    evidence = Evidence(
        log, machines=[a_machine(*processes, slots=9)], started_at=EPOCH, namespaces_max=namespaces_max or {}
    )
    return found(check_config_limits, evidence)


def test_limits_of_jobs_keys_and_namespaces_hold_for_what_ran() -> None:
    together, one_by_one = [(0, 10), (5, 15)], [(0, 10), (10, 15)]
    for limits in ({"concurrency": 1}, {"keys": ["database"]}, {"keys": [{"name": "database", "concurrency": 1}]}):
        assert limited(limits, *together) == {"T7"}
        assert limited(limits, *one_by_one) == set()
    assert limited({"concurrency": 2}, *together) == set()
    assert limited({}, *together, namespaces_max={"narrow": 1}) == {"T7"}
    assert limited({}, *together, namespaces_max={"narrow": 2, "wide": 1}) == set()


def test_a_rate_holds_in_every_window() -> None:
    rate = {"rate": {"count": 2, "per_seconds": 10}}
    assert limited(rate, (0, 1), (9, 9.5), (10, 10.5), (19, 20)) == set()
    assert limited(rate, (0, 1), (5, 6), (9, 10)) == {"T7"}


def test_a_task_that_waits_for_its_limit_does_not_wait_for_nothing() -> None:
    """T8: the slot is free, but two of the job may not run at once."""

    def waits(limits: Mapping[str, Any], **more: Any) -> set[str]:
        config = {**CONFIG, "limits": limits}
        first = {**RUN_1, "dispatched_at": at(90)}
        log = a_log("task-u", [("TaskCreated", {**TASK, "job_id": "j", "config": config}), LAWFUL[1]], 90)
        write(log, "task-u", [("TaskDispatched", first)], 90)
        write(log, "task-t", [("TaskCreated", {**TASK, "job_id": "j", "config": config})], 100)
        observed = Observed(calm=[(0, 900)])
        machines = [a_machine(slots=2)]
        return found(check_pending, Evidence(log, observed, machines, lease=20, ended=300, started_at=EPOCH, **more))

    assert waits({}) == {"T8"}
    assert waits({"concurrency": 1}) == waits({"keys": ["database"]}) == set()
    assert waits({"concurrency": 2}) == {"T8"}
    assert waits({"rate": {"count": 1, "per_seconds": 1000}}) == set()


# --- failures in a row -------------------------------------------------------------------------------------------------

PAUSED = ("ScheduleDisabled", {"status": 99, "reason": "failures", "failures": 2, "task_id": "b"})
A_FAILS, B_FAILS = say("a", "TaskFailed"), say("b", "TaskFailed")


@pytest.mark.parametrize(
    ("is_lawful", "story"),
    [
        (True, [fire("a"), A_FAILS, fire("b"), B_FAILS, ("schedule-s", *PAUSED)]),
        (False, [fire("a"), A_FAILS, fire("b"), B_FAILS, say("c", "TaskCreated")]),
        (False, [fire("a"), A_ENDS, fire("b"), B_FAILS, ("schedule-s", *PAUSED)]),
        (True, [fire("a"), A_FAILS, fire("c"), say("c", "TaskCancelled"), fire("b"), B_FAILS, ("schedule-s", *PAUSED)]),
        (
            False,
            [fire("a"), A_FAILS, ("schedule-s", "ScheduleEnabled", {}), fire("b"), B_FAILS, ("schedule-s", *PAUSED)],
        ),
        (True, [fire("a"), A_FAILS, A_AGAIN, A_ENDS, fire("b"), B_FAILS, ("schedule-s", *PAUSED)]),
    ],
)
def test_failures_in_a_row_pause_a_schedule(is_lawful: bool, story: list[tuple[str, str, Any]]) -> None:
    log = a_log("schedule-s", [("ScheduleCreated", {**SCHEDULE, "pause_on_failures": 2})], 0)
    for number, (stream, kind, members) in enumerate(story, 1):
        write(log, stream, [(kind, dict(members))], 10 * number)
    evidence = Evidence(log, Observed(calm=[(0, 10_000)]), lease=20, started_at=EPOCH, ended=10_000)
    assert found(check_rows_of_failures, evidence) == (set() if is_lawful else {"F1"})


# --- calendars ---------------------------------------------------------------------------------------------------------


def under_a_calendar(*decisions: tuple[str, Any], edited: bool = False) -> set[str]:
    """Of a schedule that fires at 10, 20, 30 ..., and a calendar that excludes from 15 to 25; edited at 12, nothing."""
    made = {"calendar_id": "c", "periods": [{"from": at(15), "to": at(25)}], "created_at": at(0)}
    log = a_log("calendar-c", [("CalendarCreated", made)], 0)
    if edited:
        write(log, "calendar-c", [("CalendarUpdated", {**made, "periods": [], "updated_at": at(12)})], 12)
    schedule = {**SCHEDULE, "exclude_calendars": ["c"]}
    write(log, "schedule-s", [("ScheduleCreated", schedule), *decisions], 31)
    for kind, members in decisions:
        if kind == "ScheduleFired":
            made = {
                **TASK,
                "schedule_id": "s",
                "nominal_at": members["nominal_at"],
                "scheduled_at": members["nominal_at"],
            }
            write(log, f"task-{members['task_id']}", [("TaskCreated", made)], 31)
    return found(check_fires, Evidence(log))


def fires_at(second: int, count: int) -> tuple[str, Any]:
    members = {"task_id": f"t{second}", "job_id": "j", "fire_count": count}
    return "ScheduleFired", {**members, "nominal_at": at(second), "fired_at": at(second)}


def skips_at(second: int, reason: str) -> tuple[str, Any]:
    nominal = at(second)
    members = {"first_nominal_at": nominal, "last_nominal_at": nominal, "count": 1}
    return "ScheduleSkipped", {**members, "reason": reason, "job_id": "j"}


def test_what_a_calendar_excludes_is_skipped_and_nothing_else() -> None:
    def check(*decisions: tuple[str, Any], edited: bool = False) -> set[str]:
        return under_a_calendar(*decisions, edited=edited)

    assert check(fires_at(10, 1), skips_at(20, "calendar"), fires_at(30, 2)) == set()
    assert "F1" in check(fires_at(10, 1), fires_at(20, 2), fires_at(30, 3))
    assert "F1" in check(skips_at(10, "calendar"), skips_at(20, "calendar"), fires_at(30, 1))
    assert "F5" in check(fires_at(10, 1), skips_at(20, "misfire"), fires_at(30, 2))
    assert check(fires_at(10, 1), fires_at(20, 2), fires_at(30, 3), edited=True) == set()
    assert "F1" in check(fires_at(10, 1), skips_at(20, "calendar"), fires_at(30, 2), edited=True)
