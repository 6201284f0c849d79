"""What a duty sleeps on: woken by a change, or when it is time to look at the clocks again."""

from __future__ import annotations

import math

import trio


class Alarm:
    """Rings are never lost and never counted: whoever waits next sees that there was one."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    @property
    def has_rung(self) -> bool:
        return self._rung.is_set()

    async def wait(self, seconds: float = math.inf) -> None:
        """Return when it has rung since the last wait, at the latest after `seconds`."""
        with trio.move_on_after(max(0.0, seconds)):
            await self._rung.wait()
        if self._rung.is_set():
            self._rung = trio.Event()
