"""What can be asked of a schedule that is a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands.snapshots import JobSnapshot
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class SeatTask:
    """What is known of a task that a daemon has made. `ended_at`: None while it is open.

    `outcome`: `succeeded`, `failed` or `cancelled`; `reason` of a failure; `lived_seconds` by its agent's clock, None
    when no process ran. `agent_id`: where its process runs.
    """

    task_id: str
    is_running: bool = False
    agent_id: str | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    lived_seconds: float | None = None


@frozen(slots=True, kw_only=True)
class TendDaemon:
    """Take note of what became of its tasks, and start, stop and replace what has to be.

    Opens the tasks' streams in the same append, guarded by the job's version and `guards` (the slot's lease). `tasks`:
    of its open tasks those that were looked at; the others are as they were.
    """

    job: JobSnapshot
    tasks: Sequence[SeatTask] = ()
    guards: Sequence[Guard] = ()
