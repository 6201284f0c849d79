"""`sched_calendar`: one row per exclusion calendar that is not deleted."""

from __future__ import annotations

from hetuflow.domain.events import CalendarCreated, CalendarDeleted, CalendarUpdated
from projections.definition import Born, Column, Field, Kind, Table, Touched, TouchedVersion, same


def _member(name: str, kind: Kind) -> Column:
    return Column(name, kind, same(name, CalendarCreated, CalendarUpdated))


CALENDARS = Table(
    name="sched_calendar",
    key="id",
    key_kind=Kind.TEXT,
    key_source=Field("calendar_id"),
    creates={CalendarCreated: None},
    removes={CalendarDeleted: None},
    items=(
        _member("description", Kind.TEXT),
        _member("timezone", Kind.TEXT),
        _member("dates", Kind.JSON),
        _member("ranges", Kind.JSON),
        _member("yearly", Kind.JSON),
        _member("weekdays", Kind.JSON),
        _member("times", Kind.JSON),
        _member("periods", Kind.JSON),
        _member("imported_until_at", Kind.TIME),
        Column("created_by", Kind.INT, same("created_by", CalendarCreated, default=1)),
        Column("updated_by", Kind.INT, same("updated_by", CalendarUpdated, default=1)),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id",),
)
