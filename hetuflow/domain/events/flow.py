"""What happens to a run of a flow: stream `flow-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class FlowEvent(Event):
    """An event of a `flow-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class FlowStarted(FlowEvent):
    """A run of a flow, in the append that makes all its tasks. `job_id`: its root, the first of them.

    `graph`: `nodes`, each after all that it follows, with `job_id`, `name`, `task_id` and `match`; `edges` with `from`
    and `to` (job ids) and `on`. It is the flow as it was then; later edits of jobs do not touch it.
    """

    flow_run_id: str
    job_id: str
    namespace_id: str
    name: str
    trigger: str
    schedule_id: str | None
    nominal_at: datetime | None
    parameters: JSON
    graph: JSON
    task_count: int
    started_at: datetime
    created_by: int = 1


@frozen(slots=True, kw_only=True)
class FlowCancelRequested(FlowEvent):
    """What is open of it is being cancelled; `FlowFinished` follows when all has ended."""

    flow_run_id: str
    requested_at: datetime
    reason: str | None
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class FlowRetried(FlowEvent):
    """Tasks that ended run again: task id -> the attempt that had ended. The flow run is open again.

    Each waits again for all that it follows, except those in `forced`, which a user retried by themselves: they wait only
    for what is open.
    """

    flow_run_id: str
    tasks: JSON
    retried_at: datetime
    updated_by: int = 1
    forced: tuple[str, ...] = ()


@frozen(slots=True, kw_only=True)
class FlowFinished(FlowEvent):
    """All its tasks have ended. `outcome` counts them: `succeeded`, `failed`, `cancelled`, `skipped` (not run, because
    what they were to follow ended otherwise)."""

    flow_run_id: str
    status: int
    finished_at: datetime
    outcome: JSON
