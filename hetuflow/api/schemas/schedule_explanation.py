"""What a schedule did, or will do, at one moment."""

from __future__ import annotations

from hetuflow.api.coded import CodeOut
from hetuflow.api.kinds import Integer, Text, Time, Uuid
from hetuflow.api.previews import UPCOMING
from hetuflow.api.schemas.event import EVENT_RECORD
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.enums import TaskStatus

TASK_MADE = Shape(
    title="ScheduleExplanationTask",
    members=[
        Member(name="id", kind=Uuid()),
        Member(name="status", kind=CodeOut(TaskStatus), nullable=True, doc="null: it is deleted"),
    ],
)

SCHEDULE_EXPLANATION = Shape(
    title="ScheduleExplanation",
    members=[
        Member(name="schedule_id", kind=Uuid()),
        Member(name="at", kind=Time(), doc="the moment that was asked about"),
        Member(name="position", kind=Integer(), doc="the state that is explained"),
        Member(
            name="outcome",
            kind=Text(),
            doc="`fired`, `skipped`, `due` (not decided yet), `will_fire`, `will_not_fire`, `no_nominal_time`",
        ),
        Member(
            name="code",
            kind=Text(),
            nullable=True,
            doc="why: a skip's reason, or for example `schedule_disabled`, `job_disabled`, `before_start`, `after_end`, `max_count`",
        ),
        Member(name="summary", kind=Text(), doc="one sentence"),
        Member(
            name="nominal",
            kind=UPCOMING,
            nullable=True,
            doc="the nominal time at that moment, or in the second it begins",
        ),
        Member(
            name="due_at",
            kind=Time(),
            nullable=True,
            doc="of one that will fire: when its task is due, jitter included",
        ),
        Member(name="before", kind=UPCOMING, nullable=True, doc="the nominal time before it"),
        Member(name="after", kind=UPCOMING, nullable=True, doc="the nominal time after it"),
        Member(name="task", kind=TASK_MADE, nullable=True, doc="of one that fired, or was backfilled"),
        Member(name="decision", kind=EVENT_RECORD, nullable=True, doc="the event that decided it"),
    ],
)
