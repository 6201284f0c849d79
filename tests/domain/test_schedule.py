"""The schedule's decider: creation, edits, fires, the end."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from hetuflow.domain.commands import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    SuspendSchedule,
    UpdateSchedule,
)
from hetuflow.domain.daemon_rules import DEFAULTS as DAEMON_DEFAULTS
from hetuflow.domain.decider import Address, Due, Guard
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleSuspended,
    ScheduleUpdated,
    TaskCreated,
    TaskDispatched,
    TaskLocked,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.schedule_state import EDITABLE
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, Given, given, later
from tests.support.schedules import SCHEDULE_ID, a_cron, a_fire, a_minutely, a_schedule
from tests.support.tasks import JOB_ID, LEASE, OTHER_PLACEMENT, PLACEMENT, a_job

# --- creation ------------------------------------------------------------------------------------------------------


def test_an_interval_counts_from_its_creation() -> None:
    outcome = a_schedule().then(ScheduleCreated)
    created = outcome.event(ScheduleCreated)
    assert (created.next_run_at, created.anchor_at, created.status) == (later(60), NOW, 100)
    assert outcome.intents == {Due(later(60))}


def test_creation_is_guarded_by_the_jobs_version() -> None:
    guard = Guard(f"job-{JOB_ID}", 4)
    assert a_schedule(a_minutely(guards=[guard])).decision.guards == (guard,)


def test_a_past_start_fires_on_its_grid_and_none_of_the_past_ones() -> None:
    assert a_schedule(a_minutely(start_time=later(-90))).state.next_run_at == later(30)


def test_nothing_fires_at_the_instant_of_creation() -> None:
    assert a_schedule(a_minutely(start_time=NOW)).state.next_run_at == later(60)
    assert a_schedule(a_cron("0 0 12 * * ?")).state.next_run_at == later(86_400)


def test_cron_follows_its_zone() -> None:
    state = a_schedule(a_cron("0 0 12 * * ?", timezone="Asia/Shanghai")).state
    assert state.next_run_at.isoformat() == "2026-03-02T04:00:00+00:00"


def test_a_disabled_schedule_has_no_next_run() -> None:
    outcome = a_schedule(a_minutely(status=99))
    assert (outcome.state.next_run_at, outcome.intents) == (None, frozenset())


def test_a_window_that_is_over_expires_at_once() -> None:
    outcome = a_schedule(a_minutely(end_time=later(59))).then(ScheduleCreated, ScheduleExpired)
    assert outcome.event(ScheduleExpired).reason == "end_time"
    assert outcome.state.status is ScheduleStatus.EXPIRED
    a_schedule(a_minutely(end_time=later(60))).then(ScheduleCreated)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"schedule_kind": ScheduleKind.EVENT}, "event_type"),
        ({"schedule_kind": ScheduleKind.EVENT, "event_type": "task.faild"}, "event_type"),
        (
            {"schedule_kind": ScheduleKind.EVENT, "event_type": "x", "event_filter": {"a": {"$gtt": 1}}},
            "event_filter.a.$gtt",
        ),
        ({"debounce_seconds": -1}, "debounce_seconds"),
        ({"schedule_kind": ScheduleKind.DAEMON, "daemon": {"instances": -1}}, "daemon.instances"),
        ({"schedule_kind": ScheduleKind.DAEMON, "daemon": {"instants": 1}}, "daemon.instants"),
        ({"schedule_kind": ScheduleKind.DAEMON, "run_flow": True}, "run_flow"),
        ({"schedule_kind": 42}, "schedule_kind"),
        ({"interval_secs": None}, "interval_secs"),
        ({"interval_secs": None, "max_count": 1}, "start_time"),
        ({"interval_secs": 0}, "interval_secs"),
        ({"interval_secs": 2**53}, "interval_secs"),
        ({"schedule_kind": ScheduleKind.CRON}, "cron_expression"),
        ({"schedule_kind": ScheduleKind.CRON, "cron_expression": "61 * * * *"}, "cron_expression"),
        ({"schedule_kind": ScheduleKind.CRON, "cron_expression": "0 0 30 2 *"}, "cron_expression"),
        ({"schedule_kind": ScheduleKind.CRON, "cron_expression": "* * * * *", "timezone": "Mars/Phobos"}, "timezone"),
        ({"start_time": later(1), "end_time": NOW}, "end_time"),
        ({"max_count": 0}, "max_count"),
        ({"overlap_policy": "perhaps"}, "overlap_policy"),
        ({"jitter_seconds": -1}, "jitter_seconds"),
        ({"jitter_seconds": 30 * 86_400 + 1}, "jitter_seconds"),
        ({"misfire_policy": "maybe"}, "misfire_policy"),
        ({"misfire_grace_seconds": -1}, "misfire_grace_seconds"),
        ({"misfire_grace_seconds": 2**53}, "misfire_grace_seconds"),
        ({"max_age_seconds": 0}, "max_age_seconds"),
        ({"max_age_seconds": 2**53}, "max_age_seconds"),
        ({"status": 2}, "status"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_on_creation_and_on_edit(members: dict[str, Any], path: str) -> None:
    a_schedule(a_minutely(**members)).then_rejected("invalid", path=path)
    a_schedule().when(UpdateSchedule(changes=members)).then_rejected("invalid", path=path)


def test_the_place_of_a_mistake_in_an_expression_is_named() -> None:
    assert a_schedule(a_cron("0 25 * * *")).then_rejected("invalid").rejected.detail["position"] == 2


def test_an_id_is_never_free_again() -> None:
    a_schedule().when(a_minutely()).then_rejected("already_exists", kind="schedule", id=SCHEDULE_ID)
    a_schedule().when(DeleteSchedule(), a_minutely()).then_rejected("already_exists")


# --- fire ----------------------------------------------------------------------------------------------------------


def test_a_fire_opens_the_tasks_stream_under_the_job_and_the_lease() -> None:
    schedule = a_schedule(a_minutely(parameters={"a": 1}, priority=7))
    outcome = schedule.next(60).when(a_fire(guards=[LEASE])).then(ScheduleFired)
    fired, created = outcome.event(ScheduleFired), outcome.event(TaskCreated)
    task_id = task_id_of(SCHEDULE_ID, later(60))
    assert (fired.nominal_at, fired.fired_at, fired.fire_count, fired.task_id) == (later(60), later(60), 1, task_id)
    assert fired.next_run_at == later(120)
    assert list(outcome.decision.opened) == [Address("task", task_id)]
    assert outcome.decision.guards == (a_job().guard, LEASE)
    assert (created.task_id, created.schedule_id, created.trigger) == (task_id, SCHEDULE_ID, "schedule")
    assert (created.nominal_at, created.scheduled_at, created.created_at) == (later(60), later(60), later(60))
    assert (created.parameters, created.priority, created.schedule_kind) == ({"a": 1}, 7, 2)
    assert outcome.intents == {Due(later(120))}


def test_before_its_time_nothing_fires() -> None:
    schedule = a_schedule()
    schedule.next(59.999999).when(a_fire()).then_nothing()
    schedule.next(60).when(a_fire(), a_fire()).then_nothing()


def test_a_clock_that_steps_back_fires_nothing_twice() -> None:
    fired = a_schedule().next(60).when(a_fire())
    fired.next(-30).when(a_fire()).then_nothing()
    fired.next(0).when(a_fire()).then_nothing()
    fired.next(60).when(a_fire()).then(ScheduleFired)


def test_placements_are_used_in_order_and_the_rest_is_not() -> None:
    placements = [PLACEMENT, OTHER_PLACEMENT, PLACEMENT]
    schedule = a_schedule(a_minutely(misfire_policy="fire_all"))
    outcome = schedule.next(180).when(a_fire(placements=placements[:2]))
    outcome.then(ScheduleFired, ScheduleFired, ScheduleFired)
    kinds = [[type(event) for event in events] for events in outcome.decision.opened.values()]
    assert kinds == [[TaskCreated, TaskLocked, TaskDispatched]] * 2 + [[TaskCreated]]
    assert [events[2].agent_id for events in list(outcome.decision.opened.values())[:2]] == ["agent-1", "agent-2"]
    assert outcome.decision.guards == (a_job().guard, LEASE)
    one = schedule.next(60).when(a_fire(placements=placements))
    assert len(one.decision.opened) == 1


@pytest.mark.parametrize(
    ("policy", "skipped", "fired"),
    [
        ("fire_once", [(60, 180, 3)], [240, 300]),
        ("skip", [(60, 240, 4)], [300]),
        ("fire_all", [], [60, 120, 180, 240, 300]),
    ],
)
def test_after_downtime_the_misfire_policy_decides(
    policy: str, skipped: list[tuple[int, int, int]], fired: list[int]
) -> None:
    """At 12:05:59 with a grace of 60 s only 12:05 is on time."""
    outcome = a_schedule(a_minutely(misfire_policy=policy)).next(359).when(a_fire())
    events = outcome.decision.events
    skips = [event for event in events if type(event) is ScheduleSkipped]
    assert [(e.first_nominal_at, e.last_nominal_at, e.count, e.reason) for e in skips] == [
        (later(first), later(last), count, "misfire") for first, last, count in skipped
    ]
    assert [e.nominal_at for e in events if type(e) is ScheduleFired] == [later(at) for at in fired]
    following = [later(at) for at in fired] + [later(360)]
    assert [e.next_run_at for e in events] == ([following[0]] if skipped else []) + following[1:]
    assert outcome.state.fire_count == len(fired)


def test_a_long_absence_is_decided_in_bounded_steps() -> None:
    schedule = a_schedule(a_minutely(misfire_policy="fire_all")).next(60 * 250)
    counts = []
    while schedule.state.next_run_at <= schedule.now:
        outcome = schedule.when(a_fire())
        counts.append(len(outcome.decision.opened))
        schedule = outcome.next()
    assert (counts, schedule.state.fire_count) == ([100, 100, 50], 250)


def test_a_disabled_job_is_skipped_visibly() -> None:
    outcome = a_schedule().next(150).when(a_fire(a_job(status=99), guards=[LEASE])).then(ScheduleSkipped)
    skipped = outcome.event(ScheduleSkipped)
    assert (skipped.first_nominal_at, skipped.last_nominal_at, skipped.count) == (later(60), later(120), 2)
    assert (skipped.reason, skipped.next_run_at) == ("job_disabled", later(180))
    assert outcome.decision.guards == (a_job().guard, LEASE)


def test_nominal_times_up_to_the_jobs_enabling_are_not_fired() -> None:
    enabled = a_job(enabled_at=later(120))
    outcome = a_schedule().next(190).when(a_fire(enabled)).then(ScheduleSkipped, ScheduleFired)
    assert outcome.event(ScheduleSkipped).count == 2
    assert outcome.event(ScheduleFired).nominal_at == later(180)
    only = a_schedule().next(130).when(a_fire(enabled)).then(ScheduleSkipped)
    assert only.state.next_run_at == later(180)


def test_an_enabling_of_the_job_in_the_future_of_a_stepped_clock_covers_only_up_to_now() -> None:
    outcome = a_schedule().next(70).when(a_fire(a_job(enabled_at=later(600)))).then(ScheduleSkipped)
    assert outcome.state.next_run_at == later(120)


def test_a_deleted_job_deletes_its_schedule() -> None:
    outcome = a_schedule().next(60).when(a_fire(a_job(deleted=True))).then(ScheduleDeleted)
    assert outcome.event(ScheduleDeleted).reason == "job_deleted"
    assert outcome.intents == frozenset()
    outcome.when(a_fire()).then_nothing()


def test_a_schedule_expires_with_its_last_fire() -> None:
    schedule = a_schedule(a_minutely(max_count=2))
    first = schedule.next(60).when(a_fire()).then(ScheduleFired)
    last = first.next(60).when(a_fire()).then(ScheduleFired, ScheduleExpired)
    assert last.event(ScheduleFired).next_run_at is None
    assert last.event(ScheduleExpired).reason == "max_count"
    last.next(60).when(a_fire()).then_nothing()
    last.when(EnableSchedule()).then(ScheduleEnabled, ScheduleExpired)


def test_a_schedule_expires_at_the_end_of_its_window_which_is_included() -> None:
    outcome = a_schedule(a_minutely(end_time=later(60))).next(60).when(a_fire()).then(ScheduleFired, ScheduleExpired)
    assert outcome.event(ScheduleExpired).reason == "end_time"


def test_an_expression_without_a_further_fire_expires() -> None:
    outcome = a_schedule(a_cron("0 0 13 1 3 ? 2026")).next(3600).when(a_fire()).then(ScheduleFired, ScheduleExpired)
    assert outcome.event(ScheduleExpired).reason == "no_further_fire"


def test_a_window_that_ends_while_the_job_is_disabled_expires() -> None:
    schedule = a_schedule(a_minutely(end_time=later(60))).next(90)
    schedule.when(a_fire(a_job(status=99))).then(ScheduleSkipped, ScheduleExpired)


def test_a_suspended_schedule_fires_nothing_until_it_is_enabled() -> None:
    suspended = a_schedule().when(SuspendSchedule(error="boom")).then(ScheduleSuspended)
    assert suspended.state.status is ScheduleStatus.DISABLED and suspended.intents == frozenset()
    suspended.when(SuspendSchedule(error="boom")).then_nothing()
    suspended.next(90).when(a_fire()).then_nothing()
    assert suspended.next(90).when(EnableSchedule()).state.next_run_at == later(120)


def test_a_schedule_whose_trigger_is_broken_fails_loudly_and_can_be_suspended() -> None:
    """A stored zone that tzdata no longer knows: `decide` raises, it never looks as if it were done."""
    state = evolve(a_schedule(a_cron("* * * * *")).state, timezone="Gone/Away")
    with pytest.raises(ValueError, match="Gone/Away"):
        Given(SCHEDULE, state, later(60)).when(a_fire())
    Given(SCHEDULE, state, later(60)).when(SuspendSchedule(error="zone")).then(ScheduleSuspended)


@pytest.mark.parametrize("job", [a_job(), a_job(status=99)], ids=["enabled", "disabled"])
def test_a_next_run_that_is_no_nominal_time_any_more_is_restated(job: Any) -> None:
    """Its zone's rules changed since it was computed. Without an event it would be due for ever."""
    state = evolve(a_schedule(a_cron("0 0 12 * * ?")).state, next_run_at=later(3600))
    outcome = Given(SCHEDULE, state, later(3600)).when(a_fire(job)).then(ScheduleUpdated)
    assert outcome.event(ScheduleUpdated).changed == ()
    assert outcome.intents == {Due(later(86_400))}


# --- once ----------------------------------------------------------------------------------------------------------


def a_once(seconds: float, **members: Any) -> CreateSchedule:
    return a_minutely(max_count=1, start_time=later(seconds), **{"interval_secs": None, **members})


def test_once_fires_at_its_start_and_is_over() -> None:
    once = a_schedule(a_once(90))
    assert once.state.next_run_at == later(90)
    once.next(90).when(a_fire()).then(ScheduleFired, ScheduleExpired)


@pytest.mark.parametrize("policy", ["fire_once", "fire_all"])
@pytest.mark.parametrize("late", [0, 3600])
def test_once_created_late_fires_by_its_policy(policy: str, late: int) -> None:
    once = a_schedule(a_once(-late, misfire_policy=policy)).then(ScheduleCreated)
    assert once.intents == {Due(later(-late))}
    outcome = once.when(a_fire()).then(ScheduleFired, ScheduleExpired)
    assert outcome.event(ScheduleFired).nominal_at == later(-late)


def test_once_created_late_is_skipped_by_its_policy() -> None:
    once = a_schedule(a_once(-3600, misfire_policy="skip"))
    once.when(a_fire()).then(ScheduleSkipped, ScheduleExpired)
    a_schedule(a_once(-60, misfire_policy="skip")).when(a_fire()).then(ScheduleFired, ScheduleExpired)


@pytest.mark.parametrize("policy", ["skip", "fire_once", "fire_all"])
def test_once_created_later_than_its_maximum_age_never_fires(policy: str) -> None:
    late = a_schedule(a_once(-3600, misfire_policy=policy, misfire_grace_seconds=7200, max_age_seconds=3599))
    outcome = late.when(a_fire()).then(ScheduleSkipped, ScheduleExpired)
    assert outcome.event(ScheduleSkipped).reason == "max_age"
    young = a_schedule(a_once(-3600, misfire_policy=policy, misfire_grace_seconds=7200, max_age_seconds=3600))
    young.when(a_fire()).then(ScheduleFired, ScheduleExpired)


def test_once_with_an_interval_and_no_start_fires_after_it() -> None:
    once = a_schedule(a_minutely(max_count=1))
    once.next(60).when(a_fire()).then(ScheduleFired, ScheduleExpired)


def test_an_edit_of_its_times_or_an_enabling_never_makes_once_fire_late() -> None:
    once = a_schedule(a_once(60))
    outcome = once.next(90).when(UpdateSchedule(changes={"timezone": "Europe/Berlin"}))
    outcome.then(ScheduleSkipped, ScheduleUpdated, ScheduleExpired)
    disabled = a_schedule(a_once(-60, status=99))
    disabled.when(EnableSchedule()).then(ScheduleEnabled, ScheduleExpired)


# --- edits, enabling, the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"max_count": 7},
        {"timezone": "Europe/Berlin"},
        {"end_time": later(86_400)},
        {"misfire_policy": "fire_all"},
        {"misfire_grace_seconds": 7},
        {"name": "x", "misfire_grace_seconds": 7},
    ],
)
def test_an_edit_of_the_times_covers_what_was_due_and_fires_nothing_at_or_before_itself(
    changes: dict[str, Any],
) -> None:
    outcome = a_schedule().next(120).when(UpdateSchedule(changes=changes)).then(ScheduleSkipped, ScheduleUpdated)
    skipped, updated = outcome.event(ScheduleSkipped), outcome.event(ScheduleUpdated)
    assert (skipped.first_nominal_at, skipped.last_nominal_at, skipped.reason) == (later(60), later(120), "edited")
    assert (updated.next_run_at, updated.changed, updated.anchor_at) == (later(180), tuple(changes), NOW)


@pytest.mark.parametrize(
    "changes",
    [{"name": "x"}, {"description": "x"}, {"parameters": {"a": 1}}, {"priority": 3}, {"event_type": "x"}],
)
def test_an_edit_of_anything_else_leaves_what_is_due_as_it_is(changes: dict[str, Any]) -> None:
    """After downtime the due moment is decided by the misfire policy, whether or not somebody edits first."""
    outcome = a_schedule().next(120).when(UpdateSchedule(changes=changes)).then(ScheduleUpdated)
    assert outcome.event(ScheduleUpdated).next_run_at == later(60)
    assert outcome.intents == {Due(later(60))}
    fired = outcome.next(1).when(a_fire()).then(ScheduleFired, ScheduleFired)
    assert [event.nominal_at for event in fired.decision.events] == [later(60), later(120)]
    for created, *_ in fired.decision.opened.values():
        assert created.parameters == changes.get("parameters", {})
        assert created.priority == changes.get("priority", 0)


def test_every_editable_member_can_be_changed_and_is_then_what_counts() -> None:
    changes = {
        "name": "other",
        "description": "d",
        "schedule_kind": ScheduleKind.CRON,
        "cron_expression": "0 0 13 * * ?",
        "interval_secs": 5,
        "max_count": 9,
        "timezone": "Europe/Berlin",
        "start_time": later(-60),
        "end_time": later(86_400),
        "event_type": "x",
        "event_filter": {"a": 1},
        "misfire_policy": "skip",
        "misfire_grace_seconds": 7,
        "max_age_seconds": 70,
        "pause_on_failures": 3,
        "overlap_policy": "queue",
        "jitter_seconds": 5,
        "parameters": {"p": 1},
        "priority": 3,
        "debounce_seconds": 4,
        "daemon": {**DAEMON_DEFAULTS, "instances": 3},
    }
    outcome = a_schedule().when(UpdateSchedule(changes=changes)).then(ScheduleUpdated)
    updated = outcome.event(ScheduleUpdated)
    # interval_mode is what a cron expression has not, exclude_calendars is told with calendars, run_flow knows no pause_on_failures
    assert {*changes, "interval_mode", "exclude_calendars", "run_flow"} == set(EDITABLE)
    assert set(changes) == set(updated.changed)
    assert {name: getattr(updated, name) for name in changes} == changes
    assert {name: getattr(outcome.state, name) for name in changes} == changes


def test_creation_records_every_member() -> None:
    members = {
        "name": "n",
        "description": "d",
        "timezone": "Europe/Berlin",
        "event_type": "x",
        "event_filter": {"a": 1},
        "misfire_grace_seconds": 7,
        "max_age_seconds": 70,
        "priority": 3,
        "debounce_seconds": 4,
        "end_time": later(3600),
    }
    outcome = a_schedule(a_minutely(**members))
    assert {name: getattr(outcome.event(ScheduleCreated), name) for name in members} == members
    assert {name: getattr(outcome.state, name) for name in members} == members


def test_an_edit_that_changes_nothing_is_nothing() -> None:
    same = {"interval_secs": 60, "name": None, "status": 100, "parameters": {}}
    a_schedule().next(90).when(UpdateSchedule(changes=same)).then_nothing()


@pytest.mark.parametrize(
    ("changes", "anchored", "next_run"),
    [
        ({"interval_secs": 100}, 30, 130),
        ({"priority": 3}, 0, 60),
        ({"end_time": later(600)}, 0, 60),
        ({"start_time": later(-100)}, 30, 80),
        ({"schedule_kind": ScheduleKind.CRON, "cron_expression": "0 0 13 * * ?"}, 30, 3600),
    ],
)
def test_the_anchor_moves_only_with_what_it_anchors(changes: dict[str, Any], anchored: int, next_run: int) -> None:
    updated = a_schedule().next(30).when(UpdateSchedule(changes=changes)).event(ScheduleUpdated)
    assert (updated.anchor_at, updated.next_run_at) == (later(anchored), later(next_run))


def test_an_edit_that_leaves_no_fire_expires_it() -> None:
    a_schedule().when(UpdateSchedule(changes={"end_time": later(30)})).then(ScheduleUpdated, ScheduleExpired)
    fired = a_schedule(a_minutely(max_count=5)).next(60).when(a_fire())
    outcome = fired.when(UpdateSchedule(changes={"max_count": 1})).then(ScheduleUpdated, ScheduleExpired)
    assert outcome.event(ScheduleExpired).reason == "max_count"


def test_an_edit_of_a_disabled_schedule_leaves_it_without_next_run() -> None:
    disabled = a_schedule().when(DisableSchedule())
    outcome = disabled.when(UpdateSchedule(changes={"interval_secs": 5})).then(ScheduleUpdated)
    assert outcome.event(ScheduleUpdated).next_run_at is None
    outcome.when(UpdateSchedule(changes={"status": 100, "name": "x"})).then(ScheduleUpdated, ScheduleEnabled)


def test_a_change_of_kind_needs_what_the_new_kind_requires() -> None:
    change = {"schedule_kind": ScheduleKind.CRON}
    a_schedule().when(UpdateSchedule(changes=change)).then_rejected("invalid", path="cron_expression")
    a_schedule(a_minutely(cron_expression="* * * * *")).when(UpdateSchedule(changes=change)).then(ScheduleUpdated)


def test_members_that_cannot_change_are_refused() -> None:
    a_schedule().when(UpdateSchedule(changes={"job_id": "x"})).then_rejected("invalid", path="job_id")


def test_disabling_covers_what_was_due_and_enabling_starts_after_itself() -> None:
    disabled = a_schedule().next(90).when(DisableSchedule()).then(ScheduleSkipped, ScheduleDisabled)
    assert disabled.event(ScheduleSkipped).reason == "disabled"
    disabled.when(DisableSchedule()).then_nothing()
    enabled = disabled.next(150).when(EnableSchedule()).then(ScheduleEnabled)
    assert enabled.state.next_run_at == later(300)
    enabled.when(EnableSchedule()).then_nothing()


@pytest.mark.parametrize("status", [1, 98])
def test_a_client_may_set_any_status(status: int) -> None:
    outcome = a_schedule().when(UpdateSchedule(changes={"status": status})).then(ScheduleDisabled)
    assert (outcome.state.status, outcome.intents) == (status, frozenset())


def test_an_enabling_after_the_clock_stepped_back_yields_no_old_nominal_time() -> None:
    fired = a_schedule().next(180).when(a_fire())
    assert fired.state.last_run_at == later(180)
    enabled = fired.next(-150).when(DisableSchedule(), EnableSchedule())
    assert enabled.state.next_run_at == later(240)


def test_deletion_covers_what_was_due_and_is_final() -> None:
    outcome = a_schedule().next(60).when(DeleteSchedule()).then(ScheduleSkipped, ScheduleDeleted)
    assert outcome.event(ScheduleSkipped).reason == "deleted"
    for command in (DeleteSchedule(), EnableSchedule(), DisableSchedule(), UpdateSchedule(changes={"name": "x"})):
        outcome.when(command).then_rejected("not_found", kind="schedule")


@pytest.mark.parametrize(
    "command", [DeleteSchedule(), EnableSchedule(), DisableSchedule(), UpdateSchedule(changes={}), a_fire()]
)
def test_there_is_no_such_schedule(command: Any) -> None:
    given(SCHEDULE).when(command).then_rejected("not_found", kind="schedule")


# --- the fold ------------------------------------------------------------------------------------------------------


def test_the_fold_refuses_a_nominal_time_that_does_not_grow() -> None:
    fired = a_schedule().next(60).when(a_fire())
    again, skipped = fired.event(ScheduleFired), a_schedule().next(70).when(a_fire(a_job(status=99)))
    with pytest.raises(IllegalTransition, match="not after"):
        SCHEDULE.evolve(fired.state, again)
    with pytest.raises(IllegalTransition, match="not after"):
        SCHEDULE.evolve(fired.state, skipped.event(ScheduleSkipped))


def test_the_fold_refuses_what_a_disabled_or_deleted_schedule_cannot_do() -> None:
    fire, schedule = a_schedule().next(60).when(a_fire()).event(ScheduleFired), a_schedule()
    created, deleted = schedule.event(ScheduleCreated), schedule.when(DeleteSchedule())
    for state, event in [
        (schedule.when(DisableSchedule()).state, fire),
        (deleted.state, fire),
        (deleted.state, deleted.event(ScheduleDeleted)),
        (schedule.state, created),
        (SCHEDULE.initial, fire),
    ]:
        with pytest.raises(IllegalTransition):
            SCHEDULE.evolve(state, event)
