"""What a run looks like, drawn from its seed alone: how many servers and agents, how fast the clocks beat, which day."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import evolve, frozen


@frozen(slots=True, kw_only=True)
class Scale:
    """The times of a cluster and of the run on it, in seconds. `pace_*`: mean time between two acts, or two faults."""

    name: str
    heartbeat: float
    check: float
    lease: float
    busy: float
    settle_max: float
    """After everything healed: a lease with margin, retries with their intervals, the longest programs, a back-off."""
    pace_operators: float
    pace_faults: float
    interval: int
    """Of the schedules that fire by interval."""
    cron: str
    crons: Sequence[str]
    """Of others that come and go: some fixed (local), some following real time."""
    outages: Sequence[float]
    """How long faults last."""


QUICK = Scale(
    name="quick",
    heartbeat=4.0,
    check=8.0,
    lease=20.0,
    busy=150.0,
    settle_max=240.0,
    pace_operators=3.0,
    pace_faults=12.0,
    interval=5,
    cron="*/20 * * * * ?",
    crons=("*/10 * * * * ?", "0,30 * * * * ?", "15 * * * * ?", "0 0-10 3 * * ?", "30 0/2 2 * * ?"),
    outages=(0.5, 2, 8, 15, 40),
)
PRODUCTION = Scale(
    name="production",
    heartbeat=30.0,
    check=10.0,
    lease=120.0,
    busy=1500.0,
    settle_max=900.0,
    pace_operators=30.0,
    pace_faults=90.0,
    interval=60,
    cron="0 */5 * * * ?",
    crons=("0 */2 * * * ?", "0 0/10 2 * * ?", "0 30 1 * * ?", "0 */15 * * * ?", "0 0 3 29 2 ?", "30 1/3 * ? * MON-FRI"),
    outages=(0.5, 5, 30, 100, 300),
)

DAYS = {
    "a Monday morning": datetime(2026, 1, 5, 8, 0, tzinfo=UTC),
    "clocks go forward in Berlin": datetime(2026, 3, 29, 0, 58, 30, tzinfo=UTC),
    "clocks go back in Berlin": datetime(2026, 10, 25, 0, 58, 30, tzinfo=UTC),
    "clocks go back in New York": datetime(2026, 11, 1, 5, 58, 30, tzinfo=UTC),
    "a leap day begins": datetime(2028, 2, 28, 23, 58, 30, tzinfo=UTC),
    "a leap day ends": datetime(2028, 2, 29, 23, 58, 30, tzinfo=UTC),
    "a year ends": datetime(2026, 12, 31, 23, 58, 30, tzinfo=UTC),
}

SERVERS_MAX = 3
"""As many as the runs have at most."""

AGENTS = (2, 2, 2, 3, 3, 4, 5, 8, 12, 20, 50)


SMALL_AGENTS_MAX = 4
SMALL_SHARES = (0.2, 0.33)
"""Of the busy phase, in small runs: three to five faults and as many operators' acts for each."""


@frozen(slots=True, kw_only=True)
class Shape:
    """`seed` is where all chance comes from."""

    seed: int
    servers: int
    agents: int
    scale: Scale
    day: str
    is_small: bool = False

    @property
    def starts_at(self) -> datetime:
        return DAYS[self.day]

    def __str__(self) -> str:
        size = "small, " if self.is_small else ""
        return f"{size}{self.servers} servers, {self.agents} agents, {self.scale.name} times, {self.day}"


def drawn(seed: int, *, is_small: bool = False) -> Shape:
    """The shape of this seed. `is_small`: few agents, and a busy phase of a third, for where a second is much."""
    draw = random.Random(f"shape {seed}")
    servers = min(SERVERS_MAX, draw.choice([1, 1, 2, 3]))
    agents = draw.choice(AGENTS)
    # A large cluster with short leases is mostly heartbeats: it runs with the long ones.
    scale = PRODUCTION if agents > 5 or draw.random() < 0.3 else QUICK
    day = draw.choice(["a Monday morning", *DAYS])
    if is_small:
        agents = min(agents, SMALL_AGENTS_MAX)
        scale = evolve(scale, busy=scale.busy * draw.uniform(*SMALL_SHARES))
    return Shape(seed=seed, servers=servers, agents=agents, scale=scale, day=day, is_small=is_small)
