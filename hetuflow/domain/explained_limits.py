"""Which limits hold a task back, for people; and the words that explanations share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from hetuflow.domain.events import TaskCreated
from hetuflow.domain.gates import GateStatus
from hetuflow.domain.limits import JOB, KEY, NAMESPACE, rate_of

LIMIT_REACHED = "limit_reached"

NAMED_MAX = 5
"""Names in one sentence; the rest is counted."""


@frozen(slots=True, kw_only=True)
class Limit:
    """The cluster's limit of instances at once, 0 = none, and how many there are."""

    tasks_max: int = 0
    instances: int = 0


@frozen(slots=True, kw_only=True)
class Awaited:
    code: str
    message: str
    since: datetime
    until: datetime | None = None
    details: Mapping[str, Any] | None = None


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def named(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")


def limited(limit: Limit, since: datetime) -> Awaited | None:
    if not limit.tasks_max or limit.instances < limit.tasks_max:
        return None
    return Awaited(
        code=LIMIT_REACHED,
        message=f"{limit.instances} tasks run, which is the limit of the cluster ({limit.tasks_max}).",
        since=since,
        details={"kind": "cluster", "limit": limit.tasks_max, "running": limit.instances},
    )


def own_limits(
    spec: TaskCreated, full: Sequence[GateStatus], rate_free_at: datetime | None, now: datetime, since: datetime
) -> Sequence[Awaited]:
    """The limits of the task itself and of its namespace that hold it back.

    Args:
      full: those of concurrency that are used up.
      rate_free_at: when its rate allows its start.
    """
    found = [_full(gate, since) for gate in full]
    rate = rate_of(spec.config)
    if rate is not None and rate_free_at is not None and rate_free_at > now:
        message = (
            f"Its job has started {rate.count} times within {rate.per_seconds} s, as often as it may; the next start is at"
            f" {moment(rate_free_at)}."
        )
        details = {"kind": "rate", "name": spec.job_id, "limit": rate.count, "per_seconds": rate.per_seconds}
        found.append(Awaited(code=LIMIT_REACHED, message=message, since=since, until=rate_free_at, details=details))
    return found


def _full(gate: GateStatus, since: datetime) -> Awaited:
    what = {JOB: "its job", KEY: f"key {gate.name}", NAMESPACE: f"namespace {gate.name}"}[gate.kind]
    if gate.kept_for is not None and gate.used < gate.most:
        message = f"The next place for {what} is kept for task {gate.kept_for}, which has waited longer."
    else:
        held = f" (held by {named(gate.tasks)})" if gate.tasks else ""
        task = "task runs" if gate.used == 1 else "tasks run"
        message = f"{gate.used} {task} for {what}, which is the limit of {gate.most}{held}."
    details: dict[str, Any] = {
        "kind": gate.kind,
        "name": gate.name,
        "limit": gate.most,
        "running": gate.used,
        "task_ids": list(gate.tasks),
    }
    if gate.kept_for is not None:
        details["kept_for"] = gate.kept_for
    return Awaited(code=LIMIT_REACHED, message=message, since=since, details=details)
