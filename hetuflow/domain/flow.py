"""A run of a flow: the tasks of jobs that follow each other, made in one append and followed until all have ended.

The tasks order themselves by their dependencies. The flow run only says which belong together, how they ended together,
and what a user asks of all of them: to be cancelled, or to run again from what failed on. Cancelling and running again
are intents: they are carried out task by task, in an order that no task can overtake, and taken up again after a crash.

How it ended: Succeeded when every task succeeded or was skipped because its conditions did not come true; Failed when
one failed for good; else Cancelled, when one was cancelled or expired. After a cancel of the run it is Cancelled, unless
nothing was left to cancel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve as changed
from attrs import field, frozen

from hetuflow.domain.commands import CancelFlow, FinishFlow, FlowTaskEnd, RetryFlow, StartFlow
from hetuflow.domain.decider import NOTHING, Address, Decision, Guard, Intent, Reopening, Tend
from hetuflow.domain.enums import FlowStatus, TaskStatus
from hetuflow.domain.events import (
    Event,
    FlowCancelRequested,
    FlowEvent,
    FlowFinished,
    FlowRetried,
    FlowStarted,
)
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import NO_INTENTS, TableDecider
from hetuflow.domain.task import opening as task_opening
from hetuflow.domain.task_dependencies import Outcome, outcome
from hetuflow.domain.transition import IllegalTransition

JSON = Mapping[str, Any]


@frozen(slots=True)
class FlowState:
    """A flow run. `status` None: there is none. `reopens`: tasks that were asked to run again since it was last finished."""

    spec: FlowStarted | None = None
    status: FlowStatus | None = None
    cancel: FlowCancelRequested | None = None
    reopens: Mapping[str, Reopening] = field(factory=dict)

    @property
    def exists(self) -> bool:
        return self.spec is not None

    @property
    def task_ids(self) -> tuple[str, ...]:
        """Its tasks, each after all that it follows."""
        return () if self.spec is None else tuple(node["task_id"] for node in self.spec.graph["nodes"])


# --- decide --------------------------------------------------------------------------------------------------------


def opening(
    command: StartFlow, now: datetime
) -> tuple[FlowStarted, Mapping[Address, Sequence[Event]], tuple[Guard, ...]]:
    """Return the first event of the run's stream, those of its tasks' streams, and the guards of all of them.

    Raises:
      Rejected: as `task.opening`.
    """
    opened: dict[Address, Sequence[Event]] = {}
    guards: dict[Guard, None] = {}
    for task in command.tasks:
        events, own = task_opening(task, now)
        opened[Address("task", task.task_id)] = events
        guards.update(dict.fromkeys(own))
    started = FlowStarted(
        flow_run_id=command.flow_run_id,
        job_id=command.tasks[0].job.job_id,
        namespace_id=command.namespace_id,
        name=command.name,
        trigger=command.trigger,
        schedule_id=command.schedule_id,
        nominal_at=command.nominal_at,
        parameters=command.parameters,
        graph=command.graph,
        task_count=len(command.tasks),
        started_at=now,
    )
    return started, opened, tuple(guards)


def _start(command: StartFlow, state: FlowState, now: datetime) -> Decision:
    if state.status is not None:
        id_ = command.flow_run_id
        raise Rejected("already_exists", f"flow run {id_} exists", {"kind": "flow", "id": id_})
    started, opened, guards = opening(command, now)
    return Decision([started], opened, guards)


def _cancel(command: CancelFlow, state: FlowState, now: datetime) -> Decision:
    spec = _existing(state)
    if state.status is not FlowStatus.RUNNING:
        raise _terminal(state)
    if state.cancel is not None:
        return NOTHING
    return Decision([FlowCancelRequested(flow_run_id=spec.flow_run_id, requested_at=now, reason=command.reason)])


def _retry(command: RetryFlow, state: FlowState, now: datetime) -> Decision:
    """
    Raises:
      Rejected: `not_retryable`, nothing to run again, or the run is being cancelled.
    """
    spec = _existing(state)
    if state.cancel is not None and state.status is FlowStatus.RUNNING:
        raise Rejected("not_retryable", "the flow run is being cancelled", {"status": int(state.status)})
    if not command.tasks or not command.tasks.keys() <= set(state.task_ids):
        raise Rejected("not_retryable", "no task of the flow run failed or was cancelled", {"status": state.status})
    wanted = _reopenings(command.tasks, command.forced)
    tasks = {
        each: command.tasks[each]
        for each in state.task_ids
        if each in wanted and wanted[each] != state.reopens.get(each)
    }
    if not tasks:
        return NOTHING
    forced = tuple(each for each in tasks if each in command.forced)
    return Decision([FlowRetried(flow_run_id=spec.flow_run_id, tasks=tasks, retried_at=now, forced=forced)])


def _reopenings(tasks: Mapping[str, int], forced: Collection[str]) -> dict[str, Reopening]:
    return {each: Reopening(each, attempt, each not in forced) for each, attempt in tasks.items()}


def _finish(command: FinishFlow, state: FlowState, now: datetime) -> Decision:
    """
    Raises:
      Rejected: `not_ended`, a task is not told of, or is still to run again.
    """
    spec = _existing(state)
    if state.status is not FlowStatus.RUNNING:
        return NOTHING
    for task_id in state.task_ids:
        end, again = command.ends.get(task_id), state.reopens.get(task_id)
        if end is None or (
            again is not None and end.attempt <= again.attempt and not (end.is_deleted or end.is_refused)
        ):
            raise Rejected("not_ended", f"task {task_id} has not ended", {"task_id": task_id})
    counts = counted(command.ends.values())
    status = _status_of(counts, is_cancelled=state.cancel is not None)
    finished = FlowFinished(flow_run_id=spec.flow_run_id, status=status, finished_at=now, outcome=counts)
    return Decision([finished], guards=tuple(command.guards))


def counted(ends: Iterable[FlowTaskEnd]) -> dict[str, int]:
    """How many tasks ended how."""
    found = {"succeeded": 0, "failed": 0, "cancelled": 0, "skipped": 0}
    for end in ends:
        found["skipped" if end.is_unmet else TaskStatus(end.status).name.lower()] += 1
    return found


def _status_of(outcome: Mapping[str, int], *, is_cancelled: bool) -> FlowStatus:
    if not outcome["failed"] and not outcome["cancelled"]:
        return FlowStatus.SUCCEEDED
    return FlowStatus.FAILED if outcome["failed"] and not is_cancelled else FlowStatus.CANCELLED


def to_run_again(graph: JSON, ends: Mapping[str, FlowTaskEnd], only: Collection[str] | None = None) -> dict[str, int]:
    """The tasks that a retry runs again, each after all that it follows: id -> the attempt that has ended.

    Those that failed or were cancelled, and those that were skipped and of which that is not certain any more when these
    run again. What succeeded is kept, and so is what was skipped for a reason that stands.

    Args:
      ends: of the tasks that have ended; one that is not there is open.
      only: instead of all that failed or were cancelled, these tasks.
    """
    task_of = {node["job_id"]: node["task_id"] for node in graph["nodes"]}
    conditions: dict[str, dict[str, str]] = {job_id: {} for job_id in task_of}
    for edge in graph["edges"]:
        conditions[edge["to"]][task_of[edge["from"]]] = edge["on"]
    again: dict[str, int] = {}
    for node in graph["nodes"]:
        task_id, on = node["task_id"], conditions[node["job_id"]]
        end = ends.get(task_id)
        if end is None or end.is_deleted or end.status == TaskStatus.SUCCEEDED:
            continue
        if only is not None and not end.is_unmet:
            is_wanted = task_id in only
        elif not end.is_unmet or (only is not None and task_id in only):
            is_wanted = True
        else:
            known = {other: ends[other].status for other in on if other in ends and other not in again}
            found = outcome({"on": on, "match": node["match"]}, known, len(on) - len(known))
            is_wanted = found is not Outcome.UNMET
        if is_wanted:
            again[task_id] = end.attempt
    return again


def _existing(state: FlowState) -> FlowStarted:
    if state.spec is None:
        raise Rejected("not_found", "there is no such flow run", {"kind": "flow"})
    return state.spec


def _terminal(state: FlowState) -> Rejected:
    assert state.status is not None
    return Rejected("already_terminal", f"the flow run is {state.status.name}", {"status": int(state.status)})


# --- evolve --------------------------------------------------------------------------------------------------------


def _started(state: FlowState, event: FlowStarted) -> FlowState:
    if state.status is not None:
        raise IllegalTransition("flow", state.status, FlowStarted)
    return FlowState(spec=event, status=FlowStatus.RUNNING)


def _cancel_requested(state: FlowState, event: FlowCancelRequested) -> FlowState:
    _check_running(state, event)
    return changed(state, cancel=event, reopens={})


def _retried(state: FlowState, event: FlowRetried) -> FlowState:
    if state.status is None:
        raise IllegalTransition("flow", None, FlowRetried)
    reopens = _reopenings(event.tasks, event.forced)
    return changed(state, status=FlowStatus.RUNNING, cancel=None, reopens={**state.reopens, **reopens})


def _finished(state: FlowState, event: FlowFinished) -> FlowState:
    _check_running(state, event)
    return changed(state, status=FlowStatus(event.status), reopens={})


def _check_running(state: FlowState, event: FlowEvent) -> None:
    if state.status is not FlowStatus.RUNNING:
        raise IllegalTransition("flow", state.status, type(event))


# --- intents -------------------------------------------------------------------------------------------------------


def intents(state: FlowState) -> frozenset[Intent]:
    """To be followed while it is open."""
    if state.spec is None or state.status is not FlowStatus.RUNNING:
        return NO_INTENTS
    return frozenset(
        (
            Tend(
                flow_run_id=state.spec.flow_run_id,
                job_id=state.spec.job_id,
                task_ids=state.task_ids,
                is_cancelled=state.cancel is not None,
                cancel_reason=None if state.cancel is None else state.cancel.reason,
                reopens=tuple(state.reopens[each] for each in state.task_ids if each in state.reopens),
            ),
        )
    )


FLOW: TableDecider[FlowState] = TableDecider(
    "flow",
    FlowState(),
    {StartFlow: _start, CancelFlow: _cancel, RetryFlow: _retry, FinishFlow: _finish},
    {
        FlowStarted: _started,
        FlowCancelRequested: _cancel_requested,
        FlowRetried: _retried,
        FlowFinished: _finished,
    },
    intents,
)
