"""Why no agent takes a task that is ready, in the order in which the dispatcher would find out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from hetuflow.domain import execution
from hetuflow.domain.config import required_labels
from hetuflow.domain.eligibility import Worker
from hetuflow.domain.explained_limits import Awaited, named
from hetuflow.domain.task_state import TaskState


def no_agent(state: TaskState, workers: Sequence[Worker], since: datetime) -> Awaited | None:
    """Why no agent takes it, None when one could."""
    spec = state.spec
    assert spec is not None
    labels, online = dict(required_labels(spec.config)), [worker for worker in workers if worker.is_online]

    def awaited(code: str, message: str, **details: Any) -> Awaited:
        return Awaited(code=code, message=message, since=since, details=details or None)

    if spec.agent_id is not None:
        if all(worker.agent_id != spec.agent_id for worker in workers):
            return awaited("pinned_agent_offline", _unknown(spec.agent_id, workers), agent_id=spec.agent_id)
        if all(worker.agent_id != spec.agent_id for worker in online):
            return awaited(
                "pinned_agent_offline",
                f"Agent {spec.agent_id}, to which it is pinned, is offline.",
                agent_id=spec.agent_id,
            )
        online = [worker for worker in online if worker.agent_id == spec.agent_id]
    if not online:
        return awaited("no_agent_connected", "No agent is connected.")
    fitting = [worker for worker in online if labels.items() <= worker.labels.items()]
    if not fitting:
        return awaited("no_agent_with_labels", _without(labels, online), labels=labels)
    working = [worker for worker in fitting if not worker.is_draining]
    names = [worker.agent_id for worker in fitting]
    if not working:
        return awaited(
            "agents_draining",
            f"{_count(fitting, 'agent that fits', 'agents that fit')} draining: {named(names)}.",
            agents=names,
        )
    taking = [worker for worker in working if worker.refusal is None]
    if not taking:
        shown = named([f"{worker.agent_id} ({worker.refusal})" for worker in working])
        return awaited(
            "agents_refusing",
            f"{_count(working, 'agent that fits', 'agents that fit')} taking nothing now: {shown}.",
            agents=[worker.agent_id for worker in working],
        )
    if all(worker.is_full for worker in taking):
        full = [worker.agent_id for worker in taking]
        slots = sum(worker.slots for worker in taking)
        return awaited(
            "agents_full",
            f"{_count(taking, 'agent that fits', 'agents that fit')} full: {named(full)} (all {slots} slots in use).",
            agents=full,
            slots=slots,
        )
    return None


def _unknown(agent_id: str, workers: Sequence[Worker]) -> str:
    """Names are what people have in mind; a task is pinned to an id."""
    text = f"There is no agent {agent_id}, to which it is pinned"
    called = [worker.agent_id for worker in workers if worker.name == agent_id]
    if called:
        return f"{text}: that is the name of {named(called)}, and an agent's id is wanted."
    known = {name: worker.agent_id for worker in workers for name in (worker.name, worker.agent_id) if name}
    near = get_close_matches(agent_id, known, n=1)
    if not near:
        return f"{text}."
    found = known[near[0]]
    return f"{text}; the nearest known one is {found}{'' if found == near[0] else f' ({near[0]})'}."


def _without(labels: Mapping[str, str], online: Sequence[Worker]) -> str:
    missing = {
        name: value for name, value in labels.items() if all(worker.labels.get(name) != value for worker in online)
    }
    features = [
        name.removeprefix(execution.FEATURE_LABEL)
        for name in sorted(missing)
        if name.startswith(execution.FEATURE_LABEL)
    ]
    if features and len(features) == len(missing):
        return f"No connected agent can do what the job asks for: none has the feature {' and '.join(features)}."
    shown = ", ".join(f"{name}={value}" for name, value in sorted((missing or labels).items()))
    barred = [each.agent_id for each in online if labels.items() <= {**each.labels, **each.overruled}.items()]
    why = f" Set over the API they do not count for {named(barred)}, which protects them." if barred else ""
    if missing:
        return f"No connected agent has label{'s' if len(missing) > 1 else ''} {shown}.{why}"
    return f"No connected agent has all of the labels {shown}.{why}"


def _count(workers: Sequence[Worker], one: str, many: str) -> str:
    return f"The {one} is" if len(workers) == 1 else f"All {len(workers)} {many} are"
