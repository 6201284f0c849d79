"""Readers of the feed: each follows the log from a position, loses its connection, and resumes after what it has."""

from __future__ import annotations

import trio

from eventstore.errors import StoreClosed
from hetuflow.core import Core
from tests.simulation.cluster import Cluster
from tests.simulation.observed import Reading
from tests.simulation.server_node import NoAnswer

READERS = 2


async def follow(cluster: Cluster, name: str, seconds: tuple[float, float]) -> None:
    """Read until cancelled; a connection lasts so long at most (drawn between these)."""
    position = 0
    while True:
        reading = cluster.observed.resumed(name, position)
        try:
            await _read(cluster, reading, cluster.rng.uniform(*seconds))
        except NoAnswer:
            await trio.sleep(0.5)
        position = reading.received[-1][0] if reading.received else position


async def _read(cluster: Cluster, reading: Reading, seconds: float) -> None:
    """One connection: what a server sends, it sends in its own time; what came after the client left is not received."""
    life = cluster.any_life()
    is_open = True

    async def serve(core: Core) -> None:
        with trio.move_on_after(seconds):
            async with life.store.subscribe(after=reading.after) as batches:
                async for batch in batches:
                    if not is_open or life.is_dead:
                        return
                    reading.received.extend((event.position, event.event_id) for event in batch)

    try:
        await life.request(serve, seconds + 1)
    except StoreClosed:
        raise NoAnswer("the server ended") from None
    finally:
        is_open = False
