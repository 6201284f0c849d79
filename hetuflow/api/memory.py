"""What one server process remembers between requests: all of it bounded, none of it needed for correctness elsewhere."""

from __future__ import annotations

import json

import trio
from attrs import define, field

from eventstore.store import EventFilter, EventStore
from hetuflow.api.idempotency import Keys
from hetuflow.api.own_writes import OwnWrites
from hetuflow.api.requests import BodyMemory
from hetuflow.api.streaming import OpenStreams
from hetuflow.api.telemetry import Telemetry

BATCH_EVENTS = 5000


@define(slots=True)
class Fires:
    """Fires and skips decided since this server started, counted from the log; a look reads only what is new."""

    fired: int = 0
    skipped: int = 0
    position: int | None = None
    _lock: trio.Lock = field(factory=trio.Lock)

    async def advance(self, store: EventStore, server_id: str) -> None:
        async with self._lock:
            if self.position is None:
                self.position = await _start_of(store, server_id)
            types = ("ScheduleFired", "ScheduleSkipped")
            while True:
                events = await store.read_all(
                    after=self.position, limit=BATCH_EVENTS, where=EventFilter(category="schedule", types=types)
                )
                for event in events:
                    if event.type == "ScheduleFired":
                        self.fired += 1
                    else:
                        self.skipped += json.loads(event.data)["count"]
                    self.position = event.position
                if len(events) < BATCH_EVENTS:
                    return


async def _start_of(store: EventStore, server_id: str) -> int:
    """The position of this server's last start; the head when the log does not have it."""
    where = EventFilter(stream_id=f"server-{server_id}", types=("ServerStarted",))
    starts = await store.read_all(limit=1, descending=True, where=where)
    return starts[0].position if starts else await store.head()


@define(slots=True)
class Memory:
    own_writes: OwnWrites = field(factory=OwnWrites)
    keys: Keys = field(factory=Keys)
    fires: Fires = field(factory=Fires)
    streams: OpenStreams = field(factory=OpenStreams)
    telemetry: Telemetry = field(factory=Telemetry)
    bodies: BodyMemory = field(factory=BodyMemory)
    requests: int = 0
    """Since the start."""
    errors: int = 0
