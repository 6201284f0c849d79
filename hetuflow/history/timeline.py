"""A stream for people: its states one after the other, and what each event changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import attrs
from attrs import frozen

from eventstore.event import RecordedEvent
from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from hetuflow.history.replay import ABSENT, changes

UNTOLD = frozenset({"version", "lock_version"})
"""They change with every event."""


@frozen(slots=True)
class Step:
    """One event, and what it made of the state. `changes`: path -> (before, after)."""

    event: RecordedEvent
    data: Mapping[str, Any]
    metadata: Mapping[str, Any]
    state: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    seconds: float
    """Since the event before it."""


def steps(events: Iterable[RecordedEvent]) -> Iterator[Step]:
    """Fold a whole stream, event by event.

    Raises:
      UnknownEventType: an event of another program. KeyError: a stream that no entity owns (external events).
    """
    codec = event_codec()
    state: Any = None
    shown: Any = {}
    before: datetime | None = None
    for event in events:
        decider = DECIDERS[Address.of_stream(event.stream_id).category]
        if before is None:
            state, shown = decider.initial, plain(decider.initial)
        state = decider.evolve(state, codec.decode(event))
        after = plain(state)
        found = {path: pair for path, pair in changes(shown, after).items() if path not in UNTOLD}
        seconds = 0.0 if before is None else (event.recorded_at - before).total_seconds()
        yield Step(event, json.loads(event.data), json.loads(event.metadata), after, found, seconds)
        shown, before = after, event.recorded_at


def plain(value: Any) -> Any:
    """A state as JSON-like values, absent members left out."""
    if attrs.has(type(value)):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    if isinstance(value, frozenset | set):
        return sorted(str(inner) for inner in value)
    return value


def shown(value: Any) -> str:
    """One side of a change."""
    return (
        "" if value is ABSENT or value is None else value if isinstance(value, str) else json.dumps(value, default=str)
    )
