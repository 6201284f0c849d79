"""What happens to a job: stream `job-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class JobEvent(Event):
    """An event of a `job-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class JobCreated(JobEvent):
    job_id: str
    namespace_id: str
    name: str
    description: str | None
    environment: JSON | None
    config: JSON
    agent_id: str | None
    status: int
    created_at: datetime
    created_by: int = 1
    upstream: JSON | None = None
    """The jobs that it follows in a flow: `{"jobs": [{"job_id", "on"}], "match"}`."""


@frozen(slots=True, kw_only=True)
class JobUpdated(JobEvent):
    """The whole of the editable members after the change; `changed` names those that differ."""

    job_id: str
    namespace_id: str
    name: str
    description: str | None
    environment: JSON | None
    config: JSON
    agent_id: str | None
    changed: tuple[str, ...]
    updated_by: int = 1
    upstream: JSON | None = None


@frozen(slots=True, kw_only=True)
class JobEnabled(JobEvent):
    """The job fires from schedules again; nominal times at or before `enabled_at` do not."""

    job_id: str
    enabled_at: datetime
    updated_by: int = 1
    note: str | None = None


@frozen(slots=True, kw_only=True)
class JobDisabled(JobEvent):
    """`status` is the new status: Disabled, or Created or Expired where a client asked for that."""

    job_id: str
    status: int
    updated_by: int = 1
    note: str | None = None


@frozen(slots=True, kw_only=True)
class JobDeleted(JobEvent):
    job_id: str
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class JobSealed(JobEvent):
    """No task is made of the job for a moment, while it is looked for open ones before it is deleted.

    Lapses by itself `SEAL_SECONDS` after `sealed_at`.
    """

    job_id: str
    sealed_at: datetime


@frozen(slots=True, kw_only=True)
class JobUnsealed(JobEvent):
    """It has open tasks: it was not deleted."""

    job_id: str
