"""Who holds a slot of decisions: stream `lease-<slot>`."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.events.base import Event


class LeaseEvent(Event):
    """An event of a `lease-<slot>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class LeaseTaken(LeaseEvent):
    """The server holds the scheduler's decisions for this slot; the version of this event is the epoch."""

    slot: int
    server_id: str
    taken_at: datetime


@frozen(slots=True, kw_only=True)
class LeaseReleased(LeaseEvent):
    slot: int
    server_id: str
