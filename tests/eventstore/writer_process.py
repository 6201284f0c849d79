"""A writer in a process of its own: `python -m tests.eventstore.writer_process URL NAME COUNT`.

Appends COUNT times to streams shared with other processes, one or two events to one or two streams, retrying on conflict
with what it reads. Prints how many conflicts it met.
"""

from __future__ import annotations

import random
import sys
from uuid import NAMESPACE_OID, UUID, uuid5

import trio

from eventstore.errors import WrongExpectedVersion
from eventstore.event import Claim, NewEvent
from eventstore.postgres import open_postgres_store
from eventstore.store import EventStore

STREAMS = 5


async def main(url: str, name: str, count: int) -> None:
    conflicts = 0
    rng = random.Random(name)

    async def write(store: EventStore, task: int) -> None:
        nonlocal conflicts
        for n in range(count // 4):
            streams = rng.sample(range(STREAMS), rng.choice([1, 2]))
            events = [
                _event(f"{name}-{task}-{n}-{stream}-{k}") for stream in streams for k in range(rng.choice([1, 2]))
            ]
            while True:
                try:
                    claims = []
                    for place, stream in enumerate(streams):
                        stored = await store.read_stream(f"shared-{stream}")
                        share = events[place :: len(streams)]
                        claims.append(Claim(f"shared-{stream}", len(stored), share))
                    await store.append(claims)
                    break
                except WrongExpectedVersion:
                    conflicts += 1

    async with open_postgres_store(url) as store, trio.open_nursery() as nursery:
        for task in range(4):
            nursery.start_soon(write, store, task)
    print(conflicts)


def _event(text: str) -> NewEvent:
    event_id: UUID = uuid5(NAMESPACE_OID, text)
    return NewEvent(event_id=event_id, type="Written", data=f'{{"by": "{text}"}}')


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
