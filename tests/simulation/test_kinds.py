"""The judge of fixed delays, daemons and events, on histories made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.by_hand import RUN_1, SCHEDULE, a_log, a_machine, a_process, at, found, write
from tests.simulation.checkers import Evidence
from tests.simulation.checkers.kinds import check_kinds
from tests.simulation.observed import Observed
from tests.support.ports import EPOCH

Told = tuple[float, str, str, dict[str, Any]]
"""(Second, stream, event, members)."""


def judged(members: dict[str, Any], *story: Told, **more: Any) -> set[str]:
    """All is calm; the schedule is made at second 0."""
    log = a_log("schedule-s", [("ScheduleCreated", {**SCHEDULE, **members})], 0)
    for second, stream, kind, data in story:
        write(log, stream, [(kind, data)], second)
    observed = Observed(calm=[(0, 10_000)])
    return found(check_kinds, Evidence(log, observed, lease=20, started_at=EPOCH, ended=1000, **more))


# --- fixed delays ------------------------------------------------------------------------------------------------------

DELAY = {"interval_secs": 10, "interval_mode": "fixed_delay"}


def fired(second: float, task_id: str, nominal: float | None = None) -> Told:
    due = at(second if nominal is None else nominal)
    return second, "schedule-s", "ScheduleFired", {"task_id": task_id, "nominal_at": due}


def ends(second: float, task_id: str, by_its_clock: float | None = None) -> list[Told]:
    ended_at = at(second if by_its_clock is None else by_its_clock)
    return [
        (second, f"task-{task_id}", "TaskSucceeded", {"completed_at": ended_at}),
        (second, "schedule-s", "ScheduleTaskEnded", {"task_id": task_id, "ended_at": ended_at}),
    ]


OFF: Told = (100, "schedule-s", "ScheduleDisabled", {"status": 99})
ON: Told = (110, "schedule-s", "ScheduleEnabled", {"enabled_at": at(110)})


@pytest.mark.parametrize(
    ("promise", "story"),
    [
        (None, [fired(10, "a"), *ends(15, "a"), fired(25, "b")]),
        ("F1", [fired(10, "a"), *ends(15, "a"), fired(20, "b")]),
        (None, [fired(10, "a"), *ends(15, "a", by_its_clock=8), fired(20, "b")]),
        ("F1", [fired(10, "a"), *ends(15, "a", by_its_clock=8), fired(18, "b")]),
        ("F1", [fired(10, "a"), *ends(15, "a"), fired(125, "b", 25)]),
        ("F4", [fired(10, "a"), fired(20, "b", 20)]),
        ("F3", [fired(10, "a"), *ends(15, "a"), fired(25, "b", 10)]),
        (None, [fired(10, "a"), *ends(15, "a"), fired(25, "b"), *ends(95, "b"), OFF, ON, fired(120, "c")]),
        ("F2", [fired(10, "a"), *ends(15, "a"), fired(25, "b"), *ends(95, "b"), OFF, ON, fired(120, "c", 105)]),
        ("F1", [fired(10, "a"), (15, "schedule-s", "ScheduleTaskEnded", {"task_id": "a", "ended_at": at(15)})]),
    ],
)
def test_a_fixed_delay_counts_from_the_end(promise: str | None, story: list[Told]) -> None:
    assert promise is None or promise in judged(DELAY, *story)
    assert promise is not None or judged(DELAY, *story) == set()


# --- daemons -----------------------------------------------------------------------------------------------------------

DAEMON = {"schedule_kind": 3, "daemon": {"instances": 1}}


def seated(second: float, task_id: str, seat: int = 0) -> list[Told]:
    return [
        (second, "schedule-s", "SeatStarted", {"seat": seat, "task_id": task_id}),
        (second, f"task-{task_id}", "TaskCreated", {"schedule_id": "s"}),
    ]


def left(second: float, task_id: str, due: float) -> list[Told]:
    return [
        (second, f"task-{task_id}", "TaskFailed", {}),
        (second, "schedule-s", "SeatEnded", {"seat": 0, "task_id": task_id, "due_at": at(due)}),
    ]


def test_a_seat_has_one_task_after_the_other_and_is_not_left_empty() -> None:
    assert judged(DAEMON, *seated(1, "a"), *left(50, "a", 60), *seated(60, "b")) == set()
    assert judged(DAEMON, *seated(1, "a"), *seated(60, "b")) == {"F4"}
    assert judged(DAEMON, *seated(1, "a"), *left(50, "a", 60), *seated(160, "b")) == {"F1"}
    assert judged(DAEMON, *seated(1, "a"), *left(50, "a", 60), OFF) == set()
    assert judged(DAEMON, *seated(1, "a"), (2, "task-b", "TaskCreated", {"schedule_id": "s"})) == {"F1"}


def test_more_instances_than_wanted_are_found() -> None:
    runs = [a_process({**RUN_1, "instance_id": each}, 5, 50, task_id=each) for each in ("a", "b")]
    story = [*seated(1, "a"), *seated(1, "b", 1)]
    assert judged(DAEMON, *story, machines=[a_machine(*runs)]) == {"T7"}
    assert judged({**DAEMON, "daemon": {"instances": 2}}, *story, machines=[a_machine(*runs)]) == set()


# --- events ------------------------------------------------------------------------------------------------------------

EVENT = {"schedule_kind": 4, "interval_secs": None, "event_type": "thing.*"}
COMES: Told = (10, "external-x", "ExternalEventReceived", {"id": "e", "source": "x", "type": "thing.happened"})
TAKEN: Told = (11, "schedule-s", "ScheduleFired", {"task_id": "a", "event_position": 2, "nominal_at": at(10)})
TWICE: Told = (12, "schedule-s", "ScheduleSkipped", {"reason": "overlap", "event_position": 2})
WAS_OFF: Told = (5, "schedule-s", "ScheduleDisabled", {"status": 99})


def test_an_event_is_decided_once_and_only_while_the_schedule_is_on() -> None:
    assert judged(EVENT, COMES, TAKEN) == set()
    assert judged(EVENT, COMES) == {"F1"}
    assert judged(EVENT, COMES, TAKEN, TWICE) == {"F1"}
    assert judged(EVENT, TAKEN) == {"F1"}
    assert judged(EVENT, WAS_OFF, COMES) == set()
    late = (11, "schedule-s", "ScheduleFired", {"task_id": "a", "event_position": 3, "nominal_at": at(10)})
    assert judged(EVENT, WAS_OFF, COMES, late) == {"F2"}
