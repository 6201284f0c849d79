"""What happens to an exclusion calendar: stream `calendar-<id>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event


class CalendarEvent(Event):
    """An event of a `calendar-<id>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class CalendarCreated(CalendarEvent):
    """A named set of instants at which schedules that refer to it do not fire. Also made again after a deletion.

    `imported_until_at`: how far the recurring events of an imported file were expanded; None = to their end, or none.
    """

    calendar_id: str
    description: str | None
    timezone: str
    dates: tuple[str, ...]
    ranges: tuple[JSON, ...]
    yearly: tuple[str, ...]
    weekdays: tuple[JSON, ...]
    times: tuple[JSON, ...]
    periods: tuple[JSON, ...]
    imported_until_at: datetime | None
    created_at: datetime
    created_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarUpdated(CalendarEvent):
    """The whole of the editable members after the change; instants at or before `updated_at` are judged as before."""

    calendar_id: str
    description: str | None
    timezone: str
    dates: tuple[str, ...]
    ranges: tuple[JSON, ...]
    yearly: tuple[str, ...]
    weekdays: tuple[JSON, ...]
    times: tuple[JSON, ...]
    periods: tuple[JSON, ...]
    imported_until_at: datetime | None
    updated_at: datetime
    changed: tuple[str, ...]
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarDeleted(CalendarEvent):
    """It excludes nothing after `deleted_at`."""

    calendar_id: str
    deleted_at: datetime
    updated_by: int = 1


@frozen(slots=True, kw_only=True)
class CalendarSealed(CalendarEvent):
    """No schedule may refer to it anew for a moment, while it is looked for those that do before it is deleted.

    Lapses by itself `SEAL_SECONDS` after `sealed_at`.
    """

    calendar_id: str
    sealed_at: datetime


@frozen(slots=True, kw_only=True)
class CalendarUnsealed(CalendarEvent):
    """Schedules refer to it: it was not deleted."""

    calendar_id: str
