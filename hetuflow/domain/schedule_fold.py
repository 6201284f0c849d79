"""The fold of a schedule's stream. What cannot follow is refused here, whoever decided it.

A nominal time is covered once, and they only grow: that is the promise of the log, not only of `decide`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from hetuflow.domain import daemon_fold
from hetuflow.domain.copies import copier
from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    Event,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleEvent,
    ScheduleEventHeld,
    ScheduleExpired,
    ScheduleFired,
    ScheduleReplanned,
    ScheduleSkipped,
    ScheduleSuspended,
    ScheduleTaskEnded,
    ScheduleUpdated,
)
from hetuflow.domain.schedule_state import (
    EDITABLE,
    JUST_BEFORE,
    HeldEvent,
    ScheduleState,
    Timing,
    is_fixed_delay,
    matches_anew,
    starts_anew,
)
from hetuflow.domain.transition import IllegalTransition

changed = copier(ScheduleState)


def created(state: ScheduleState, event: ScheduleCreated) -> ScheduleState:
    if state.status is not None:
        raise IllegalTransition("schedule", state.status, ScheduleCreated)
    cursor_at = event.created_at
    if event.next_run_at is not None and event.next_run_at <= cursor_at:  # `once`, created late
        cursor_at = event.next_run_at - JUST_BEFORE
    return ScheduleState(
        schedule_id=event.schedule_id,
        job_id=event.job_id,
        status=ScheduleStatus(event.status),
        anchor_at=event.anchor_at,
        next_run_at=event.next_run_at,
        cursor_at=cursor_at,
        created_at=event.created_at,
        defined_at=event.created_at,
        calendars=event.calendars,
        **{name: getattr(event, name) for name in EDITABLE},
    )


def updated(state: ScheduleState, event: ScheduleUpdated) -> ScheduleState:
    _check(state, event)
    return changed(
        state,
        anchor_at=event.anchor_at,
        next_run_at=event.next_run_at,
        calendars=event.calendars,
        cursor_at=max(state.cursor_at, event.updated_at) if starts_anew(event.changed) else state.cursor_at,
        awaited_task=awaited_after(state, event),
        counted_tasks=() if event.pause_on_failures is None else state.counted_tasks,
        consecutive_failures=event.consecutive_failures,
        defined_at=event.updated_at if matches_anew(event.changed) else state.defined_at,
        held=None if matches_anew(event.changed) else state.held,
        revision=state.revision + 1,
        **{name: getattr(event, name) for name in EDITABLE},
    )


def awaited_after(state: ScheduleState, timing: Timing) -> str | None:
    """The task whose end counts once the schedule has these times: its newest, where a fixed delay begins."""
    if not is_fixed_delay(timing):
        return None
    return state.awaited_task if is_fixed_delay(state) else next(reversed(state.open_tasks), None)


def enabled(state: ScheduleState, event: ScheduleEnabled) -> ScheduleState:
    _check(state, event)
    return changed(
        daemon_fold.rested(state),
        status=ScheduleStatus.ENABLED,
        next_run_at=event.next_run_at,
        calendars=event.calendars,
        cursor_at=max(state.cursor_at, event.enabled_at),
        counted_tasks=(),
        consecutive_failures=0,
        status_note=event.note,
        defined_at=event.enabled_at,
        revision=state.revision + 1,
    )


def disabled(state: ScheduleState, event: ScheduleDisabled) -> ScheduleState:
    _check(state, event)
    return changed(
        state,
        status=ScheduleStatus(event.status),
        next_run_at=None,
        counted_tasks=(),
        status_note=event.note,
        held=None,
        revision=state.revision + 1,
    )


def suspended(state: ScheduleState, event: ScheduleSuspended) -> ScheduleState:
    _check_enabled(state, event)
    return changed(
        state,
        status=ScheduleStatus.DISABLED,
        next_run_at=None,
        counted_tasks=(),
        status_note=event.error,
        held=None,
        is_suspended=True,
    )


def expired(state: ScheduleState, event: ScheduleExpired) -> ScheduleState:
    _check_enabled(state, event)
    return changed(state, status=ScheduleStatus.EXPIRED, next_run_at=None, held=None)


def deleted(state: ScheduleState, event: ScheduleDeleted) -> ScheduleState:
    _check(state, event)
    return changed(state, is_deleted=True, next_run_at=None, held=None)


def fired(state: ScheduleState, event: ScheduleFired) -> ScheduleState:
    _check_increasing(state, event, event.nominal_at)
    if event.event_position is not None:
        state = _decided(state, event.event_id, event.event_position)
    return changed(
        state,
        cursor_at=event.nominal_at,
        last_run_at=event.nominal_at,
        fire_count=event.fire_count,
        next_run_at=event.next_run_at,
        calendars=event.calendars,
        open_tasks=(*event.waits_for, event.task_id, *event.also_made),
        awaited_task=event.task_id if is_fixed_delay(state) else None,
        counted_tasks=() if state.pause_on_failures is None else (*state.counted_tasks, event.task_id),
    )


def skipped(state: ScheduleState, event: ScheduleSkipped) -> ScheduleState:
    _check_increasing(state, event, event.first_nominal_at)
    if event.event_position is not None:
        state = _decided(state, event.event_id, event.event_position)
    return changed(state, cursor_at=event.last_nominal_at, next_run_at=event.next_run_at, calendars=event.calendars)


def replanned(state: ScheduleState, event: ScheduleReplanned) -> ScheduleState:
    _check_enabled(state, event)
    return changed(state, next_run_at=event.next_run_at, calendars=event.calendars)


def task_ended(state: ScheduleState, event: ScheduleTaskEnded) -> ScheduleState:
    _check_enabled(state, event)
    if event.task_id not in state.followed:
        why = f"it was told of the end of {event.task_id} already, or never made it"
        raise IllegalTransition("schedule", state.status, type(event), why)
    return changed(
        state,
        awaited_task=None if event.task_id == state.awaited_task else state.awaited_task,
        counted_tasks=tuple(task_id for task_id in state.counted_tasks if task_id != event.task_id),
        consecutive_failures=event.consecutive_failures,
        next_run_at=event.next_run_at,
    )


def event_held(state: ScheduleState, event: ScheduleEventHeld) -> ScheduleState:
    _check_enabled(state, event)
    if event.event_position <= state.decided_position or state.held is not None:
        why = f"position {event.event_position} is not after {state.decided_position}, or another event is held"
        raise IllegalTransition("schedule", state.status, type(event), why)
    held = HeldEvent(
        event_id=event.event_id,
        position=event.event_position,
        type=event.event_type,
        data=event.data,
        depth=event.depth,
        recorded_at=event.recorded_at,
        count=event.count,
        first_at=event.first_at,
        quiet_at=event.quiet_at,
    )
    return changed(state, held=held, decided_position=event.event_position)


def _decided(state: ScheduleState, event_id: str | None, position: int) -> ScheduleState:
    """An event is covered once: the one that is held, or one after all that were decided about."""
    held = state.held
    if held is not None and held.event_id == event_id:
        return changed(state, held=None)
    if position <= state.decided_position:
        why = f"position {position} is not after {state.decided_position}"
        raise IllegalTransition("schedule", state.status, ScheduleFired, why)
    return changed(state, decided_position=position)


def _check(state: ScheduleState, event: ScheduleEvent) -> None:
    if not state.exists:
        raise IllegalTransition("schedule", "DELETED" if state.is_deleted else None, type(event))


def _check_enabled(state: ScheduleState, event: ScheduleEvent) -> None:
    if not state.is_enabled:
        raise IllegalTransition("schedule", "DELETED" if state.is_deleted else state.status, type(event))


def _check_increasing(state: ScheduleState, event: ScheduleEvent, nominal_at: datetime) -> None:
    _check_enabled(state, event)
    if nominal_at <= state.cursor_at:
        why = f"{nominal_at.isoformat()} is not after {state.cursor_at.isoformat()}"
        raise IllegalTransition("schedule", state.status, type(event), why)


FOLDS: Mapping[type[Event], Callable[[ScheduleState, Any], ScheduleState]] = {
    ScheduleCreated: created,
    ScheduleUpdated: updated,
    ScheduleEnabled: enabled,
    ScheduleDisabled: disabled,
    ScheduleDeleted: deleted,
    ScheduleExpired: expired,
    ScheduleSuspended: suspended,
    ScheduleFired: fired,
    ScheduleSkipped: skipped,
    ScheduleTaskEnded: task_ended,
    ScheduleEventHeld: event_held,
    **daemon_fold.FOLDS,
    ScheduleReplanned: replanned,
}
