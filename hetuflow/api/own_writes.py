"""Which position each client must be shown: the last one this process has acknowledged to its address."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

KEPT_SECONDS = 60.0
"""After that, the projections have long passed it."""

ADDRESSES_MAX = 10_000


@define(slots=True)
class OwnWrites:
    """Bounded memory of acknowledged positions by client address, oldest forgotten first. Monotonic seconds."""

    addresses_max: int = ADDRESSES_MAX
    _positions: OrderedDict[str, tuple[int, float]] = field(factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._positions)

    def acknowledge(self, address: str, position: int, now_seconds: float) -> None:
        """Remember that this client was told of `position`."""
        known = self._positions.pop(address, None)
        highest = position if known is None or known[1] <= now_seconds else max(position, known[0])
        self._positions[address] = (highest, now_seconds + KEPT_SECONDS)
        while len(self._positions) > self.addresses_max:
            self._positions.popitem(last=False)

    def required(self, address: str, now_seconds: float) -> int:
        """The position that reads of this client must reflect; 0 when none."""
        known = self._positions.get(address)
        if known is None:
            return 0
        if known[1] <= now_seconds:
            del self._positions[address]
            return 0
        return known[0]
