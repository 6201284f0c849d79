"""Wall-clock time. Monotonic time is `trio.current_time()` and needs no port: `MockClock` replaces it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: an aware UTC datetime, microseconds. May step back."""
        ...
