"""The schedule for events: each event is decided about once, in order, and what is decided does not depend on batches."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given as having
from hypothesis import strategies as st

from hetuflow.domain.commands import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    FireSchedule,
    MatchedEvent,
    TriggerSchedule,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Due, Guard
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus, TaskTrigger
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEventHeld,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleUpdated,
    TaskCreated,
    TaskDispatched,
)
from hetuflow.domain.identity import event_task_id_of
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.schedule_events import DEBOUNCE_SECONDS_MAX, END_GRACE
from hetuflow.domain.schedule_overlap import QUEUE_MAX
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, Given, Outcome, given, later
from tests.support.schedules import SCHEDULE_ID
from tests.support.tasks import JOB_ID, LEASE, OTHER_PLACEMENT, PLACEMENT, a_job

DEPTH_MAX = 8


def an_event_schedule(**members: Any) -> Outcome:
    command = CreateSchedule(
        schedule_id=SCHEDULE_ID,
        job_id=JOB_ID,
        schedule_kind=ScheduleKind.EVENT,
        event_type="file.*",
        parameters={"path": "none", "mode": "fast"},
        priority=7,
    )
    return given(SCHEDULE).when(evolve(command, **members))


def an_event(position: int, seconds: float | None = None, **members: Any) -> MatchedEvent:
    return MatchedEvent(
        event_id=f"0198c0de-0000-7000-8000-{position:012x}",
        position=position,
        type="file.created",
        recorded_at=later(position if seconds is None else seconds),
        data={"path": f"/in/{position}"},
        **members,
    )


def asking(state: Any, *events: MatchedEvent, **members: Any) -> TriggerSchedule:
    command = TriggerSchedule(job=a_job(), events=events, defined_at=state.defined_at, depth_max=DEPTH_MAX)
    return evolve(command, **members)


def told(before: Outcome, *events: MatchedEvent, at: float | None = None, **members: Any) -> Outcome:
    now = events[-1].recorded_at if at is None else later(at)
    return Given(SCHEDULE, before.state, now).when(asking(before.state, *events, **members))


def ticked(before: Outcome, seconds: float) -> Outcome:
    return Given(SCHEDULE, before.state, later(seconds)).when(FireSchedule(job=a_job(), guards=(LEASE,)))


def test_an_event_becomes_one_task() -> None:
    created = an_event_schedule()
    assert (created.state.next_run_at, created.intents) == (None, frozenset())
    event = an_event(5, depth=2)
    outcome = told(created, event, guards=(LEASE,)).then(ScheduleFired)
    fired, task = outcome.event(ScheduleFired), outcome.event(TaskCreated)
    assert (fired.nominal_at, fired.fire_count, fired.next_run_at) == (event.recorded_at, 1, None)
    assert (fired.event_id, fired.event_position, fired.event_depth) == (event.event_id, 5, 3)
    assert fired.task_id == task.task_id == event_task_id_of(SCHEDULE_ID, event.event_id, event.recorded_at)
    assert (task.trigger, task.schedule_kind, task.schedule_id) == (TaskTrigger.EVENT, 4, SCHEDULE_ID)
    assert task.parameters == {"path": "/in/5", "mode": "fast"} and task.priority == 7
    assert task.event == {"id": event.event_id, "type": "file.created", "position": 5, "depth": 3}
    assert set(outcome.decision.guards) == {Guard(f"job-{JOB_ID}", 4), LEASE}
    assert outcome.state.last_run_at == event.recorded_at


def test_an_event_told_again_is_nothing() -> None:
    once = told(an_event_schedule(), an_event(5))
    told(once, an_event(5)).then_nothing()
    told(once, an_event(4), an_event(5)).then_nothing()
    told(once, an_event(5), an_event(6)).then(ScheduleFired)


def test_slots_in_hand_go_to_the_first_tasks() -> None:
    outcome = told(an_event_schedule(), *map(an_event, (1, 2, 3)), placements=(PLACEMENT, OTHER_PLACEMENT))
    outcome.then(ScheduleFired, ScheduleFired, ScheduleFired)
    dispatched = [type(events[-1]) for events in outcome.decision.opened.values()]
    assert dispatched == [TaskDispatched, TaskDispatched, TaskCreated]


def test_nominal_times_grow_whatever_the_clocks() -> None:
    """Of one append all are recorded at one instant; and the log's clock may be behind that of the creation."""
    outcome = told(an_event_schedule(), an_event(1, -3), an_event(2, -3), an_event(3, 4), at=5)
    nominal = [event.nominal_at for event in outcome.decision.events]
    assert nominal == [NOW + timedelta(microseconds=1), NOW + timedelta(microseconds=2), later(4)]
    tasks = [events[0] for events in outcome.decision.opened.values()]
    assert [task.scheduled_at for task in tasks] == nominal


def test_a_schedule_that_was_defined_anew_decides_nothing_about_what_was_found_before() -> None:
    created = an_event_schedule()
    command = asking(created.state, an_event(5))
    edited = Given(SCHEDULE, created.state, later(6)).when(UpdateSchedule(changes={"event_filter": {"a": 1}}))
    edited.then(ScheduleUpdated)
    Given(SCHEDULE, edited.state, later(7)).when(command).then_nothing()
    renamed = Given(SCHEDULE, created.state, later(6)).when(UpdateSchedule(changes={"name": "n"}))
    Given(SCHEDULE, renamed.state, later(7)).when(command).then(ScheduleFired)


def test_switched_off_it_decides_nothing_and_switched_on_only_about_later_ones() -> None:
    created = an_event_schedule()
    command = asking(created.state, an_event(5))
    off = Given(SCHEDULE, created.state, later(6)).when(DisableSchedule())
    Given(SCHEDULE, off.state, later(7)).when(command).then_nothing()
    on = Given(SCHEDULE, off.state, later(8)).when(EnableSchedule())
    Given(SCHEDULE, on.state, later(9)).when(command).then_nothing()
    told(on, an_event(9)).then(ScheduleFired)


def test_a_job_that_is_switched_off_skips() -> None:
    created = an_event_schedule()
    asleep = told(created, an_event(5), job=a_job(status=99)).then(ScheduleSkipped)
    skipped = asleep.event(ScheduleSkipped)
    assert (skipped.reason, skipped.event_id, skipped.count) == ("job_disabled", an_event(5).event_id, 1)
    told(asleep, an_event(5)).then_nothing()


def test_an_event_from_before_the_jobs_enabling_is_skipped_whatever_is_known_then() -> None:
    enabled = a_job(enabled_at=later(10))
    outcome = told(an_event_schedule(), an_event(5), an_event(11), at=12, job=enabled)
    outcome.then(ScheduleSkipped, ScheduleFired)
    heard = told(an_event_schedule(), an_event(5, job_enabled_at=later(10)), at=12, job=enabled)
    heard.then(ScheduleFired)  # the log has the enabling before it: the clock of the log is behind


def test_a_deleted_job_deletes_the_schedule() -> None:
    told(an_event_schedule(), an_event(5), job=a_job(deleted=True)).then(ScheduleDeleted)


def test_a_chain_of_event_schedules_is_cut() -> None:
    outcome = told(an_event_schedule(), an_event(5, depth=DEPTH_MAX - 1), an_event(6, depth=DEPTH_MAX))
    outcome.then(ScheduleFired, ScheduleSkipped)
    assert outcome.event(ScheduleSkipped).reason == "loop_guard"


def test_an_event_of_which_no_task_can_be_made_is_skipped() -> None:
    skipped = told(an_event_schedule(), an_event(5, unfit="too large")).event(ScheduleSkipped)
    assert (skipped.reason, skipped.note) == ("unfit", "too large")


def test_only_events_recorded_in_its_window() -> None:
    created = an_event_schedule(start_time=later(10), end_time=later(20))
    told(created, an_event(9), an_event(21), at=20.5).then_nothing()
    told(created, an_event(10), an_event(20), at=20.5).then(ScheduleFired, ScheduleFired)


def test_it_expires_after_its_window() -> None:
    created = an_event_schedule(end_time=later(20))
    assert created.intents == {Due(later(20) + END_GRACE)}
    ticked(created, 20.5).then_nothing()
    assert ticked(created, 21).then(ScheduleExpired).event(ScheduleExpired).reason == "end_time"


def test_it_expires_with_its_last_task() -> None:
    outcome = told(an_event_schedule(max_count=2), *map(an_event, (1, 2, 3)))
    outcome.then(ScheduleFired, ScheduleFired, ScheduleExpired)
    assert outcome.state.status is ScheduleStatus.EXPIRED
    assert outcome.event(ScheduleExpired).reason == "max_count"


# --- overlap -----------------------------------------------------------------------------------------------------------


def test_overlap_counts_the_tasks_of_the_same_decision_too() -> None:
    first = told(an_event_schedule(overlap_policy="skip"), an_event(1), an_event(2))
    first.then(ScheduleFired, ScheduleSkipped)
    assert first.event(ScheduleSkipped).reason == "overlap"
    told(first, an_event(3)).then_rejected("tasks_unknown", task_ids=list(first.state.open_tasks))
    [task_id] = first.state.open_tasks
    told(first, an_event(3), has_ended={task_id: True}).then(ScheduleFired)
    told(first, an_event(3), has_ended={task_id: False}).then(ScheduleSkipped)


def test_a_queue_is_bounded() -> None:
    outcome = told(an_event_schedule(overlap_policy="queue"), *map(an_event, range(1, QUEUE_MAX + 3)))
    outcome.then(*[ScheduleFired] * (QUEUE_MAX + 1), ScheduleSkipped)
    last = outcome.decision.events[-2]
    assert isinstance(last, ScheduleFired) and len(last.waits_for) == QUEUE_MAX


# --- debounce ----------------------------------------------------------------------------------------------------------


def test_events_close_together_are_one_task_of_the_newest() -> None:
    first = told(an_event_schedule(debounce_seconds=5), an_event(1)).then(ScheduleEventHeld)
    assert first.intents == {Due(later(6))}
    second = told(first, an_event(3)).then(ScheduleSkipped, ScheduleEventHeld)
    assert second.event(ScheduleSkipped).reason == "debounced"
    assert second.event(ScheduleSkipped).event_id == an_event(1).event_id
    assert second.intents == {Due(later(8))}
    ticked(second, 7.9).then_nothing()
    fired = ticked(second, 8).then(ScheduleFired)
    task = fired.event(TaskCreated)
    assert task.parameters == {"path": "/in/3", "mode": "fast", "event_count": 2}
    assert task.event == {"id": an_event(3).event_id, "type": "file.created", "position": 3, "depth": 1, "count": 2}
    assert (fired.state.held, fired.intents) == (None, frozenset())
    told(fired, an_event(3)).then_nothing()


def test_quiet_that_passed_unnoticed_counts() -> None:
    """After an absence of the server: the earlier event had its quiet before the later one was recorded."""
    held = told(an_event_schedule(debounce_seconds=5), an_event(1), at=100)
    outcome = told(held, an_event(50), at=100).then(ScheduleFired, ScheduleEventHeld)
    assert outcome.event(ScheduleFired).event_position == 1


def test_a_stream_without_a_pause_does_not_hold_a_task_back_for_ever() -> None:
    outcome = an_event_schedule(debounce_seconds=2)
    fired = 0
    for position in range(1, 60):
        outcome = told(outcome, an_event(position))
        fired += any(isinstance(event, ScheduleFired) for event in outcome.decision.events)
    assert fired == 2  # after 10 times 2 seconds each


def test_what_waits_is_skipped_by_an_edit_a_switch_or_a_deletion_and_its_job() -> None:
    held = told(an_event_schedule(debounce_seconds=5), an_event(1))
    at = Given(SCHEDULE, held.state, later(3))
    for command, last in (
        (UpdateSchedule(changes={"event_type": "x"}), ScheduleUpdated),
        (DisableSchedule(), ScheduleDisabled),
        (DeleteSchedule(), ScheduleDeleted),
        (UpdateSchedule(changes={"schedule_kind": ScheduleKind.INTERVAL, "interval_secs": 5}), ScheduleUpdated),
    ):
        outcome = at.when(command).then(ScheduleSkipped, last)
        assert outcome.event(ScheduleSkipped).event_position == 1
        assert outcome.state.held is None
    asleep = Given(SCHEDULE, held.state, later(9)).when(FireSchedule(job=a_job(status=99)))
    assert asleep.then(ScheduleSkipped).event(ScheduleSkipped).reason == "job_disabled"


def test_what_waits_at_the_end_of_the_window_is_made_then() -> None:
    held = told(an_event_schedule(debounce_seconds=60, end_time=later(20)), an_event(19))
    assert held.intents == {Due(later(20) + END_GRACE)}
    ticked(held, 21).then(ScheduleFired, ScheduleExpired)


@pytest.mark.parametrize("seconds", [-1, DEBOUNCE_SECONDS_MAX + 1])
def test_a_debounce_out_of_range_is_refused(seconds: int) -> None:
    an_event_schedule(debounce_seconds=seconds).then_rejected("invalid", path="debounce_seconds")


# --- any stream of events ------------------------------------------------------------------------------------------------


@st.composite
def _streams(draw: st.DrawFn) -> list[MatchedEvent]:
    events, at = [], 0.0
    for position in range(1, draw(st.integers(1, 20)) + 1):
        at += draw(st.sampled_from([0, 0.5, 1, 3, 10]))
        depth = draw(st.sampled_from([0, 0, 0, DEPTH_MAX]))
        events.append(an_event(position, at, depth=depth))
    return events


@having(_streams(), st.sampled_from([0, 2]), st.sampled_from(["allow", "skip", "queue"]), st.data())
def test_batches_and_repeats_change_nothing(
    events: list[MatchedEvent], debounce_seconds: int, policy: str, data: st.DataObject
) -> None:
    created = an_event_schedule(debounce_seconds=debounce_seconds, overlap_policy=policy)

    def run(batches: list[list[MatchedEvent]]) -> list[Any]:
        state, written = created.state, []
        for batch in batches:
            open_ = dict.fromkeys(state.open_tasks, False)
            decision = SCHEDULE.decide(asking(state, *batch, has_ended=open_), state, later(1000))
            state = reduce(SCHEDULE.evolve, decision.events, state)
            written += decision.events
        return written

    one_by_one = run([[event] for event in events])
    batches, rest = [], list(events)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        again = data.draw(st.integers(0, len(events) - len(rest)))
        batches.append(events[len(events) - len(rest) - again :][: again + size])
        rest = rest[size:]
    assert run(batches) == one_by_one

    covered = [
        event.nominal_at if isinstance(event, ScheduleFired) else event.first_nominal_at
        for event in one_by_one
        if not isinstance(event, ScheduleEventHeld)
    ]
    assert covered == sorted(set(covered))
    decided = [event.event_id for event in one_by_one if not isinstance(event, ScheduleEventHeld)]
    assert len(set(decided)) == len(decided) >= len(events) - bool(debounce_seconds)
    tasks = [event.task_id for event in one_by_one if isinstance(event, ScheduleFired)]
    assert len(set(tasks)) == len(tasks)


def test_the_log_does_not_fold_an_event_decided_about_twice() -> None:
    once = told(an_event_schedule(), an_event(5))
    again = evolve(once.event(ScheduleFired), nominal_at=later(9))
    with pytest.raises(IllegalTransition):
        SCHEDULE.evolve(once.state, again)
    held = told(an_event_schedule(debounce_seconds=5), an_event(5))
    with pytest.raises(IllegalTransition):
        SCHEDULE.evolve(held.state, evolve(held.event(ScheduleEventHeld), event_position=6))


def test_creation_wants_a_type() -> None:
    an_event_schedule().then(ScheduleCreated)
    an_event_schedule(event_type=None).then_rejected("invalid", path="event_type")
    assert Address("schedule", SCHEDULE_ID).stream_id
