"""Backfills: a past window of a schedule, run a few tasks at once."""

from __future__ import annotations

from hetuflow.api.kinds import Integer, Text, Time, Uuid
from hetuflow.api.schemas.job import BY_WHOM, CREATED_UPDATED
from hetuflow.api.shapes import Entity, Member, Shape
from hetuflow.domain.backfill_window import CONCURRENT_MAX, TOTAL_MAX
from hetuflow.domain.switch_notes import NOTE_LENGTH_MAX

BACKFILL = Entity(
    title="SchedBackfill",
    members=[
        Member(name="id", kind=Uuid()),
        Member(name="schedule_id", kind=Uuid()),
        Member(name="job_id", kind=Uuid()),
        Member(name="status", kind=Text(), doc="`running`, `cancelled`, `finished`"),
        Member(name="from_at", kind=Time()),
        Member(name="until_at", kind=Time(), doc="included; no later than what the schedule has decided already"),
        Member(name="total", kind=Integer(1), doc="nominal times in the window"),
        Member(name="max_concurrent", kind=Integer(1, CONCURRENT_MAX), doc="open tasks at once"),
        Member(name="cursor_at", kind=Time(), nullable=True, doc="the nominal times up to it are decided"),
        Member(name="made", kind=Integer(), doc="tasks"),
        Member(
            name="left_out", kind=Integer(), doc="nominal times that had a task already, or that a calendar excludes"
        ),
        Member(name="succeeded", kind=Integer()),
        Member(name="failed", kind=Integer()),
        Member(name="cancelled", kind=Integer()),
        Member(name="note", kind=Text(), nullable=True),
        Member(name="finished_at", kind=Time(), nullable=True, doc="when the last of its tasks had ended"),
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)

BACKFILL_REQUEST = Shape(
    title="BackfillRequest",
    members=[
        Member(name="id", kind=Uuid(chosen=True), write="C", doc="default: a new UUID v7"),
        Member(name="from", kind=Time(), write="C!", doc="first nominal time, included"),
        Member(name="to", kind=Time(), write="C!", doc=f"last, included; at most {TOTAL_MAX} lie in the window"),
        Member(
            name="max_concurrent", kind=Integer(1, CONCURRENT_MAX), write="C", default=1, doc="open tasks of it at once"
        ),
        Member(name="note", kind=Text(NOTE_LENGTH_MAX), write="C", nullable=True),
    ],
)
