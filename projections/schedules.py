"""`sched_schedule`: one row per schedule that is not deleted."""

from __future__ import annotations

from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    DaemonGaveUp,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleFired,
    ScheduleReplanned,
    ScheduleSkipped,
    ScheduleSuspended,
    ScheduleTaskEnded,
    ScheduleUpdated,
    SeatEnded,
    SeatStarted,
)
from projections.definition import (
    Born,
    Column,
    Constant,
    Field,
    Kind,
    Table,
    Touched,
    TouchedVersion,
    always,
    same,
)


def _member(name: str, kind: Kind) -> Column:
    return Column(name, kind, same(name, ScheduleCreated, ScheduleUpdated))


_PLANS = (
    ScheduleCreated,
    ScheduleUpdated,
    ScheduleEnabled,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleReplanned,
)
"""The events that say when it fires next, and under which calendars."""

_ENDS = (ScheduleTaskEnded, SeatStarted, SeatEnded)
"""The events that say so of what counts from the end of a task."""

SCHEDULES = Table(
    name="sched_schedule",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("schedule_id"),
    creates={ScheduleCreated: None},
    removes={ScheduleDeleted: None},
    items=(
        Column("job_id", Kind.UUID, same("job_id", ScheduleCreated)),
        _member("name", Kind.TEXT),
        _member("description", Kind.TEXT),
        _member("schedule_kind", Kind.INT),
        _member("cron_expression", Kind.TEXT),
        _member("interval_secs", Kind.BIGINT),
        Column(
            "interval_mode", Kind.TEXT, same("interval_mode", ScheduleCreated, ScheduleUpdated, default="fixed_rate")
        ),
        _member("max_count", Kind.BIGINT),
        _member("timezone", Kind.TEXT),
        _member("start_time", Kind.TIME),
        _member("end_time", Kind.TIME),
        _member("event_type", Kind.TEXT),
        _member("event_filter", Kind.JSON),
        Column(
            "status",
            Kind.INT,
            {
                ScheduleCreated: Field("status"),
                ScheduleEnabled: Constant(int(ScheduleStatus.ENABLED)),
                ScheduleDisabled: Field("status"),
                ScheduleSuspended: Constant(int(ScheduleStatus.DISABLED)),
                ScheduleExpired: Constant(int(ScheduleStatus.EXPIRED)),
                DaemonGaveUp: Constant(int(ScheduleStatus.DISABLED)),
            },
        ),
        _member("misfire_policy", Kind.TEXT),
        _member("misfire_grace_seconds", Kind.BIGINT),
        _member("max_age_seconds", Kind.BIGINT),
        _member("overlap_policy", Kind.TEXT),
        _member("jitter_seconds", Kind.BIGINT),
        _member("pause_on_failures", Kind.INT),
        Column(
            "consecutive_failures",
            Kind.INT,
            {
                **same("consecutive_failures", ScheduleTaskEnded),
                **same("consecutive_failures", ScheduleUpdated, default=0),
                **always(0, ScheduleEnabled),
            },
            initial=0,
        ),
        Column(
            "status_note",
            Kind.TEXT,
            {
                **same("note", ScheduleEnabled, ScheduleDisabled),
                **same("error", ScheduleSuspended, DaemonGaveUp),
            },
        ),
        _member("parameters", Kind.JSON),
        _member("priority", Kind.INT),
        Column("debounce_seconds", Kind.BIGINT, same("debounce_seconds", ScheduleCreated, ScheduleUpdated, default=0)),
        _member("daemon", Kind.JSON),
        Column(
            "next_run_at",
            Kind.TIME,
            {
                **same("next_run_at", *_PLANS, *_ENDS),
                **always(None, ScheduleDisabled, ScheduleSuspended, ScheduleExpired, DaemonGaveUp),
            },
        ),
        Column("run_flow", Kind.BOOL, same("run_flow", ScheduleCreated, ScheduleUpdated, default=False)),
        Column("exclude_calendars", Kind.JSON, same("exclude_calendars", ScheduleCreated, ScheduleUpdated, default=[])),
        Column("calendar_versions", Kind.JSON, same("calendars", *_PLANS, default={})),
        Column("last_run_at", Kind.TIME, {ScheduleFired: Field("nominal_at"), SeatStarted: Field("started_at")}),
        Column("fire_count", Kind.BIGINT, same("fire_count", ScheduleFired, SeatStarted), initial=0),
        Column("created_by", Kind.INT, same("created_by", ScheduleCreated, default=1)),
        Column(
            "updated_by", Kind.INT, same("updated_by", ScheduleUpdated, ScheduleEnabled, ScheduleDisabled, default=1)
        ),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id", "job_id, created_at, id", "name, id", "next_run_at, id"),
)
