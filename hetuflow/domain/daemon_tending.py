"""What a daemon decides when it is asked: one pass over its seats, in a fixed order.

It takes note of what has become of its tasks, then stops what is not wanted, fills the seats that are due, and replaces
what an edit has made out of date, a few at a time. Asked again it finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import evolve as changed

from hetuflow.domain import schedule_fold as fold
from hetuflow.domain.commands import CreateTask, JobSnapshot, SeatTask, TendDaemon
from hetuflow.domain.daemon import BECAUSE, OVERRIDES, SEAT_VARIABLE, STARTS_MAX, expiry, made_of, stopping_of
from hetuflow.domain.daemon_rules import START_SPACING_SECONDS, DaemonRules
from hetuflow.domain.daemon_state import Seat, next_start_at, open_seats
from hetuflow.domain.decider import NOTHING, Address, Decision, Guard
from hetuflow.domain.enums import InstanceReason, JobStatus, ScheduleStatus, TaskTrigger
from hetuflow.domain.events import (
    DaemonGaveUp,
    DaemonStopped,
    Event,
    ScheduleDeleted,
    ScheduleEvent,
    SeatEnded,
    SeatReady,
    SeatRunning,
    SeatStarted,
)
from hetuflow.domain.identity import seat_task_id_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import ScheduleState
from hetuflow.domain.task import opening as task_opening


def tend(command: TendDaemon, state: ScheduleState, now: datetime) -> Decision:
    """Bring the daemon to what it should be. Nothing when it is so.

    Raises:
      Rejected: `not_found`, there was never such a schedule; what `hetuflow.domain.task.opening` raises.
    """
    if state.status is None:
        raise Rejected("not_found", "there is no such schedule", {"kind": "schedule"})
    if state.is_deleted or state.is_suspended:
        return NOTHING
    if command.job.deleted:
        deleted = ScheduleDeleted(schedule_id=state.schedule_id, job_id=state.job_id, reason="job_deleted")
        return Decision([deleted], guards=(command.job.guard, *command.guards))
    tending = _Tending(command, state, now)
    tending.expire()
    tending.take_note()
    tending.stop_unwanted()
    tending.replace_outdated()
    tending.fill()
    tending.stopped()
    return tending.decision()


class _Tending:
    """One decision: the state as its events leave it, and what it opens. Lives for one call."""

    def __init__(self, command: TendDaemon, state: ScheduleState, now: datetime) -> None:
        self._job: JobSnapshot = command.job
        self._told = {task.task_id: task for task in command.tasks}
        self._state = state
        self._now = now
        self._rules = DaemonRules.of(state.daemon)
        self._made_of = made_of(command.job, state)
        self._events: list[ScheduleEvent] = []
        self._opened: dict[Address, Sequence[Event]] = {}
        self._guards: dict[Guard, None] = dict.fromkeys((command.job.guard, *command.guards))

    def decision(self) -> Decision:
        if not self._events:
            return NOTHING
        return Decision(self._events, self._opened, tuple(self._guards))

    def _say(self, event: ScheduleEvent) -> None:
        self._state = fold.FOLDS[type(event)](self._state, event)
        self._events.append(event)

    @property
    def _unwanted_because(self) -> str | None:
        """Why no seat of it is wanted; None when they are."""
        state = self._state
        if state.gave_up is not None:
            return "gave_up"
        if state.status is ScheduleStatus.EXPIRED:
            return "expired"
        if not state.is_enabled:
            return "disabled"
        if not state.is_daemon:
            return "kind_changed"
        if self._job.status != JobStatus.ENABLED:
            return "job_disabled"
        return "not_yet" if state.start_time is not None and self._now < state.start_time else None

    def _is_wanted(self, number: int) -> bool:
        return self._unwanted_because is None and number < self._rules.instances

    # --- what has happened -------------------------------------------------------------------------------------------

    def take_note(self) -> None:
        for seat in open_seats(self._state):
            told = self._told.get(seat.task_id)
            if told is not None and told.ended_at is not None:
                self._take_note_of_end(seat, told, told.ended_at)
            elif told is not None and told.is_running and seat.running_since is None:
                self._say(
                    SeatRunning(
                        schedule_id=self._state.schedule_id,
                        job_id=self._state.job_id,
                        seat=seat.number,
                        incarnation=seat.incarnation,
                        task_id=seat.task_id,
                        agent_id=told.agent_id,
                        running_since=self._now,
                    )
                )
            elif self._has_become_ready(seat):
                self._say(
                    SeatReady(
                        schedule_id=self._state.schedule_id,
                        job_id=self._state.job_id,
                        seat=seat.number,
                        incarnation=seat.incarnation,
                        task_id=seat.task_id,
                        ready_at=self._now,
                    )
                )

    def _has_become_ready(self, seat: Seat) -> bool:
        after = self._rules.ready_after_seconds
        if seat.running_since is None or seat.is_ready or seat.stopping is not None or not after:
            return False
        return seat.running_since + timedelta(seconds=after) <= self._now

    def _take_note_of_end(self, seat: Seat, told: SeatTask, ended_at: datetime) -> None:
        state, rules = self._state, self._rules
        is_wanted = self._is_wanted(seat.number)
        is_own_end = seat.stopping is None and told.outcome != "cancelled"
        is_lost = told.reason == InstanceReason.LOST
        is_healthy = told.lived_seconds is not None and told.lived_seconds >= rules.healthy_after_seconds
        failures = seat.failures if is_lost else 0
        if is_own_end and not is_lost and told.outcome == "failed" and not is_healthy:
            failures = seat.failures + 1
        due_at = None
        if is_wanted:
            wait = 0.0
            if seat.stopping is None and not is_lost:
                wait = rules.backoff_seconds(failures, self._job.config["retry_interval"])
            due_at = max(ended_at + timedelta(seconds=wait), seat.started_at + timedelta(seconds=START_SPACING_SECONDS))
        is_counted = is_own_end and not is_lost and is_wanted
        event = SeatEnded(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            seat=seat.number,
            incarnation=seat.incarnation,
            task_id=seat.task_id,
            outcome=told.outcome or "",
            reason=seat.stopping or told.reason,
            ended_at=ended_at,
            lived_seconds=told.lived_seconds,
            failures=failures,
            is_counted=is_counted,
            due_at=due_at,
            next_run_at=None,
        )
        self._say(self._with_next_run(event))
        if is_counted:
            self._give_up_if_too_many(seat, told, ended_at)

    def _with_next_run(self, event: SeatEnded) -> SeatEnded:
        """What is due next is known when the event has been folded."""
        after = fold.FOLDS[SeatEnded](self._state, event)
        return changed(event, next_run_at=self._next_run_at(after))

    def _next_run_at(self, after: ScheduleState) -> datetime | None:
        if not after.is_daemon:
            return self._state.next_run_at
        return next_start_at(after, self._now) if after.is_enabled else None

    def _give_up_if_too_many(self, seat: Seat, told: SeatTask, ended_at: datetime) -> None:
        limit, window = self._rules.restart_limit, timedelta(seconds=self._rules.restart_window_seconds)
        if limit is None or not self._state.is_enabled:
            return
        restarts = sum(ended_at - at < window for at in self._state.restarts)
        if restarts > limit:
            how = (told.outcome or "ended") + (f" ({told.reason})" if told.reason else "")
            self._say(
                DaemonGaveUp(
                    schedule_id=self._state.schedule_id,
                    job_id=self._state.job_id,
                    restarts=restarts,
                    limit=limit,
                    window_seconds=self._rules.restart_window_seconds,
                    seat=seat.number,
                    task_id=seat.task_id,
                    error=(
                        f"{restarts} restarts within {self._rules.restart_window_seconds} s, more than {limit};"
                        f" last, task {seat.task_id} of seat {seat.number} {how}"
                    ),
                    gave_up_at=self._now,
                )
            )

    def expire(self) -> None:
        state = self._state
        for event in expiry(state, self._now):
            self._say(event)

    # --- what follows ------------------------------------------------------------------------------------------------

    def stop_unwanted(self) -> None:
        cause = self._unwanted_because
        running = [seat for seat in open_seats(self._state) if seat.stopping is None]
        if cause is not None:
            self._stop(running, cause)
        else:
            self._stop([seat for seat in running if seat.number >= self._rules.instances], "scaled_down")

    def _stop(self, seats: Sequence[Seat], cause: str) -> None:
        for event in stopping_of(self._state, seats, self._now, cause):
            self._say(event)

    def replace_outdated(self) -> None:
        """Stop what an older version runs: at once where nothing is available that way, else as many as may be missing."""
        if self._unwanted_because is not None:
            return
        rules = self._rules
        open_ = [seat for seat in open_seats(self._state) if seat.number < rules.instances and seat.stopping is None]
        outdated = [seat for seat in open_ if seat.made_of != self._made_of]
        if not outdated:
            return
        available = sum(seat.is_available(rules) for seat in open_)
        spare = max(rules.max_unavailable - (rules.instances - available), 0)
        useless = [seat for seat in outdated if not seat.is_available(rules)]
        self._stop([*useless, *[seat for seat in outdated if seat.is_available(rules)][:spare]], "edited")

    def fill(self) -> None:
        if self._unwanted_because is not None:
            return
        seats = {seat.number: seat for seat in self._state.seats}
        empty = [
            number
            for number in range(self._rules.instances)
            if (seat := seats.get(number)) is None or (not seat.is_open and self._is_due(seat))
        ]
        now = empty[:STARTS_MAX]
        for number in now:
            self._start(number, seats.get(number), is_last=number == now[-1])

    def _is_due(self, seat: Seat) -> bool:
        spaced = seat.started_at + timedelta(seconds=START_SPACING_SECONDS) <= self._now
        if seat.due_at is None or (seat.made_of != self._made_of and spaced):
            return True
        return seat.due_at <= self._now

    def _start(self, number: int, before: Seat | None, *, is_last: bool) -> None:
        """Fill the seat. Unless it is the last one now, the next is due at once."""
        state, job = self._state, self._job
        incarnation = 1 if before is None else before.incarnation + 1
        due_at = state.cursor_at if before is None else before.due_at or before.ended_at
        assert due_at is not None
        task_id = seat_task_id_of(state.schedule_id, number, incarnation, due_at)
        events, guards = task_opening(
            CreateTask(
                task_id=task_id,
                job=job,
                trigger=TaskTrigger.DAEMON,
                priority=state.priority,
                schedule_id=state.schedule_id,
                schedule_kind=state.schedule_kind,
                scheduled_at=self._now,
                environment={SEAT_VARIABLE: str(number)},
                parameters=state.parameters or {},
                config={**OVERRIDES, "timeout": self._rules.timeout_seconds},
                avoid=self._occupied_by_others(number) if self._rules.spread else (),
            ),
            self._now,
        )
        self._opened[Address("task", task_id)] = events
        self._guards.update(dict.fromkeys(guards))
        started = SeatStarted(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            seat=number,
            incarnation=incarnation,
            task_id=task_id,
            why=self._why(before),
            made_of=self._made_of,
            job_version=job.version,
            started_at=self._now,
            fire_count=state.fire_count + 1,
            next_run_at=self._now,
        )
        if is_last:
            after = fold.FOLDS[SeatStarted](state, started)
            started = changed(started, next_run_at=self._next_run_at(after))
        self._say(started)

    def _occupied_by_others(self, number: int) -> tuple[str, ...]:
        """The agents on which another seat's process is known to run."""
        seats = [seat for seat in open_seats(self._state) if seat.number != number]
        return tuple(sorted({seat.agent_id for seat in seats if seat.agent_id is not None}))

    def _why(self, before: Seat | None) -> str:
        if before is None or before.due_at is None:
            return "started"
        if before.made_of != self._made_of:
            return "edited"
        if before.reason in BECAUSE:  # it was stopped, and is wanted again
            return "started"
        return "moved" if before.reason == InstanceReason.LOST else "restarted"

    def stopped(self) -> None:
        """The word that the last one has ended, for whoever waits for it; a daemon that has had none says nothing."""
        has_ended = any(isinstance(event, SeatEnded) for event in self._events)
        if has_ended and not self._state.is_enabled and not open_seats(self._state):
            self._say(
                DaemonStopped(schedule_id=self._state.schedule_id, job_id=self._state.job_id, stopped_at=self._now)
            )
