"""What can be asked of a run of a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import Factory, frozen

from hetuflow.domain.commands.snapshots import JSON
from hetuflow.domain.commands.task import CreateTask
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class StartFlow:
    """Make all tasks of the flow, in one append: `tasks` are complete and in the order of `started.graph`."""

    flow_run_id: str
    name: str
    namespace_id: str
    trigger: str
    graph: JSON
    tasks: Sequence[CreateTask]
    parameters: JSON = Factory(dict)
    schedule_id: str | None = None
    nominal_at: datetime | None = None


@frozen(slots=True, kw_only=True)
class CancelFlow:
    reason: str | None = None


@frozen(slots=True, kw_only=True)
class RetryFlow:
    """Run these tasks again: task id -> the attempt that has ended. Those in `forced` wait only for what is open."""

    tasks: Mapping[str, int]
    forced: Sequence[str] = ()


@frozen(slots=True, kw_only=True)
class FlowTaskEnd:
    """How a task of a flow has ended. `is_unmet`: it was not run, for what it follows ended otherwise. `is_refused`: it
    was asked to run again, and said no: its end stands."""

    status: int
    attempt: int
    is_unmet: bool = False
    is_deleted: bool = False
    is_refused: bool = False


@frozen(slots=True, kw_only=True)
class FinishFlow:
    """All its tasks have ended, so: task id -> end. `guards`: the versions of the tasks, so that it still holds."""

    ends: Mapping[str, FlowTaskEnd]
    guards: Sequence[Guard] = ()
