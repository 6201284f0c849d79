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


RESERVED_PREFIXES = ("job.", "schedule.", "task.", "agent.", "server.")
"""Of types of events: hetuflow's own."""

EXTERNAL_EVENT = Shape(
    title="ExternalEvent",
    members=[
        Member(
            name="type",
            kind=Text(128, 1, r"[A-Za-z0-9_.-]{1,128}", "1 to 128 of A-Z a-z 0-9 _ . -"),
            write="C!",
            doc="not starting with `job.`, `schedule.`, `task.`, `agent.`, `server.`",
        ),
        Member(name="data", kind=FreeObject(), write="C", default={}),
        Member(name="id", kind=Text(200, 1), write="C", doc="with `source` its name for ever; default: a new UUID v7"),
        Member(
            name="source",
            kind=Text(64, 1, r"[A-Za-z0-9._-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ -"),
            write="C",
            default="default",
        ),
        Member(name="time", kind=Time(), write="C", doc="when it happened; default: now"),
    ],
)
