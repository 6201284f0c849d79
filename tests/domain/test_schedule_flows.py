"""Schedules that run a flow: a fire makes a whole run in one append, and overlap speaks of all its tasks."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import CreateSchedule, FireSchedule
from hetuflow.domain.decider import Address, Await, Due
from hetuflow.domain.enums import OverlapPolicy, ScheduleKind, ScheduleStatus
from hetuflow.domain.events import FlowStarted, ScheduleCreated, ScheduleFired, ScheduleSkipped, TaskCreated
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.identity import flow_run_id_of, task_id_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.task import TASK
from tests.support.given import NOW, Outcome, given, later
from tests.support.tasks import PLACEMENT, a_job

SCHEDULE_ID = "01890000-0000-7000-8000-00000000000a"
ROOT = a_job()
SECOND = evolve(
    a_job(), job_id="2", name="second", upstream={"jobs": [{"job_id": ROOT.job_id, "on": "failed"}], "match": "all"}
)
THIRD = evolve(
    a_job(), job_id="3", name="third", upstream={"jobs": [{"job_id": "2", "on": "finished"}], "match": "any"}
)
GRAPH = graph_of([ROOT.job_id], {job.job_id: job for job in (ROOT, SECOND, THIRD)})


def a_schedule(**members: Any) -> Outcome:
    command = CreateSchedule(
        schedule_id=SCHEDULE_ID,
        job_id=ROOT.job_id,
        **{"schedule_kind": ScheduleKind.INTERVAL, "interval_secs": 60, "run_flow": True, "priority": 7, **members},
    )
    return given(SCHEDULE).when(command)


def fire(**more: Any) -> FireSchedule:
    return FireSchedule(job=ROOT, flow=GRAPH, **more)


def test_a_fire_is_a_run_of_the_flow_in_the_same_append() -> None:
    schedule = a_schedule(parameters={"x": 1}).then(ScheduleCreated)
    schedule.next(60).when(FireSchedule(job=ROOT)).then_rejected("flow_unknown")
    fired = schedule.next(60).when(fire(placements=(PLACEMENT,))).then(ScheduleFired)
    event, run = fired.event(ScheduleFired), fired.event(FlowStarted)
    assert event.task_id == task_id_of(SCHEDULE_ID, later(60))
    assert event.flow_run_id == run.flow_run_id == flow_run_id_of(event.task_id)
    assert (run.trigger, run.schedule_id, run.nominal_at, run.task_count) == ("schedule", SCHEDULE_ID, later(60), 3)
    ids = [node["task_id"] for node in run.graph["nodes"]]
    assert ids == [event.task_id, *event.also_made]
    assert list(fired.decision.opened) == [Address("flow", run.flow_run_id), *(Address("task", each) for each in ids)]
    created: list[TaskCreated] = [fired.decision.opened[Address("task", each)][0] for each in ids]  # type: ignore[misc]
    assert [task.schedule_id for task in created] == [SCHEDULE_ID, None, None]
    assert {(task.nominal_at, task.priority, task.flow_run_id) for task in created} == {(later(60), 7, run.flow_run_id)}
    assert all(dict(task.parameters) == {"x": 1} for task in created)
    assert [task.trigger for task in created] == ["schedule", "flow", "flow"]
    assert len(fired.decision.opened[Address("task", ids[0])]) == 3  # it has the slot that was held
    assert {guard.stream_id for guard in fired.decision.guards} >= {f"job-{job.job_id}" for job in GRAPH.jobs}


@pytest.mark.parametrize("policy", ["skip", "queue", "cancel_previous"])
def test_overlap_speaks_of_all_tasks_of_the_run_before(policy: str) -> None:
    first = a_schedule(overlap_policy=policy).next(60).when(fire())
    run = first.event(ScheduleFired)
    made = (run.task_id, *run.also_made)
    assert first.state.open_tasks == made
    ended = dict.fromkeys(made, True)
    second = first.next(60)
    second.when(fire()).then_rejected("tasks_unknown", task_ids=list(made))
    second.when(fire(has_ended=ended)).then(ScheduleFired)
    last_open = second.when(fire(has_ended={**ended, made[-1]: False}))
    if policy == OverlapPolicy.SKIP:
        last_open.then(ScheduleSkipped)
        return
    fired = last_open.then(ScheduleFired).event(ScheduleFired)
    assert fired.waits_for == (made[-1],)
    root = given(TASK, *last_open.decision.opened[Address("task", fired.task_id)])
    [wish] = [each for each in TASK.intents(root.state) if isinstance(each, Await)]
    assert (wish.task_ids, wish.cancels) == (frozenset(made[-1:]), policy == "cancel_previous")


def test_ten_runs_wait_whatever_their_size() -> None:
    schedule = a_schedule(overlap_policy="queue")
    for _ in range(11):
        schedule = schedule.next(60).when(fire(has_ended=dict.fromkeys(schedule.state.open_tasks, False)))
        schedule.then(ScheduleFired)
    full = schedule.next(60).when(fire(has_ended=dict.fromkeys(schedule.state.open_tasks, False)))
    full.then(ScheduleSkipped)


def test_an_absence_is_made_up_for_in_appends_of_bounded_size() -> None:
    schedule = a_schedule(misfire_policy="fire_all")
    caught_up = schedule.next(60 * 200).when(fire())
    assert sum(isinstance(event, ScheduleFired) for event in caught_up.decision.events) == 100 // 3
    assert caught_up.intent(Due).at == later(60 * (100 // 3 + 1), NOW)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"interval_mode": "fixed_delay", "overlap_policy": "skip"}, "run_flow"),
        ({"pause_on_failures": 3}, "pause_on_failures"),
        ({"schedule_kind": ScheduleKind.EVENT, "event_type": "x"}, "run_flow"),
        ({"schedule_kind": ScheduleKind.DAEMON}, "run_flow"),
    ],
)
def test_what_speaks_of_one_task_is_refused(members: dict[str, Any], path: str) -> None:
    a_schedule(**members).then_rejected("invalid", path=path)


def test_kind_flow_never_fires_by_itself_and_never_expires() -> None:
    schedule = a_schedule(schedule_kind=ScheduleKind.FLOW, interval_secs=None, run_flow=False).then(ScheduleCreated)
    assert (schedule.state.status, schedule.state.next_run_at) == (ScheduleStatus.ENABLED, None)
    assert schedule.state.runs_flow and not schedule.intents


def test_a_backfill_which_makes_single_tasks_is_refused() -> None:
    state = a_schedule().next(600).when(fire()).state
    with pytest.raises(Rejected, match="runs a flow"):
        start_of("b", state, NOW, later(600), later(600), max_concurrent=1)
