"""Events as they come back from the store: through the codec's JSON, with members in jsonb's order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eventstore.codec import EventCodec
from eventstore.event import RecordedEvent
from hetuflow.domain.events import EVENT_TYPES, Event

CODEC = EventCodec({kind.__name__: kind for kind in EVENT_TYPES})


def stored(events: Iterable[Event]) -> list[Any]:
    """Return equal events, decoded from what would be stored of them."""
    return [CODEC.decode(_recorded(event, version)) for version, event in enumerate(events, 1)]


def _recorded(event: Event, version: int) -> RecordedEvent:
    new = CODEC.encode(event, UUID(int=version), {})
    return RecordedEvent(
        position=version,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        version=version,
        schema=new.schema,
        event_id=new.event_id,
        stream_id="task-x",
        type=new.type,
        data=json.dumps(_in_jsonb_order(json.loads(new.data))),
        metadata="{}",
    )


def _in_jsonb_order(value: Any) -> Any:
    """jsonb keeps members by length of their name, then by its bytes."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda member: (len(member[0].encode()), member[0].encode()))
        return {name: _in_jsonb_order(item) for name, item in ordered}
    return [_in_jsonb_order(item) for item in value] if isinstance(value, list) else value
