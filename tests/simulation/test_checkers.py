"""The judges are judged: each violation, made by hand, is found, and a lawful history is not accused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import attrs
import pytest

from eventstore.memory import MemoryLog
from tests.simulation.by_hand import (
    CONFIG,
    LAWFUL,
    RUN_1,
    RUN_2,
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
from tests.simulation.checkers import CHECKERS, Evidence
from tests.simulation.checkers.dependencies import check_dependencies
from tests.simulation.checkers.evidence import Held
from tests.simulation.checkers.expiry import check_expiry
from tests.simulation.checkers.folds import check_prefixes
from tests.simulation.checkers.logs import check_acknowledged, check_idempotency, check_log
from tests.simulation.checkers.outside import (
    DECISION_SECONDS_MAX,
    check_clocks,
    check_feeds,
    check_liveness,
    check_output,
)
from tests.simulation.checkers.overlap import check_overlap
from tests.simulation.checkers.pending import RECOVERY_SECONDS, check_pending
from tests.simulation.checkers.placed import check_placed
from tests.simulation.checkers.processes import (
    CANCEL_SECONDS_MAX,
    check_cancels,
    check_limits,
    check_processes,
    check_slots,
)
from tests.simulation.checkers.schedules import check_fires
from tests.simulation.checkers.tasks import check_tasks
from tests.simulation.checkers.usage import check_usage
from tests.simulation.checkers.verdict import VIOLATIONS_MAX, Verdict
from tests.simulation.observed import Acknowledged, Act, ClockStep, KeyUse, LiveState, Observed, Reading
from tests.support.ports import EPOCH
from tests.support.processes import Running

INVARIANTS = {
    *("F1", "F2", "F3", "F4", "F5", "F6"),
    *("T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8"),
    *("L1", "L2", "L4", "L5", "L6", "O1", "E1", "C1", "V1"),
}


def test_every_invariant_has_a_judge() -> None:
    """L3 is asked of the running servers."""
    assert {promise for promises in CHECKERS.values() for promise in promises} == INVARIANTS


# --- tasks -------------------------------------------------------------------------------------------------------------


def judged(events: Events) -> set[str]:
    return found(check_tasks, Evidence(a_log("task-t", events)))


def test_a_lawful_task_is_not_accused() -> None:
    assert judged(LAWFUL) == set()


def without(kind: str, nth: int = 0) -> list[tuple[str, Mapping[str, Any]]]:
    place = [n for n, (name, _) in enumerate(LAWFUL) if name == kind][nth]
    return LAWFUL[:place] + LAWFUL[place + 1 :]


@pytest.mark.parametrize(
    ("promise", "events"),
    [
        ("T1", without("TaskLocked")),
        ("T1", [*LAWFUL, ("TaskFailed", {})]),
        ("T1", [*LAWFUL, ("TaskLocked", {})]),
        ("T1", [*LAWFUL, ("TaskDeleted", {}), ("TaskUpdated", TASK)]),
        ("T1", [*LAWFUL[:9], ("InstanceFailed", RUN_2), ("TaskSucceeded", {})]),
        ("T1", [*LAWFUL, ("TaskCancelRequested", {})]),
        ("T2", without("InstanceFailed")),
        ("T2", [(n, {**d, "epoch": 1} if d is RUN_2 else d) for n, d in LAWFUL]),
        ("T2", [(n, {**d, "instance_id": "i1"} if d is RUN_2 else d) for n, d in LAWFUL]),
        ("T2", [*LAWFUL[:4], ("TaskCancelled", {})]),
        ("T3", [*LAWFUL[:9], ("InstanceSucceeded", RUN_1), ("TaskSucceeded", {})]),
        ("T4", [("TaskCreated", {"config": {"max_retries": 0}}), *LAWFUL[1:]]),
    ],
)
def test_an_unlawful_task_is_found(promise: str, events: Events) -> None:
    assert promise in judged(events)


def test_an_operators_retry_gives_new_starts_but_one_of_a_waiting_task_does_not() -> None:
    reopened = ("TaskReopened", {"instance_id": "i2", "scheduled_at": at(0)})
    assert judged([*LAWFUL[:5], ("TaskFailed", {}), reopened, *LAWFUL[6:]]) == set()
    no_retries = ("TaskCreated", {**TASK, "config": {"max_retries": 0}})
    assert judged([no_retries, *LAWFUL[1:5], ("TaskFailed", {}), reopened, *LAWFUL[6:]]) == set()
    assert judged([no_retries, *LAWFUL[1:6], reopened, *LAWFUL[6:]]) == {"T4"}


OUTSIDE = [("InstanceTakenOver", {"instance_id": "i1"}), ("InstanceDispatched", RUN_1), *LAWFUL[3:]]


def test_an_instance_driven_from_outside_is_lawful_until_an_agent_gets_it_too() -> None:
    assert judged([LAWFUL[0], *OUTSIDE]) == set()
    assert judged([LAWFUL[0], *OUTSIDE[1:]]) == {"T2"}
    assert judged([LAWFUL[0], OUTSIDE[0], *LAWFUL[1:]]) == {"T2"}


# --- dependencies ------------------------------------------------------------------------------------------------------

WAITING = ("TaskCreated", {**TASK, "dependencies": {"task_ids": ["a", "b"], "on_failure": "cancel"}})
ANYWAY = ("TaskCreated", {**TASK, "dependencies": {"task_ids": ["a", "b"], "on_failure": "run"}})
A_DONE = ("TaskDependencySettled", {"dependency_id": "a", "status": 100})
B_FAILED = ("TaskDependencySettled", {"dependency_id": "b", "status": 90})
B_DONE = ("TaskDependencySettled", {"dependency_id": "b", "status": 100})
ONE_FAILED = {"task_ids": ["a", "b"], "on": {"b": "failed"}, "match": "all"}
ON = ("TaskCreated", {**TASK, "dependencies": ONE_FAILED})
ON_A = ("TaskCreated", {**TASK, "dependencies": {**ONE_FAILED, "on": {"a": "failed", "b": "finished"}}})
ANY = ("TaskCreated", {**TASK, "dependencies": {**ONE_FAILED, "match": "any"}})
A_ENOUGH = ("TaskDependencySettled", {"dependency_id": "a", "status": 100, "open_count": 0})
DOOMED = [("InstanceCancelled", {"instance_id": "i1"}), ("TaskCancelled", {})]


@pytest.mark.parametrize(
    ("is_lawful", "events"),
    [
        (True, [WAITING, A_DONE, B_FAILED, *DOOMED]),
        (True, [ANYWAY, A_DONE, B_FAILED, *LAWFUL[1:]]),
        (True, [ANYWAY, *DOOMED, ("TaskReopened", {"waits_for": []}), *LAWFUL[1:]]),
        (True, [WAITING, A_DONE, *OUTSIDE]),
        (True, [ON, A_DONE, B_FAILED, *LAWFUL[1:]]),
        (True, [ON_A, A_DONE, *DOOMED]),
        (True, [ANY, A_ENOUGH, *LAWFUL[1:]]),
        (False, [ON_A, A_DONE, B_FAILED, *LAWFUL[1:]]),
        (False, [ON, A_DONE, *LAWFUL[1:]]),
        (False, [ANY, *LAWFUL[1:]]),
        (False, [WAITING, *LAWFUL[1:]]),
        (False, [ANYWAY, A_DONE, *LAWFUL[1:]]),
        (False, [ANYWAY, B_DONE]),
        (False, [ANYWAY, A_DONE, A_DONE]),
        (False, [WAITING, A_DONE, B_FAILED]),
        (False, [WAITING, A_DONE, B_FAILED, *LAWFUL[1:]]),
        (False, [WAITING, A_DONE, ("TaskReopened", {"waits_for": ["b"]}), *LAWFUL[1:]]),
    ],
)
def test_a_task_is_not_dispatched_before_those_it_waits_for_have_ended(is_lawful: bool, events: Events) -> None:
    log = a_log("task-a", LAWFUL)
    write(log, "task-b", [*LAWFUL[:5], ("TaskFailed", {})], 0)
    write(log, "task-t", events, 0)
    assert found(check_dependencies, Evidence(log)) == (set() if is_lawful else {"T1"})


def test_an_end_that_comes_later_settles_nothing() -> None:
    log = a_log("task-a", LAWFUL[:5])
    write(log, "task-t", [WAITING, A_DONE], 0)
    write(log, "task-a", LAWFUL[5:], 0)
    assert found(check_dependencies, Evidence(log)) == {"T1"}


# --- start deadlines ---------------------------------------------------------------------------------------------------


def _hasty(kind: str, second: int, **data: object) -> tuple[str, dict[str, object]]:
    at = f"2026-03-01T00:00:{second:02}Z"
    return kind, {"scheduled_at": at, "dispatched_at": at, "cancelled_at": at, "instance_id": "i1", **data}


HASTY = _hasty("TaskCreated", 0, **{**TASK, "scheduled_at": "2026-03-01T00:00:00Z"})
HASTY[1]["config"] = {"max_retries": 1, "start_deadline_seconds": 10}
EXPIRED = _hasty("TaskCancelled", 10, cause="expired")
GIVEN, GIVEN_LATE = _hasty("TaskDispatched", 9), _hasty("TaskDispatched", 10)
STARTED, BACK = _hasty("InstanceStarted", 9), _hasty("TaskRequeued", 9)


@pytest.mark.parametrize(
    ("is_lawful", "events"),
    [
        (True, [HASTY, EXPIRED]),
        (True, [HASTY, GIVEN, BACK, EXPIRED]),
        (True, [HASTY, GIVEN, STARTED, ("TaskRetryScheduled", {}), GIVEN_LATE]),
        (True, [HASTY, EXPIRED, _hasty("TaskReopened", 40), _hasty("TaskDispatched", 49)]),
        (True, [HASTY, _hasty("TaskCancelled", 1, cause="user")]),
        (False, [HASTY, GIVEN_LATE]),
        (False, [HASTY, GIVEN, BACK, GIVEN_LATE]),
        (False, [HASTY, _hasty("TaskCancelled", 9, cause="expired")]),
        (False, [HASTY, GIVEN, EXPIRED]),
        (False, [HASTY, GIVEN, STARTED, ("TaskRetryScheduled", {}), EXPIRED]),
        (False, [HASTY, EXPIRED, _hasty("TaskReopened", 40), _hasty("TaskDispatched", 50)]),
        (False, [("TaskCreated", {**TASK, "scheduled_at": "2026-03-01T00:00:00Z"}), EXPIRED]),
    ],
)
def test_start_deadlines(is_lawful: bool, events: list[tuple[str, dict[str, object]]]) -> None:
    assert found(check_expiry, Evidence(a_log("task-t", events))) == (set() if is_lawful else {"T1"})


def test_an_event_from_outside_is_recorded_once_and_not_forgotten() -> None:
    seen = Observed(keys=[KeyUse("event x 1", 0.0, "recorded", "x 1")])
    once = ("ExternalEventReceived", {"source": "x", "id": "1"})
    assert found(check_idempotency, Evidence(a_log("external-x", [once]), seen)) == set()
    assert found(check_idempotency, Evidence(a_log("external-x", [once, once]), seen)) == {"L5"}
    assert found(check_idempotency, Evidence(a_log("external-y", []), seen)) == {"L5"}


# --- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promise", "history"),
    [
        (None, [a_process(RUN_1, 1, 2), a_process(RUN_2, 2, 3)]),
        ("T2", [a_process(RUN_1, 1, 5), a_process(RUN_2, 4, 6)]),
        ("T2", [a_process(RUN_1, 1, None), a_process(RUN_2, 4, 6)]),
        ("T2", [a_process(RUN_1, 1, 2), a_process(RUN_1, 3, 4)]),
        ("T2", [a_process(RUN_2, 1, 2), a_process(RUN_1, 3, 4)]),
        ("T3", [a_process({"instance_id": "i1", "epoch": 9}, 1, 2)]),
        ("T4", [a_process(RUN_1, 1, 2), a_process(RUN_2, 2, 3), a_process({"instance_id": "i3", "epoch": 3}, 4, 5)]),
    ],
)
def test_what_ran_is_held_against_what_was_dispatched(promise: str | None, history: list[Running]) -> None:
    promises = found(check_processes, Evidence(a_log("task-t", LAWFUL), machines=[a_machine(*history)]))
    assert promises >= ({promise} if promise else set())
    assert bool(promises) == bool(promise)


def going_on(**config: Any) -> Events:
    """As `LAWFUL`, of a task that goes on without a server; the first run was lost at 4."""
    of = {"config": {**TASK["config"], "on_disconnect": "continue", **config}}
    lost = {"reason": "lost"}
    return [(n, {**d, **(of if n == "TaskCreated" else lost if n == "InstanceFailed" else {})}) for n, d in LAWFUL]


def test_two_programs_at_once_are_lawful_only_where_that_is_harmless_and_the_lease_was_over() -> None:
    beside, before = (
        [a_process(RUN_1, 1, 50), a_process(RUN_2, 6, 7)],
        [a_process(RUN_1, 1, 50), a_process(RUN_2, 2, 7)],
    )

    def promises(events: Events, history: list[Running]) -> set[str]:
        return found(check_processes, Evidence(a_log("task-t", events, 4), machines=[a_machine(*history)]))

    assert promises(going_on(idempotent=True), beside) == set()
    assert promises(going_on(idempotent=True), before) == {"T2"}
    assert promises(going_on(), beside) == {"T2"}
    assert promises(LAWFUL, beside) == {"T2"}


def test_a_process_that_outlives_its_cancel_is_found() -> None:
    def cancelled(started: float, ended: float | None) -> set[str]:
        observed = Observed(cancelled={"t": 10.0})
        machines = [a_machine(a_process(RUN_1, started, ended))]
        return found(check_cancels, Evidence(MemoryLog(), observed, machines, lease=20, ended=500))

    most = 10 + 20 + CANCEL_SECONDS_MAX
    assert cancelled(1, most) == set()
    assert cancelled(1, most + 1) == {"T5"}
    assert cancelled(1, None) == {"T5"}
    assert cancelled(most + 1, most + 2) == {"T5"}


def test_more_processes_than_slots_or_than_the_limit_are_found() -> None:
    one, two = a_process(RUN_1, 1, 5, "t1"), a_process(RUN_2, 4, 6, "t2")
    after = a_process(RUN_2, 5, 6, "t2")

    def evidence(*history: Running, slots: int = 2, tasks_max: int = 2) -> Evidence:
        return Evidence(MemoryLog(), machines=[a_machine(*history, slots=slots)], tasks_max=tasks_max)

    assert found(check_slots, evidence(one, two)) == found(check_limits, evidence(one, two)) == set()
    assert found(check_slots, evidence(one, two, slots=1)) == {"T6"}
    assert found(check_limits, evidence(one, two, tasks_max=1)) == {"T7"}
    assert found(check_slots, evidence(one, after, slots=1)) == set()
    assert found(check_limits, evidence(one, after, tasks_max=1)) == set()


def test_slots_that_are_held_for_nothing_are_found() -> None:
    def held(events: Events, instances: int, reserved: int = 0) -> set[str]:
        seen = [Held("server-1", instances, reserved)]
        return found(check_slots, Evidence(a_log("task-t", events), held=seen, has_settled=True))

    assert held(LAWFUL, 0) == held(LAWFUL[:3], 1) == set()
    assert held(LAWFUL, 1) == held(LAWFUL[:3], 0) == held(LAWFUL, 0, 1) == {"T6"}


# --- waiting -----------------------------------------------------------------------------------------------------------


def waited(
    until: float,
    *,
    calm: tuple[float, float],
    slots: int = 1,
    labels: Any = None,
    tasks_max: int = 0,
    agent: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> set[str]:
    log = a_log("task-t", [("TaskCreated", {**TASK, "config": {**CONFIG, "labels": labels}})], 100)
    write(log, "task-t", LAWFUL[1:3], until)
    write(log, "task-u", [("TaskCreated", TASK), *LAWFUL[1:3]], 50)
    machines = [a_machine(slots=slots, zone="a")]
    write(log, "agent-m", [(kind, {"agent_id": "m", **data}) for kind, data in agent], 60)
    observed = Observed(calm=[calm])
    return found(
        check_pending,
        Evidence(log, observed, machines, lease=20, tasks_max=tasks_max, ended=1000, started_at=EPOCH),
    )


def test_a_task_that_waits_beside_a_free_slot_is_found() -> None:
    calm = (100 - 20 - RECOVERY_SECONDS, 500)
    assert waited(105, calm=calm, slots=2) == set()
    assert waited(150, calm=calm, slots=2) == {"T8"}
    assert waited(150, calm=calm, slots=1) == set(), "the slot is taken"
    assert waited(150, calm=(130, 500), slots=2) == set(), "there was a fault"
    assert waited(150, calm=calm, slots=2, labels={"zone": "b"}) == set(), "no agent fits"
    assert waited(150, calm=calm, slots=2, labels={"zone": "a"}) == {"T8"}
    assert waited(150, calm=calm, slots=2, tasks_max=1) == set(), "the limit is reached"


def retried(history: Events, started_at: float, *, ahead: float = 0.0) -> set[str]:
    """Of a task that comes back at second 101 and starts then, beside free slots, after a clock that was `ahead`."""
    log = a_log("task-t", history, 100)
    write(log, "task-t", LAWFUL[6:8], started_at)
    steps = [ClockStep("server-1", 50, ahead), ClockStep("server-1", 101, -ahead)] if ahead else []
    calm = [(100 - 20 - RECOVERY_SECONDS, 900)]
    observed = Observed(calm=calm, clock_steps=steps)
    machines = [a_machine(slots=2)]
    return found(check_pending, Evidence(log, observed, machines, lease=20, ended=1000, started_at=EPOCH))


def test_a_retry_waits_for_its_own_time_and_for_that_of_the_task() -> None:
    """Seed 2036: the task was made while the server's clock was ahead, and its retry comes after that was mended."""
    ahead = ("TaskCreated", {**TASK, "scheduled_at": at(400)})
    assert retried(LAWFUL[:6], 105) == set()
    assert retried(LAWFUL[:6], 150) == {"T8"}
    assert retried([ahead, *LAWFUL[1:6]], 400, ahead=300) == set()
    assert retried([ahead, *LAWFUL[1:6]], 450, ahead=300) == {"T8"}
    later = ("TaskRetryScheduled", {"instance_id": "i2", "retry_at": at(200)})
    assert retried([*LAWFUL[:5], later], 200) == set()
    assert retried([*LAWFUL[:5], later], 250) == {"T8"}


def test_a_task_that_came_back_unstarted_waits_for_its_pause_and_one_that_was_moved_for_its_new_time() -> None:
    given = ("TaskDispatched", {**RUN_1, "dispatched_at": at(400)})
    came_back = [LAWFUL[0], LAWFUL[1], given, ("TaskRequeued", RUN_1)]
    assert retried(came_back, 430, ahead=300) == set()
    assert retried(came_back, 480, ahead=300) == {"T8"}
    moved = ("TaskUpdated", {**TASK, "scheduled_at": at(300), "changed": ["scheduled_at"]})
    assert retried([LAWFUL[0], moved], 300) == set()
    assert retried([LAWFUL[0], moved], 350) == {"T8"}


def test_what_operators_did_to_an_agent_counts_while_it_lasts() -> None:
    calm = (100 - 20 - RECOVERY_SECONDS, 500)
    drained, undrained = ("AgentDrained", {}), ("AgentUndrained", {})
    assert waited(150, calm=calm, slots=2, agent=[drained]) == set()
    assert waited(150, calm=calm, slots=2, agent=[drained, undrained]) == {"T8"}
    narrowed = ("AgentUpdated", {"effective_labels": {"zone": "a"}, "max_concurrent_tasks": 1})
    relabelled = ("AgentUpdated", {"effective_labels": {"zone": "b"}, "max_concurrent_tasks": 2})
    assert waited(150, calm=calm, slots=2, agent=[narrowed]) == set()
    assert waited(150, calm=calm, slots=2, labels={"zone": "a"}, agent=[relabelled]) == set()
    assert waited(150, calm=calm, slots=2, labels={"zone": "b"}, agent=[narrowed, relabelled]) == {"T8"}


# --- schedules ---------------------------------------------------------------------------------------------------------

DISABLED = ("ScheduleDisabled", {})
OLD = {"misfire_grace_seconds": 5}


def fired(seconds: float, count: int | None = None, late: float = 0.0) -> tuple[str, Mapping[str, Any]]:
    count = int(seconds / 10) if count is None else count
    data = {"nominal_at": at(seconds), "fired_at": at(seconds + late), "task_id": f"t{seconds:g}", "fire_count": count}
    return "ScheduleFired", {**data, "job_id": "j", "schedule_id": "s"}


def skipped(first: float, last: float, count: int, reason: str = "misfire") -> tuple[str, Mapping[str, Any]]:
    data = {"first_nominal_at": at(first), "last_nominal_at": at(last), "count": count, "reason": reason}
    return "ScheduleSkipped", {**data, "job_id": "j", "schedule_id": "s"}


def enabled(seconds: float) -> tuple[str, Mapping[str, Any]]:
    return "ScheduleEnabled", {"enabled_at": at(seconds)}


def updated(seconds: float, *changed: str, **members: Any) -> tuple[str, Mapping[str, Any]]:
    return "ScheduleUpdated", {**SCHEDULE, **members, "changed": changed, "updated_at": at(seconds)}


def fires(*numbers: float, start: int = 1) -> list[tuple[str, Mapping[str, Any]]]:
    return [fired(seconds, count) for count, seconds in enumerate(numbers, start)]


def a_schedule(decisions: Events, seconds: float = 58, **members: Any) -> Evidence:
    """Its log, with a task for each fire."""
    log = a_log("schedule-s", [("ScheduleCreated", {**SCHEDULE, **members}), *decisions], seconds)
    made = set()
    for kind, data in decisions:
        if kind == "ScheduleFired" and data["task_id"] not in made:
            made.add(data["task_id"])
            due = data.get("due") or data["nominal_at"]
            task = {**TASK, "schedule_id": "s", "nominal_at": data["nominal_at"], "scheduled_at": due}
            write(log, f"task-{data['task_id']}", [("TaskCreated", task)], seconds)
    return Evidence(log, started_at=EPOCH, ended=seconds)


TO_50 = fires(10, 20, 30, 40, 50)
SKIPPED = [*fires(10, 20), skipped(30, 40, 2), fired(50, 3)]
QUICKER = {"interval_secs": 5}


@pytest.mark.parametrize(
    ("promise", "members", "decisions"),
    [
        (None, OLD, [*SKIPPED, DISABLED]),
        (None, {}, [*TO_50, DISABLED, enabled(51), DISABLED]),
        (None, {}, [*fires(10, 20), updated(25, "interval_secs", **QUICKER), *fires(30, 35, 40, 45, 50, start=3), DISABLED]),
        (None, {}, [*fires(10, 20), updated(25, "priority"), *fires(30, 40, 50, start=3), DISABLED]),
        (None, {}, [*TO_50, ("ScheduleDeleted", {"reason": "user"})]),
        (None, {"max_count": 2}, [*fires(10, 20), ("ScheduleExpired", {"reason": "max_count"})]),
        (None, {"end_time": at(25)}, [*fires(10, 20), ("ScheduleExpired", {"reason": "end_time"})]),
        (None, {"start_time": at(5)}, [*fires(5, 15, 25, 35, 45, 55), DISABLED]),
        (None, {"start_time": at(-5), "max_count": 1}, [fired(-5, 1, 10), ("ScheduleExpired", {"reason": "max_count"})]),
        (None, {"misfire_policy": "skip", **OLD}, [*SKIPPED, DISABLED]),
        (None, {"misfire_policy": "fire_all", **OLD}, [fired(10, 1, 40), *fires(20, 30, 40, 50, start=2), DISABLED]),
        (None, OLD, [skipped(10, 10, 1), fired(20, 1, 8), *fires(30, 40, 50, start=2), DISABLED]),
        ("F2", {}, [*TO_50, DISABLED, enabled(51), fired(50, 6)]),
        ("F2", {}, [*TO_50, updated(51, "interval_secs", **QUICKER), fired(50, 6)]),
        ("F1", {}, [*fires(10, 30, 40, 50), DISABLED]),
        ("F1", {}, [*fires(10, 20, 30), DISABLED]),
        ("F1", {}, [*fires(10, 20, 30), ("ScheduleDeleted", {"reason": "user"})]),
        ("F1", {}, [*fires(10), updated(25, "interval_secs", **QUICKER), *fires(30, 35, 40, 45, 50, start=2), DISABLED]),
        ("F1", {}, [*fires(10, 20), updated(25, "priority", **QUICKER), *fires(30, 40, 50, start=3), DISABLED]),
        ("F1", {}, [*fires(10, 20), ("ScheduleExpired", {"reason": "no_further_fire"})]),
        ("F1", {"max_count": 3}, [*fires(10, 20), ("ScheduleExpired", {"reason": "max_count"})]),
        ("F1", OLD, [*fires(10), skipped(20, 40, 2), fired(50, 2), DISABLED]),
        ("F1", {}, [*fires(10, 15, 20, 30, 40, 50), DISABLED]),
        ("F1", OLD, [*fires(10, 20), skipped(30, 40, 2, "tired"), fired(50, 3), DISABLED]),
        ("F1", {}, [*fires(10, 20, 30, 40), fired(50, 9), DISABLED]),
        ("F2", {}, [*fires(0, 10, 20, 30, 40, 50), DISABLED]),
        ("F2", {}, [DISABLED, fired(10)]),
        ("F3", {}, [*fires(10, 20, 20, 30, 40, 50), DISABLED]),
        ("F3", {}, [*fires(20, 10, 30, 40, 50), DISABLED]),
        ("F5", {}, [*SKIPPED, DISABLED]),
        ("F5", {"misfire_policy": "fire_all", **OLD}, [*SKIPPED, DISABLED]),
        ("F5", {"misfire_policy": "skip", **OLD}, [fired(10, 1, 6), *fires(20, 30, 40, 50, start=2), DISABLED]),
        ("F5", OLD, [fired(10, 1, 18), *fires(20, 30, 40, 50, start=2), DISABLED]),
        (None, {"max_age_seconds": 5}, [*fires(10), skipped(20, 40, 3, "max_age"), fired(50, 2), DISABLED]),
        ("F5", {"max_age_seconds": 5}, [fired(10, 1, 6), *fires(20, 30, 40, 50, start=2), DISABLED]),
        ("F5", {"max_age_seconds": 50}, [*fires(10), skipped(20, 40, 3, "max_age"), fired(50, 2), DISABLED]),
        ("F6", {}, [*fires(10, 20), fired(30, 3, -1), *fires(40, 50, start=4), DISABLED]),
        ("F4", {}, [*fires(10, 20), skipped(30, 30, 1, "overlap"), *fires(40, 50, start=3), DISABLED]),
    ],
)  # fmt: skip
def test_every_nominal_time_is_decided_once(promise: str | None, members: Mapping[str, Any], decisions: Events) -> None:
    promises = found(check_fires, a_schedule(decisions, **members))
    assert promises >= ({promise} if promise else set())
    assert bool(promises) == bool(promise)


def test_cron_is_held_against_an_oracle_of_its_own() -> None:
    cron = {"schedule_kind": 1, "interval_secs": None, "cron_expression": "*/20 * * * * ?"}
    assert found(check_fires, a_schedule([*fires(20, 40), DISABLED], **cron)) == set()
    assert found(check_fires, a_schedule([*fires(20, 41), DISABLED], **cron)) == {"F1"}


def test_a_fire_of_a_job_that_is_off_is_found() -> None:
    evidence = a_schedule([])
    write(evidence.log, "job-j", [("JobCreated", {"status": 100}), ("JobDisabled", {})], 5)  # type: ignore[arg-type]
    write(evidence.log, "schedule-s", [fired(10), DISABLED], 12)  # type: ignore[arg-type]
    assert "F2" in found(check_fires, evidence)


def test_a_task_without_its_fire_and_a_fire_without_its_task_are_found() -> None:
    evidence = a_schedule([*TO_50, DISABLED])
    stray = {**TASK, "schedule_id": "s", "nominal_at": at(60)}
    write(evidence.log, "task-t60", [("TaskCreated", stray)], 58)  # type: ignore[arg-type]
    assert found(check_fires, evidence) == {"F1"}
    log = a_log("schedule-s", [("ScheduleCreated", SCHEDULE), *TO_50, DISABLED], 58)
    assert found(check_fires, Evidence(log, started_at=EPOCH, ended=58)) == {"F1"}


@pytest.mark.parametrize(
    ("jitter", "due", "promise"), [(0, 50, None), (0, 51, "F6"), (5, 53, None), (5, 56, "F6"), (30, 61, "F6"), (5, 49, "F6")]
)  # fmt: skip
def test_a_jittered_time_lies_before_the_next_nominal_one(jitter: int, due: float, promise: str | None) -> None:
    last = fired(50, 5)
    evidence = a_schedule([*TO_50[:4], (last[0], {**last[1], "due": at(due)}), DISABLED], jitter_seconds=jitter)
    assert found(check_fires, evidence) == ({promise} if promise else set())


def test_a_run_before_its_nominal_time_is_found() -> None:
    evidence = a_schedule([*TO_50, DISABLED])
    evidence.machines = [a_machine(a_process(RUN_1, 49, 51, "t50"))]
    assert found(check_fires, evidence) == {"F6"}


def test_a_resume_that_counts_from_before_it_was_asked_is_found() -> None:
    for instant, promises in ((51, set()), (40, {"F2"})):
        evidence = a_schedule([*TO_50, DISABLED, enabled(instant), DISABLED])
        act = Act("resume", "schedule-s", 51, EPOCH + timedelta(seconds=51), 60)
        evidence.observed.acts.append(act)
        assert found(check_fires, evidence) == promises


@pytest.mark.parametrize(("policy", "promise"), [("allow", None), ("skip", "F4"), ("queue", "F4")])
def test_runs_of_one_schedule_at_once(policy: str, promise: str | None) -> None:
    evidence = a_schedule([*TO_50, DISABLED], overlap_policy=policy)
    evidence.machines = [a_machine(a_process(RUN_1, 40, 52, "t40"), a_process(RUN_2, 51, 53, "t50"))]
    assert found(check_overlap, evidence) == ({promise} if promise else set())


def test_a_run_that_a_user_asked_for_overlaps_whom_it_may() -> None:
    evidence = a_schedule([*TO_50, DISABLED], overlap_policy="skip")
    write(evidence.log, "task-t40", [("TaskReopened", {})], 51)  # type: ignore[arg-type]
    evidence.machines = [a_machine(a_process(RUN_1, 40, 52, "t40"), a_process(RUN_2, 51, 53, "t50"))]
    assert found(check_overlap, evidence) == set()


# --- clocks ------------------------------------------------------------------------------------------------------------


def late(step: float, decided: float, lease: float = 0) -> set[str]:
    log = a_log("schedule-s", [("ScheduleCreated", SCHEDULE)], 0)
    write(log, "schedule-s", TO_50[:1], 10)
    write(log, "schedule-s", TO_50[1:], decided)
    observed = Observed(calm=[(0, 500)], clock_steps=[ClockStep("server-1", 15, step)])
    return found(check_clocks, Evidence(log, observed, lease=lease, started_at=EPOCH, ended=51))


def test_a_clock_that_steps_back_stalls_no_longer_than_the_step() -> None:
    bound = DECISION_SECONDS_MAX
    log = a_log("schedule-s", [("ScheduleCreated", SCHEDULE)], 0)
    for number in range(1, 30):
        write(log, "schedule-s", [fired(10 * number)], 10 * number + (40 if number > 10 else 0))
    lawful = Evidence(
        log,
        Observed(calm=[(0, 300)], clock_steps=[ClockStep("server-1", 101, -40)]),
        lease=0,
        started_at=EPOCH,
        ended=300,
    )
    assert found(check_clocks, lawful) == set()
    stalled = Evidence(log, Observed(calm=[(0, 300)]), lease=0, started_at=EPOCH, ended=300)
    assert bound < 40
    assert found(check_clocks, stalled) == {"C1"}


def test_a_schedule_made_by_a_clock_that_was_ahead_fires_after_its_creation_only() -> None:
    """Seed 20180: it was switched off and on again when the clock was right."""

    def resumed(ahead: float) -> set[str]:
        created = ("ScheduleCreated", {**SCHEDULE, "created_at": at(ahead), "anchor_at": at(ahead)})
        log = a_log("schedule-s", [created, DISABLED], 10)
        write(log, "schedule-s", [("ScheduleEnabled", {"enabled_at": at(20)})], 20)
        observed = Observed(calm=[(20, 300)])
        return found(check_clocks, Evidence(log, observed, lease=0, started_at=EPOCH, ended=300))

    assert resumed(ahead=3600) == set()
    assert resumed(ahead=0) == {"C1"}


def test_a_nominal_time_that_fires_twice_is_found() -> None:
    log = a_log("schedule-s", [("ScheduleCreated", SCHEDULE), *TO_50, fired(50)], 55)
    assert found(check_clocks, Evidence(log)) == {"C1"}


# --- log ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda events: events.pop(3),
        lambda events: events.insert(3, events[3]),
        lambda events: events.reverse(),
        lambda events: events.__setitem__(3, attrs.evolve(events[3], version=9)),
        lambda events: events.__setitem__(3, attrs.evolve(events[3], event_id=events[2].event_id)),
        lambda events: events.__setitem__(3, attrs.evolve(events[3], recorded_at=EPOCH - timedelta(seconds=1))),
    ],
)
def test_a_log_with_a_gap_a_double_or_a_fall_is_found(spoil: Callable[[list[Any]], object]) -> None:
    log = a_log("task-t", LAWFUL)
    assert found(check_log, Evidence(log)) == set()
    spoil(log.events)
    assert found(check_log, Evidence(log)) == {"L1"}


def acknowledged(version: int, position: int, *ids: int) -> set[str]:
    write = Acknowledged(1.0, "task-t", version, position, tuple(UUID(int=each) for each in ids))
    return found(check_acknowledged, Evidence(a_log("task-t", LAWFUL), Observed(writes=[write])))


def test_an_acknowledged_write_that_is_not_in_the_log_is_found() -> None:
    assert acknowledged(11, 11) == acknowledged(3, 3, 2, 3) == set()
    assert acknowledged(12, 11) == acknowledged(11, 12) == acknowledged(3, 3, 2, 4) == {"L2"}


def test_a_state_that_is_not_the_fold_of_its_prefix_is_found() -> None:
    observed = Observed(live_states=[LiveState("task-t", 0, "another")])
    assert found(check_prefixes, Evidence(MemoryLog(), observed)) == {"L4"}
    observed = Observed(live_states=[LiveState("task-t", 3, "another")])
    assert found(check_prefixes, Evidence(MemoryLog(), observed)) == {"L4"}


def keys(*uses: tuple[str, str, str]) -> set[str]:
    log = a_log("task-t", LAWFUL[:1])
    write(log, "task-u", [("TaskCreated", TASK), ("TaskCreated", TASK)], 0)
    observed = Observed(keys=[KeyUse(key, 1.0, answer, effect) for key, answer, effect in uses])
    return found(check_idempotency, Evidence(log, observed))


def test_a_key_with_two_effects_is_found() -> None:
    assert keys(("a", "created", "task-t"), ("a", "created", "task-t"), ("b", "refused", "task-v")) == set()
    assert keys(("a", "created", "task-t"), ("a", "refused", "task-t")) == {"L5"}
    assert keys(("a", "created", "task-u")) == {"L5"}
    assert keys(("a", "created", "task-v")) == {"L5"}


# --- output, feeds, liveness -------------------------------------------------------------------------------------------


class Shown:
    def __init__(self, **texts: bytes) -> None:
        self.texts, self.contradictions = texts, []

    def text(self, instance_id: str, stream: str) -> bytes:
        return self.texts.get(stream, b"")


def output(shown: bytes, *, kept: int, dropped: int = 0, claimed: bytes = b"hello") -> set[str]:
    from hashlib import sha256

    process = a_process(RUN_2, 1, 2)
    process.written[1] = b"hello"
    summary = {"bytes": len(claimed), "kept": kept, "sha256": sha256(claimed).hexdigest()}
    events = [*LAWFUL[:9], ("InstanceSucceeded", {**RUN_2, "output": {"stdout": summary, "dropped": dropped}})]
    return found(
        check_output, Evidence(a_log("task-t", events), machines=[a_machine(process)], output=Shown(stdout=shown))
    )


def test_output_that_is_not_what_was_written_is_found() -> None:
    assert output(b"hello", kept=5) == output(b"hel [cut]", kept=3, dropped=2) == set()
    assert output(b"hallo", kept=5) == output(b"hell", kept=5) == output(b"hello!", kept=5) == {"O1"}
    assert output(b"hel", kept=3) == output(b"hello", kept=5, claimed=b"hallo") == {"O1"}
    process = a_process(RUN_2, 1, 2)
    process.written[1] = b"hello"
    silent = a_log("task-t", [*LAWFUL[:9], ("InstanceSucceeded", {**RUN_2, "output": None})])
    assert found(check_output, Evidence(silent, machines=[a_machine(process)], output=Shown())) == {"O1"}


def feed(*readings: tuple[int, list[int]], calm: float = 0) -> set[str]:
    log = a_log("task-t", LAWFUL)
    observed = Observed(calm=[(0, calm)])
    observed.readers["r"] = [Reading(after, [(n, UUID(int=n)) for n in received]) for after, received in readings]
    return found(check_feeds, Evidence(log, observed, lease=20, ended=calm))


def test_a_feed_with_a_gap_a_double_or_a_wrong_resume_is_found() -> None:
    assert feed((0, [1, 2]), (2, []), (2, [3])) == set()
    assert feed((0, [1, 3])) == feed((0, [1, 2, 2])) == feed((0, [2, 1])) == feed((0, [1]), (2, [3])) == {"E1"}
    assert feed((0, [1, 2, 3]), calm=100) == {"E1"}
    assert feed((0, list(range(1, 12))), calm=100) == set()


def test_an_invariant_that_is_broken_everywhere_leaves_room_for_others() -> None:
    verdict = Verdict()
    for number in range(100):
        verdict.fail("T8", f"task {number} waits")
    verdict.fail("L1", "event 3 has position 4")
    assert [each.promise for each in verdict.violations] == ["T8"] * VIOLATIONS_MAX + ["L1"]


def test_work_that_is_left_is_found() -> None:
    def left(events: Events, ended: float | None, settled: bool = True) -> set[str]:
        process = a_process(RUN_1, 1, ended)
        evidence = Evidence(a_log("task-t", events), machines=[a_machine(process)], has_settled=settled)
        return found(check_liveness, evidence)

    assert left(LAWFUL, 2) == left(LAWFUL[:5], None, settled=False) == set()
    assert left(LAWFUL[:5], 2) == left(LAWFUL, None) == {"V1"}


# --- where ------------------------------------------------------------------------------------------------------------


def placed(labels: Any, *protected: str, edited: Any = None) -> set[str]:
    created = ("TaskCreated", {**TASK, "config": {**CONFIG, "labels": labels}})
    updated = [("TaskUpdated", {"config": {**CONFIG, "labels": edited}})] if edited else []
    machine = attrs.evolve(a_machine(a_process(RUN_1, 100, 110), zone="a"), protected=protected)
    log = a_log("task-t", [created, *updated], 100)
    return found(check_placed, Evidence(log, machines=[machine], started_at=EPOCH))


def test_a_task_runs_only_where_the_machines_own_word_allows_it() -> None:
    assert (
        placed({"zone": "a"}, "zone")
        == placed({"zone": "b"})
        == placed(None, "zone")
        == placed({"x": "y"}, "zone")
        == set()
    )
    assert placed({"zone": "b"}, "zone", edited={"zone": "a"}) == set()
    assert placed({"zone": "b"}, "zone") == placed({"zone": "b"}, "zone", edited={"zone": "c"}) == {"T8"}


# --- what instances use ---------------------------------------------------------------------------------------------


def used(*points: tuple[float, float], instance: str = "i", ran: str = "i") -> bool:
    """Whether (elapsed, CPU seconds) may be kept of an instance."""
    verdict = Verdict()
    kept = [SimpleNamespace(elapsed_seconds=elapsed, cpu_seconds=cpu) for elapsed, cpu in points]
    check_usage({instance: kept}, {ran}, verdict)
    return not verdict.violations


def test_what_is_kept_of_usage_is_of_what_ran_in_order_once_and_bounded() -> None:
    assert used() and used((1, 0.5), (12, 0.5), (31, 2))
    assert not used((1, 0.5), instance="another")
    assert not used((12, 0.5), (1, 0.5)) and not used((1, 0.5), (2, 0.5)) and not used((1, 0.5), (12, 0.25))
    assert used(*((10.0 * n, 0.0) for n in range(240))) and not used(*((10.0 * n, 0.0) for n in range(241)))
