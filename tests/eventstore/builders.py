"""Builders of events and claims with ids that are the same in every run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eventstore.event import Claim, NewEvent

_ids = itertools.count(1)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def an_event(type: str = "Happened", *, data: Any = None, metadata: Any = None, id: UUID | None = None) -> NewEvent:
    return NewEvent(
        event_id=UUID(int=next(_ids)) if id is None else id,
        type=type,
        data=msgspec.json.encode({} if data is None else data).decode(),
        metadata=msgspec.json.encode({} if metadata is None else metadata).decode(),
    )


def some_events(count: int) -> Sequence[NewEvent]:
    return [an_event(data={"n": n}) for n in range(count)]


def a_claim(stream_id: str, expected: int = 0, count: int = 1) -> Claim:
    return Claim(stream_id, expected, some_events(count))


def a_clock(step: timedelta = timedelta(milliseconds=1)) -> Callable[[], datetime]:
    ticks = itertools.count()
    return lambda: START + step * next(ticks)
