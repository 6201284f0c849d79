"""Events as answers show them."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Boolean, Integer, Text, Time, Uuid
from hetuflow.api.objects import FreeObject
from hetuflow.api.shapes import Member, Shape

METADATA = Shape(
    title="EventMetadata",
    members=[
        Member(name=name, kind=Text(), nullable=True)
        for name in ("correlation_id", "causation_id", "command_id", "principal", "request_id")
    ],
)

EVENT_RECORD = Shape(
    title="EventRecord",
    members=[
        Member(name="position", kind=Integer(1), doc="global, contiguous"),
        Member(name="event_id", kind=Uuid()),
        Member(name="stream_id", kind=Text(), doc="`task-<id>` and the like"),
        Member(name="version", kind=Integer(1), doc="within the stream"),
        Member(name="type", kind=Text(), doc="of the event catalogue, such as `TaskCreated`"),
        Member(name="schema", kind=Integer(1)),
        Member(name="data", kind=FreeObject()),
        Member(name="metadata", kind=METADATA),
        Member(name="recorded_at", kind=Time()),
        Member(name="summary", kind=Text(), doc="a sentence for people"),
    ],
)

EVENT_PAGE = Shape(
    title="PageOfEventRecord",
    members=[
        Member(
            name="page",
            kind=Shape(
                title="EventPage",
                members=[
                    Member(name="total", kind=Integer(), nullable=True, doc="always null"),
                    Member(name="has_more", kind=Boolean()),
                    Member(
                        name="next",
                        kind=Integer(),
                        nullable=True,
                        doc="to pass as `after` (descending: `before`); null at the end",
                    ),
                ],
            ),
        ),
        Member(name="result", kind=Array(EVENT_RECORD)),
    ],
)
