"""The corpus: events of every released type as they are stored, one file per type, as golden text.

It was written once and is never generated again: logs in the field hold such text, and every later program must read
it. A new event type adds a file; a new optional member adds events, and leaves those that lack it as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from eventstore.event import RecordedEvent

DIRECTORY = Path(__file__).parents[1] / "domain" / "corpus"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))


def corpus_of(name: str) -> Sequence[RecordedEvent]:
    """The events of one type."""
    document = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    assert document["type"] == name
    return [_recorded(name, document["schema"], event) for event in document["events"]]


def corpus() -> Sequence[RecordedEvent]:
    """All events in the order of their positions: whole streams that could have been written."""
    return sorted((event for name in NAMES for event in corpus_of(name)), key=lambda event: event.position)


def _recorded(name: str, schema: int, event: dict[str, Any]) -> RecordedEvent:
    return RecordedEvent(
        position=event["position"],
        recorded_at=datetime.fromisoformat(event["recorded_at"]),
        version=event["version"],
        schema=event.get("schema", schema),
        event_id=UUID(event["event_id"]),
        stream_id=event["stream_id"],
        type=name,
        data=json.dumps(event["data"]),
        metadata=json.dumps(event["metadata"]),
    )
