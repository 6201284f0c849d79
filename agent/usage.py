"""What running instances use, over time: few figures, evenly spread, whatever a run takes. Best effort, in memory.

A run's time is divided into slots of `SLOT_SECONDS`. One figure per slot is kept, and once a run is `POINTS_MAX` slots
long only one in every second slot, then in every fourth, and so on: never more than `POINTS_MAX` figures for a run, and
what is kept of a long run does not depend on when it was looked at. The server thins what it has by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import Factory, define

from hetuflow.protocol.messages import InstanceUsage, Usage, UsagePoint

SLOT_SECONDS: Final = 10.0
POINTS_MAX: Final = 240
INSTANCES_PER_MESSAGE: Final = 50
POINTS_PER_INSTANCE: Final = 8
"""Unsent ones in one message; the next heartbeat takes more. So a message stays far below the size of a frame."""


def slot_of(elapsed_seconds: float) -> int:
    return int(elapsed_seconds // SLOT_SECONDS)


def stride_of(slot: int) -> int:
    """Every how many slots one is kept, in a run that has come to this slot: a power of two."""
    stride = 1
    while slot >= stride * POINTS_MAX:
        stride *= 2
    return stride


@define(slots=True)
class _Run:
    epoch: int
    latest: UsagePoint
    unsent: dict[int, UsagePoint] = Factory(dict)
    last_slot: int = -1
    is_news: bool = True

    def add(self, point: UsagePoint) -> None:
        self.latest, self.is_news = point, True
        slot = slot_of(point.elapsed_seconds)
        stride = stride_of(slot)
        if slot <= self.last_slot or slot % stride:
            return
        self.last_slot = slot
        self.unsent[slot] = point
        if len(self.unsent) > 1 and len(self.unsent) * 2 > POINTS_MAX:
            self.unsent = {at: each for at, each in self.unsent.items() if at % stride == 0}


class UsageLog:
    """The figures of the instances that run."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def sampled(self, instance_id: str, epoch: int, elapsed_seconds: float, values: Mapping[str, float]) -> None:
        """A measurement; `values` as in the keeper's `Sample`, what is not known by its name is left out."""
        run = self._runs.get(instance_id)
        before = run.latest.memory_peak_bytes if run is not None and run.epoch == epoch else 0
        memory = int(values.get("memory_bytes", 0))
        point = UsagePoint(
            elapsed_seconds=max(0.0, elapsed_seconds),
            cpu_seconds=float(values.get("cpu_seconds", 0.0)),
            memory_bytes=memory,
            memory_peak_bytes=max(memory, int(values.get("memory_peak", 0)), before),
            disk_read_bytes=int(values.get("disk_read", 0)),
            disk_write_bytes=int(values.get("disk_write", 0)),
            processes=int(values.get("processes", 0)),
            cpu_pressure_seconds=float(values.get("cpu_pressure", 0.0)),
            memory_pressure_seconds=float(values.get("memory_pressure", 0.0)),
        )
        if run is None or run.epoch != epoch:
            run = self._runs[instance_id] = _Run(epoch, point)
        run.add(point)

    def ended(self, instance_id: str) -> None:
        """Its peak and sums are in its final report."""
        self._runs.pop(instance_id, None)

    def take(self) -> list[Usage]:
        """What there is to say of instances that were measured since the last call."""
        told = [self._told(instance_id, run) for instance_id, run in self._runs.items() if run.is_news]
        return [
            Usage(instances=tuple(told[at : at + INSTANCES_PER_MESSAGE]))
            for at in range(0, len(told), INSTANCES_PER_MESSAGE)
        ]

    def _told(self, instance_id: str, run: _Run) -> InstanceUsage:
        slots = list(run.unsent)[:POINTS_PER_INSTANCE]
        points = tuple(run.unsent.pop(slot) for slot in slots)
        run.is_news = bool(run.unsent)
        return InstanceUsage(instance_id=instance_id, epoch=run.epoch, latest=run.latest, points=points)
