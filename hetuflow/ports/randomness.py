"""Random numbers for jitter and back-off; never for identifiers."""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high]."""
        ...
