"""A schedule that is disabled by itself after so many of its tasks in a row have failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from hetuflow.domain.commands import (
    DisableSchedule,
    EnableSchedule,
    NoteTaskEnds,
    SuspendSchedule,
    TaskEnd,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Due, Follow
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus, TaskStatus
from hetuflow.domain.events import (
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleSkipped,
    ScheduleTaskEnded,
    ScheduleUpdated,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.switch_notes import NOTE_LENGTH_MAX
from tests.support.given import Given, Outcome, later
from tests.support.schedules import SCHEDULE_ID, a_fire, a_minutely, a_schedule
from tests.support.tasks import JOB_ID

F, S, C = TaskStatus.FAILED, TaskStatus.SUCCEEDED, TaskStatus.CANCELLED


def task_id(number: int) -> str:
    return task_id_of(SCHEDULE_ID, later(60 * number))


def fired(count: int, **members: Any) -> Outcome:
    """A minutely schedule that has made so many tasks, none of which has ended."""
    outcome = a_schedule(a_minutely(**{"pause_on_failures": 3, **members}))
    for _ in range(count):
        outcome = outcome.next(60).when(a_fire())
    return outcome


def ends(*results: tuple[int, TaskStatus]) -> NoteTaskEnds:
    """Tasks by number, in the order in which they ended."""
    return NoteTaskEnds(
        ends=[TaskEnd(task_id=task_id(number), status=status, ended_at=later(1000)) for number, status in results]
    )


def test_after_so_many_failures_in_a_row_it_is_disabled_and_says_why() -> None:
    two = fired(3).when(ends((1, F), (2, F))).then(ScheduleTaskEnded, ScheduleTaskEnded)
    assert (two.state.consecutive_failures, two.state.status) == (2, ScheduleStatus.ENABLED)
    assert two.intents == {Due(later(240)), Follow(Address("schedule", SCHEDULE_ID), JOB_ID, frozenset({task_id(3)}))}
    three = two.when(ends((3, F))).then(ScheduleTaskEnded, ScheduleDisabled)
    event = three.event(ScheduleDisabled)
    assert (event.reason, event.failures, event.task_id, event.status) == ("failures", 3, task_id(3), 99)
    assert three.state.status_note == f"3 tasks in a row failed, the last was {task_id(3)}"
    assert (three.state.next_run_at, three.state.consecutive_failures, three.intents) == (None, 3, frozenset())


def test_what_was_due_by_then_is_skipped_with_its_reason() -> None:
    outcome = fired(1, pause_on_failures=1).next(100).when(ends((1, F)))
    outcome.then(ScheduleTaskEnded, ScheduleSkipped, ScheduleDisabled)
    assert outcome.event(ScheduleSkipped).reason == "disabled"
    assert outcome.state.status_note == f"its task failed: {task_id(1)}"


@pytest.mark.parametrize(
    ("results", "count"),
    [([F, F], 2), ([F, S, F], 1), ([F, C, F], 2), ([C, C, C], 0), ([F, F, S], 0), ([F, C, S, C, F, F], 2)],
)
def test_success_ends_a_row_and_a_cancelled_task_does_not(results: list[TaskStatus], count: int) -> None:
    outcome = fired(len(results)).when(ends(*enumerate(results, 1)))
    assert outcome.state.consecutive_failures == count
    assert outcome.state.counted_tasks == ()


def test_told_twice_is_told_once() -> None:
    told = fired(2).when(ends((1, F)))
    told.when(ends((1, F))).then_nothing()
    assert told.when(ends((1, F), (2, F))).state.consecutive_failures == 2


def test_a_resume_begins_anew_and_tasks_made_before_it_do_not_count() -> None:
    paused = fired(4).when(ends((1, F), (2, F), (3, F)))
    paused.when(ends((4, F))).then_nothing()
    resumed = paused.next(5).when(EnableSchedule(note="fixed")).then(ScheduleEnabled)
    assert (resumed.state.consecutive_failures, resumed.state.status_note) == (0, "fixed")
    resumed.when(ends((4, F))).then_nothing()
    assert resumed.next(60).when(a_fire()).state.counted_tasks == (task_id(5),)


def test_without_it_nothing_is_followed_and_taking_it_off_forgets_the_count() -> None:
    assert fired(2, pause_on_failures=None).intents == {Due(later(180))}
    taken_off = fired(2).when(ends((1, F))).when(UpdateSchedule(changes={"pause_on_failures": None}))
    taken_off.then(ScheduleUpdated)
    assert (taken_off.state.consecutive_failures, taken_off.state.counted_tasks) == (0, ())
    assert taken_off.intents == {Due(later(180))}  # what is due stays
    again = taken_off.when(UpdateSchedule(changes={"pause_on_failures": 1}))
    again.when(ends((2, F))).then_nothing()  # made before
    kept = fired(2).when(ends((1, F)), UpdateSchedule(changes={"name": "n"}))
    assert (kept.state.consecutive_failures, kept.state.counted_tasks) == (1, (task_id(2),))


def test_it_must_be_below_the_number_of_tasks() -> None:
    a_schedule(a_minutely(pause_on_failures=2, max_count=2)).then_rejected("invalid", path="pause_on_failures")
    a_schedule(a_minutely(pause_on_failures=1, max_count=2)).then(type(a_schedule().decision.events[0]))
    a_schedule(a_minutely(pause_on_failures=2, schedule_kind=ScheduleKind.DAEMON)).then_rejected(
        "invalid", path="pause_on_failures"
    )
    for wrong in (0, 1001):
        a_schedule(a_minutely(pause_on_failures=wrong)).then_rejected("invalid", path="pause_on_failures")


@property_of(
    results=st.lists(st.tuples(st.integers(1, 8), st.sampled_from([F, S, C])), unique_by=lambda each: each[0]),
    cuts=st.lists(st.integers(0, 8), max_size=4),
    limit=st.integers(1, 4),
)
def test_the_count_is_that_of_the_log_however_the_ends_are_told(
    results: Sequence[tuple[int, TaskStatus]], cuts: list[int], limit: int
) -> None:
    """In one question or in several, each told again: the schedule is disabled at the same end, with the same count."""
    at: Given | Outcome = fired(8, pause_on_failures=limit)
    told = 0
    for cut in sorted([*cuts, len(results)]):
        if cut > told:
            at = at.when(ends(*results[:cut]))
            told = cut
    count, last = 0, None
    for number, status in results:
        count = count + 1 if status is F else 0 if status is S else count
        if count >= limit:
            last = number
            break
    state = at.state
    assert (state.consecutive_failures, state.status) == (
        count,
        ScheduleStatus.ENABLED if last is None else ScheduleStatus.DISABLED,
    )
    if last is not None:
        assert task_id(last) in state.status_note


# --- notes -----------------------------------------------------------------------------------------------------------


def test_a_note_says_why_it_was_switched_and_is_replaced_by_the_next() -> None:
    paused = a_schedule().when(DisableSchedule(note="maintenance")).then(ScheduleDisabled)
    assert (paused.event(ScheduleDisabled).note, paused.state.status_note) == ("maintenance", "maintenance")
    paused.when(DisableSchedule(note="maintenance")).then_nothing()
    paused.when(DisableSchedule()).then_nothing()
    assert paused.when(DisableSchedule(note="until friday")).state.status_note == "until friday"
    resumed = paused.when(EnableSchedule())
    assert (resumed.state.status_note, resumed.state.status) == (None, ScheduleStatus.ENABLED)
    resumed.when(EnableSchedule(note="again")).then_nothing()  # an enable that is none would move its times
    assert a_schedule().when(SuspendSchedule(error="a defect")).state.status_note == "a defect"
    a_schedule().when(DisableSchedule(note="x" * (NOTE_LENGTH_MAX + 1))).then_rejected("invalid", path="note")
