"""The fold of a daemon's events. What cannot follow is refused: no seat ever has two open tasks, nor a task twice."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from hetuflow.domain.copies import copier
from hetuflow.domain.daemon_rules import DaemonRules
from hetuflow.domain.daemon_state import Seat, seat_of
from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    DaemonGaveUp,
    DaemonStopped,
    Event,
    ScheduleEvent,
    SeatEnded,
    SeatReady,
    SeatRunning,
    SeatsStopping,
    SeatStarted,
)
from hetuflow.domain.schedule_state import ScheduleState
from hetuflow.domain.transition import IllegalTransition

_changed = copier(ScheduleState)
_moved = copier(Seat)


def started(state: ScheduleState, event: SeatStarted) -> ScheduleState:
    if not state.is_enabled:
        raise _refusal(state, event, "it is not enabled")
    before = seat_of(state, event.seat)
    if event.incarnation != (1 if before is None else before.incarnation + 1):
        raise _refusal(state, event, f"incarnation {event.incarnation} is not the next of seat {event.seat}")
    if before is not None and before.is_open:
        raise _refusal(state, event, f"seat {event.seat} has an open task")
    seat = Seat(
        number=event.seat,
        incarnation=event.incarnation,
        task_id=event.task_id,
        made_of=event.made_of,
        started_at=event.started_at,
        failures=0 if before is None else before.failures,
    )
    after = _seated(state, seat)
    return _changed(after, fire_count=event.fire_count, last_run_at=event.started_at, next_run_at=event.next_run_at)


def running(state: ScheduleState, event: SeatRunning) -> ScheduleState:
    seat = _own(state, event)
    return _seated(state, _moved(seat, running_since=event.running_since, agent_id=event.agent_id))


def ready(state: ScheduleState, event: SeatReady) -> ScheduleState:
    return _seated(state, _moved(_own(state, event), is_ready=True))


def ended(state: ScheduleState, event: SeatEnded) -> ScheduleState:
    seat = _moved(
        _own(state, event),
        ended_at=event.ended_at,
        due_at=event.due_at,
        failures=event.failures,
        reason=event.reason or event.outcome,
        stopping=None,
    )
    restarts = state.restarts
    limit = DaemonRules.of(state.daemon).restart_limit
    if event.is_counted and limit is not None:
        restarts = (*restarts, event.ended_at)[-limit - 1 :]
    return _changed(_seated(state, seat), restarts=restarts, next_run_at=event.next_run_at)


def stopping(state: ScheduleState, event: SeatsStopping) -> ScheduleState:
    if state.status is None or state.is_deleted:
        raise _refusal(state, event, "there is no such schedule")
    numbers = frozenset(event.seats)
    if not numbers <= {seat.number for seat in state.seats if seat.is_open}:
        raise _refusal(state, event, "a seat has no open task")
    seats = tuple(_moved(seat, stopping=event.cause) if seat.number in numbers else seat for seat in state.seats)
    return _changed(state, seats=seats)


def stopped(state: ScheduleState, event: DaemonStopped) -> ScheduleState:
    if state.is_enabled or any(seat.is_open for seat in state.seats):
        raise _refusal(state, event, "it is enabled, or a task is open")
    return state


def gave_up(state: ScheduleState, event: DaemonGaveUp) -> ScheduleState:
    if not state.is_enabled:
        raise _refusal(state, event, "it is not enabled")
    return _changed(
        state,
        status=ScheduleStatus.DISABLED,
        next_run_at=None,
        gave_up=event.error,
        status_note=event.error,
        revision=state.revision + 1,
    )


def rested(state: ScheduleState) -> ScheduleState:
    """Enabled again: nothing of the past counts, and nothing waits for a back-off."""
    seats = tuple(seat if seat.is_open else _moved(seat, due_at=None, failures=0) for seat in state.seats)
    return _changed(state, seats=seats, restarts=(), gave_up=None, is_suspended=False)


def _own(state: ScheduleState, event: SeatRunning | SeatReady | SeatEnded) -> Seat:
    seat = seat_of(state, event.seat)
    if state.is_deleted or seat is None or not seat.is_open or seat.task_id != event.task_id:
        raise _refusal(state, event, f"{event.task_id} is not the open task of seat {event.seat}")
    return seat


def _seated(state: ScheduleState, seat: Seat) -> ScheduleState:
    """With this seat in the place of the one of its number; they are kept in the order of their numbers."""
    seats = state.seats
    at = bisect_left(seats, seat.number, key=lambda each: each.number)
    after = at + 1 if at < len(seats) and seats[at].number == seat.number else at
    return _changed(state, seats=(*seats[:at], seat, *seats[after:]))


def _refusal(state: ScheduleState, event: ScheduleEvent, why: str) -> IllegalTransition:
    return IllegalTransition("schedule", "DELETED" if state.is_deleted else state.status, type(event), why)


FOLDS: Mapping[type[Event], Callable[[ScheduleState, Any], ScheduleState]] = {
    SeatStarted: started,
    SeatRunning: running,
    SeatReady: ready,
    SeatEnded: ended,
    SeatsStopping: stopping,
    DaemonStopped: stopped,
    DaemonGaveUp: gave_up,
}
