"""A backfill: a past window of a schedule, run nominal time by nominal time, a few tasks at once.

Each nominal time becomes at most one task, whose id is the one that the schedule itself would have given it: one that
has a task already, fired then or backfilled before, is left out and counted, as is one that a calendar excludes. One decision looks at `LOOKED_AT_MAX`
nominal times at most, and what is open is bounded by `max_concurrent`: neither grows with the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs
from attrs import frozen

from hetuflow.domain.backfill_window import trigger_of
from hetuflow.domain.commands import (
    AdvanceBackfill,
    CancelBackfill,
    CreateTask,
    NoteBackfillEnds,
    StartBackfill,
    TaskEnd,
)
from hetuflow.domain.copies import copier
from hetuflow.domain.decider import NOTHING, Address, Backfill, Decision, Follow, Guard, Intent
from hetuflow.domain.enums import BackfillStatus, TaskStatus, TaskTrigger
from hetuflow.domain.events import (
    BackfillAdvanced,
    BackfillCancelled,
    BackfillEvent,
    BackfillFinished,
    BackfillStarted,
    BackfillTaskEnded,
    Event,
)
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import exclusion_of, guards_of
from hetuflow.domain.schedule_overlap import TASKS_UNKNOWN
from hetuflow.domain.schedule_state import JUST_BEFORE
from hetuflow.domain.switch_notes import checked_note
from hetuflow.domain.table_decider import TableDecider
from hetuflow.domain.task import opening as task_opening
from hetuflow.domain.transition import IllegalTransition
from hetuflow.domain.trigger import Trigger, next_after, occurrences_between

LOOKED_AT_MAX = 100
"""Nominal times of one decision: a task is two appended events, and one read tells which of them exist."""


@frozen(slots=True)
class BackfillState:
    """A backfill. `status` None: there is none. `cursor_at`: the nominal times up to it are decided."""

    start: BackfillStarted | None = None
    status: BackfillStatus | None = None
    cursor_at: datetime | None = None
    is_exhausted: bool = False
    is_skipping: bool = False
    """The last step found only nominal times that have a task: the next looks further."""

    made: int = 0
    left_out: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    open_tasks: tuple[str, ...] = ()
    note: str | None = None

    @property
    def exists(self) -> bool:
        return self.start is not None

    @property
    def is_running(self) -> bool:
        return self.status is BackfillStatus.RUNNING


changed = copier(BackfillState)


def rule_of(start: BackfillStarted) -> Trigger:
    return trigger_of(attrs.asdict(start, recurse=False))


# --- decide ----------------------------------------------------------------------------------------------------------


def _start(command: StartBackfill, state: BackfillState, now: datetime) -> Decision:
    id_ = command.start.backfill_id
    if state.exists:
        raise Rejected("already_exists", f"backfill {id_} exists", {"kind": "backfill", "id": id_})
    return Decision([command.start])


def _advance(command: AdvanceBackfill, state: BackfillState, now: datetime) -> Decision:
    """Raises `Rejected`: `tasks_unknown`, with the `task_ids` that the question did not tell of; `calendars_unknown`."""
    start, guards = state.start, (command.job.guard, *command.guards)
    if start is None or state.cursor_at is None or not state.is_running or state.is_exhausted:
        return NOTHING
    if command.job.deleted:
        return _closed(state, [BackfillCancelled(backfill_id=start.backfill_id, reason="job_deleted")], now, guards)
    room = start.max_concurrent - len(state.open_tasks)
    if room < 1:
        return NOTHING
    trigger = rule_of(start)
    exclusion = exclusion_of(start.exclude_calendars, command.calendars)
    guards = (*guards, *guards_of(start.exclude_calendars, command.calendars))
    looked_at = LOOKED_AT_MAX if state.is_skipping else min(room, LOOKED_AT_MAX)
    nominals = occurrences_between(trigger, state.cursor_at, start.until_at, looked_at)
    excluded = {at for at in nominals if exclusion is not None and exclusion.excludes(at)}
    ids = {at: task_id_of(start.schedule_id, at) for at in nominals}
    unknown = [task_id for at, task_id in ids.items() if at not in excluded and task_id not in command.has_task]
    if unknown:
        raise Rejected(TASKS_UNKNOWN, "which of the tasks exist is not told", {"task_ids": unknown})
    cursor_at, left_out, made = state.cursor_at, state.left_out, list[str]()
    opened: dict[Address, Sequence[Event]] = {}
    more: dict[Guard, None] = dict.fromkeys(guards)
    for at, task_id in ids.items():
        if at in excluded or command.has_task[task_id]:
            left_out += 1
        elif len(made) == room:
            break
        else:
            events, task_guards = task_opening(_task(command, start, task_id, at, now), now)
            opened[Address("task", task_id)] = events
            more.update(dict.fromkeys(task_guards))
            made.append(task_id)
        cursor_at = at
    if not nominals:  # the rules of its time zone have changed meanwhile
        cursor_at = start.until_at
    following = next_after(trigger, cursor_at)
    advanced = BackfillAdvanced(
        backfill_id=start.backfill_id,
        cursor_at=cursor_at,
        task_ids=tuple(made),
        made=state.made + len(made),
        left_out=left_out,
        is_last=following is None or following > start.until_at,
    )
    return _closed(state, [advanced], now, tuple(more), opened)


def _task(command: AdvanceBackfill, start: BackfillStarted, task_id: str, at: datetime, now: datetime) -> CreateTask:
    return CreateTask(
        task_id=task_id,
        job=command.job,
        trigger=TaskTrigger.BACKFILL,
        priority=start.priority,
        schedule_id=start.schedule_id,
        schedule_kind=start.schedule_kind,
        nominal_at=at,
        scheduled_at=now,
        parameters=start.parameters,
        backfill_id=start.backfill_id,
    )


def _note_ends(command: NoteBackfillEnds, state: BackfillState, now: datetime) -> Decision:
    events: list[BackfillEvent] = []
    after = state
    for end in command.ends:
        if end.task_id in after.open_tasks:
            events.append(_ended(after, end))
            after = BACKFILL.evolve(after, events[-1])
    return _closed(state, events, now) if events else NOTHING


def _ended(state: BackfillState, end: TaskEnd) -> BackfillTaskEnded:
    assert state.start is not None
    return BackfillTaskEnded(
        backfill_id=state.start.backfill_id,
        task_id=end.task_id,
        ended_as=end.status,
        ended_at=end.ended_at,
        succeeded=state.succeeded + (end.status == TaskStatus.SUCCEEDED),
        failed=state.failed + (end.status == TaskStatus.FAILED),
        cancelled=state.cancelled + (end.status == TaskStatus.CANCELLED),
    )


def _cancel(command: CancelBackfill, state: BackfillState, now: datetime) -> Decision:
    if state.start is None:
        raise Rejected("not_found", "there is no such backfill", {"kind": "backfill"})
    if not state.is_running:
        return NOTHING
    note = checked_note(command.note)
    return _closed(state, [BackfillCancelled(backfill_id=state.start.backfill_id, reason="user", note=note)], now)


def _closed(
    state: BackfillState,
    events: Sequence[BackfillEvent],
    now: datetime,
    guards: Sequence[Guard] = (),
    opened: Mapping[Address, Sequence[Event]] | None = None,
) -> Decision:
    """The events, and the end when nothing of it is open any more and nothing follows."""
    after = state
    for event in events:
        after = BACKFILL.evolve(after, event)
    assert after.start is not None
    is_over = after.is_exhausted or after.status is BackfillStatus.CANCELLED
    status = BackfillStatus.CANCELLED if after.status is BackfillStatus.CANCELLED else BackfillStatus.FINISHED
    ends = [BackfillFinished(backfill_id=after.start.backfill_id, outcome=str(status), finished_at=now)]
    return Decision([*events, *(ends if is_over and not after.open_tasks else [])], opened or {}, guards)


# --- evolve ----------------------------------------------------------------------------------------------------------


def _started(state: BackfillState, event: BackfillStarted) -> BackfillState:
    if state.exists:
        raise IllegalTransition("backfill", state.status, BackfillStarted)
    return BackfillState(
        start=event, status=BackfillStatus.RUNNING, cursor_at=event.from_at - JUST_BEFORE, note=event.note
    )


def _advanced(state: BackfillState, event: BackfillAdvanced) -> BackfillState:
    if not state.is_running or state.cursor_at is None or event.cursor_at <= state.cursor_at:
        raise IllegalTransition("backfill", state.status, BackfillAdvanced)
    return changed(
        state,
        cursor_at=event.cursor_at,
        made=event.made,
        left_out=event.left_out,
        is_exhausted=event.is_last,
        is_skipping=not event.task_ids,
        open_tasks=(*state.open_tasks, *event.task_ids),
    )


def _task_ended(state: BackfillState, event: BackfillTaskEnded) -> BackfillState:
    if event.task_id not in state.open_tasks:
        raise IllegalTransition("backfill", state.status, BackfillTaskEnded, f"{event.task_id} is not open")
    return changed(
        state,
        open_tasks=tuple(task_id for task_id in state.open_tasks if task_id != event.task_id),
        succeeded=event.succeeded,
        failed=event.failed,
        cancelled=event.cancelled,
    )


def _cancelled(state: BackfillState, event: BackfillCancelled) -> BackfillState:
    if not state.is_running:
        raise IllegalTransition("backfill", state.status, BackfillCancelled)
    return changed(state, status=BackfillStatus.CANCELLED, note=event.note or state.note)


def _finished(state: BackfillState, event: BackfillFinished) -> BackfillState:
    if not state.exists or state.open_tasks or state.status is BackfillStatus.FINISHED:
        raise IllegalTransition("backfill", state.status, BackfillFinished)
    return changed(state, status=BackfillStatus(event.outcome))


def intents(state: BackfillState) -> frozenset[Intent]:
    """To be told of its tasks' ends; to go on while there is room; after a cancel, to have what waits cancelled."""
    start, wishes = state.start, list[Intent]()
    if start is None or state.cursor_at is None:
        return frozenset()
    count = len(state.open_tasks)
    if count:
        wishes.append(Follow(Address("backfill", start.backfill_id), start.job_id, frozenset(state.open_tasks)))
    if state.is_running and not state.is_exhausted and count < start.max_concurrent:
        wishes.append(Backfill(start.backfill_id, start.job_id, state.cursor_at, count))
    elif state.status is BackfillStatus.CANCELLED and count:
        waiting = frozenset(state.open_tasks)
        wishes.append(Backfill(start.backfill_id, start.job_id, state.cursor_at, count, waiting))
    return frozenset(wishes)


BACKFILL: TableDecider[BackfillState] = TableDecider(
    "backfill",
    BackfillState(),
    {StartBackfill: _start, AdvanceBackfill: _advance, NoteBackfillEnds: _note_ends, CancelBackfill: _cancel},
    {
        BackfillStarted: _started,
        BackfillAdvanced: _advanced,
        BackfillTaskEnded: _task_ended,
        BackfillCancelled: _cancelled,
        BackfillFinished: _finished,
    },
    intents,
)
