"""A range of seeds with a progress line, and the account at its end: failures, speed, and what was reached."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation import coverage
from tests.simulation.fleet import Fleet, Result, is_repeated
from tests.simulation.report import command_for, lines_of

COVERAGE_SEEDS_MIN = 1000
"""A run of so many seeds has to reach everything, unless it is told otherwise."""
FAILURES_SHOWN = 10
TOLD_EVERY_SECONDS = 30.0
"""Where there is no terminal for a progress line."""


@define(eq=False)
class Account:
    """What is kept of a range while it runs."""

    first: int
    last: int
    count: int
    began: float = field(factory=time.monotonic)
    done: int = 0
    repeated: int = 0
    events: int = 0
    processes: int = 0
    virtual_seconds: float = 0.0
    busy_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the runs, judges included: where the machine is not this range's alone, the measure of its speed."""
    failures: dict[int, Result] = field(factory=dict)
    faults: Counter[str] = field(factory=Counter)
    reached: Counter[str] = field(factory=Counter)
    was_interrupted: bool = False

    def add(self, result: Result) -> None:
        self.done += 1
        self.busy_seconds += result.real_seconds
        self.repeated += is_repeated(result.seed)
        if not result.is_good:
            self.failures[result.seed] = result
        if result.outcome is not None:
            self.events += result.outcome.events
            self.processes += result.outcome.processes
            self.virtual_seconds += result.outcome.seconds
            self.cpu_seconds += result.outcome.cpu_seconds
            self.faults.update(result.outcome.faults)
            self.reached.update(result.outcome.reached)

    @property
    def real_seconds(self) -> float:
        return max(time.monotonic() - self.began, 1e-9)

    def rates(self) -> str:
        seconds = self.real_seconds
        return (
            f"{self.done / seconds:.1f} seeds/s, {self.virtual_seconds / seconds:,.0f} virtual s per s, "
            f"{len(self.failures)} failed"
        )

    def as_json(self, missing: Sequence[str]) -> dict[str, Any]:
        return {
            "first": self.first,
            "seeds": self.count,
            "done": self.done,
            "repeated": self.repeated,
            "interrupted": self.was_interrupted,
            "real_seconds": round(self.real_seconds, 3),
            "virtual_seconds": round(self.virtual_seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "virtual_seconds_per_second": round(self.virtual_seconds / self.real_seconds, 1),
            "seeds_per_second": round(self.done / self.real_seconds, 3),
            "events": self.events,
            "processes": self.processes,
            "failures": [failure_as_json(self.failures[seed]) for seed in sorted(self.failures)],
            "faults": dict(sorted(self.faults.items())),
            "reached": dict(sorted(self.reached.items())),
            "missing": list(missing),
        }


def failure_as_json(result: Result, *, is_small: bool = False) -> dict[str, Any]:
    violations = result.outcome.verdict.violations if result.outcome is not None else []
    return {
        "seed": result.seed,
        "problem": result.problem,
        "violations": [{"invariant": each.promise, "what": each.what, "streams": each.streams} for each in violations],
        "tail": result.outcome.tail if result.outcome is not None else [],
        "repeat": command_for(result.seed, is_small=is_small),
    }


def run_range(
    seeds: Sequence[int], *, jobs: int, seconds_max: float, as_json: bool, require_coverage: bool | None
) -> int:
    """Run the seeds; returns the exit status: 0, 1 for a failure or something never reached, 130 when interrupted."""
    count = len(seeds)
    account = Account(min(seeds), max(seeds), count)
    console, errors = Console(), Console(stderr=True)
    progress = Progress(
        TextColumn("simulate"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=errors,
    )
    with progress, Fleet(seconds_max, jobs) as fleet:
        line, told = progress.add_task("", total=count), time.monotonic()
        try:
            for result in fleet.run(seeds):
                account.add(result)
                if not result.is_good and len(account.failures) <= FAILURES_SHOWN:
                    progress.console.print(
                        *failed_lines(result), sep="\n", markup=False, highlight=False, soft_wrap=True
                    )
                progress.update(line, completed=account.done, description=account.rates())
                if not errors.is_terminal and time.monotonic() - told >= TOLD_EVERY_SECONDS:
                    told = time.monotonic()
                    errors.print(f"{account.done} of {count} seeds, {account.rates()}", highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            account.was_interrupted = True
    wanted = count >= COVERAGE_SEEDS_MIN if require_coverage is None else require_coverage
    missing = coverage.missing(account.faults, account.reached)
    if as_json:
        print(json.dumps(account.as_json(missing), indent=2))
    else:
        show(console, account, missing, is_required=wanted)
    if account.was_interrupted:
        return 130
    return 1 if account.failures or (wanted and missing) else 0


def failed_lines(result: Result) -> Iterator[str]:
    if result.outcome is not None:
        yield from lines_of(result.outcome)
    else:
        yield f"seed {result.seed}: {result.problem}"
        yield f"  repeat it: {command_for(result.seed)}"


def show(console: Console, account: Account, missing: Sequence[str], *, is_required: bool) -> None:
    table = Table("fault", "times", "situation", "times", title="reached")
    faults = [(kind, account.faults[kind]) for kind in sorted({*account.faults, *coverage.FAULTS})]
    known = {*account.reached, *coverage.COMMON, *coverage.RARE}
    situations = [(what, account.reached[what]) for what in sorted(known)]
    for number in range(max(len(faults), len(situations))):
        row: list[str] = []
        for column in (faults, situations):
            name, times = column[number] if number < len(column) else ("", -1)
            row += [f"[red]{name}[/red]" if not times else name, f"{times:,}" if times >= 0 else ""]
        table.add_row(*row)
    console.print(table)
    if account.was_interrupted:
        console.print(f"interrupted after {account.done} of {account.count} seeds")
    console.print(
        f"seeds {account.first}-{account.last}: {account.done} run, {account.repeated} of them twice; "
        f"{account.events:,} events, {account.processes:,} processes, {account.virtual_seconds / 3600:,.1f} virtual hours "
        f"in {account.real_seconds:,.0f} s ({account.rates()}; {account.virtual_seconds / (account.cpu_seconds or 1):,.0f} "
        "virtual s per s of CPU)",
        highlight=False,
    )
    if missing:
        what = (
            "never reached, and this fails the run" if is_required else "never reached (not required of so few seeds)"
        )
        console.print(f"{what}: {', '.join(missing)}", markup=False)
    for seed in sorted(account.failures):
        result = account.failures[seed]
        promises = sorted(result.outcome.verdict.promises) if result.outcome is not None else [str(result.problem)[:60]]
        console.print(f"FAILED seed {seed} ({', '.join(promises)}): {command_for(seed)}", markup=False)
