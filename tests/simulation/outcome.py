"""What one run came to."""

from __future__ import annotations

from attrs import define, field

from tests.simulation.checkers import Verdict
from tests.simulation.shape import Shape


@define(slots=True, eq=False)
class Outcome:
    """Its verdict, what was injected and reached (counts by name), and the hash of its log.

    `tail`: the last events of the streams that the violations are about, if there are any.
    """

    shape: Shape
    hash: str
    events: int
    processes: int
    seconds: float
    verdict: Verdict
    faults: dict[str, int]
    reached: dict[str, int]
    tail: list[str] = field(factory=list)
    cpu_seconds: float = 0.0

    @property
    def seed(self) -> int:
        return self.shape.seed

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.shape}; {self.events} events, {self.processes} processes,"
            f" {self.seconds:.0f} virtual seconds",
            f"  faults: {_listed(self.faults)}",
            f"  reached: {_listed(self.reached)}",
            f"  log {self.hash}",
            *(f"  VIOLATED {line}" for line in self.verdict.violations),
        ]
        return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
