"""`make bench`: one table; each figure with its ratio to a baseline measured in the same run.

`make bench ARGS="--only append,rebuild"` for a part, `--short` for small counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

import trio
from rich.console import Console
from rich.table import Table

from tests.benchmarks import kernel, log
from tests.benchmarks.agents import agents
from tests.benchmarks.harness import Figure
from tests.benchmarks.idle import idle
from tests.benchmarks.keeper import keeper_costs
from tests.benchmarks.schedules import schedules
from tests.benchmarks.tasks import latency, throughput


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    options.add_argument("--only", default="", help="comma-separated parts")
    options.add_argument("--short", action="store_true", help="small counts: for seeing that it works")
    given = options.parse_args()
    count, samples, events = (200, 40, 50_000) if given.short else (2_000, 200, 500_000)
    enabled, due = (10_000, 1_000) if given.short else (100_000, 10_000)
    connected, idle_seconds = (200, 20.0) if given.short else (1_000, 60.0)
    parts: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
        "tasks16": lambda: throughput(count, 16),
        "tasks4": lambda: throughput(count, 4),
        "latency": lambda: latency(samples),
        "append": log.append_rates,
        "rebuild": lambda: log.rebuild_rate(events),
        "keeper": lambda: keeper_costs(count),
        "actors": kernel.actor_costs,
        "idle": idle,
        "schedules": lambda: schedules(enabled, due),
        "agents": lambda: agents(connected, idle_seconds),
    }
    chosen = [name for name in given.only.split(",") if name] or list(parts)
    unknown = [name for name in chosen if name not in parts]
    if unknown:
        options.error(f"no part {unknown[0]!r}; there are {', '.join(parts)}")
    figures: list[Figure] = []
    progress = Console(stderr=True)
    for name in chosen:
        progress.print(f"measuring {name} ...")
        figures += trio.run(parts[name])  # type: ignore[arg-type]
    show(figures)


def show(figures: list[Figure]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head, justify in (
        ("FIGURE", "left"),
        ("MEASURED", "right"),
        ("BASELINE", "left"),
        ("RATIO", "right"),
        ("BUDGET", "left"),
        ("", "left"),
    ):
        table.add_column(head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for figure in figures:
        verdict = "" if figure.met is None else "met" if figure.met else "NOT MET"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, figure.value, figure.baseline, ratio, figure.budget, verdict)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
