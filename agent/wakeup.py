"""A latch that one task waits on and any number of tasks set, without queueing."""

from __future__ import annotations

import trio


class Wakeup:
    """`set` before `wait` makes `wait` return at once; several `set`s in between count as one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, *, until: float = float("inf")) -> None:
        """Wait until set or until the deadline (monotonic seconds), then clear."""
        if not self._event.is_set():
            with trio.move_on_at(until):
                await self._event.wait()
        else:
            await trio.lowlevel.checkpoint()
        self._event = trio.Event()
