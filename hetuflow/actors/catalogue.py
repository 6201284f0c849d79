"""The registry of stored event types: the class name is the stored name, frozen for ever by the corpus test."""

from __future__ import annotations

from eventstore.codec import EventCodec
from hetuflow.domain.events import EVENT_TYPES


def event_codec() -> EventCodec:
    """The codec of every event of `hetuflow.domain.events`, all at schema 1."""
    return EventCodec({cls.__name__: cls for cls in EVENT_TYPES})
