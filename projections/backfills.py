"""`sched_backfill`: one row per backfill, with how far it is."""

from __future__ import annotations

from hetuflow.domain.enums import BackfillStatus
from hetuflow.domain.events import (
    BackfillAdvanced,
    BackfillCancelled,
    BackfillFinished,
    BackfillStarted,
    BackfillTaskEnded,
)
from projections.definition import Born, Column, Constant, Field, Kind, Table, Touched, TouchedVersion, same


def _count(name: str, event: type[BackfillAdvanced] | type[BackfillTaskEnded]) -> Column:
    return Column(name, Kind.BIGINT, same(name, event), initial=0)


BACKFILLS = Table(
    name="sched_backfill",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("backfill_id"),
    creates={BackfillStarted: None},
    removes={},
    items=(
        Column("schedule_id", Kind.UUID, same("schedule_id", BackfillStarted)),
        Column("job_id", Kind.UUID, same("job_id", BackfillStarted)),
        Column(
            "status",
            Kind.TEXT,
            {
                BackfillStarted: Constant(str(BackfillStatus.RUNNING)),
                BackfillCancelled: Constant(str(BackfillStatus.CANCELLED)),
                BackfillFinished: Field("outcome"),
            },
        ),
        Column("from_at", Kind.TIME, same("from_at", BackfillStarted)),
        Column("until_at", Kind.TIME, same("until_at", BackfillStarted)),
        Column("total", Kind.BIGINT, same("total", BackfillStarted)),
        Column("max_concurrent", Kind.INT, same("max_concurrent", BackfillStarted)),
        Column("cursor_at", Kind.TIME, same("cursor_at", BackfillAdvanced)),
        _count("made", BackfillAdvanced),
        _count("left_out", BackfillAdvanced),
        _count("succeeded", BackfillTaskEnded),
        _count("failed", BackfillTaskEnded),
        _count("cancelled", BackfillTaskEnded),
        Column("note", Kind.TEXT, same("note", BackfillStarted)),
        Column("finished_at", Kind.TIME, same("finished_at", BackfillFinished)),
        Column("created_by", Kind.INT, same("created_by", BackfillStarted, default=1)),
        Column("updated_by", Kind.INT, same("updated_by", BackfillCancelled, default=1)),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id", "schedule_id, created_at, id"),
)
