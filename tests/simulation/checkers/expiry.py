"""T1 of tasks with a start deadline: none is given to an agent after it, and none expires otherwise.

That what has expired does come to its end is part of V1: every task does. Times are those of the servers that decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict

STARTS = {"InstanceStarted", "TaskRetryScheduled", "InstanceTakenOver"}
"""From then on it does not expire, until it is reopened."""

GIVEN_BACK = {"TaskRequeued", "TaskReopened"}


def check_expiry(evidence: Evidence, verdict: Verdict) -> None:
    """T1, of each task whose config has `start_deadline_seconds`."""
    for name, stream in evidence.streams("task"):
        _check(name, stream, verdict)


def _check(name: str, stream: Sequence[Fact], verdict: Verdict) -> None:
    seconds, scheduled_at = 0, None
    is_started = is_given = False

    def fail(what: str, fact: Fact) -> None:
        verdict.fail("T1", f"{name} at position {fact.position} ({fact.type}): {what}", streams=[name])

    for fact in stream:
        if fact.type in ("TaskCreated", "TaskUpdated"):
            seconds = fact.data["config"].get("start_deadline_seconds") or 0
        if fact.type in ("TaskCreated", "TaskUpdated", "TaskReopened"):
            scheduled_at = fact.time("scheduled_at")
        deadline = _deadline(scheduled_at, seconds)
        if fact.type == "TaskDispatched":
            given_at = fact.time("dispatched_at")
            if deadline is not None and given_at is not None and not is_started:
                verdict.note("given in time")
                if given_at >= deadline:
                    fail(f"given to an agent at {given_at}, its start deadline was {deadline}", fact)
            is_given = True
        elif fact.type == "TaskCancelled" and fact.data.get("cause") == "expired":
            verdict.note("expired")
            ended_at = fact.time("cancelled_at")
            if deadline is None or ended_at is None or ended_at < deadline:
                fail(f"expired, and its start deadline is {deadline}", fact)
            if is_started or is_given:
                fail("expired after it was given to an agent", fact)
        is_given = is_given and fact.type not in GIVEN_BACK
        is_started = (is_started or fact.type in STARTS) and fact.type != "TaskReopened"


def _deadline(scheduled_at: datetime | None, seconds: int) -> datetime | None:
    return scheduled_at + timedelta(seconds=seconds) if scheduled_at is not None and seconds else None
