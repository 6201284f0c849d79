"""The judges are judged: each violation, made by hand, is found, and a lawful history is not accused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest

from eventstore.event import Claim, NewEvent
from eventstore.memory import MemoryLog
from tests.simulation.checkers import (
    CANCEL_SECONDS_MAX,
    TaskChecker,
    Verdict,
    check_cancels,
    check_log,
    check_processes,
    check_schedule,
)
from tests.support.ports import EPOCH
from tests.support.processes import Running

TASK = {"task_id": "t", "config": {"max_retries": 1}}
RUN_1 = {"instance_id": "i1", "epoch": 1}
RUN_2 = {"instance_id": "i2", "epoch": 2}
LAWFUL: list[tuple[str, Mapping[str, Any]]] = [
    ("TaskCreated", TASK),
    ("TaskLocked", {}),
    ("TaskDispatched", RUN_1),
    ("InstanceStarted", RUN_1),
    ("InstanceFailed", {**RUN_1, "reason": "exit_code"}),
    ("TaskRetryScheduled", {"instance_id": "i2"}),
    ("TaskLocked", {}),
    ("TaskDispatched", RUN_2),
    ("InstanceStarted", RUN_2),
    ("InstanceSucceeded", RUN_2),
    ("TaskSucceeded", {}),
]


def a_log(name: str, events: list[tuple[str, Mapping[str, Any]]], seconds: float = 0) -> MemoryLog:
    log = MemoryLog()
    for number, (kind, data) in enumerate(events):
        event = NewEvent(event_id=UUID(int=number + 1), type=kind, data=msgspec.json.encode(data).decode())
        log.commit([Claim(name, number, [event])], EPOCH + timedelta(seconds=seconds))
    return log


def promises(verdict: Verdict) -> set[str]:
    return {line.partition(":")[0] for line in verdict.violations}


# --- tasks -------------------------------------------------------------------------------------------------------------


def judged(events: list[tuple[str, Mapping[str, Any]]]) -> set[str]:
    verdict = Verdict()
    TaskChecker("task-t", a_log("task-t", events).events, verdict).check()
    return promises(verdict)


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
        ("T2", without("InstanceFailed")),
        ("T2", [(n, {**d, "epoch": 1} if d is RUN_2 else d) for n, d in LAWFUL]),
        ("T2", [(n, {**d, "instance_id": "i1"} if d is RUN_2 else d) for n, d in LAWFUL]),
        ("T3", [*LAWFUL[:9], ("InstanceSucceeded", RUN_1), ("TaskSucceeded", {})]),
        ("T4", [("TaskCreated", {"config": {"max_retries": 0}}), *LAWFUL[1:]]),
    ],
)
def test_an_unlawful_task_is_found(promise: str, events: list[tuple[str, Mapping[str, Any]]]) -> None:
    assert promise in judged(events)


# --- processes ---------------------------------------------------------------------------------------------------------


def a_process(key: Mapping[str, Any], started: float, ended: float | None, task_id: str = "t") -> Running:
    return Running(
        machine="m",
        pid=int(started),
        task_id=task_id,
        instance_id=key["instance_id"],
        epoch=key["epoch"],
        arguments={},
        started=started,
        ended=ended,
        changed=None,  # type: ignore[arg-type]
        scope=None,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("promise", "history"),
    [
        (None, [a_process(RUN_1, 1, 2), a_process(RUN_2, 2, 3)]),
        ("T2", [a_process(RUN_1, 1, 5), a_process(RUN_2, 4, 6)]),
        ("T2", [a_process(RUN_1, 1, None), a_process(RUN_2, 4, 6)]),
        ("T2", [a_process(RUN_1, 1, 2), a_process(RUN_1, 3, 4)]),
        ("T3", [a_process({"instance_id": "i1", "epoch": 9}, 1, 2)]),
        ("T4", [a_process(RUN_1, 1, 2), a_process(RUN_2, 2, 3), a_process({"instance_id": "i3", "epoch": 3}, 4, 5)]),
    ],
)
def test_what_ran_is_held_against_what_was_dispatched(promise: str | None, history: list[Running]) -> None:
    verdict = Verdict()
    check_processes(a_log("task-t", LAWFUL), history, verdict)
    assert promises(verdict) >= ({promise} if promise else set())
    assert bool(verdict.violations) == bool(promise)


def test_a_process_that_outlives_its_cancel_is_found() -> None:
    verdict = Verdict()
    check_cancels([a_process(RUN_1, 1, 10 + CANCEL_SECONDS_MAX)], {"t": 10.0}, verdict, CANCEL_SECONDS_MAX)
    assert not verdict.violations
    check_cancels([a_process(RUN_1, 1, 11 + CANCEL_SECONDS_MAX)], {"t": 10.0}, verdict, CANCEL_SECONDS_MAX)
    assert promises(verdict) == {"T5"}


# --- schedules ---------------------------------------------------------------------------------------------------------


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


CREATED = {
    "status": 100,
    "interval_secs": 10,
    "cron_expression": None,
    "anchor_at": at(0),
    "created_at": at(0),
}
DISABLED = ("ScheduleDisabled", {})


def fired(seconds: float) -> tuple[str, Mapping[str, Any]]:
    return "ScheduleFired", {"nominal_at": at(seconds)}


def skipped(first: float, last: float, count: int) -> tuple[str, Mapping[str, Any]]:
    data = {"first_nominal_at": at(first), "last_nominal_at": at(last), "count": count, "reason": "misfire"}
    return "ScheduleSkipped", data


@pytest.mark.parametrize(
    ("promise", "decisions"),
    [
        (None, [fired(10), fired(20), skipped(30, 40, 2), fired(50), DISABLED]),
        (None, [*map(fired, range(10, 60, 10)), DISABLED, ("ScheduleEnabled", {"enabled_at": at(51)}), DISABLED]),
        ("F2", [*map(fired, range(10, 60, 10)), DISABLED, ("ScheduleEnabled", {"enabled_at": at(51)}), fired(50)]),
        ("F1", [fired(10), fired(30), fired(40), fired(50), DISABLED]),
        ("F1", [fired(10), fired(20), fired(30), DISABLED]),
        ("F1", [fired(10), skipped(20, 40, 2), fired(50), DISABLED]),
        ("F1", [fired(10), fired(15), fired(20), fired(30), fired(40), fired(50), DISABLED]),
        ("F2", [fired(0), fired(10), fired(20), fired(30), fired(40), fired(50), DISABLED]),
        ("F2", [DISABLED, fired(10)]),
        ("F3", [fired(10), fired(20), fired(20), fired(30), fired(40), fired(50), DISABLED]),
        ("F3", [fired(20), fired(10), fired(30), fired(40), fired(50), DISABLED]),
    ],
)  # fmt: skip
def test_every_nominal_time_is_decided_once(promise: str | None, decisions: list[tuple[str, Any]]) -> None:
    verdict = Verdict()
    check_schedule("schedule-s", a_log("schedule-s", [("ScheduleCreated", CREATED), *decisions], 58).events, verdict)
    assert promises(verdict) >= ({promise} if promise else set())
    assert bool(verdict.violations) == bool(promise)


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
    log, verdict = a_log("task-t", LAWFUL), Verdict()
    check_log(log, verdict)
    assert not verdict.violations
    spoil(log.events)
    check_log(log, verdict)
    assert promises(verdict) == {"L1"}
