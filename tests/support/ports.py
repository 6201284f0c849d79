"""Fakes of the clock, of ids and of randomness, for virtual time: all follow from trio's clock and one seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import trio

EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
"""When simulated time begins: a Monday morning."""


class TrioClock:
    """A wall clock that follows trio's, which a simulation starts at 0; `step` moves it, as an operator or NTP would."""

    def __init__(self, start_at: datetime = EPOCH) -> None:
        self._start_at = start_at
        self._started: float | None = None
        self.offset = timedelta(0)

    def now(self) -> datetime:
        if self._started is None:
            self._started = trio.current_time()
        return self._start_at + timedelta(seconds=trio.current_time() - self._started) + self.offset

    def step(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)

    def another(self) -> TrioClock:
        """The clock of another machine: it agrees with this one as of now, and steps by itself."""
        self.now()
        clock = TrioClock(self._start_at)
        clock._started, clock.offset = self._started, self.offset
        return clock


class SeededIds:
    """Version-7 UUIDs of a clock and a seed: time-ordered, never twice."""

    def __init__(self, seed: int | str, clock: TrioClock) -> None:
        self._random = random.Random(f"ids {seed}")
        self._clock = clock
        self._last = 0

    def uuid7(self) -> UUID:
        ms = int((self._clock.now() - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
        self._last = max(self._last + 1, ms << 12)
        rest = self._random.getrandbits(62)
        return UUID(int=((self._last >> 12) << 80) | (0x7 << 76) | ((self._last & 0xFFF) << 64) | (0b10 << 62) | rest)

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


class SeededRandom:
    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"jitter {seed}")

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
