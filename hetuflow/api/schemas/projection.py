"""The tables that are computed from the log, as answers show them."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Boolean, Integer, Number, Text, Time, Uuid
from hetuflow.api.shapes import Member, Shape

REBUILD = Shape(
    title="Rebuild",
    members=[
        Member(name="id", kind=Uuid()),
        Member(name="started_at", kind=Time()),
        Member(name="position", kind=Integer(), doc="folded so far"),
        Member(name="target", kind=Integer(), doc="of so many positions"),
        Member(name="events_per_second", kind=Number()),
    ],
)

PROJECTION = Shape(
    title="Projection",
    members=[
        Member(name="name", kind=Text()),
        Member(name="definition", kind=Text(), doc="version of its definition"),
        Member(name="status", kind=Text(), doc="`live`, `rebuilding` or `failed`"),
        Member(name="position", kind=Integer()),
        Member(name="head", kind=Integer()),
        Member(name="lag_events", kind=Integer()),
        Member(name="lag_seconds", kind=Number()),
        Member(name="updated_at", kind=Time(), nullable=True),
        Member(name="error", kind=Text(), nullable=True),
        Member(name="rebuild", kind=REBUILD, nullable=True),
    ],
)

PROJECTION_PAGE = Shape(
    title="PageOfProjection",
    members=[
        Member(
            name="page",
            kind=Shape(
                title="ProjectionPage",
                members=[
                    Member(name="total", kind=Integer()),
                    Member(name="has_more", kind=Boolean()),
                    Member(name="next", kind=Text(), nullable=True, doc="always null: all are on one page"),
                ],
            ),
        ),
        Member(name="result", kind=Array(PROJECTION)),
    ],
)
