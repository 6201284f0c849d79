"""E2: the log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from eventstore.store import EventFilter
from hetuflow.api.call import Call, Reply
from hetuflow.api.coded import Word
from hetuflow.api.errors import invalid
from hetuflow.api.kinds import Integer, Text, Time
from hetuflow.api.problems import Problems, nearest
from hetuflow.api.records import EVENT_LIMIT_MAX, event_page
from hetuflow.api.routing import Endpoint, Parameter, integer_text
from hetuflow.api.schemas.event import EVENT_PAGE
from hetuflow.domain.events import EVENT_TYPES

CATEGORIES = ("job", "schedule", "task", "agent", "server", "external", "lease")
TYPES = tuple(event.__name__ for event in EVENT_TYPES)

_BLANK_OFFSET = re.compile(r" (\d\d:\d\d)$")


class Direction(StrEnum):
    ASC = "asc"
    DESC = "desc"


def time_text(text: str) -> str:
    """A `+` of an offset that arrived as a blank, because it was not percent-encoded."""
    return _BLANK_OFFSET.sub(r"+\1", text)


async def find(call: Call) -> Reply:
    query = call.query
    condition = _condition(query)
    limit = query.get("limit", 20)
    is_descending = query.get("order", Direction.ASC) == Direction.DESC
    position = await call.log_head()
    events = await call.rooms.store.read_all(
        after=query.get("after", 0),
        before=query.get("before"),
        limit=limit + 1,
        descending=is_descending,
        where=condition,
    )
    found = events[:limit]
    return Reply(event_page(found, found[-1].position if len(events) > limit else None), position)


def _condition(query: Mapping[str, Any]) -> EventFilter:
    problems = Problems()
    stream = query.get("stream")
    category = stream.partition("-")[0] if stream is not None else None
    if category is not None and category not in CATEGORIES:
        problems.add(
            "query.stream", f"{category!r} is not a category: {', '.join(CATEGORIES)}", nearest(category, CATEGORIES)
        )
    for name in query.get("type", []):
        if name not in TYPES:
            problems.add("query.type", f"{name!r} is not an event type", nearest(name, TYPES))
    if problems:
        raise invalid(list(problems))
    is_id = stream is not None and "-" in stream
    return EventFilter(
        stream_id=stream if is_id else None,
        category=None if is_id else category,
        types=tuple(dict.fromkeys(query.get("type", []))),
        event_type=query.get("event_type"),
        correlation_id=query.get("correlation_id"),
        recorded_from=query.get("from"),
        recorded_until=query.get("to"),
    )


ENDPOINTS = (
    Endpoint(
        number="E2",
        method="GET",
        path="/api/v1/events",
        handler=find,
        parameters=(
            Parameter(name="stream", kind=Text(300, 1), doc="a stream id, or a category"),
            Parameter(name="type", kind=Text(128, 1), is_repeatable=True, doc="event type; repeatable"),
            Parameter(name="event_type", kind=Text(128, 1), doc="type of external events"),
            Parameter(name="correlation_id", kind=Text(200, 1), doc="one conversation"),
            Parameter(name="after", kind=Integer(), from_text=integer_text, doc="position, exclusive"),
            Parameter(name="before", kind=Integer(), from_text=integer_text, doc="position, exclusive"),
            Parameter(name="from", kind=Time(), from_text=time_text, doc="`recorded_at`, included"),
            Parameter(name="to", kind=Time(), from_text=time_text, doc="`recorded_at`, included"),
            Parameter(name="order", kind=Word(Direction), doc="default asc"),
            Parameter(name="limit", kind=Integer(1, EVENT_LIMIT_MAX), from_text=integer_text, doc="default 20"),
        ),
        reply=EVENT_PAGE,
        summary="Events by position",
        tag="events",
    ),
)
