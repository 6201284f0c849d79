"""The lifecycle of a task and of its instances, as two tables, and the fold over them.

All transitions live here: the check, the documentation's diagram and the exhaustive tests read these tables. An
`Instance…` outcome never changes the task's status: the same append ends with the event that does. A retry or an
operator's reopening makes a *new* instance; the only way back within one instance is `TaskRequeued`, a run that
provably never started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from attrs import evolve as changed

from hetuflow.domain.copies import copier
from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
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
from hetuflow.domain.report_digest import digest_of
from hetuflow.domain.task_state import (
    NO_ENDS,
    REMEMBERED_MAX,
    REQUEUE_PAUSE_SECONDS_MAX,
    Aside,
    CancelRequest,
    Instance,
    TaskState,
)
from hetuflow.domain.transition import IllegalTransition

PENDING = TaskStatus.PENDING
LOCKED = TaskStatus.LOCKED
DISPATCHED = TaskStatus.DISPATCHED
RUNNING = TaskStatus.RUNNING
WAITING_RETRY = TaskStatus.WAITING_RETRY
FAILED = TaskStatus.FAILED
CANCELLED = TaskStatus.CANCELLED
SUCCEEDED = TaskStatus.SUCCEEDED

_MOVES: Mapping[TaskStatus | None, Mapping[type[TaskEvent], TaskStatus]] = {
    None: {TaskCreated: PENDING},
    PENDING: {
        TaskUpdated: PENDING,
        TaskLocked: LOCKED,
        TaskDependencySettled: PENDING,
        InstanceTakenOver: PENDING,
        InstanceDispatched: DISPATCHED,
        InstanceFailed: PENDING,
        InstanceCancelled: PENDING,
        TaskFailed: FAILED,
        TaskCancelled: CANCELLED,
    },
    LOCKED: {
        TaskUpdated: LOCKED,
        TaskDispatched: DISPATCHED,
        InstanceTakenOver: PENDING,
        InstanceCancelled: LOCKED,
        TaskCancelled: CANCELLED,
    },
    DISPATCHED: {
        TaskUpdated: DISPATCHED,
        TaskCancelRequested: DISPATCHED,
        InstanceStarted: RUNNING,
        TaskRequeued: PENDING,
        InstanceFailed: DISPATCHED,
        InstanceCancelled: DISPATCHED,
        TaskRetryScheduled: WAITING_RETRY,
        TaskFailed: FAILED,
        TaskCancelled: CANCELLED,
    },
    RUNNING: {
        TaskUpdated: RUNNING,
        TaskCancelRequested: RUNNING,
        InstancePaused: RUNNING,
        InstanceResumed: RUNNING,
        InstanceSucceeded: RUNNING,
        InstanceFailed: RUNNING,
        InstanceCancelled: RUNNING,
        TaskSucceeded: SUCCEEDED,
        TaskRetryScheduled: WAITING_RETRY,
        TaskFailed: FAILED,
        TaskCancelled: CANCELLED,
    },
    WAITING_RETRY: {
        TaskUpdated: WAITING_RETRY,
        TaskLocked: LOCKED,
        TaskReopened: PENDING,
        TaskDependencySettled: WAITING_RETRY,
        InstanceTakenOver: PENDING,
        InstanceCancelled: WAITING_RETRY,
        TaskCancelled: CANCELLED,
    },
    FAILED: {TaskUpdated: FAILED, TaskReopened: PENDING, TaskDeleted: FAILED},
    CANCELLED: {TaskUpdated: CANCELLED, TaskReopened: PENDING, TaskDeleted: CANCELLED},
    SUCCEEDED: {TaskUpdated: SUCCEEDED, TaskDeleted: SUCCEEDED},
}

BESIDE: tuple[type[TaskEvent], ...] = (InstanceReportRefused, InstanceCreated, InstanceReported, InstanceDeleted)
"""What may follow in every status of a task and changes none: evidence, and records of executions outside."""

TASK_TRANSITIONS: Mapping[TaskStatus | None, Mapping[type[TaskEvent], TaskStatus]] = {
    status: following if status is None else {**following, **dict.fromkeys(BESIDE, status)}
    for status, following in _MOVES.items()
}
"""Status -> event -> status. None: the stream is empty."""

INSTANCE_TRANSITIONS: Mapping[InstanceStatus | None, Mapping[type[TaskEvent], tuple[InstanceStatus, ...]]] = {
    None: {
        TaskCreated: (InstanceStatus.PENDING,),
        TaskRetryScheduled: (InstanceStatus.PENDING,),
        TaskReopened: (InstanceStatus.PENDING,),
    },
    InstanceStatus.PENDING: {
        TaskDispatched: (InstanceStatus.DISPATCHED,),
        TaskReopened: (InstanceStatus.PENDING,),
        InstanceTakenOver: (InstanceStatus.PENDING,),
        InstanceDispatched: (InstanceStatus.DISPATCHED,),
        InstanceFailed: (InstanceStatus.FAILED,),
        InstanceCancelled: (InstanceStatus.CANCELLED, InstanceStatus.SKIPPED),
    },
    InstanceStatus.DISPATCHED: {
        InstanceStarted: (InstanceStatus.RUNNING,),
        TaskRequeued: (InstanceStatus.PENDING,),
        InstanceFailed: (InstanceStatus.FAILED,),
        InstanceCancelled: (InstanceStatus.CANCELLED, InstanceStatus.SKIPPED),
    },
    InstanceStatus.RUNNING: {
        InstanceSucceeded: (InstanceStatus.SUCCEEDED,),
        InstanceFailed: (InstanceStatus.FAILED, InstanceStatus.TIMEOUT),
        InstanceCancelled: (InstanceStatus.CANCELLED, InstanceStatus.SKIPPED),
        InstancePaused: (InstanceStatus.PAUSED,),
    },
    InstanceStatus.PAUSED: {
        InstanceResumed: (InstanceStatus.RUNNING,),
        InstanceSucceeded: (InstanceStatus.SUCCEEDED,),
        InstanceFailed: (InstanceStatus.FAILED, InstanceStatus.TIMEOUT),
        InstanceCancelled: (InstanceStatus.CANCELLED, InstanceStatus.SKIPPED),
    },
    InstanceStatus.TIMEOUT: {},
    InstanceStatus.SKIPPED: {},
    InstanceStatus.FAILED: {},
    InstanceStatus.CANCELLED: {},
    InstanceStatus.SUCCEEDED: {},
}
"""Status of one instance -> event -> statuses that may follow. None: the instance is made by this event."""

OUTCOME_NEEDS: Mapping[type[TaskEvent], tuple[InstanceStatus, ...]] = {
    TaskSucceeded: (InstanceStatus.SUCCEEDED,),
    TaskFailed: (InstanceStatus.FAILED, InstanceStatus.TIMEOUT),
    TaskRetryScheduled: (InstanceStatus.FAILED, InstanceStatus.TIMEOUT),
    TaskCancelled: (InstanceStatus.CANCELLED, InstanceStatus.SKIPPED),
}
"""How the newest instance must have ended before the task may take this event."""

_NO_CHANGE = frozenset({InstanceReportRefused})

_copy_state = copier(TaskState)
_copy_instance = copier(Instance)

Fold: TypeAlias = Callable[[TaskState, Any, TaskStatus], TaskState]


def evolve(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state after the event.

    Raises:
      IllegalTransition: it cannot follow: by the tables, by another instance than the newest, by an epoch that does not
        grow, or because the task is deleted.
    """
    kind = type(event)
    status = TASK_TRANSITIONS[state.status].get(kind)
    if status is None:
        raise IllegalTransition("task", state.status, kind)
    if state.is_deleted and kind not in _NO_CHANGE:
        raise IllegalTransition("task", state.status, kind, "it is deleted")
    needed = OUTCOME_NEEDS.get(kind)
    if needed is not None and (state.instance is None or state.instance.status not in needed):
        raise IllegalTransition("task", state.status, kind, "its instance has not ended so")
    return FOLDS[kind](state, event, status)


def _advanced(state: TaskState, status: TaskStatus, **changes: Any) -> TaskState:
    version = state.version + 1
    return _copy_state(state, status=status, version=version, lock_version=version, **changes)


def _moved(state: TaskState, event: Any, *, to: InstanceStatus | None = None, **changes: Any) -> Instance:
    """The newest instance after an event that is about it."""
    instance, kind = state.instance, type(event)
    if instance is None or instance.instance_id != event.instance_id:
        raise IllegalTransition("task", state.status, kind, f"{event.instance_id} is not its newest instance")
    following = INSTANCE_TRANSITIONS[instance.status].get(kind)
    if following is None or (to is not None and to not in following):
        raise IllegalTransition("instance", instance.status, kind)
    return _copy_instance(instance, status=following[0] if to is None else to, **changes)


def _successor(state: TaskState, event: TaskRetryScheduled | TaskReopened) -> Instance:
    """The instance that a retry makes, after the newest one."""
    if state.instance is None or event.attempt != state.instance.attempt + 1:
        raise IllegalTransition("task", state.status, type(event), f"attempt {event.attempt} is not the next")
    return Instance(event.instance_id, event.attempt)


def _remembered(state: TaskState) -> tuple[Instance, ...]:
    assert state.instance is not None
    return (*state.past, state.instance)[-REMEMBERED_MAX:]


def _created(state: TaskState, event: TaskCreated, status: TaskStatus) -> TaskState:
    instance = Instance(event.instance_id, event.attempt)
    return TaskState(
        spec=event,
        status=status,
        instance=instance,
        retry_count=event.retry_count,
        waits_for=awaited(event.dependencies),
        version=1,
        lock_version=1,
    )


def awaited(dependencies: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The tasks that a task with these dependencies waits for."""
    return tuple(dict.fromkeys(dependencies.get("task_ids") or ())) if dependencies else ()


def _updated(state: TaskState, event: TaskUpdated, status: TaskStatus) -> TaskState:
    assert state.spec is not None
    spec = changed(
        state.spec,
        name=event.name,
        description=event.description,
        namespace_id=event.namespace_id,
        priority=event.priority,
        scheduled_at=event.scheduled_at,
        environment=event.environment,
        parameters=event.parameters,
        config=event.config,
        dependencies=event.dependencies,
        rendered=event.rendered,
    )
    if "dependencies" in event.changed:
        return _advanced(state, status, spec=spec, waits_for=awaited(event.dependencies), settled=NO_ENDS)
    return _advanced(state, status, spec=spec)


def _dependency_settled(state: TaskState, event: TaskDependencySettled, status: TaskStatus) -> TaskState:
    if event.dependency_id not in state.waits_for:
        raise IllegalTransition("task", state.status, TaskDependencySettled, "it does not wait for that task")
    left = tuple(task_id for task_id in state.waits_for if task_id != event.dependency_id)
    settled = {**state.settled, event.dependency_id: event.status}
    # with none awaited any more although some are open, one was enough
    return _beside(state, waits_for=left if event.open_count else (), settled=settled)


def _beside(state: TaskState, **changes: Any) -> TaskState:
    """After an event that is no change of the task, as clients see it."""
    return _copy_state(state, version=state.version + 1, **changes)


def _locked(state: TaskState, event: TaskLocked, status: TaskStatus) -> TaskState:
    return _advanced(state, status)


def _dispatched(state: TaskState, event: TaskDispatched, status: TaskStatus) -> TaskState:
    if event.epoch <= state.epoch:
        raise IllegalTransition("task", state.status, TaskDispatched, f"epoch {event.epoch} is not above {state.epoch}")
    instance = _moved(
        state,
        event,
        agent_id=event.agent_id,
        session=event.session,
        epoch=event.epoch,
        dispatched_at=event.dispatched_at,
        namespace_id=None if state.spec is None else state.spec.namespace_id,
    )
    return _advanced(state, status, instance=instance, epoch=event.epoch, retry_at=None)


def _requeued(state: TaskState, event: TaskRequeued, status: TaskStatus) -> TaskState:
    """The first time it is offered again at once; then after a pause that doubles from one second.

    An agent that takes nothing although it looks free would otherwise be asked, and the log written, without end.
    """
    assert state.instance is not None
    at, requeues = state.instance.dispatched_at, state.instance.requeues
    paused_until_at = None
    if requeues and at is not None:
        paused_until_at = at + timedelta(seconds=min(2 ** min(requeues - 1, 10), REQUEUE_PAUSE_SECONDS_MAX))
    instance = _moved(state, event, agent_id=None, session=None, requeues=requeues + 1, paused_until_at=paused_until_at)
    return _advanced(state, status, instance=instance)


def _started(state: TaskState, event: InstanceStarted, status: TaskStatus) -> TaskState:
    return _advanced(state, status, instance=_moved(state, event, started_at=event.started_at), was_started=True)


def _succeeded(state: TaskState, event: InstanceSucceeded, status: TaskStatus) -> TaskState:
    instance = _moved(state, event, completed_at=event.completed_at, exit_code=event.exit_code)
    return _advanced(state, status, instance=instance)


def _failed(state: TaskState, event: InstanceFailed, status: TaskStatus) -> TaskState:
    instance = _moved(
        state,
        event,
        to=InstanceStatus(event.status),
        completed_at=event.completed_at,
        exit_code=event.exit_code,
        signal=event.signal,
        reason=event.reason,
    )
    return _advanced(state, status, instance=instance)


def _instance_cancelled(state: TaskState, event: InstanceCancelled, status: TaskStatus) -> TaskState:
    instance = _moved(
        state,
        event,
        to=InstanceStatus(event.status),
        completed_at=event.completed_at,
        exit_code=event.exit_code,
        signal=event.signal,
        reason="cancelled",
    )
    return _advanced(state, status, instance=instance)


def _retry_scheduled(state: TaskState, event: TaskRetryScheduled, status: TaskStatus) -> TaskState:
    return _advanced(
        state,
        status,
        past=_remembered(state),
        instance=_successor(state, event),
        retry_count=event.retry_count,
        retry_at=event.retry_at,
        was_started=True,
    )


def _reopened(state: TaskState, event: TaskReopened, status: TaskStatus) -> TaskState:
    assert state.spec is not None
    if state.status is WAITING_RETRY:
        past, instance = state.past, _moved(state, event)
    else:
        past, instance = _remembered(state), _successor(state, event)
    return _advanced(
        state,
        status,
        spec=changed(state.spec, scheduled_at=event.scheduled_at),
        past=past,
        instance=instance,
        retry_count=event.retry_count,
        retry_at=None,
        cancel=None,
        completed_at=None,
        waits_for=tuple(event.waits_for),
        settled=NO_ENDS,
        ended_by=None,
        was_started=False,
    )


def _cancel_requested(state: TaskState, event: TaskCancelRequested, status: TaskStatus) -> TaskState:
    cancel = CancelRequest(event.requested_at, event.cause, event.reason, event.by, event.then_delete)
    return _advanced(state, status, cancel=cancel)


def _cancelled(state: TaskState, event: TaskCancelled, status: TaskStatus) -> TaskState:
    return _advanced(state, status, completed_at=event.cancelled_at, retry_at=None, ended_by=event.cause)


def _completed(state: TaskState, event: TaskSucceeded | TaskFailed, status: TaskStatus) -> TaskState:
    return _advanced(state, status, completed_at=event.completed_at)


def _deleted(state: TaskState, event: TaskDeleted, status: TaskStatus) -> TaskState:
    return _advanced(state, status, is_deleted=True)


def _report_refused(state: TaskState, event: InstanceReportRefused, status: TaskStatus) -> TaskState:
    digest = digest_of(event.instance_id, event.agent_id, event.epoch, event.report)
    return _beside(state, refused=(*state.refused, digest)[-REMEMBERED_MAX:])


# --- driven over the API -------------------------------------------------------------------------------------------


def _taken_over(state: TaskState, event: InstanceTakenOver, status: TaskStatus) -> TaskState:
    """Whatever it waited for: it is somebody else's now."""
    if state.instance is not None and state.instance.is_external:
        raise IllegalTransition("instance", state.instance.status, InstanceTakenOver, "it is taken over already")
    instance = _moved(state, event, is_external=True, agent_id=None, session=None)
    return _advanced(state, status, instance=instance, retry_at=None, waits_for=())


def _external_dispatched(state: TaskState, event: InstanceDispatched, status: TaskStatus) -> TaskState:
    if state.instance is None or not state.instance.is_external or event.epoch <= state.epoch:
        raise IllegalTransition("task", state.status, InstanceDispatched, "it is not driven over the API")
    return _advanced(state, status, instance=_moved(state, event, epoch=event.epoch), epoch=event.epoch)


def _external_moved(state: TaskState, event: InstancePaused | InstanceResumed, status: TaskStatus) -> TaskState:
    return _beside(state, instance=_moved(state, event))


def _aside_created(state: TaskState, event: InstanceCreated, status: TaskStatus) -> TaskState:
    if event.instance_id in state.asides:
        raise IllegalTransition("instance", state.asides[event.instance_id].status, InstanceCreated)
    aside = Aside(InstanceStatus(event.status), event.started_at, event.agent_id)
    return _beside(state, asides={**state.asides, event.instance_id: aside})


def _reported(state: TaskState, event: InstanceReported, status: TaskStatus) -> TaskState:
    """Of an aside: its whole state. Of the task's own instance: what its other events do not say."""
    if (aside := state.asides.get(event.instance_id)) is not None:
        moved = changed(
            aside,
            status=InstanceStatus(event.status),
            started_at=event.started_at,
            agent_id=event.agent_id,
            reported=event,
        )
        return _beside(state, asides={**state.asides, event.instance_id: moved})
    instance = state.instance
    if instance is None or instance.instance_id != event.instance_id or not instance.is_external:
        raise IllegalTransition("task", state.status, InstanceReported, "it is not driven over the API")
    if instance.status != event.status:
        raise IllegalTransition("instance", instance.status, InstanceReported, "the status has its own events")
    return _beside(state, instance=_copy_instance(instance, started_at=event.started_at, reported=event))


def _instance_deleted(state: TaskState, event: InstanceDeleted, status: TaskStatus) -> TaskState:
    aside = state.asides.get(event.instance_id)
    if aside is None:
        return _beside(state)
    return _beside(state, asides={**state.asides, event.instance_id: changed(aside, is_deleted=True)})


FOLDS: Mapping[type[TaskEvent], Fold] = {
    TaskCreated: _created,
    TaskUpdated: _updated,
    TaskLocked: _locked,
    TaskDispatched: _dispatched,
    TaskRequeued: _requeued,
    TaskRetryScheduled: _retry_scheduled,
    TaskReopened: _reopened,
    TaskDependencySettled: _dependency_settled,
    TaskCancelRequested: _cancel_requested,
    TaskCancelled: _cancelled,
    TaskSucceeded: _completed,
    TaskFailed: _completed,
    TaskDeleted: _deleted,
    InstanceCreated: _aside_created,
    InstanceTakenOver: _taken_over,
    InstanceDispatched: _external_dispatched,
    InstanceReported: _reported,
    InstancePaused: _external_moved,
    InstanceResumed: _external_moved,
    InstanceDeleted: _instance_deleted,
    InstanceStarted: _started,
    InstanceSucceeded: _succeeded,
    InstanceFailed: _failed,
    InstanceCancelled: _instance_cancelled,
    InstanceReportRefused: _report_refused,
}
