"""What the ends of its tasks mean to a schedule: the next time of a fixed delay, and the count of failures in a row.

Only a schedule that asked for it is told (`Follow`), of each task once, in the order of the log. Cancelled tasks neither
count nor end a row of failures. A resume begins anew: tasks made before it do not count after it.
"""

from __future__ import annotations

from datetime import datetime

from hetuflow.domain import schedule_fold as fold
from hetuflow.domain.commands import NoteTaskEnds, TaskEnd
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.enums import ScheduleStatus, TaskStatus
from hetuflow.domain.events import ScheduleDisabled, ScheduleEvent, ScheduleTaskEnded
from hetuflow.domain.schedule_state import ScheduleState, delayed_after
from hetuflow.domain.schedule_times import covered, expiry

REASON_FAILURES = "failures"


def note_ends(command: NoteTaskEnds, state: ScheduleState, now: datetime) -> Decision:
    """Record the ends that the schedule waits to hear of; nothing of others, or when it is switched off."""
    events: list[ScheduleEvent] = []
    for end in command.ends:
        if not state.is_enabled or end.task_id not in state.followed:
            continue
        ended = _ended(state, end)
        state = fold.task_ended(state, ended)
        following = _pause(state, end, now) if _is_too_many(state) else expiry(state)
        for event in following:
            state = fold.FOLDS[type(event)](state, event)
        events += [ended, *following]
    return Decision(events) if events else NOTHING


def _ended(state: ScheduleState, end: TaskEnd) -> ScheduleTaskEnded:
    count, next_run_at = _failures_after(state, end), state.next_run_at
    if end.task_id == state.awaited_task and state.fires_left != 0:
        pauses = state.pause_on_failures is not None and count >= state.pause_on_failures
        next_run_at = None if pauses else delayed_after(state, max(end.ended_at, state.cursor_at))
    return ScheduleTaskEnded(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        task_id=end.task_id,
        ended_as=end.status,
        ended_at=end.ended_at,
        consecutive_failures=count,
        next_run_at=next_run_at,
    )


def _failures_after(state: ScheduleState, end: TaskEnd) -> int:
    if end.task_id not in state.counted_tasks or end.status == TaskStatus.CANCELLED:
        return state.consecutive_failures
    return state.consecutive_failures + 1 if end.status == TaskStatus.FAILED else 0


def _is_too_many(state: ScheduleState) -> bool:
    return state.pause_on_failures is not None and state.consecutive_failures >= state.pause_on_failures


def _pause(state: ScheduleState, end: TaskEnd, now: datetime) -> list[ScheduleEvent]:
    count = state.consecutive_failures
    what = f"{count} tasks in a row failed, the last was" if count > 1 else "its task failed:"
    return [
        *covered(state, now, "disabled"),
        ScheduleDisabled(
            schedule_id=state.schedule_id,
            job_id=state.job_id,
            status=ScheduleStatus.DISABLED,
            note=f"{what} {end.task_id}",
            reason=REASON_FAILURES,
            failures=count,
            task_id=end.task_id,
        ),
    ]
