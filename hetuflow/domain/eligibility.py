"""Which agents could take a task, and why the others could not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain.config import required_labels
from hetuflow.domain.execution import FEATURE_LABEL
from hetuflow.domain.task_state import TaskState

AGENTS_MAX = 100


@frozen(slots=True, kw_only=True)
class Worker:
    """An agent as the dispatcher sees it: `used` of its `slots` hold an instance."""

    agent_id: str
    is_online: bool
    is_draining: bool
    slots: int
    used: int
    labels: Mapping[str, str]
    overruled: Mapping[str, str] = Factory(dict)
    """Labels set over the API that do not count: the agent itself says what they are."""
    name: str = ""
    heard_at: datetime | None = None
    """Its last sign of life, as far as known."""
    refusal: str | None = None
    """Why it would send back whatever it is sent now, such as a full disk; as far as known."""

    @property
    def is_full(self) -> bool:
        return self.used >= self.slots


@frozen(slots=True, kw_only=True)
class Eligibility:
    agent_id: str
    eligible: bool
    code: str | None = None
    message: str | None = None


def eligibility(state: TaskState, workers: Sequence[Worker]) -> Sequence[Eligibility]:
    """Each agent's answer to the task, at most `AGENTS_MAX`; those that could take it come first."""
    assert state.spec is not None
    labels, pin = dict(required_labels(state.spec.config)), state.spec.agent_id
    answers = [_eligible(worker, labels, pin) for worker in sorted(workers, key=lambda worker: worker.agent_id)]
    return sorted(answers, key=lambda answer: not answer.eligible)[:AGENTS_MAX]


def _eligible(worker: Worker, labels: Mapping[str, str], pin: str | None) -> Eligibility:
    def no(code: str, message: str) -> Eligibility:
        return Eligibility(agent_id=worker.agent_id, eligible=False, code=code, message=message)

    if pin is not None and worker.agent_id != pin:
        return no("not_pinned", f"the task is pinned to agent {pin}")
    if not worker.is_online:
        return no("offline", "is not connected")
    different = {name: value for name, value in labels.items() if worker.labels.get(name) != value}
    if different:
        return no(
            "labels_differ", "; ".join(_difference(worker, name, value) for name, value in sorted(different.items()))
        )
    if worker.is_draining:
        return no("draining", "takes nothing new")
    if worker.refusal is not None:
        return no("refusing", f"takes nothing now: {worker.refusal}")
    if worker.is_full:
        return no("full", f"{worker.used} of {worker.slots} slots in use")
    return Eligibility(agent_id=worker.agent_id, eligible=True)


def _difference(worker: Worker, name: str, value: str) -> str:
    if name.startswith(FEATURE_LABEL):
        return f"cannot do what the job asks for: it has not the feature {name.removeprefix(FEATURE_LABEL)}"
    known = worker.labels.get(name)
    return f"has no label {name}={value}" if known is None else f"has {name}={known}, not {value}"
