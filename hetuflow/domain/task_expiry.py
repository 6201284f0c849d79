"""The end of a task that did not start in time: `start_deadline_seconds` after `scheduled_at`.

It ends as a cancelled one does, with the cause `expired`: nothing failed, it was not wanted any more. What an agent was
given before the deadline counts as started in time; if it comes back unstarted after it, it has expired. From its
first start on a task does not expire, its retries neither; an operator's retry is a new beginning.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hetuflow.domain import task_outcomes
from hetuflow.domain.commands import ExpireTask
from hetuflow.domain.config import start_deadline_seconds
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.events import TaskCreated
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_state import TaskState

EXPIRED = "expired"


def start_deadline_at(spec: TaskCreated) -> datetime | None:
    """The moment by which it must have been given to an agent; None when there is none, or beyond the calendar."""
    seconds = start_deadline_seconds(spec.config)
    if not seconds:
        return None
    try:
        return spec.scheduled_at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def expires_at(state: TaskState) -> datetime | None:
    """When the task expires unless it is given to an agent before; None while it cannot expire."""
    instance = state.instance
    if state.spec is None or instance is None or state.was_started or instance.is_final:
        return None
    return None if instance.is_live or instance.is_external else start_deadline_at(state.spec)


def expire(command: ExpireTask, state: TaskState, now: datetime) -> Decision:
    """End the task whose time to start is over. Nothing when it cannot expire, or not any more.

    Raises:
      Rejected: `not_due`, there is time left.
    """
    at = expires_at(state)
    if at is None or state.is_terminal or state.is_deleted:
        return NOTHING
    if now < at:
        raise Rejected("not_due", "it has time left to start", {"expires_at": at})
    assert state.spec is not None
    seconds = start_deadline_seconds(state.spec.config)
    reason = f"not started within {seconds} s of its scheduled time"
    return Decision(task_outcomes.cancelled(state, now, EXPIRED, reason), guards=command.guards)
