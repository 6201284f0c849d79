"""Backfills: each nominal time of a past window is one task at most, a few at once, and none that the schedule may make."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st

from hetuflow.domain.backfill import BACKFILL, LOOKED_AT_MAX
from hetuflow.domain.backfill_window import TOTAL_MAX, start_of
from hetuflow.domain.commands import (
    AdvanceBackfill,
    CancelBackfill,
    DisableSchedule,
    NoteBackfillEnds,
    StartBackfill,
    TaskEnd,
)
from hetuflow.domain.decider import Address, Backfill, Follow, Guard
from hetuflow.domain.enums import BackfillStatus, TaskStatus
from hetuflow.domain.events import (
    BackfillAdvanced,
    BackfillCancelled,
    BackfillFinished,
    BackfillStarted,
    BackfillTaskEnded,
    TaskCreated,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.rejection import Rejected
from tests.support.given import NOW, Outcome, given, later
from tests.support.schedules import SCHEDULE_ID, a_cron, a_fire, a_minutely, a_schedule
from tests.support.tasks import JOB_ID, LEASE, a_job

BACKFILL_ID = "0198c0de-0000-7000-8000-00000000bf01"


@cache
def task_id(minutes: int) -> str:
    return task_id_of(SCHEDULE_ID, later(60 * minutes))


def a_start(first: int = -5, last: int = -1, concurrent: int = 2, schedule: Outcome | None = None) -> StartBackfill:
    """Of a minutely schedule that was just made: whole minutes before that."""
    state = (schedule or a_schedule(a_minutely())).state
    return StartBackfill(
        start=start_of(BACKFILL_ID, state, later(60 * first), later(60 * last), NOW, max_concurrent=concurrent)
    )


def a_backfill(**members: Any) -> Outcome:
    return given(BACKFILL).when(a_start(**members))


def advance(*existing: int, first: int = -300, last: int = 0, **members: Any) -> AdvanceBackfill:
    """Told of every minute."""
    known = {task_id(minutes): minutes in existing for minutes in range(first, last + 1)}
    return AdvanceBackfill(job=a_job(), has_task=known, **members)


def ends(*minutes: int, status: TaskStatus = TaskStatus.SUCCEEDED) -> NoteBackfillEnds:
    return NoteBackfillEnds(ends=[TaskEnd(task_id=task_id(each), status=status, ended_at=NOW) for each in minutes])


def test_it_makes_as_many_tasks_as_may_be_open_oldest_first() -> None:
    started = a_backfill().then(BackfillStarted)
    assert started.event(BackfillStarted).total == 5
    assert started.intents == {Backfill(BACKFILL_ID, JOB_ID, later(-300.000001), 0)}
    made = started.when(advance(guards=(LEASE,))).then(BackfillAdvanced)
    event = made.event(BackfillAdvanced)
    assert (event.task_ids, event.made, event.left_out, event.is_last) == ((task_id(-5), task_id(-4)), 2, 0, False)
    assert LEASE in made.decision.guards and Guard(f"job-{JOB_ID}", a_job().version) in made.decision.guards
    tasks = [event for events in made.decision.opened.values() for event in events if type(event) is TaskCreated]
    assert [(t.nominal_at, t.trigger, t.backfill_id) for t in tasks] == [
        (later(-300), "backfill", BACKFILL_ID),
        (later(-240), "backfill", BACKFILL_ID),
    ]
    assert made.intents == {Follow(Address("backfill", BACKFILL_ID), JOB_ID, frozenset(event.task_ids))}
    made.when(advance()).then_nothing()


def test_the_next_follows_when_one_has_ended_and_the_last_end_is_the_end() -> None:
    outcome = a_backfill(concurrent=3).when(advance(), ends(-5), advance()).then(BackfillAdvanced)
    assert outcome.event(BackfillAdvanced).task_ids == (task_id(-2),)
    outcome = outcome.when(ends(-4, status=TaskStatus.FAILED), advance()).then(BackfillAdvanced)
    assert outcome.event(BackfillAdvanced).is_last and not any(type(i) is Backfill for i in outcome.intents)
    outcome = outcome.when(ends(-3, -2)).then(BackfillTaskEnded, BackfillTaskEnded)
    over = outcome.when(ends(-1, status=TaskStatus.CANCELLED)).then(BackfillTaskEnded, BackfillFinished)
    assert (over.state.status, over.state.succeeded, over.state.failed, over.state.cancelled) == ("finished", 3, 1, 1)
    assert over.intents == frozenset()
    over.when(ends(-1), advance()).then_nothing()


def test_what_has_a_task_is_left_out_and_counted() -> None:
    outcome = a_backfill(concurrent=5).when(advance(-5, -3, -1)).then(BackfillAdvanced)
    event = outcome.event(BackfillAdvanced)
    assert (event.task_ids, event.left_out, event.is_last) == ((task_id(-4), task_id(-2)), 3, True)
    nothing = a_backfill(concurrent=5).when(advance(*range(-5, 0))).then(BackfillAdvanced, BackfillFinished)
    assert nothing.state.left_out == 5


def test_it_asks_which_tasks_exist_and_looks_further_where_all_do() -> None:
    started = a_backfill(first=-250, concurrent=2)
    unknown = started.when(AdvanceBackfill(job=a_job())).then_rejected("tasks_unknown").rejected
    assert unknown is not None and unknown.detail["task_ids"] == [task_id(-250), task_id(-249)]
    skipping = started.when(advance(*range(-250, 0))).then(BackfillAdvanced)
    assert skipping.event(BackfillAdvanced).left_out == 2
    further = skipping.when(advance(*range(-250, 0))).then(BackfillAdvanced)
    assert further.event(BackfillAdvanced).left_out == 2 + LOOKED_AT_MAX


def test_a_cancel_stops_what_is_not_made_and_wants_what_waits_cancelled() -> None:
    cancelled = a_backfill().when(advance(), CancelBackfill(note="wrong data")).then(BackfillCancelled)
    assert (cancelled.state.status, cancelled.state.note) == (BackfillStatus.CANCELLED, "wrong data")
    (wish,) = [each for each in cancelled.intents if type(each) is Backfill]
    assert wish.waiting == {task_id(-5), task_id(-4)}
    cancelled.when(advance()).then_nothing()
    cancelled.when(CancelBackfill()).then_nothing()
    over = cancelled.when(ends(-5, -4, status=TaskStatus.CANCELLED))
    over.then(BackfillTaskEnded, BackfillTaskEnded, BackfillFinished)
    assert (over.state.status, over.intents) == (BackfillStatus.CANCELLED, frozenset())
    a_backfill().when(CancelBackfill()).then(BackfillCancelled, BackfillFinished)
    given(BACKFILL).when(CancelBackfill()).then_rejected("not_found")


def test_a_deleted_job_ends_it() -> None:
    deleted = AdvanceBackfill(job=a_job(deleted=True))
    outcome = a_backfill().when(deleted).then(BackfillCancelled, BackfillFinished)
    assert outcome.event(BackfillCancelled).reason == "job_deleted"


# --- the window -------------------------------------------------------------------------------------------------------


def window(state: Any, first: float, last: float, now: datetime = NOW, concurrent: int = 1) -> Any:
    return start_of(BACKFILL_ID, state, later(first), later(last), now, max_concurrent=concurrent)


def test_an_interval_that_counts_from_its_creation_is_continued_into_the_past() -> None:
    start = window(a_schedule(a_minutely()).state, -600, 0)
    assert (start.total, start.start_time) == (11, later(-600))
    assert window(a_schedule(a_minutely(start_time=later(-120))).state, -600, 0).total == 3


def test_it_never_reaches_what_the_schedule_may_still_decide() -> None:
    """Else both would make the same task."""
    schedule = a_schedule(a_minutely(misfire_policy="fire_all"))
    late = later(300)
    assert window(schedule.state, -60, 300, late).until_at == NOW  # all of them are due, none is decided
    fired = schedule.next(300).when(a_fire())
    assert window(fired.state, 0, 3600, late).until_at == later(300)
    disabled = schedule.next(300).when(DisableSchedule())
    assert window(disabled.state, 0, 3600, late).until_at == late


@pytest.mark.parametrize(
    ("members", "first", "last", "concurrent", "path"),
    [
        ({}, -60, -120, 1, "to"),
        ({}, -60, -1, 0, "max_concurrent"),
        ({}, -60, -1, 101, "max_concurrent"),
        ({}, 60, 120, 1, "from"),
        ({"start_time": NOW}, -120, -60, 1, "from"),
        ({"interval_secs": 1}, -TOTAL_MAX - 10, 0, 1, "to"),
        ({"interval_mode": "fixed_delay", "overlap_policy": "skip"}, -60, -1, 1, "id"),
    ],
)
def test_what_cannot_be_backfilled_is_refused(
    members: dict[str, Any], first: float, last: float, concurrent: int, path: str
) -> None:
    with pytest.raises(Rejected) as refused:
        window(a_schedule(a_minutely(**members)).state, first, last, concurrent=concurrent)
    assert refused.value.detail["path"] == path


def test_cron_keeps_its_zone() -> None:
    state = a_schedule(a_cron("30 2 * * *", timezone="Europe/Berlin")).state
    start = window(state, -86_400 * 2, 0)
    assert (start.total, start.timezone) == (2, "Europe/Berlin")


@settings(max_examples=60, deadline=None)
@property_of(
    count=st.integers(1, 130),
    concurrent=st.integers(1, 20),
    existing=st.sets(st.integers(-260, -1)),
    data=st.data(),
)
def test_every_nominal_time_is_one_task_at_most_whatever_the_order_of_the_ends(
    count: int, concurrent: int, existing: set[int], data: st.DataObject
) -> None:
    at = a_backfill(first=-count, concurrent=concurrent)
    have, made, cancelled = set(existing), list[str](), False
    for _ in range(4 * count + 20):
        open_ids = list(at.state.open_tasks)
        assert len(open_ids) <= concurrent
        if at.intents == frozenset():
            break
        wishes = [wish for wish in at.intents if type(wish) is Backfill]
        if wishes and not cancelled:
            at = at.when(advance(*have))
            advanced = at.event(BackfillAdvanced)
            assert len(advanced.task_ids) <= LOOKED_AT_MAX
            made += advanced.task_ids
            have |= {minutes for minutes in range(-count, 0) if task_id(minutes) in advanced.task_ids}
        if at.state.open_tasks:
            ended = data.draw(st.sampled_from(sorted(at.state.open_tasks)))
            told = NoteBackfillEnds(ends=[TaskEnd(task_id=ended, status=100, ended_at=NOW)])
            at = at.when(told)
            at.when(told).then_nothing()
        if data.draw(st.integers(0, 200)) == 0 and at.state.is_running:
            at, cancelled = at.when(CancelBackfill()), True
    assert at.intents == frozenset()
    assert len(made) == len(set(made)) == at.state.made == at.state.succeeded
    if not cancelled:
        wanted = [task_id(minutes) for minutes in range(-count, 0) if minutes not in existing]
        assert made == wanted and at.state.left_out == count - len(wanted)
        assert at.state.status is BackfillStatus.FINISHED
