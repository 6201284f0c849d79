"""What can be told of the world outside."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands.snapshots import JSON


@frozen(slots=True, kw_only=True)
class ReceiveEvent:
    """`known_until`: the version of the stream up to which the caller has looked for it, and not found it."""

    id: str
    source: str
    type: str
    data: JSON
    time: datetime
    digest: str
    known_until: int = 0
