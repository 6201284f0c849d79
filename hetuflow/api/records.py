"""Recorded events as EventRecords."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eventstore.event import RecordedEvent
from hetuflow.api.schemas.event import METADATA
from hetuflow.api.summaries import summary

EVENT_LIMIT_MAX = 5000

_METADATA = tuple(member.name for member in METADATA.members)


def record(event: RecordedEvent) -> dict[str, Any]:
    data, metadata = json.loads(event.data), json.loads(event.metadata)
    return {
        "position": event.position,
        "event_id": event.event_id,
        "stream_id": event.stream_id,
        "version": event.version,
        "type": event.type,
        "schema": event.schema,
        "data": data,
        "metadata": {name: metadata.get(name) for name in _METADATA},
        "recorded_at": event.recorded_at,
        "summary": summary(event.type, data),
    }


def event_page(events: Sequence[RecordedEvent], following: int | None) -> dict[str, Any]:
    """`following`: what to pass for the next page, None at the end."""
    return {
        "page": {"total": None, "has_more": following is not None, "next": following},
        "result": [record(event) for event in events],
    }
