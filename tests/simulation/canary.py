"""Prints a hash of a trace of many tasks with equal deadlines: the same seed must always print the same line."""

from __future__ import annotations

import hashlib
import random
import sys

import trio

from tests.support.simulate import run


async def main() -> list[tuple[object, ...]]:
    trace: list[tuple[object, ...]] = []
    outbox, inbox = trio.open_memory_channel[int](3)
    done = trio.Event()

    async def worker(i: int) -> None:
        rng = random.Random(i)
        for k in range(20):
            await trio.sleep(rng.choice([1, 1, 2]))  # many equal deadlines
            with trio.move_on_after(0.5):
                await inbox.receive()
            trace.append((i, k, trio.current_time()))
            try:
                outbox.send_nowait(i)
            except trio.WouldBlock:
                pass
        done.set()

    async def waiter(j: int) -> None:  # wake-up order of one event's waiters
        await done.wait()
        trace.append(("waiter", j))

    async with trio.open_nursery() as nursery:
        for j in range(10):
            nursery.start_soon(waiter, j)
        for i in range(30):
            nursery.start_soon(worker, i)
    return trace


if __name__ == "__main__":
    found = run(int(sys.argv[1]), main)
    print(hashlib.sha256(repr(found).encode()).hexdigest(), len(found))
