"""The servers' wall clock jumps. Agents and the judge have the right time."""

from __future__ import annotations

from typing import ClassVar

import trio

from tests.faults.cluster import Setup
from tests.faults.kinds.fault import Fault, Healed, Scene, now

HOUR = 3600.0


class _Jump(Fault):
    setup = Setup(clock=True)
    seconds = 6.0
    offset: ClassVar[float]

    async def strike(self, scene: Scene) -> Healed:
        scene.cluster.offset_clock(self.offset)
        await trio.sleep(4.0)
        scene.cluster.offset_clock(0.0)
        return Healed(at=now(), injected=2)


class ClockAhead(_Jump):
    """The wall clock jumps an hour ahead, and back."""

    name, offset = "clock-ahead", HOUR


class ClockBack(_Jump):
    """The wall clock jumps an hour back, and ahead."""

    name, offset = "clock-back", -HOUR


KINDS = (ClockAhead, ClockBack)
