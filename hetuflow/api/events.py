"""E2, E3: the log, in pages and as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import trio
from attrs import define, field

from eventstore.errors import StoreClosed
from eventstore.event import RecordedEvent
from eventstore.memory import matches
from eventstore.store import EventFilter
from hetuflow.api.call import Call, Reply
from hetuflow.api.coded import Word
from hetuflow.api.errors import gone, invalid
from hetuflow.api.kinds import Described, Integer, Text, Time
from hetuflow.api.problems import Problems, nearest
from hetuflow.api.reads import bad_request
from hetuflow.api.records import EVENT_LIMIT_MAX, event_page, record
from hetuflow.api.routing import Endpoint, Parameter, integer_text, time_text
from hetuflow.api.schemas.event import EVENT_PAGE, EVENT_RECORD
from hetuflow.api.streaming import COMMENT, PULSE_SECONDS, Write, frame
from hetuflow.domain.events import EVENT_TYPES

CATEGORIES = ("job", "schedule", "task", "agent", "server", "external", "lease", "calendar", "flow", "backfill")
TYPES = tuple(event.__name__ for event in EVENT_TYPES)

BUFFER_EVENTS = 1_000
"""Kept for a client that is slower than the log; beyond that its stream reads the log again."""

FRAMES_AT_ONCE = 100
POSITION_MAX = 2**63 - 1


class Direction(StrEnum):
    ASC = "asc"
    DESC = "desc"


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


async def stream(call: Call) -> Reply:
    """Every event after a position that passes the filter, each once, in order: history first, then live."""
    condition = _condition(call.query)
    after = await _start(call)
    await _require_kept(call, after)
    call.memory.streams.require_room()

    async def produce(write: Write) -> None:
        with suppress(StoreClosed):  # the server is stopping
            async with call.rooms.store.subscribe(after=after, buffer_events=BUFFER_EVENTS) as batches:
                await _Feed(write, condition, after).run(batches)

    return Reply(position=after, stream=produce)


async def _start(call: Call) -> int:
    """The position after which the stream begins: `Last-Event-ID`, else `after`, else the head of the log."""
    text = call.head.text(b"last-event-id")
    if text is None:
        return call.query["after"] if "after" in call.query else await call.log_head()
    position = integer_text(text)
    if not isinstance(position, int) or not 0 <= position <= POSITION_MAX:
        raise bad_request(
            "header.Last-Event-ID", f"must be a position, the id of an event of this stream, got {text!r}"
        )
    return position


async def _require_kept(call: Call, after: int) -> None:
    """Raises `ApiError` 410 when events that follow were dropped by retention."""
    if (first := await call.rooms.store.read_all(limit=1)) and after + 1 < first[0].position:
        raise gone(first[0].position)


@define(slots=True)
class _Feed:
    """What one client has been sent. `position`: all up to it was sent or did not pass; `told`: what it knows of that."""

    write: Write
    condition: EventFilter
    position: int
    told: int = field(init=False)
    silent_since: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.told, self.silent_since = self.position, trio.current_time()

    async def run(self, batches: AsyncIterator[Sequence[RecordedEvent]]) -> None:
        await self._send(COMMENT)  # the client sees that it is connected
        while True:
            batch: Sequence[RecordedEvent] = ()
            with trio.move_on_at(self.silent_since + PULSE_SECONDS):
                batch = await anext(batches)
            if batch:
                await self._pass(batch)
            if trio.current_time() >= self.silent_since + PULSE_SECONDS:
                await self._send(self._pulse())

    async def _pass(self, batch: Sequence[RecordedEvent]) -> None:
        passing = [event for event in batch if matches(self.condition, event)]
        for at in range(0, len(passing), FRAMES_AT_ONCE):
            part = passing[at : at + FRAMES_AT_ONCE]
            await self._send(b"".join(frame(event.type, record(event), event.position) for event in part))
            self.told = part[-1].position
        self.position = batch[-1].position

    def _pulse(self) -> bytes:
        if self.position == self.told:
            return COMMENT
        self.told = self.position
        return frame("position", {"position": self.position}, self.position)

    async def _send(self, content: bytes) -> None:
        await self.write(content)
        self.silent_since = trio.current_time()


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


CONDITIONS = (
    Parameter(
        name="stream",
        kind=Described(Text(300, 1), {"pattern": f"^(?:{'|'.join(CATEGORIES)})(?:-.*)?$"}),
        doc="a stream id, or a category",
    ),
    Parameter(
        name="type",
        kind=Described(Text(128, 1), {"enum": list(TYPES)}),
        is_repeatable=True,
        doc="event type; repeatable",
    ),
    Parameter(name="event_type", kind=Text(128, 1), doc="type of external events"),
    Parameter(name="correlation_id", kind=Text(200, 1), doc="one conversation"),
    Parameter(name="from", kind=Time(), from_text=time_text, doc="`recorded_at`, included"),
    Parameter(name="to", kind=Time(), from_text=time_text, doc="`recorded_at`, included"),
)

ENDPOINTS = (
    Endpoint(
        number="E2",
        method="GET",
        path="/api/v1/events",
        handler=find,
        parameters=(
            *CONDITIONS,
            Parameter(name="after", kind=Integer(), from_text=integer_text, doc="position, exclusive"),
            Parameter(name="before", kind=Integer(), from_text=integer_text, doc="position, exclusive"),
            Parameter(name="order", kind=Word(Direction), doc="default asc"),
            Parameter(name="limit", kind=Integer(1, EVENT_LIMIT_MAX), from_text=integer_text, doc="default 20"),
        ),
        reply=EVENT_PAGE,
        summary="Events by position",
        tag="events",
    ),
    Endpoint(
        number="E3",
        method="GET",
        path="/api/v1/events/stream",
        handler=stream,
        parameters=(
            *CONDITIONS,
            Parameter(
                name="after", kind=Integer(), from_text=integer_text, doc="position, exclusive; default: the head"
            ),
        ),
        reply=EVENT_RECORD,
        summary="Follow the log: Server-Sent Events",
        tag="events",
        also=(410, 429),
        is_stream=True,
    ),
)
