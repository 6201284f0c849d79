"""What a task asks of the dispatcher, also before it is made."""

from __future__ import annotations

from attrs import frozen

from hetuflow.domain.commands import JobSnapshot
from hetuflow.domain.config import JSON, required_labels
from hetuflow.domain.decider import Bound, Rate
from hetuflow.domain.events import TaskCreated
from hetuflow.domain.limits import bounds_of, rate_of
from hetuflow.domain.lines import Labels


@frozen(slots=True)
class Need:
    """As in its `Offer`."""

    job_id: str
    labels: Labels = ()
    agent_id: str | None = None
    namespace_id: str = "default"
    bounds: tuple[Bound, ...] = ()
    rate: Rate | None = None

    @classmethod
    def of_task(cls, spec: TaskCreated) -> Need:
        """Of a task that exists."""
        return cls(
            spec.job_id,
            required_labels(spec.config),
            spec.agent_id,
            spec.namespace_id,
            bounds_of(spec.config, spec.job_id),
            rate_of(spec.config),
        )

    @classmethod
    def of(cls, job: JobSnapshot, config: JSON | None = None, namespace_id: str | None = None) -> Need:
        """Of a task of that job; `config`: effective, None = the job's."""
        config = job.config if config is None else config
        return cls(
            job.job_id,
            required_labels(config),
            job.agent_id or None,
            namespace_id or job.namespace_id,
            bounds_of(config, job.job_id),
            rate_of(config),
        )
