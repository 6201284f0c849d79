"""What must hold between runs, whatever task they belong to: solved from the lines of the runs alone.

Each function takes runs and returns what breaks its rule, in words; empty = it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tests.faults.lines import Run, by_task


def at_most_together(runs: Sequence[Run], most: int) -> list[str]:
    """No moment in which more than `most` of these were alive, by their first and last signs of life."""
    alive: list[Run] = []
    broken = []
    for run in sorted(runs, key=lambda run: run.start):
        alive = [other for other in alive if other.seen > run.start]
        alive.append(run)
        if len(alive) > most:
            broken.append(f"{len(alive)} at the same time, {most} allowed: " + "; and ".join(map(str, alive)))
    return broken


def at_most_within(runs: Sequence[Run], count: int, seconds: float) -> list[str]:
    """No `seconds` in which more than `count` of these started."""
    ordered = sorted(runs, key=lambda run: run.start)
    return [
        f"{count + 1} starts within {last.start - first.start:.3f} s, {count} allowed in {seconds:.1f}: {first}; to {last}"
        for first, last in zip(ordered, ordered[count:], strict=False)
        if last.start - first.start < seconds
    ]


def tasks_in_order(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each task, by the nominal times of the tasks."""
    return sorted((list(theirs) for theirs in by_task(runs).values()), key=lambda theirs: theirs[0].nominal)


def each_after_the_last(runs: Sequence[Run], delay: float) -> list[str]:
    """No run of a task before the last run of the task before had ended for `delay` seconds."""
    broken = []
    for earlier, later in pairwise(tasks_in_order(runs)):
        last, first = max(earlier, key=lambda run: run.seen), later[0]
        if first.start < last.seen + delay:
            broken.append(
                f"started {first.start - last.seen:.3f} s after the end, {delay:.1f} must lie between: {last}; and {first}"
            )
    return broken


def one_task_each(runs: Sequence[Run]) -> list[str]:
    """No nominal time has two tasks."""
    return [
        f"two tasks of one nominal time: {earlier[0]}; and {later[0]}"
        for earlier, later in pairwise(tasks_in_order(runs))
        if earlier[0].nominal == later[0].nominal
    ]


def all_complete(runs: Sequence[Run]) -> list[str]:
    """What began was brought to its end: each task has a complete run."""
    return [
        f"never completed: {theirs[-1]}"
        for theirs in by_task(runs).values()
        if not any(run.is_complete for run in theirs)
    ]


def followed(runs: Sequence[Run], upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """In each flow (`mark`), no run of a job before each of its upstream jobs had a complete one."""
    ended: dict[tuple[str, str], float] = {}
    for run in runs:
        if run.is_complete:
            key = (run.mark, run.job)
            ended[key] = min(run.seen, ended.get(key, run.seen))
    return [
        f"before {job} had ended: {run}"
        for run in runs
        for job in upstream.get(run.job, ())
        if ended.get((run.mark, job), float("inf")) > run.start
    ]
