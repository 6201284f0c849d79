"""What can be asked of an exclusion calendar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands.snapshots import JSON


@frozen(slots=True, kw_only=True)
class CreateCalendar:
    """See calendar_members.py for what the members may be."""

    calendar_id: str
    description: str | None = None
    timezone: str = "UTC"
    dates: Sequence[str] = ()
    ranges: Sequence[JSON] = ()
    yearly: Sequence[str] = ()
    weekdays: Sequence[JSON] = ()
    times: Sequence[JSON] = ()
    periods: Sequence[JSON] = ()
    imported_until_at: datetime | None = None


@frozen(slots=True, kw_only=True)
class UpdateCalendar:
    """`changes` of any member of `CreateCalendar` but the id."""

    changes: JSON


@frozen(slots=True)
class SealCalendar:
    """Let no schedule refer to it anew for a moment, so that those that do can be counted before it is deleted."""


@frozen(slots=True)
class UnsealCalendar:
    pass


@frozen(slots=True, kw_only=True)
class DeleteCalendar:
    """Only if that seal still holds."""

    sealed_at: datetime
