"""What happened outside: stream `external-<source>`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from attrs import frozen

from hetuflow.domain.events.base import JSON, Event
from hetuflow.domain.identity import external_event_id


class ExternalEvent(Event):
    """An event of an `external-<source>` stream."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class ExternalEventReceived(ExternalEvent):
    """Something happened outside and was told to the API. (`source`, `id`) names it for ever.

    `digest` is of what was sent, so that the same event sent again can be told from another one of its name. Its
    event id is derived from source and id.
    """

    id: str
    source: str
    type: str
    data: JSON
    time: datetime
    digest: str

    @property
    def recorded_id(self) -> UUID:
        """The event id it is recorded under."""
        return external_event_id(self.source, self.id)
