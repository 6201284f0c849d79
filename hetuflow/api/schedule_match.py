"""C14: what an event of the log was to an Event schedule: fired, skipped, held, or why it was none of its.

What matched is found as the scheduler finds it: by the schedule as it was defined before the event in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eventstore.event import RecordedEvent
from eventstore.store import EventFilter
from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import not_found
from hetuflow.api.kinds import Array, Integer, Text, Uuid
from hetuflow.api.objects import AnyJson
from hetuflow.api.records import record
from hetuflow.api.routing import Endpoint, Parameter, PathId, integer_text
from hetuflow.api.schemas.event import EVENT_RECORD
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.decider import Address
from hetuflow.domain.event_filter import mismatches
from hetuflow.domain.event_types import TypePattern
from hetuflow.domain.schedule_state import ScheduleState
from hetuflow.scheduler.event_index import DEFINING, EventIndex, Waiting, named

PAGE = 500
SEARCHED_MAX = 20
"""Pages of the schedule's stream that are searched: a decision stands soon after its event."""
_DECISIONS = ("ScheduleFired", "ScheduleSkipped", "ScheduleEventHeld")
_OUTCOMES = {"ScheduleFired": "fired", "ScheduleSkipped": "skipped", "ScheduleEventHeld": "held"}

MISMATCH = Shape(
    title="EventMismatch",
    members=[
        Member(name="path", kind=Text(), doc="a member of `event_filter`"),
        Member(name="wanted", kind=AnyJson(), nullable=True),
        Member(name="found", kind=AnyJson(), nullable=True, doc="what the event has there"),
    ],
)

MATCH = Shape(
    title="ScheduleMatch",
    members=[
        Member(name="schedule_id", kind=Uuid()),
        Member(name="position", kind=Integer(1)),
        Member(name="event_type", kind=Text()),
        Member(
            name="outcome",
            kind=Text(),
            doc="`fired`, `skipped`, `held` (it waits for quiet), `not_matched`, or `undecided` (it matches, and no decision"
            " is recorded yet)",
        ),
        Member(
            name="code",
            kind=Text(),
            nullable=True,
            doc="of a skip its reason; of `not_matched`: `other_kind`, `not_enabled`, `type`, `filter`, `own`, `window`",
        ),
        Member(name="summary", kind=Text()),
        Member(name="mismatches", kind=Array(MISMATCH)),
        Member(name="decision", kind=EVENT_RECORD, nullable=True),
    ],
)


async def match(call: Call) -> Reply:
    position = call.query.get("position") or await call.log_head()
    reading = await call.rooms.system.read(Address("schedule", call.id))
    if not reading.version:
        raise not_found("schedule", call.id)
    found = await call.rooms.store.read_all(after=position - 1, limit=1)
    if not found:
        raise not_found("event", str(position))
    [event] = found
    event_type, data = named(event)
    content: Mapping[str, Any] = json.loads(event.data) if data is None else data
    value: dict[str, Any] = {
        "schedule_id": call.id,
        "position": position,
        "event_type": event_type,
        "mismatches": [],
        "decision": None,
    }
    decision = await _decision(call, event)
    if decision is not None:
        shown = record(decision)
        reason = json.loads(decision.data).get("reason")
        outcome = _OUTCOMES[decision.type]
        value |= {"outcome": outcome, "code": reason, "summary": shown["summary"], "decision": shown}
        return Reply(value, reading.position)
    code, summary, wrong = await _why_not(call, event, event_type, content, reading.state)
    value |= {
        "outcome": "undecided" if code is None else "not_matched",
        "code": code,
        "summary": summary,
        "mismatches": [{"path": each.path, "wanted": each.wanted, "found": each.found} for each in wrong],
    }
    return Reply(value, reading.position)


async def _decision(call: Call, event: RecordedEvent) -> RecordedEvent | None:
    """The last one about the event: what was held is fired or skipped later."""
    where, after, last = EventFilter(stream_id=f"schedule-{call.id}", types=_DECISIONS), event.position, None
    event_id = str(event.event_id)
    for _ in range(SEARCHED_MAX):
        page = await call.rooms.store.read_all(after=after, limit=PAGE, where=where)
        for each in page:
            if json.loads(each.data).get("event_id") == event_id:
                last = each
                if each.type != "ScheduleEventHeld":
                    return each
        if len(page) < PAGE:
            break
        after = page[-1].position
    return last


async def _as_of(call: Call, position: int) -> Waiting | None:
    """The schedule as it was defined just before that position."""
    index, where, after = EventIndex(), EventFilter(stream_id=f"schedule-{call.id}", types=DEFINING), 0
    while True:
        page = await call.rooms.store.read_all(after=after, before=position, limit=PAGE, where=where)
        for each in page:
            index.apply(each)
        if len(page) < PAGE:
            return next(iter(index), None)
        after = page[-1].position


async def _why_not(
    call: Call, event: RecordedEvent, event_type: str, data: Mapping[str, Any], now: ScheduleState
) -> tuple[str | None, str, list[Any]]:
    """Code, sentence and mismatches; the code is None where it does match."""
    waiting = await _as_of(call, event.position)
    if waiting is None:
        return "other_kind", "When the event was recorded, there was no such schedule of kind Event.", []
    if not waiting.is_enabled:
        return "not_enabled", "The schedule was not enabled when the event was recorded.", []
    if not TypePattern(waiting.event_type).matches(event_type):
        return "type", f"The schedule waits for events of type {waiting.event_type}, this one is {event_type}.", []
    if wrong := mismatches(waiting.event_filter, data):
        names = ", ".join(each.path for each in wrong)
        return "filter", f"The event's data do not fit the filter of the schedule: {names}.", wrong
    if await _is_own(call, event):
        return "own", "A schedule is not started by what itself or its own tasks do.", []
    if now.defined_at == waiting.defined_at and not _is_within(now, event):
        return "window", "The event was recorded outside the schedule's start and end time.", []
    return None, "The event matches; no decision is recorded.", []


async def _is_own(call: Call, event: RecordedEvent) -> bool:
    address = Address.of_stream(event.stream_id)
    if address.category == "schedule":
        return address.id == call.id
    if address.category != "task":
        return False
    spec = (await call.rooms.system.read(address)).state.spec
    return spec is not None and spec.schedule_id == call.id


def _is_within(state: ScheduleState, event: RecordedEvent) -> bool:
    start, end = state.start_time, state.end_time
    return (start is None or start <= event.recorded_at) and (end is None or event.recorded_at <= end)


ENDPOINTS = (
    Endpoint(
        number="C14",
        method="GET",
        path="/api/v1/schedules/item/{id}/match",
        path_id=PathId.UUID,
        handler=match,
        parameters=(
            Parameter(
                name="position",
                kind=Integer(1),
                from_text=integer_text,
                doc="of the event; default: the newest of the log",
            ),
        ),
        reply=MATCH,
        summary="What an event was to a schedule of kind Event, and why",
        tag="schedules",
    ),
)
