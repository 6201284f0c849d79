"""The lifecycle tables: every pair of (status, event), and what the contract says about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve

from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
    EVENT_TYPES,
    InstanceCancelled,
    InstanceCreated,
    InstanceDeleted,
    InstanceDispatched,
    InstanceFailed,
    InstancePaused,
    InstanceReported,
    InstanceReportRefused,
    InstanceResumed,
    InstanceStarted,
    InstanceSucceeded,
    InstanceTakenOver,
    TaskCancelled,
    TaskCancelRequested,
    TaskCreated,
    TaskDeleted,
    TaskDependencySettled,
    TaskDispatched,
    TaskEvent,
    TaskFailed,
    TaskLocked,
    TaskReopened,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSucceeded,
    TaskUpdated,
)
from hetuflow.domain.task import EDITABLE, INITIAL
from hetuflow.domain.task_state import Aside, Instance, TaskState
from hetuflow.domain.task_transitions import INSTANCE_TRANSITIONS, OUTCOME_NEEDS, TASK_TRANSITIONS
from hetuflow.domain.task_transitions import evolve as fold
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW, later
from tests.support.tasks import JOB_ID, TASK_ID, a_task

TASK_EVENTS = tuple(kind for kind in EVENT_TYPES if issubclass(kind, TaskEvent))
STATUSES: tuple[TaskStatus | None, ...] = (None, *TaskStatus)


def a_state(status: TaskStatus | None) -> TaskState:
    return INITIAL if status is None else a_task(status).state


NEEDS: Mapping[type[TaskEvent], tuple[InstanceStatus, ...]] = {
    InstanceDispatched: (InstanceStatus.PENDING,),
    InstancePaused: (InstanceStatus.RUNNING,),
    InstanceResumed: (InstanceStatus.PAUSED,),
}
"""How the instance stands before an event that only instances driven over the API have."""


def an_event(kind: type[TaskEvent], state: TaskState) -> Any:
    """An event of that type that fits the state's newest instance, whether or not it may follow."""
    instance = state.instance or Instance("instance-1", 1)
    ids = {"task_id": TASK_ID, "job_id": JOB_ID}
    about = {**ids, "instance_id": instance.instance_id, "attempt": instance.attempt, "epoch": instance.epoch}
    ran = {**about, "agent_id": "agent-1", "started_at": later(1)}
    end = {**ran, "completed_at": later(6), "duration_seconds": 5.0}
    next_one = {**ids, "instance_id": "instance-next", "attempt": instance.attempt + 1, "retry_count": 1}
    waits = state.status is TaskStatus.WAITING_RETRY
    spec = state.spec
    builders: Mapping[type[TaskEvent], Any] = {
        TaskCreated: lambda: given_created(),
        TaskUpdated: lambda: TaskUpdated(
            task_id=TASK_ID, changed=("name",), **{n: getattr(spec or given_created(), n) for n in EDITABLE}
        ),
        TaskLocked: lambda: TaskLocked(task_id=TASK_ID, server_id="server-1", locked_at=NOW),
        TaskDispatched: lambda: TaskDispatched(
            **{**about, "epoch": state.epoch + 1}, agent_id="agent-1", session="s1", dispatched_at=NOW
        ),
        TaskRequeued: lambda: TaskRequeued(
            **ids, instance_id=instance.instance_id, agent_id="agent-1", epoch=instance.epoch, reason="full"
        ),
        TaskRetryScheduled: lambda: TaskRetryScheduled(**next_one, retry_at=later(60)),
        TaskReopened: lambda: TaskReopened(
            **{**next_one, **({"instance_id": instance.instance_id, "attempt": instance.attempt} if waits else {})},
            scheduled_at=NOW,
        ),
        TaskDependencySettled: lambda: TaskDependencySettled(
            **ids, dependency_id=(*state.waits_for, "other")[0], status=100, open_count=0, settled_at=NOW
        ),
        InstanceCreated: lambda: InstanceCreated(
            **ids, instance_id="aside-2", agent_id=None, attempt=1, status=1, started_at=None, created_at=NOW
        ),
        InstanceTakenOver: lambda: InstanceTakenOver(
            **ids, instance_id=instance.instance_id, agent_id=None, taken_at=NOW
        ),
        InstanceDispatched: lambda: InstanceDispatched(**{**about, "epoch": state.epoch + 1}, dispatched_at=NOW),
        InstanceReported: lambda: an_aside_reported(),
        InstancePaused: lambda: InstancePaused(**ids, instance_id=instance.instance_id, paused_at=NOW),
        InstanceResumed: lambda: InstanceResumed(**ids, instance_id=instance.instance_id, resumed_at=NOW),
        InstanceDeleted: lambda: InstanceDeleted(**ids, instance_id="aside-1"),
        TaskCancelRequested: lambda: TaskCancelRequested(task_id=TASK_ID, requested_at=NOW, reason=None, by="user"),
        TaskCancelled: lambda: TaskCancelled(**ids, cancelled_at=NOW, cause="user"),
        TaskSucceeded: lambda: TaskSucceeded(**ids, completed_at=NOW),
        TaskFailed: lambda: TaskFailed(**ids, completed_at=NOW, reason="exit_code"),
        TaskDeleted: lambda: TaskDeleted(**ids),
        InstanceStarted: lambda: InstanceStarted(**ran),
        InstanceSucceeded: lambda: InstanceSucceeded(**end),
        InstanceFailed: lambda: InstanceFailed(**end, status=90, reason="exit_code", error_message="exit status 1"),
        InstanceCancelled: lambda: InstanceCancelled(**end, error_message="cancelled"),
        InstanceReportRefused: lambda: InstanceReportRefused(
            **ids, instance_id="other", agent_id="agent-9", epoch=0, why="unknown_instance"
        ),
    }
    return builders[kind]()


def an_aside_reported() -> InstanceReported:
    none = dict.fromkeys(
        ("agent_id", "started_at", "completed_at", "error_message", "exit_code", "reason", "metrics", "output")
    )
    return InstanceReported(
        task_id=TASK_ID, job_id=JOB_ID, instance_id="aside-1", status=10, output_truncated=False, changed=(), **none
    )


def given_created() -> TaskCreated:
    created: TaskCreated = a_task(TaskStatus.PENDING).state.spec
    return created


def ready_for(kind: type[TaskEvent], state: TaskState) -> TaskState:
    """The state with its instance ended as the event wants it, so that only the status decides."""
    state = evolve(state, waits_for=("other",), asides={"aside-1": Aside(InstanceStatus.PENDING, None, None)})
    needed = OUTCOME_NEEDS.get(kind, NEEDS.get(kind))
    if needed is None or state.instance is None:
        return state
    external = kind in (InstanceDispatched, InstancePaused, InstanceResumed)
    return evolve(state, instance=evolve(state.instance, status=needed[0], is_external=external))


@pytest.mark.parametrize("status", STATUSES, ids=str)
@pytest.mark.parametrize("kind", TASK_EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_in_every_status_follows_the_table_or_is_refused(
    status: TaskStatus | None, kind: type[TaskEvent]
) -> None:
    state = ready_for(kind, a_state(status))
    expected = TASK_TRANSITIONS[status].get(kind)
    if expected is None:
        with pytest.raises(IllegalTransition) as refused:
            fold(state, an_event(kind, state))
        assert (refused.value.status, refused.value.event) == (status, kind)
    else:
        after = fold(state, an_event(kind, state))
        assert after.status is expected
        assert after.version == state.version + 1


@pytest.mark.parametrize("kind", sorted(OUTCOME_NEEDS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("ended", InstanceStatus, ids=str)
def test_a_task_ends_only_as_its_instance_did(kind: type[TaskEvent], ended: InstanceStatus) -> None:
    running = a_state(TaskStatus.RUNNING)
    state = evolve(running, instance=evolve(running.instance, status=ended))
    if ended in OUTCOME_NEEDS[kind]:
        assert fold(state, an_event(kind, state)).status is TASK_TRANSITIONS[TaskStatus.RUNNING][kind]
    else:
        with pytest.raises(IllegalTransition):
            fold(state, an_event(kind, state))


INSTANCE_EVENTS = (
    TaskDispatched,
    TaskRequeued,
    InstanceStarted,
    InstanceSucceeded,
    InstanceFailed,
    InstanceCancelled,
)


def a_status_that_takes(kind: type[TaskEvent]) -> TaskStatus:
    return next(status for status, following in TASK_TRANSITIONS.items() if status is not None and kind in following)


@pytest.mark.parametrize("status", [s for s in INSTANCE_TRANSITIONS if s is not None], ids=str)
@pytest.mark.parametrize("kind", INSTANCE_EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_in_every_instance_status_follows_the_table_or_is_refused(
    status: InstanceStatus, kind: type[TaskEvent]
) -> None:
    task = a_state(a_status_that_takes(kind))
    state = evolve(task, instance=evolve(task.instance, status=status))
    expected = INSTANCE_TRANSITIONS[status].get(kind)
    if expected is None:
        with pytest.raises(IllegalTransition):
            fold(state, an_event(kind, state))
    else:
        assert fold(state, an_event(kind, state)).instance.status is expected[0]


def test_a_timeout_is_only_for_an_instance_that_ran() -> None:
    running, dispatched = a_state(TaskStatus.RUNNING), a_state(TaskStatus.DISPATCHED)
    timeout = evolve(an_event(InstanceFailed, running), status=20, reason="timeout")
    assert fold(running, timeout).instance.status is InstanceStatus.TIMEOUT
    with pytest.raises(IllegalTransition):
        fold(dispatched, evolve(timeout, epoch=1))


def test_the_table_covers_every_status_and_every_event_of_a_task() -> None:
    assert set(TASK_TRANSITIONS) == set(STATUSES)
    assert {kind for following in TASK_TRANSITIONS.values() for kind in following} == set(TASK_EVENTS)


def test_only_an_operators_retry_leads_out_of_a_terminal_status_and_never_out_of_success() -> None:
    for status in (s for s in TaskStatus if s.is_terminal):
        leaving = {kind for kind, after in TASK_TRANSITIONS[status].items() if after is not status}
        assert leaving == (set() if status is TaskStatus.SUCCEEDED else {TaskReopened})


def test_a_final_instance_status_is_final() -> None:
    for status, following in INSTANCE_TRANSITIONS.items():
        assert bool(following) is not (status is not None and status.is_final)


def test_every_status_can_be_reached_and_every_open_one_can_be_left() -> None:
    reached, frontier = {None}, [None]
    while frontier:
        for after in TASK_TRANSITIONS[frontier.pop()].values():
            if after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(STATUSES)
    for status in (s for s in TaskStatus if not s.is_terminal):
        assert TaskStatus.CANCELLED in TASK_TRANSITIONS[status].values()


def test_an_instances_outcome_never_moves_the_task() -> None:
    for kind in (InstanceSucceeded, InstanceFailed, InstanceCancelled):
        assert all(f[kind] is status for status, f in TASK_TRANSITIONS.items() if kind in f)


def test_an_event_about_another_instance_than_the_newest_is_refused() -> None:
    state = a_state(TaskStatus.RUNNING)
    with pytest.raises(IllegalTransition, match="newest"):
        fold(state, evolve(an_event(InstanceSucceeded, state), instance_id="another"))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_dispatch_whose_epoch_does_not_grow_is_refused(epoch: int) -> None:
    requeued = a_state(TaskStatus.DISPATCHED)
    locked = evolve(requeued, status=TaskStatus.LOCKED, instance=evolve(requeued.instance, status=1))
    assert locked.epoch == 1
    with pytest.raises(IllegalTransition, match="epoch"):
        fold(locked, evolve(an_event(TaskDispatched, locked), epoch=epoch))


def test_a_retry_must_be_the_next_attempt() -> None:
    state = ready_for(TaskRetryScheduled, a_state(TaskStatus.RUNNING))
    with pytest.raises(IllegalTransition, match="attempt"):
        fold(state, evolve(an_event(TaskRetryScheduled, state), attempt=1))


@pytest.mark.parametrize("kind", [k for k in TASK_EVENTS if k is not InstanceReportRefused], ids=lambda k: k.__name__)
def test_a_deleted_task_takes_nothing_but_evidence(kind: type[TaskEvent]) -> None:
    failed = a_state(TaskStatus.FAILED)
    deleted = fold(failed, an_event(TaskDeleted, failed))
    with pytest.raises(IllegalTransition):
        fold(deleted, an_event(kind, deleted))
    assert fold(deleted, an_event(InstanceReportRefused, deleted)).is_deleted
