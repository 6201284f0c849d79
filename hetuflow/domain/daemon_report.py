"""How a daemon stands, for people: its seats and one sentence. Pure."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands import JobSnapshot
from hetuflow.domain.daemon import BECAUSE, made_of
from hetuflow.domain.daemon_rules import DaemonRules
from hetuflow.domain.daemon_state import Seat
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.environment import rfc3339
from hetuflow.domain.schedule_state import ScheduleState


@frozen(slots=True, kw_only=True)
class SeatReport:
    seat: int
    state: str
    incarnation: int
    task_id: str
    agent_id: str | None
    since: datetime
    next_start_at: datetime | None
    failures: int
    ended: str | None
    outdated: bool
    message: str


@frozen(slots=True, kw_only=True)
class DaemonReport:
    """`wanted`: instances that should run now. `gave_up`: why it disabled itself."""

    summary: str
    wanted: int
    running: int
    available: int
    outdated: int
    gave_up: str | None
    seats: tuple[SeatReport, ...]


def report(state: ScheduleState, job: JobSnapshot, now: datetime) -> DaemonReport:
    """Return how a schedule that exists stands as a daemon; one of another kind has no seats, or those it had as one."""
    rules = DaemonRules.of(state.daemon)
    why_none = _why_none(state, job, now)
    wanted = 0 if why_none else rules.instances
    current = made_of(job, state)
    seats = tuple(_seat(seat, rules, current, is_wanted=seat.number < wanted) for seat in state.seats)
    running = sum(each.state in ("running", "ready") for each in seats)
    outdated = sum(each.outdated for each in seats)
    available = sum(seat.is_available(rules) for seat in state.seats)
    if why_none:
        left = sum(seat.is_open for seat in state.seats)
        summary = f"Not running: {why_none}." + (f" {left} still to end." if left else "")
    else:
        summary = f"{running} of {wanted} running."
        if outdated:
            summary += f" {outdated} of an older version, replaced {rules.max_unavailable} at a time."
        summary += "".join(f" {each.message}" for each in seats if each.state == "waiting")
    return DaemonReport(
        summary=summary,
        wanted=wanted,
        running=running,
        available=available,
        outdated=outdated,
        gave_up=state.gave_up,
        seats=seats,
    )


def sequel(state: ScheduleState, seat_number: str | None, task_id: str) -> str:
    """What has become of the seat after this task of it, as a sentence; empty while the task is its newest and open."""
    seat = next((each for each in state.seats if str(each.number) == seat_number), None)
    if seat is None:
        return ""
    if state.is_deleted:
        return "Its schedule was deleted: nothing starts it again."
    if seat.task_id != task_id:
        return f"Seat {seat.number} of its daemon went on with task {seat.task_id}."
    if seat.is_open and seat.stopping is None:
        return ""
    if state.gave_up is not None:
        return f"Its daemon gave up: {state.gave_up}."
    return _standing(seat, DaemonRules.of(state.daemon), is_wanted=state.is_daemon and state.is_enabled)[2]


def _why_none(state: ScheduleState, job: JobSnapshot, now: datetime) -> str | None:
    if not state.is_daemon:
        return "the schedule is not of kind daemon"
    if state.gave_up is not None:
        return f"the schedule was disabled after {state.gave_up}; enable it to start again"
    if not state.is_enabled:
        return f"the schedule is {state.status.name.lower() if state.status is not None else 'absent'}"
    if job.status != JobStatus.ENABLED:
        return "its job is not enabled"
    if state.start_time is not None and now < state.start_time:
        return f"it starts at {rfc3339(state.start_time)}"
    return None


def _seat(seat: Seat, rules: DaemonRules, current: str, *, is_wanted: bool) -> SeatReport:
    state, since, message = _standing(seat, rules, is_wanted=is_wanted)
    return SeatReport(
        seat=seat.number,
        state=state,
        incarnation=seat.incarnation,
        task_id=seat.task_id,
        agent_id=seat.agent_id,
        since=since,
        next_start_at=seat.due_at if state == "waiting" else None,
        failures=seat.failures,
        ended=seat.reason,
        outdated=seat.is_open and seat.made_of != current,
        message=message,
    )


def _standing(seat: Seat, rules: DaemonRules, *, is_wanted: bool) -> tuple[str, datetime, str]:
    """(state, since, sentence)."""
    name = f"Seat {seat.number}"
    if seat.ended_at is not None:
        if is_wanted and seat.due_at is not None:
            how = f"{seat.failures} failures in a row" if seat.failures > 1 else f"it ended: {seat.reason}"
            return "waiting", seat.ended_at, f"{name} starts again at {rfc3339(seat.due_at)} ({how})."
        return "stopped", seat.ended_at, f"{name} has stopped."
    if seat.stopping is not None:
        since = seat.running_since or seat.started_at
        return "stopping", since, f"{name} is being stopped: {BECAUSE.get(seat.stopping, seat.stopping)}."
    if seat.running_since is None:
        return "starting", seat.started_at, f"{name} has task {seat.task_id}, which does not run yet."
    state = "ready" if seat.is_available(rules) else "running"
    return state, seat.running_since, f"{name} runs on agent {seat.agent_id}."
