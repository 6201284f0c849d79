"""The deciders together on one log, at random; and the deliberate bugs that such lives find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Any
from unittest import mock

import pytest
from attrs import evolve
from hypothesis import settings

from hetuflow.domain import schedule, schedule_fold
from hetuflow.domain.agent import AGENT
from hetuflow.domain.commands import (
    ConnectAgent,
    CreateTask,
    CreateTasks,
    DispatchTask,
    FireSchedule,
    StartFlow,
)
from hetuflow.domain.events import ScheduleEnabled
from hetuflow.domain.flow import FLOW
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.schedule_state import trigger_of
from hetuflow.domain.task import TASK
from hetuflow.domain.trigger import next_after
from tests.domain.cluster_machine import ClusterMachine

REACHED = {
    *("ScheduleFired", "ScheduleSkipped", "TaskCreated", "TaskDispatched", "InstanceStarted", "TaskSucceeded"),
    *("TaskRetryScheduled", "TaskFailed", "TaskRequeued", "TaskReopened", "TaskCancelRequested", "TaskCancelled"),
    *("TaskDeleted", "TaskDependencySettled", "InstanceTakenOver", "InstanceDispatched", "InstanceReportRefused"),
    *("AgentLost", "AgentDrained", "AgentRemoved", "JobDisabled", "JobSealed"),
    *("ScheduleDisabled", "ScheduleEnabled", "ScheduleUpdated"),
    *("FlowStarted", "FlowCancelRequested", "FlowRetried", "FlowFinished"),
}
REFUSED = {"FireSchedule", "DispatchTask", "CreateTask", "SettleDependencies", "StartFlow"}


TestClusterMachine = ClusterMachine.TestCase
TestClusterMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def a_long_life(seed: int) -> ClusterMachine:
    machine = ClusterMachine()
    machine.begin(["skip", "fire_once", "fire_all"][seed % 3])
    machine.live_on(Random(seed), 400)
    machine.teardown()
    return machine


def test_a_dozen_long_lives_reach_everything() -> None:
    """Also: what came too late was refused by a guard, a version, or a stream that was there already."""
    seen, refused = Counter[str](), Counter[str]()
    for seed in range(12):
        machine = a_long_life(seed)
        seen.update(type(event).__name__ for events in machine.c.streams.values() for event in events)
        refused += machine.c.refused
    assert seen.keys() >= REACHED, REACHED - seen.keys()
    assert refused.keys() >= REFUSED, REFUSED - refused.keys()


# --- the judge is judged -----------------------------------------------------------------------------------------------


def unguarded(decider: Any, command: type, stream: str = "") -> AbstractContextManager[object]:
    """What is decided on this command relies on nothing any more of the streams named so."""
    decide = decider._deciding[command]

    def careless(said: Any, state: Any, now: Any) -> Any:
        decision = decide(said, state, now)
        return evolve(decision, guards=[each for each in decision.guards if not each.stream_id.startswith(stream)])

    return mock.patch.dict(decider._deciding, {command: careless})


def resumes_with_its_cursor() -> AbstractContextManager[object]:
    fold = schedule_fold.FOLDS[ScheduleEnabled]

    def careless(state: Any, event: Any) -> Any:
        after = fold(state, event)
        missed = next_after(trigger_of(after, after.anchor_at), state.cursor_at)
        return evolve(after, cursor_at=state.cursor_at, next_run_at=missed)

    return mock.patch.dict(schedule_fold.FOLDS, {ScheduleEnabled: careless})


BUGS: dict[str, tuple[str, Callable[[], AbstractContextManager[object]]]] = {
    "a fire relies on no job": ("not any more|switched-off", lambda: unguarded(SCHEDULE, FireSchedule, "job-")),
    "a fire relies on no lease": ("whose lease", lambda: unguarded(SCHEDULE, FireSchedule, "lease-")),
    "a creation relies on no job": ("not any more", lambda: unguarded(TASK, CreateTask, "job-")),
    "a creation relies on no lease": ("whose lease", lambda: unguarded(TASK, CreateTask, "lease-")),
    "a creation relies on no agent": ("dispatched to", lambda: unguarded(TASK, CreateTask, "agent-")),
    "a batch relies on no job": ("not any more", lambda: unguarded(TASK, CreateTasks)),
    "a run of a flow relies on no job": ("not any more", lambda: unguarded(FLOW, StartFlow, "job-")),
    "a dispatch relies on no lease": ("whose lease", lambda: unguarded(TASK, DispatchTask, "lease-")),
    "a dispatch relies on no agent": ("dispatched to", lambda: unguarded(TASK, DispatchTask, "agent-")),
    "what a removed agent left is counted, and changes": ("left otherwise", lambda: unguarded(AGENT, ConnectAgent)),
    "a resume fires what was missed": ("out of its turn", resumes_with_its_cursor),
    "an edited interval counts from its old begin": (
        "out of its turn",
        lambda: mock.patch.object(schedule, "_MOVES_ANCHOR", frozenset()),
    ),
    "what was due at a pause or an edit is forgotten": (
        "never decided",
        lambda: mock.patch.object(schedule, "covered", lambda *_: []),
    ),
}


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_deliberate_bug_is_caught_within_a_few_lives(bug: str) -> None:
    said, patched = BUGS[bug]
    with patched(), pytest.raises(AssertionError, match=said):
        for seed in range(40):
            a_long_life(seed)
