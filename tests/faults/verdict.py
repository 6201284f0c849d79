"""What must have run, and what did: solved from the lines of the runs, not from hetuflow's log.

A **slot** is one nominal time of one schedule, or one run asked for by hand. Slots are matched with tasks that have a
complete run, each with a distinct one (several schedules of a job may name the same instant, so it is a matching and not
a look-up). What stays over is

- *missed*: a slot without a complete run;
- *extra*: a task that no slot is left for; a second complete run of a task; or two runs of a task at the same time;
- *incomplete*: a run that started and did not end, or failed: legal, when another run of its task completes;
- *repeated*: a second complete run where the first ended while its agent could not report (it was cut off or killed):
  nobody can know that such a run succeeded, and it is made again. Legal only with a higher epoch and after the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from datetime import datetime

from attrs import Factory, frozen

from tests.faults.lines import Run, by_task


@frozen(kw_only=True)
class Slot:
    """`task`: of a run by hand, the id that the client chose; its `nominal` is when it was asked for.
    `mark`: of what was told, its name, which each run has (`Run.mark`); its `nominal` is when it was told."""

    job: str
    schedule: str
    nominal: datetime
    task: str | None = None
    mark: str | None = None

    def __str__(self) -> str:
        return f"{self.job} {self.schedule} {self.nominal:%H:%M:%S.%f}" + (
            f" task {self.task}" if self.task else f" of {self.mark}" if self.mark else ""
        )

    def admits(self, run: Run) -> bool:
        if self.task:
            return run.task == self.task
        return run.job == self.job and (run.mark == self.mark if self.mark else run.nominal == self.nominal)


@frozen(kw_only=True)
class Silence:
    """From `since` to `until` the agent could not report (seconds of the wall clock)."""

    agent: str
    since: float
    until: float

    def covers(self, run: Run) -> bool:
        return run.agent == self.agent and self.since <= run.seen <= self.until


@frozen(kw_only=True)
class Extra:
    reason: str
    runs: tuple[Run, ...]

    def __str__(self) -> str:
        return f"{self.reason}: " + "; and ".join(map(str, self.runs))


@frozen(kw_only=True)
class Verdict:
    expected: int
    satisfied: int
    missed: tuple[Slot, ...] = ()
    extra: tuple[Extra, ...] = ()
    incomplete: tuple[Run, ...] = ()
    repeated: tuple[Run, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.missed and not self.extra


@frozen
class _Tasks:
    """The tasks that ran, and the slots that each could fill."""

    runs: Mapping[str, Sequence[Run]]
    slots: Sequence[Slot]
    places: dict[tuple[str, datetime | str] | str, list[int]] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        for number, slot in enumerate(self.slots):
            self.places.setdefault(slot.task or (slot.job, slot.mark or slot.nominal), []).append(number)

    def candidates(self, task: str) -> Sequence[int]:
        run = self.runs[task][0]
        keys: list[tuple[str, datetime | str] | str] = [task, (run.job, run.nominal)]
        if run.mark:
            keys.append((run.job, run.mark))
        found = [number for key in keys for number in self.places.get(key, ())]
        return [number for number in found if self.slots[number].admits(run)]


def match(tasks: Sequence[str], candidates: Mapping[str, Sequence[int]], taken: dict[int, str]) -> None:
    """Give as many tasks as possible a slot of their own, by augmenting paths; `taken` (slot -> task) is extended."""

    def place(task: str, seen: set[int]) -> bool:
        for slot in candidates[task]:
            if slot not in seen:
                seen.add(slot)
                if slot not in taken or place(taken[slot], seen):
                    taken[slot] = task
                    return True
        return False

    for task in tasks:
        place(task, set())


def solve(
    slots: Sequence[Slot],
    runs: Sequence[Run],
    silences: Sequence[Silence] = (),
    unslotted: Container[str] = (),
    harmless: Container[str] = (),
) -> Verdict:
    """The verdict on those slots and runs. `unslotted`: jobs whose tasks need no slot; `harmless`: those whose tasks may run
    twice."""
    tasks = _Tasks(by_task(runs), slots)
    candidates = {task: tasks.candidates(task) for task in tasks.runs}
    complete = [task for task, theirs in tasks.runs.items() if any(run.is_complete for run in theirs)]
    taken: dict[int, str] = {}
    match(complete, candidates, taken)
    satisfied = set(taken)
    match([task for task in tasks.runs if task not in complete], candidates, taken)
    satisfied &= {slot for slot, task in taken.items() if task in set(complete)}
    placed = set(taken.values())
    extra = [
        Extra(reason="no nominal time is left for this task", runs=tuple(theirs))
        for task, theirs in tasks.runs.items()
        if task not in placed and theirs[0].job not in unslotted
    ]
    repeated: list[Run] = []
    for theirs in tasks.runs.values():
        if theirs[0].job in harmless:
            continue
        more, again = _doubled(theirs, silences)
        extra += more
        repeated += again
    return Verdict(
        expected=len(slots),
        satisfied=len(satisfied),
        missed=tuple(slot for number, slot in enumerate(slots) if number not in satisfied),
        extra=tuple(extra),
        incomplete=tuple(run for run in runs if not run.is_complete),
        repeated=tuple(repeated),
    )


def _doubled(runs: Sequence[Run], silences: Sequence[Silence]) -> tuple[list[Extra], list[Run]]:
    """What is too much among the runs of one task, in the order of their starts."""
    extra: list[Extra] = []
    repeated: list[Run] = []
    for earlier, later in itertools.pairwise(runs):
        if later.start < earlier.seen:
            extra.append(Extra(reason="two runs of a task at the same time", runs=(earlier, later)))
    complete = [run for run in runs if run.is_complete]
    for earlier, later in itertools.pairwise(complete):
        if later.epoch > earlier.epoch and any(silence.covers(earlier) for silence in silences):
            repeated.append(later)
        else:
            extra.append(Extra(reason="two complete runs of a task", runs=(earlier, later)))
    return extra, repeated
