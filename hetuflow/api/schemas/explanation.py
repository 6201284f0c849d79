"""Why a task is where it is."""

from __future__ import annotations

from hetuflow.api.coded import CodeOut
from hetuflow.api.kinds import Array, Boolean, Integer, NameId, Text, Time, Uuid
from hetuflow.api.objects import FreeObject
from hetuflow.api.schemas.event import EVENT_RECORD
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.enums import TaskStatus

CAUSE = Shape(
    title="ExplanationCause",
    members=[
        Member(name="trigger", kind=Text()),
        Member(name="schedule_id", kind=Uuid(), nullable=True),
        Member(name="nominal_at", kind=Time(), nullable=True),
        Member(name="event_position", kind=Integer(1), nullable=True, doc="of the external event"),
        Member(name="principal", kind=Text(), nullable=True),
        Member(name="request_id", kind=Text(), nullable=True),
        Member(name="chain", kind=Array(EVENT_RECORD), doc="from the root cause to the task's creation"),
    ],
)

AWAITED = Shape(
    title="ExplanationAwaited",
    members=[
        Member(name="code", kind=Text()),
        Member(name="message", kind=Text()),
        Member(name="since", kind=Time()),
        Member(name="until", kind=Time(), nullable=True),
        Member(name="details", kind=FreeObject(), nullable=True),
    ],
)

ELIGIBILITY = Shape(
    title="ExplanationAgent",
    members=[
        Member(name="agent_id", kind=NameId()),
        Member(name="eligible", kind=Boolean()),
        Member(name="code", kind=Text(), nullable=True),
        Member(name="message", kind=Text(), nullable=True),
    ],
)

PLACED = Shape(
    title="ExplanationPlaced",
    members=[
        Member(name="agent_id", kind=NameId()),
        Member(name="instance_id", kind=Uuid()),
        Member(name="attempt", kind=Integer(1)),
        Member(name="server_id", kind=NameId(), nullable=True, doc="the server that decided"),
        Member(name="dispatched_at", kind=Time()),
        Member(name="position", kind=Integer(1)),
        Member(name="message", kind=Text()),
        Member(
            name="details",
            kind=FreeObject(),
            nullable=True,
            doc="`fitting` agents could have taken it, this one had `used` of its `slots` in use",
        ),
    ],
)

ENDED = Shape(
    title="ExplanationEnded",
    members=[
        Member(name="code", kind=Text()),
        Member(name="message", kind=Text()),
        Member(name="instance_id", kind=Uuid(), nullable=True),
        Member(name="principal", kind=Text(), nullable=True),
        Member(name="output_bytes", kind=Integer(), nullable=True, doc="what the instance wrote"),
        Member(name="output_dropped", kind=Integer(), doc="of these, the bytes that its limit left out"),
    ],
)

SKIPPED = Shape(
    title="ExplanationSkipped",
    members=[
        Member(name="first_nominal_at", kind=Time()),
        Member(name="last_nominal_at", kind=Time()),
        Member(name="count", kind=Integer(1)),
        Member(name="reason", kind=Text()),
        Member(name="message", kind=Text()),
        Member(name="position", kind=Integer(1)),
        Member(name="at", kind=Time()),
    ],
)

EXPLANATION = Shape(
    title="Explanation",
    members=[
        Member(name="task_id", kind=Uuid()),
        Member(name="status", kind=CodeOut(TaskStatus)),
        Member(name="position", kind=Integer(), doc="the state that is explained"),
        Member(name="at", kind=Time()),
        Member(name="summary", kind=Text(), doc="one sentence"),
        Member(name="cause", kind=CAUSE, doc="why it exists"),
        Member(name="waiting_for", kind=Array(AWAITED), doc="empty when nothing is awaited"),
        Member(name="agents", kind=Array(ELIGIBILITY), doc="for a task that is ready to be placed, at most 100"),
        Member(name="placed", kind=PLACED, nullable=True, doc="where its newest run was sent, and why there"),
        Member(name="ended", kind=ENDED, nullable=True, doc="for one that has ended"),
        Member(name="skipped", kind=Array(SKIPPED), doc="moments of its schedule that made no task, newest first"),
    ],
)
