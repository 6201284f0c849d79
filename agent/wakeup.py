"""A latch that one task waits on and any number of tasks set, without queueing."""

from __future__ import annotations

import trio


class Wakeup:
    """`set` before `wait` makes `wait` return at once; several `set`s in between count as one."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._is_soon = self._has_rested = False

    def set(self) -> None:
        self._event.set()

    def soon(self) -> None:
        """As `set`, but who waits may have its rest first."""
        self._is_soon = True
        if self._has_rested:
            self._event.set()

    async def wait(self, *, until: float = float("inf"), rest_until: float = float("-inf")) -> None:
        """Wait until set or until the deadline (monotonic seconds), then clear. What is only wanted soon does not end it before
        `rest_until`."""
        if not self._event.is_set() and trio.current_time() < rest_until:
            await self._set_by(min(until, rest_until))
        if self._event.is_set() or self._is_soon:
            await trio.lowlevel.checkpoint()
        else:
            self._has_rested = True
            try:
                await self._set_by(until)
            finally:
                self._has_rested = False
        self._event, self._is_soon = trio.Event(), False

    async def _set_by(self, deadline: float) -> None:
        if deadline == float("inf"):
            await self._event.wait()
        else:
            with trio.move_on_at(deadline):
                await self._event.wait()
