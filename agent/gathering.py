"""How long to wait for more before something is done that costs about as much for one message as for ten. Pure.

Messages that come thick are taken, and sent, together: a turn of the run loop, a system call and a frame are then shared.
Whoever is alone does not wait. Times are monotonic seconds.
"""

from __future__ import annotations

from typing import Final

WINDOW_SECONDS_MAX: Final = 0.004
WINDOW_SECONDS_EACH: Final = 0.00025
"""For each that runs beside another: with few at once, a wait is a large part of what a slot does, and little is to be shared."""


def window_seconds(running: int) -> float:
    """While so many run."""
    return min(WINDOW_SECONDS_MAX, max(0, running - 1) * WINDOW_SECONDS_EACH)


class Gathering:
    """Of one direction of one conversation."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def done(self, now: float, running: int) -> float:
        """It was done now. When it should be done next: at once, unless it was done just before already."""
        window = window_seconds(running)
        is_thick = now - self._last < window
        self._last = now
        return now + window if is_thick else now
