"""Why a task is where it is: what it waits for, which agents could take it, why it runs where it runs, how it ended.

Pure: everything comes in. The order of the reasons is that of the dispatcher: time first, then agents, then the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import Factory, evolve, frozen

from hetuflow.domain import execution
from hetuflow.domain.eligibility import Eligibility, Worker, eligibility
from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
    Event,
    InstanceCancelled,
    InstanceFailed,
    InstanceSucceeded,
    TaskCancelled,
    TaskCancelRequested,
    TaskCreated,
    TaskDispatched,
    TaskFailed,
    TaskReopened,
    TaskRequeued,
    TaskRetryScheduled,
)
from hetuflow.domain.explained_agents import no_agent
from hetuflow.domain.explained_limits import Awaited, Limit, limited, moment, named, own_limits
from hetuflow.domain.gates import GateStatus
from hetuflow.domain.task_dependencies import condition, is_any, overlap_of
from hetuflow.domain.task_state import Instance, TaskState

_OFFERING = (TaskCreated, TaskRequeued, TaskReopened, TaskRetryScheduled)
"""After one of these an instance waits for a slot."""

_NOT_OFFERED = frozenset(
    {"agent_executing", "cancel_pending", "dependency_open", "overlap_queued", "retry_later", "scheduled_later"}
)
"""What is awaited before any agent is looked for."""

_ENDS = (InstanceSucceeded, InstanceFailed, InstanceCancelled)

_BY_CAUSE = {
    "user": "cancelled_by_user",
    "cascade": "cancelled_by_cascade",
    "overlap": "cancelled_by_overlap",
    "dependency": "dependency_failed",
    "dependency_unmet": "dependency_unmet",
    "flow": "cancelled_by_flow",
    "expired": "expired",
    "daemon": "cancelled_by_daemon",
}


@frozen(slots=True)
class Told:
    """An event of the task's stream, when it was recorded, where, and who caused it."""

    event: Event
    recorded_at: datetime
    position: int
    principal: str | None


@frozen(slots=True, kw_only=True)
class Place:
    """Where the newest dispatch went, and why there."""

    agent_id: str
    instance_id: str
    attempt: int
    server_id: str | None
    dispatched_at: datetime
    position: int
    message: str
    details: Mapping[str, Any] | None


@frozen(slots=True, kw_only=True)
class Ended:
    code: str
    message: str
    instance_id: str | None = None
    principal: str | None = None
    output_bytes: int | None = None
    """What the instance wrote, as far as it has said so."""
    output_dropped: int = 0
    """Of these, the bytes that are not kept."""


@frozen(slots=True, kw_only=True)
class Explanation:
    summary: str
    waiting_for: Sequence[Awaited]
    agents: Sequence[Eligibility]
    placed: Place | None
    ended: Ended | None


@frozen(slots=True, kw_only=True)
class Circumstances:
    """All that the dispatcher knew besides the task. `now`: the moment that is explained."""

    now: datetime
    workers: Sequence[Worker] = Factory(tuple)
    limit: Limit = Factory(Limit)
    full: Sequence[GateStatus] = Factory(tuple)
    """The task's own limits that are used up."""
    rate_free_at: datetime | None = None
    """When its rate allows its start."""


def explain(told: Sequence[Told], state: TaskState, around: Circumstances) -> Explanation:
    """Explain a task that exists or existed: `told` is its stream up to the moment, `state` the fold of it."""
    placed = _placed(told)
    if state.is_terminal:
        ended = _ended(told, state)
        cut = f" {missing}" if (missing := _missing(ended)) else ""
        deleted = " It was deleted afterwards." if state.is_deleted else ""
        return Explanation(summary=ended.message + cut + deleted, waiting_for=(), agents=(), placed=placed, ended=ended)
    waiting = _waiting(told, state, around)
    ready = not waiting or waiting[0].code not in _NOT_OFFERED
    agents = eligibility(state, around.workers) if ready else ()
    return Explanation(summary=_summary(waiting, agents), waiting_for=waiting, agents=agents, placed=placed, ended=None)


def _summary(waiting: Sequence[Awaited], agents: Sequence[Eligibility]) -> str:
    if waiting and waiting[-1].code in ("agent_executing", "cancel_pending"):
        return waiting[-1].message
    if waiting:
        return f"Waiting: {waiting[0].message[:1].lower()}{waiting[0].message[1:]}"
    free = [each.agent_id for each in agents if each.eligible]
    return f"Ready: a slot is free on {named(free)}; it is dispatched next."


# --- what it waits for ----------------------------------------------------------------------------------------------


def _waiting(told: Sequence[Told], state: TaskState, around: Circumstances) -> Sequence[Awaited]:
    instance, spec = state.instance, state.spec
    assert instance is not None and spec is not None
    if instance.is_live:
        return _in_hand(told, state, instance, around.workers)
    if instance.is_external:
        return [_outside(told, instance)]
    if state.waits_for:
        return [_after_others(told, state)]
    offered = next((each for each in reversed(told) if isinstance(each.event, _OFFERING)), told[0])
    if state.not_before_at > around.now:
        return [_later(state, instance, offered)]
    since = max(offered.recorded_at, state.not_before_at)
    reasons = (
        no_agent(state, around.workers, since),
        *own_limits(spec, around.full, around.rate_free_at, around.now, since),
        limited(around.limit, since),
    )
    return [reason for reason in reasons if reason is not None]


def _in_hand(
    told: Sequence[Told], state: TaskState, instance: Instance, workers: Sequence[Worker]
) -> Sequence[Awaited]:
    details = {"agent_id": instance.agent_id, "instance_id": instance.instance_id, "attempt": instance.attempt}
    dispatched_at = told[-1].recorded_at if instance.dispatched_at is None else instance.dispatched_at
    if instance.status is InstanceStatus.RUNNING:
        since = dispatched_at if instance.started_at is None else instance.started_at
        message = f"Attempt {instance.attempt} runs on agent {instance.agent_id} since {moment(since)}."
    else:
        since = dispatched_at
        message = (
            f"Attempt {instance.attempt} was sent to agent {instance.agent_id} at {moment(since)}, which has not"
            " said yet that it runs."
        )
    message += _of_its_silence(state, instance, workers)
    found = [Awaited(code="agent_executing", message=message, since=since, details=details)]
    if state.cancel is not None:
        found.append(
            Awaited(
                code="cancel_pending",
                message=(
                    f"A cancel was requested at {moment(state.cancel.requested_at)}: agent {instance.agent_id} ends"
                    " the process."
                ),
                since=state.cancel.requested_at,
                details={"by": state.cancel.by, "cause": state.cancel.cause, "reason": state.cancel.reason},
            )
        )
    return found


def _of_its_silence(state: TaskState, instance: Instance, workers: Sequence[Worker]) -> str:
    """What is to be said when its agent is not connected."""
    agent = next((worker for worker in workers if worker.agent_id == instance.agent_id), None)
    if state.spec is None or agent is None or agent.is_online:
        return ""
    heard = "" if agent.heard_at is None else f": it was last heard at {moment(agent.heard_at)}"
    away = f" That agent is not connected{heard}"
    if execution.is_kept(state.spec.config):
        return f"{away}; on_disconnect is continue, so that its return is waited for. A cancel ends the waiting."
    return f"{away}; when its lease is over, the instance is lost."


def _outside(told: Sequence[Told], instance: Instance) -> Awaited:
    return Awaited(
        code="agent_executing",
        message=f"Attempt {instance.attempt} is driven over the API, not by an agent: it is {instance.status.name.lower()}.",
        since=instance.started_at or told[-1].recorded_at,
        details={"external": True, "instance_id": instance.instance_id, "attempt": instance.attempt},
    )


def _after_others(told: Sequence[Told], state: TaskState) -> Awaited:
    names = list(state.waits_for)
    dependencies = state.spec.dependencies if state.spec is not None else None
    overlap = overlap_of(state.spec) if state.spec is not None else None
    conditions = {name: condition(dependencies, name) for name in names}
    if not overlap and (is_any(dependencies) or dict.fromkeys(conditions.values()) != {"succeeded": None}):
        return _on_conditions(told, conditions, is_enough=is_any(dependencies))
    which = f"Task {names[0]} has" if len(names) == 1 else f"{len(names)} tasks have"
    rest = "" if len(names) == 1 else f": {named(names)}"
    return Awaited(
        code="overlap_queued" if overlap else "dependency_open",
        message=f"{which} not ended, after which it runs{rest}.",
        since=told[0].recorded_at,
        details={"task_ids": names},
    )


def _on_conditions(told: Sequence[Told], conditions: Mapping[str, str], *, is_enough: bool) -> Awaited:
    wanted = named([f"task {task_id} to have {on}" for task_id, on in conditions.items()])
    how = "for any one of: " if is_enough and len(conditions) > 1 else "for "
    return Awaited(
        code="dependency_open",
        message=f"It waits {how}{wanted}.",
        since=told[0].recorded_at,
        details={"task_ids": list(conditions), "on": dict(conditions), "match": "any" if is_enough else "all"},
    )


def _later(state: TaskState, instance: Instance, offered: Told) -> Awaited:
    until = state.not_before_at
    if instance.paused_until_at is not None and instance.paused_until_at == until:
        said = offered.event.reason if isinstance(offered.event, TaskRequeued) else None
        why = f", the last time because: {said}" if said else ""
        return Awaited(
            code="retry_later",
            message=(
                f"It came back {instance.requeues} times from agents that did not start it{why}; it is offered again at"
                f" {moment(until)}."
            ),
            since=offered.recorded_at,
            until=until,
            details={"requeues": instance.requeues, "reason": said},
        )
    if state.status is TaskStatus.WAITING_RETRY:
        most = state.spec.config.get("max_retries") if state.spec is not None else None
        return Awaited(
            code="retry_later",
            message=f"Retry {state.retry_count} of {most} runs at {moment(until)}.",
            since=offered.recorded_at,
            until=until,
            details={"retry_count": state.retry_count, "max_retries": most},
        )
    return Awaited(
        code="scheduled_later",
        message=f"It is scheduled for {moment(until)}.",
        since=offered.recorded_at,
        until=until,
    )


# --- why here, how it ended -----------------------------------------------------------------------------------------


def _placed(told: Sequence[Told]) -> Place | None:
    server_id = None
    found: tuple[Told, TaskDispatched, str | None] | None = None
    for each in told:
        server_id = getattr(each.event, "server_id", server_id)
        if isinstance(each.event, TaskDispatched):
            found = each, each.event, server_id
    if found is None:
        return None
    at, event, by = found
    return Place(
        agent_id=event.agent_id,
        instance_id=event.instance_id,
        attempt=event.attempt,
        server_id=by,
        dispatched_at=event.dispatched_at,
        position=at.position,
        message=_why_there(told, event),
        details=event.placement,
    )


def _why_there(told: Sequence[Told], event: TaskDispatched) -> str:
    created = told[0].event
    if isinstance(created, TaskCreated) and created.agent_id is not None:
        return f"It is pinned to agent {event.agent_id}."
    if event.placement is None:
        return f"Agent {event.agent_id} had a free slot. (How the others were loaded was not recorded then.)"
    fitting, used, slots = (event.placement.get(name) for name in ("fitting", "used", "slots"))
    load = f"{used} of its {slots} slots in use"
    if avoided := event.placement.get("avoided"):
        spread = created.avoid if isinstance(created, TaskCreated) else ()
        return _rather_elsewhere(event.agent_id, avoided, spread, load)
    if fitting == 1:
        return f"Agent {event.agent_id} was the only connected agent that fits, with {load}."
    return (
        f"Agent {event.agent_id} had the smallest share of its slots in use of the {fitting} agents that fit: {load}."
    )


def _rather_elsewhere(agent_id: str, avoided: Sequence[str], spread: Sequence[str], load: str) -> str:
    """`spread`: those of the avoided agents on which other instances of its daemon ran when it was made."""
    if agent_id in avoided:
        return (
            f"Agent {agent_id}, {_why_avoided([agent_id], spread)}, was taken all the same: no other agent that fits had a"
            f" free slot; {load}."
        )
    return (
        f"Agent {agent_id} had the smallest share of its slots in use of the agents that fit, but for"
        f" {named(avoided)}, {_why_avoided(avoided, spread)}: {load}."
    )


def _why_avoided(avoided: Sequence[str], spread: Sequence[str]) -> str:
    if set(avoided) <= set(spread):
        return "where another instance of its daemon runs"
    if set(avoided).isdisjoint(spread):
        return "where an earlier attempt ended"
    return "where an earlier attempt ended or another instance of its daemon runs"


def _ended(told: Sequence[Told], state: TaskState) -> Ended:
    ended = _how_it_ended(told, state)
    ends = (each.event for each in reversed(told) if isinstance(each.event, _ENDS))
    output = next((event.output for event in ends if event.instance_id == ended.instance_id), None)
    if output is None:
        return ended
    streams = [counts for counts in output.values() if isinstance(counts, Mapping)]
    written = sum(counts.get("bytes", 0) for counts in streams)
    return evolve(ended, output_bytes=written, output_dropped=output.get("dropped", 0))


def _missing(ended: Ended) -> str:
    if not ended.output_dropped:
        return ""
    return f"Its output was cut at its limit: {ended.output_dropped} of {ended.output_bytes} bytes are missing."


def _how_it_ended(told: Sequence[Told], state: TaskState) -> Ended:
    instance_id = None if state.instance is None else state.instance.instance_id
    if state.status is TaskStatus.SUCCEEDED:
        return Ended(code="succeeded", message="It succeeded.", instance_id=instance_id)
    if state.status is TaskStatus.CANCELLED:
        return _cancelled(told, instance_id)
    failed = next((each.event for each in reversed(told) if isinstance(each.event, InstanceFailed)), None)
    if failed is None:
        return Ended(code="lost", message="It failed.", instance_id=instance_id)
    attempts = f"attempt {failed.attempt}, the last one" if failed.attempt > 1 else "its only attempt"
    why = failed.error_message.rstrip(". \n")
    given_up = next((each.event for each in reversed(told) if isinstance(each.event, TaskFailed)), None)
    if given_up is not None and given_up.not_retried is not None:
        why += f". Not retried: {given_up.not_retried}"
    return Ended(code=failed.reason, message=f"It failed: {attempts}: {why}.", instance_id=failed.instance_id)


def _cancelled(told: Sequence[Told], instance_id: str | None) -> Ended:
    end = next(each for each in reversed(told) if isinstance(each.event, TaskCancelled))
    asked = next((each for each in reversed(told) if isinstance(each.event, TaskCancelRequested)), end)
    ran = next((each.event for each in reversed(told) if isinstance(each.event, InstanceCancelled)), None)
    assert isinstance(end.event, TaskCancelled)
    reason = f" ({end.event.reason})" if end.event.reason else ""
    words = {
        "user": f"It was cancelled by {asked.principal or 'a user'}{reason}.",
        "cascade": f"It was cancelled together with what it belongs to, by {asked.principal or 'a user'}{reason}.",
        "overlap": f"It was cancelled by a newer task of its schedule{reason}.",
        "dependency": f"It was cancelled because a task that it depends on did not succeed{reason}.",
        "dependency_unmet": f"It was not run: what it was to follow ended otherwise{reason}.",
        "flow": f"It was cancelled with its flow run, by {asked.principal or 'a user'}{reason}.",
        "expired": f"It expired{reason}.",
    }
    return Ended(
        code=_BY_CAUSE.get(end.event.cause, "cancelled_by_user"),
        message=words.get(end.event.cause, words["user"]),
        instance_id=instance_id if ran is None else ran.instance_id,
        principal=asked.principal,
    )
