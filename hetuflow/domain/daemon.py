"""The daemon: a schedule that keeps so many instances of its job running, each in a numbered seat.

One question, `TendDaemon`, brings a daemon to what it should be, whatever has happened since the last: it takes note of
the ends of its tasks, then stops what is not wanted, fills the seats that are due, and replaces what an edit has made
out of date, a few at a time. Asked again it finds nothing to do, so that it can be asked after every start.

A seat is filled again only when its task is known to have ended, and that of a daemon is final: at most one task per seat
is open, as everybody can see. The task's id is derived from seat and incarnation, and its stream is opened in the append
of `SeatStarted`: the store refuses a second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from hetuflow.domain.commands import JobSnapshot, SeatTask
from hetuflow.domain.daemon_rules import DaemonRules
from hetuflow.domain.daemon_state import Seat, digest_of, open_seats, wake_at
from hetuflow.domain.decider import Intent, Keep
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import ScheduleEvent, ScheduleExpired, SeatsStopping
from hetuflow.domain.schedule_state import ScheduleState
from hetuflow.domain.task_state import TaskState

STARTS_MAX = 100
"""Tasks made by one decision, as of any other fire; the rest follows at once."""

SEAT_VARIABLE = "HETUFLOW_SEAT"
"""In which seat a program runs, 0 to instances - 1: what tells the instances of a daemon apart."""

CAUSE = "daemon"
"""Of the cancel of a task that its daemon ends."""

BECAUSE: Mapping[str, str] = {
    "disabled": "its schedule was disabled",
    "expired": "the end time of its schedule has come",
    "gave_up": "its schedule gave up: too many restarts",
    "job_disabled": "its job was disabled",
    "scaled_down": "fewer instances are wanted",
    "edited": "a newer version takes its place",
    "not_yet": "its schedule starts later",
    "kind_changed": "its schedule is no daemon any more",
}
"""Why seats are stopped -> the reason in the cancel of their tasks."""

OVERRIDES = {"max_retries": 0, "start_deadline_seconds": 0}
"""Of the job's config in a daemon's tasks: to start again is the daemon's to decide, and it waits for an agent for ever."""


def glimpse(task_id: str, state: TaskState) -> SeatTask:
    """What a daemon has to know of one of its tasks."""
    instance = state.instance
    if not state.is_terminal:
        is_running = state.status is TaskStatus.RUNNING and instance is not None
        return SeatTask(
            task_id=task_id, is_running=is_running, agent_id=instance.agent_id if is_running and instance else None
        )
    assert state.status is not None and instance is not None and state.completed_at is not None
    lived = None
    if instance.started_at is not None and instance.completed_at is not None:
        lived = max((instance.completed_at - instance.started_at).total_seconds(), 0.0)
    return SeatTask(
        task_id=task_id,
        ended_at=state.completed_at,
        outcome=state.status.name.lower(),
        reason=instance.reason if state.status is TaskStatus.FAILED else None,
        lived_seconds=lived,
    )


def stopping(state: ScheduleState, now: datetime, cause: str) -> list[ScheduleEvent]:
    """The word that all its open tasks are to be ended; none when there are none."""
    seats = [] if state.is_deleted or state.is_suspended else open_seats(state)
    return stopping_of(state, seats, now, cause)


def intents(state: ScheduleState) -> frozenset[Intent]:
    """To be told of its tasks and to be looked at, while it is enabled or a task is open."""
    if state.status is None or state.is_deleted or state.is_suspended:
        return frozenset()
    seats = open_seats(state)
    is_on = state.is_daemon and state.is_enabled
    if not seats and not is_on:
        return frozenset()
    return frozenset(
        (
            Keep(
                state.schedule_id,
                state.job_id,
                frozenset(seat.task_id for seat in seats),
                frozenset(seat.task_id for seat in seats if seat.stopping is not None),
                wake_at(state, state.next_run_at) if is_on else None,
                state.revision,
            ),
        )
    )


def made_of(job: JobSnapshot, state: ScheduleState) -> str:
    """Names what a task made now would be made of."""
    rules = DaemonRules.of(state.daemon)
    return digest_of(job.environment, job.config, job.agent_id, state.parameters, rules.timeout_seconds)


def expiry(state: ScheduleState, now: datetime) -> list[ScheduleEvent]:
    """The end of an enabled daemon whose time is over."""
    if not state.is_daemon or not state.is_enabled or state.end_time is None or now < state.end_time:
        return []
    return [ScheduleExpired(schedule_id=state.schedule_id, job_id=state.job_id, reason="end_time")]


def stopping_of(state: ScheduleState, seats: Sequence[Seat], now: datetime, cause: str) -> list[ScheduleEvent]:
    """The word that the open tasks of these seats are to be ended."""
    if not seats:
        return []
    return [
        SeatsStopping(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            seats=tuple(seat.number for seat in seats),
            task_ids=tuple(seat.task_id for seat in seats),
            cause=cause,
            stopping_at=now,
        )
    ]
