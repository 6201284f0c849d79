"""Jobs and calendars as they are now, as commands carry them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from hetuflow.domain.decider import Guard
from hetuflow.domain.exclusion import Calendar

JSON = Mapping[str, Any]


@frozen(slots=True, kw_only=True)
class JobSnapshot:
    """A job as of `version` of its stream, to be copied into a task. A decision that uses it guards that version."""

    job_id: str
    version: int
    namespace_id: str
    name: str
    environment: JSON | None
    config: JSON
    agent_id: str | None
    status: int
    enabled_at: datetime | None
    deleted: bool = False
    sealed_until_at: datetime | None = None
    """No task is made of it before: it is about to be deleted."""
    upstream: JSON | None = None

    @property
    def guard(self) -> Guard:
        return Guard(f"job-{self.job_id}", self.version)


@frozen(slots=True, kw_only=True)
class CalendarSnapshot:
    """An exclusion calendar as it is now. A decision that uses it guards its version. One that is deleted still says
    what it excluded until then."""

    calendar: Calendar
    exists: bool = True
    sealed_until_at: datetime | None = None
    """No schedule may refer to it anew before: it is about to be deleted."""

    @property
    def guard(self) -> Guard:
        return Guard(f"calendar-{self.calendar.calendar_id}", self.calendar.version)
