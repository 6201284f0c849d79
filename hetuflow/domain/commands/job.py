"""What can be asked of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands.schedule import CreateSchedule
from hetuflow.domain.commands.snapshots import JSON
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class CreateJob:
    job_id: str
    namespace_id: str = "default"
    name: str
    description: str | None = None
    environment: JSON | None = None
    config: JSON
    agent_id: str | None = None
    status: int = 100
    schedule: CreateSchedule | None = None
    """A schedule to open in the same commit (the `cron_expr` shorthand)."""
    upstream: JSON | None = None
    guards: Sequence[Guard] = ()
    """The versions of the jobs that were looked at to see that `upstream` closes no circle."""


@frozen(slots=True, kw_only=True)
class UpdateJob:
    """`changes` of: namespace_id, name, description, environment, config, agent_id, upstream, status; `command` =
    `config.cmd` alone, of the config as it then is. `guards` as in `CreateJob`."""

    changes: JSON
    guards: Sequence[Guard] = ()


@frozen(slots=True)
class EnableJob:
    note: str | None = None


@frozen(slots=True)
class DisableJob:
    note: str | None = None


@frozen(slots=True)
class SealJob:
    """Make no task of it for a moment, so that its open ones can be counted before it is deleted."""


@frozen(slots=True)
class UnsealJob:
    pass


@frozen(slots=True, kw_only=True)
class DeleteJob:
    """`sealed_at`: only if that seal still holds. None: whatever runs of it."""

    sealed_at: datetime | None = None
