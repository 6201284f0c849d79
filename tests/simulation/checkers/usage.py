"""What is kept of what instances use: only of what agents had, in order, once, and never more than the bound."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tests.simulation.checkers.verdict import Verdict

POINTS_MAX = 240
SLOT_SECONDS = 10


class Point(Protocol):
    @property
    def elapsed_seconds(self) -> float: ...

    @property
    def cpu_seconds(self) -> float: ...


def check_usage(kept: Mapping[str, Sequence[Point]], dispatched: Collection[str], verdict: Verdict) -> None:
    """`dispatched`: the instances that an agent was ever given."""
    for instance_id, points in kept.items():
        if instance_id not in dispatched:
            verdict.fail("usage", f"no agent had instance {instance_id}, and something is kept of what it used")
        if len(points) > POINTS_MAX:
            verdict.fail("usage", f"{len(points)} points are kept of instance {instance_id}")
        slots = [point.elapsed_seconds // SLOT_SECONDS for point in points]
        used = [point.cpu_seconds for point in points]
        if slots != sorted(set(slots)) or used != sorted(used):
            verdict.fail(
                "usage", f"the points of instance {instance_id} are out of order", list(zip(slots, used, strict=True))
            )
        verdict.note("instances with points of usage")
