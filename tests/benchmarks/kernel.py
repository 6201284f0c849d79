"""The actors' own cost, without a database."""

from __future__ import annotations

from tests.benchmarks import actors
from tests.benchmarks.harness import Figure


async def actor_costs() -> list[Figure]:
    found = await actors.measure()
    bare = f"bare loop: {found['bare_loop_per_second']:.0f}"
    return [
        Figure("actors: bytes per active actor", f"{found['actor_bytes']:.0f}"),
        Figure(
            "actors: trivial commands/s, memory store",
            f"{found['commands_per_second']:.0f}",
            bare,
            found["ratio_to_bare_loop"],
        ),
    ]
