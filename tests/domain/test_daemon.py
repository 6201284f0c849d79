"""The rules of a daemon, one by one: back-off, limit, what is replaced when, and what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given as property_of
from hypothesis import strategies as st

from hetuflow.domain.commands import (
    CancelTask,
    CreateSchedule,
    DisableSchedule,
    EnableSchedule,
    RetryTask,
    SeatTask,
    SuspendSchedule,
    TendDaemon,
    UpdateSchedule,
)
from hetuflow.domain.daemon import made_of
from hetuflow.domain.daemon_report import report
from hetuflow.domain.daemon_rules import DEFAULTS, DaemonRules, problems
from hetuflow.domain.daemon_state import digest_of
from hetuflow.domain.decider import Keep, Offer
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus
from hetuflow.domain.events import (
    DaemonGaveUp,
    ScheduleCreated,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleSuspended,
    ScheduleUpdated,
    SeatEnded,
    SeatReady,
    SeatRunning,
    SeatsStopping,
    SeatStarted,
    TaskCreated,
)
from hetuflow.domain.identity import seat_task_id_of
from hetuflow.domain.task import TASK
from tests.support.given import NOW, Given, Outcome, given, later
from tests.support.schedules import a_minutely, a_schedule
from tests.support.tasks import a_job


def a_daemon(instances: int = 1, **members: Any) -> CreateSchedule:
    daemon = {"instances": instances, **members.pop("daemon", {})}
    return a_minutely(schedule_kind=ScheduleKind.DAEMON, interval_secs=None, daemon=daemon, **members)


def tend(*tasks: SeatTask, **job: Any) -> TendDaemon:
    return TendDaemon(job=a_job(**job), tasks=tasks)


def task_of(outcome: Outcome | Given, seat: int = 0) -> str:
    task_id: str = next(each.task_id for each in outcome.state.seats if each.number == seat)
    return task_id


def runs(outcome: Outcome | Given, seat: int = 0) -> SeatTask:
    return SeatTask(task_id=task_of(outcome, seat), is_running=True, agent_id="agent-1")


def ended(outcome: Outcome | Given, how: str = "exit_code", seat: int = 0, **members: Any) -> SeatTask:
    outcomes = {"succeeded": ("succeeded", None), "cancelled": ("cancelled", None)}
    kind, reason = outcomes.get(how, ("failed", how))
    at = members.pop("ended_at", outcome.now)
    return SeatTask(task_id=task_of(outcome, seat), ended_at=at, outcome=kind, reason=reason, **members)


def running(instances: int = 1, ready_after: float = 10, **members: Any) -> Outcome:
    """A daemon all of whose instances are available."""
    at = a_schedule(a_daemon(instances, **members)).when(tend())
    at = at.next(1).when(tend(*(runs(at, seat) for seat in range(instances))))
    return at.next(ready_after).when(tend()) if ready_after else at


# --- rules -------------------------------------------------------------------------------------------------------------


@property_of(
    first=st.one_of(st.none(), st.integers(0, 1000)),
    factor=st.floats(1, 10),
    most=st.integers(0, 100_000),
    retry_interval=st.integers(0, 5000),
    failures=st.integers(0, 5000),
)
def test_the_back_off_grows_from_the_first_pause_to_the_longest_and_no_further(
    first: int | None, factor: float, most: int, retry_interval: int, failures: int
) -> None:
    rules = DaemonRules.of({"backoff_initial_seconds": first, "backoff_factor": factor, "backoff_max_seconds": most})
    base = retry_interval if first is None else first
    pause = rules.backoff_seconds(failures, retry_interval)
    assert base <= pause <= max(base, most)
    assert pause <= rules.backoff_seconds(failures + 1, retry_interval)
    assert rules.backoff_seconds(0, retry_interval) == rules.backoff_seconds(1, retry_interval) == base


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"instances": -1}, "instances"),
        ({"instances": 1.0}, "instances"),
        ({"instances": True}, "instances"),
        ({"instances": "3"}, "instances"),
        ({"backoff_factor": 0.9}, "backoff_factor"),
        ({"backoff_factor": float("nan")}, "backoff_factor"),
        ({"max_unavailable": 0}, "max_unavailable"),
        ({"restart_window_seconds": 0}, "restart_window_seconds"),
        ({"backoff_initial_seconds": 9, "backoff_max_seconds": 8}, "backoff_max_seconds"),
        ({"restarts": 1}, "restarts"),
        ({"spread": 1}, "spread"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(members: dict[str, Any], path: str) -> None:
    assert [where for where, _ in problems(members)] == [f"daemon.{path}"]
    a_schedule(a_daemon(daemon={"instances": 1, **members})).then_rejected("invalid", path=f"daemon.{path}")
    a_schedule(a_daemon()).when(UpdateSchedule(changes={"daemon": members})).then_rejected("invalid")


def test_the_member_is_stored_complete_and_kept_by_other_kinds() -> None:
    created = a_schedule(a_daemon(2)).event(ScheduleCreated)
    assert created.daemon == {**DEFAULTS, "instances": 2}
    assert a_schedule(a_minutely(schedule_kind=ScheduleKind.DAEMON)).event(ScheduleCreated).daemon == DEFAULTS
    assert a_schedule().event(ScheduleCreated).daemon is None
    kept = a_schedule(a_minutely(daemon={"instances": 4}))
    kind = kept.when(UpdateSchedule(changes={"schedule_kind": ScheduleKind.DAEMON})).then(ScheduleUpdated)
    assert kind.state.daemon["instances"] == 4
    a_schedule(a_daemon(2)).when(UpdateSchedule(changes={"daemon": {"instances": 2}})).then_nothing()
    cleared = a_schedule(a_daemon(2)).when(UpdateSchedule(changes={"daemon": None})).event(ScheduleUpdated)
    assert cleared.daemon == DEFAULTS


def test_a_task_of_a_daemon_is_made_so_that_only_the_daemon_starts_it_again() -> None:
    job = a_job(config={**a_job().config, "timeout": 50, "max_retries": 7, "start_deadline_seconds": 9})
    at = a_schedule(a_daemon(daemon={"timeout_seconds": 5}, parameters={"a": 1}, priority=4))
    created = at.when(TendDaemon(job=job)).event(TaskCreated)
    assert (created.trigger, created.schedule_kind, created.nominal_at) == ("daemon", 3, None)
    assert created.environment["HETUFLOW_SEAT"] == "0"
    assert (created.parameters, created.priority) == ({"a": 1}, 4)
    config = created.config
    assert (config["timeout"], config["max_retries"], config["start_deadline_seconds"]) == (5, 0, 0)


@property_of(seats=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 99)), unique=True), at=st.floats(0, 10_000_000))
def test_the_id_of_a_task_is_the_seat_s_and_nobody_else_s(seats: list[tuple[int, int]], at: float) -> None:
    ids = {seat_task_id_of("s", seat, incarnation, later(at)) for seat, incarnation in seats}
    assert len(ids) == len(seats) and all(task_id[14] == "7" for task_id in ids)
    assert ids == {seat_task_id_of("s", seat, incarnation, later(at)) for seat, incarnation in seats}


# --- one after another -------------------------------------------------------------------------------------------------


def test_the_seats_are_filled_once() -> None:
    at = a_schedule(a_daemon(3)).when(tend()).then(SeatStarted, SeatStarted, SeatStarted)
    assert len(at.decision.opened) == 3 and at.state.next_run_at is None and at.state.fire_count == 3
    at.when(tend()).then_nothing()
    wish = at.intent(Keep)
    assert wish.task_ids == {seat.task_id for seat in at.state.seats} and not wish.cancels and wish.at is None


def test_many_seats_are_filled_in_several_decisions() -> None:
    at = a_schedule(a_daemon(250)).when(tend())
    assert len(at.decision.opened) == 100 and at.intent(Keep).at == at.now
    at = at.when(tend(), tend())
    assert len(at.decision.opened) == 50 and at.intent(Keep).at is None


def test_the_next_one_starts_when_the_pause_after_the_end_is_over() -> None:
    at = a_schedule(a_daemon(daemon={"backoff_initial_seconds": 30})).when(tend())
    at = at.next(100).when(tend(ended(at, ended_at=later(90)))).then(SeatEnded)
    assert at.event(SeatEnded).due_at == at.state.next_run_at == at.intent(Keep).at == later(120)
    at = at.next(19.9).when(tend()).then_nothing()
    started = at.next(0.1).when(tend()).then(SeatStarted).event(SeatStarted)
    assert (started.incarnation, started.why) == (2, "restarted")


def test_an_end_that_is_heard_of_long_after_it_does_not_wait_again() -> None:
    at = a_schedule(a_daemon(daemon={"backoff_initial_seconds": 30})).when(tend())
    at.next(1000).when(tend(ended(at, ended_at=later(60)))).then(SeatEnded, SeatStarted)


@pytest.mark.parametrize(
    ("how", "lived", "failures", "is_counted"),
    [
        ("exit_code", 3, 3, True),
        ("start_error", None, 3, True),
        ("timeout", 61, 0, True),
        ("succeeded", 1, 0, True),
        ("cancelled", 1, 0, False),
        ("lost", 1, 2, False),
    ],
)
def test_what_counts_as_a_failure(how: str, lived: float | None, failures: int, is_counted: bool) -> None:
    at = a_schedule(a_daemon(daemon={"backoff_initial_seconds": 10, "backoff_max_seconds": 10})).when(tend())
    for _ in range(2):
        at = at.next(20).when(tend(ended(at.next(20), lived_seconds=1)))
        at = at.next(20).when(tend()).then(SeatStarted)
    at = at.next(100).when(tend(ended(at.next(100), how, lived_seconds=lived)))
    event = at.event(SeatEnded)
    assert (event.failures, event.is_counted) == (failures, is_counted)
    assert event.due_at == at.now + timedelta(seconds=0 if how == "lost" else 10)


def test_lost_it_moves_at_once_but_not_more_than_once_a_second() -> None:
    at = a_schedule(a_daemon(daemon={"backoff_initial_seconds": 600, "backoff_max_seconds": 600})).when(tend())
    at = at.next(5).when(tend(ended(at.next(5), "lost"))).then(SeatEnded, SeatStarted)
    assert at.event(SeatStarted).why == "moved"
    at = at.next(0.25).when(tend(ended(at.next(0.25), "lost"))).then(SeatEnded)
    assert at.event(SeatEnded).due_at == later(6)


def test_it_gives_up_after_more_restarts_than_allowed_within_the_window() -> None:
    daemon = {"restart_limit": 2, "restart_window_seconds": 100, "backoff_initial_seconds": 0, "backoff_max_seconds": 0}
    at = a_schedule(a_daemon(2, daemon=daemon)).when(tend())
    for seconds in (0, 60, 60):  # the first is out of the window when the third comes
        at = at.next(seconds).when(tend(ended(at.next(seconds)))).next(1).when(tend())
    assert at.state.status is ScheduleStatus.ENABLED
    at = at.next(1).when(tend(ended(at.next(1)))).then(SeatEnded, DaemonGaveUp, SeatsStopping)
    assert at.event(DaemonGaveUp).restarts == 3
    assert at.state.status is ScheduleStatus.DISABLED and at.intent(Keep).cancels == {task_of(at, 1)}
    assert "3 restarts within 100 s, more than 2" in report(at.state, a_job(), at.now).summary
    back = at.next(5).when(EnableSchedule()).then(ScheduleEnabled)
    assert back.state.gave_up is None and not back.state.restarts


def test_a_limit_of_none_never_gives_up() -> None:
    at = a_schedule(a_daemon(daemon={"backoff_initial_seconds": 0, "backoff_max_seconds": 0})).when(tend())
    for _ in range(50):
        at = at.next(2).when(tend(ended(at.next(2))), tend())
    assert at.state.is_enabled and not at.state.restarts


def test_an_instance_that_starts_keeps_away_from_agents_where_others_run() -> None:
    daemon = {"backoff_initial_seconds": 0}
    at = running(3, daemon=daemon)
    at = at.next(1).when(tend(ended(at.next(1), seat=1))).then(SeatEnded, SeatStarted)
    created = at.event(TaskCreated)
    assert created.avoid == ("agent-1",)
    task = given(TASK, created)
    assert TASK.intents(task.state) == {evolve(offer_of(task), avoid=("agent-1",))}
    at = running(3, daemon={**daemon, "spread": False})
    assert at.next(1).when(tend(ended(at.next(1), seat=1))).event(TaskCreated).avoid == ()
    pinned = a_job(agent_id="agent-1")
    at = running(2, daemon=daemon)
    created = at.next(1).when(TendDaemon(job=pinned, tasks=[ended(at.next(1))])).event(TaskCreated)
    assert offer_of(given(TASK, created)).avoid == ()


def offer_of(task: Given) -> Offer:
    found = [intent for intent in TASK.intents(task.state) if isinstance(intent, Offer)]
    assert len(found) == 1
    return found[0]


# --- wanted or not -----------------------------------------------------------------------------------------------------


def test_switching_off_says_so_once_and_what_is_still_running_is_remembered() -> None:
    at = running(2).when(DisableSchedule()).then(ScheduleDisabled, SeatsStopping)
    assert at.event(SeatsStopping).cause == "disabled"
    at.when(tend()).then_nothing()
    assert at.intent(Keep).cancels == {task_of(at, 0), task_of(at, 1)}
    at = at.next(1).when(tend(ended(at, "cancelled"), ended(at, "cancelled", 1)))
    assert [type(event).__name__ for event in at.decision.events] == ["SeatEnded", "SeatEnded", "DaemonStopped"]
    assert not at.intents and at.state.next_run_at is None


def test_the_word_is_repeated_when_the_status_changes_again() -> None:
    """The table of open work forgets a schedule with each such change: it has to be told again."""
    at = running().when(DisableSchedule())
    at.when(UpdateSchedule(changes={"status": 1})).then(ScheduleDisabled, SeatsStopping)


def test_its_time_is_over_at_the_end_time() -> None:
    at = running(end_time=later(100))
    assert at.intent(Keep).at == later(100)
    at = at.next(90).when(tend()).then(ScheduleExpired, SeatsStopping)
    assert at.event(SeatsStopping).cause == "expired"
    a_schedule(a_daemon(end_time=NOW)).then(ScheduleCreated, ScheduleExpired)
    running().when(UpdateSchedule(changes={"end_time": later(1)})).then(ScheduleUpdated, ScheduleExpired, SeatsStopping)


def test_it_waits_for_its_start() -> None:
    at = a_schedule(a_daemon(start_time=later(50)))
    assert at.state.next_run_at == at.intent(Keep).at == later(50)
    at.next(49).when(tend()).then_nothing()
    at.next(50).when(tend()).then(SeatStarted)
    running().when(UpdateSchedule(changes={"start_time": later(500)}), tend()).then(SeatsStopping)


def test_a_suspended_one_is_left_alone_until_it_is_enabled() -> None:
    at = running().when(SuspendSchedule(error="a defect")).then(ScheduleSuspended)
    assert not at.intents
    at.when(tend()).then_nothing()
    at.when(EnableSchedule()).when(tend()).then_nothing()


def test_a_task_of_a_daemon_is_not_retried() -> None:
    created = a_schedule(a_daemon()).when(tend()).event(TaskCreated)
    task = given(TASK, created).when(CancelTask())
    task.when(RetryTask()).then_rejected("not_retryable")


# --- replaced ----------------------------------------------------------------------------------------------------------


def edited(version: int = 2) -> dict[str, Any]:
    return {"environment": {"VERSION": str(version)}, "version": version}


def test_instances_are_replaced_no_more_at_once_than_allowed() -> None:
    at = running(5, daemon={"max_unavailable": 2}).next(1).when(tend(**edited())).then(SeatsStopping)
    assert at.event(SeatsStopping).seats == (0, 1)
    at.when(tend(**edited())).then_nothing()
    gone = tend(ended(at, "cancelled"), ended(at, "cancelled", 1), **edited())
    at = at.next(1).when(gone).then(SeatEnded, SeatEnded, SeatStarted, SeatStarted)
    at = at.next(1).when(tend(runs(at), runs(at, 1), **edited())).then(SeatRunning, SeatRunning)
    at.next(9.9).when(tend(**edited())).then_nothing()
    assert at.intent(Keep).at == at.now + timedelta(seconds=10)
    at = at.next(10).when(tend(**edited())).then(SeatReady, SeatReady, SeatsStopping)
    assert at.event(SeatsStopping).seats == (2, 3)


def test_what_is_not_available_is_replaced_at_once() -> None:
    at = a_schedule(a_daemon(3)).when(tend())
    at = at.next(1).when(tend(**edited())).then(SeatsStopping)
    assert at.event(SeatsStopping).seats == (0, 1, 2)


def test_a_seat_that_waits_out_its_pause_starts_with_the_newest_version_at_once() -> None:
    at = running(daemon={"backoff_initial_seconds": 100})
    at = at.next(1).when(tend(ended(at.next(1), lived_seconds=1)))
    at = at.next(1).when(tend(**edited())).then(SeatStarted)
    assert at.event(SeatStarted).why == "edited"


def test_an_edit_taken_back_stops_the_replacement() -> None:
    at = running(3).next(1).when(tend(**edited()))
    at = at.next(1).when(tend(ended(at, "cancelled"))).then(SeatEnded, SeatStarted)
    at = at.next(1).when(tend(runs(at))).next(20).when(tend()).then(SeatReady)
    at.when(tend()).then_nothing()


def test_what_no_program_can_tell_replaces_nothing() -> None:
    at = running()
    job = a_job(name="other", version=9, config={**a_job().config, "retry_interval": 1, "max_retries": 1, "timeout": 5})
    at.when(TendDaemon(job=job)).then_nothing()
    at.when(UpdateSchedule(changes={"name": "n", "priority": 3, "daemon": {"instances": 1, "restart_limit": 5}}))
    at.when(UpdateSchedule(changes={"parameters": {"a": 1}}), tend()).then(SeatsStopping)


def test_a_member_that_a_later_program_adds_to_every_config_replaces_nothing() -> None:
    config = dict(a_job().config)
    older = {name: value for name, value in config.items() if name != "start_deadline_seconds"}
    assert digest_of({}, config, None, {}, 0) == digest_of(None, older, "", None, 0)
    state = a_schedule(a_daemon()).state
    assert made_of(a_job(), state) == made_of(a_job(config=older), state)
    assert made_of(a_job(), state) != made_of(a_job(config={**config, "args": ("x",)}), state)


def test_the_report_says_how_each_seat_stands() -> None:
    at = running(3)
    at = at.next(1).when(tend(ended(at.next(1), seat=1, lived_seconds=1)))
    found = report(at.state, a_job(**edited()), at.now)
    assert [each.state for each in found.seats] == ["ready", "waiting", "ready"]
    assert (found.wanted, found.running, found.outdated) == (3, 2, 2)
    assert "Seat 1 starts again at" in found.summary and "2 of an older version" in found.summary
    off = at.when(DisableSchedule())
    assert report(off.state, a_job(), off.now).summary == "Not running: the schedule is disabled. 2 still to end."
    assert "not enabled" in report(at.state, a_job(status=99), at.now).summary


def test_instants_of_a_report_are_those_of_the_log() -> None:
    at: datetime = running().state.seats[0].running_since
    assert at == later(1)
