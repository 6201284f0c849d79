"""One round: work of a known extent, a fault in its middle, and the verdict on it."""

from __future__ import annotations

import os
import random
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import trio
from attrs import Factory, define, frozen

from tests.faults import leftovers, lines, remains
from tests.faults.cluster import Cluster, Setup, open_cluster
from tests.faults.features.feature import Feature
from tests.faults.features.register import FEATURES
from tests.faults.kinds.fault import Fault, Healed, Scene
from tests.faults.lines import TICK_SECONDS, Run
from tests.faults.verdict import Verdict, solve
from tests.faults.workload import CREATE_SECONDS, SCHEDULED, Late, Workload, create_jobs, window

LEAD_SECONDS = 2.0
"""Of the window before the fault strikes: every job has run."""
TAIL_SECONDS = 2.0
"""Of the window after the fault usually is over."""
STRIKE_SECONDS_MAX = 120.0
WINDOWS_MAX = 5
RECOVERY_SECONDS_MAX = 5.0
"""What is promised, from healing (or the end of a lease) to the first run."""

Say = Callable[[str], None]


@frozen(kw_only=True)
class OfFeature:
    """What a round says of one feature. `recovery_seconds`: from the healing until its runs show that it goes on."""

    name: str
    expected: int
    missed: int
    extra: int
    tasks: int
    broken: Sequence[str]
    recovery_seconds: float | None


@frozen(kw_only=True)
class Result:
    """`recovery_seconds`: None when nothing ran any more. `wrong`: everything that must not be, in words.
    `load`: processes that wanted a processor, on average over the last minute.
    `pause_seconds`: the longest time in which nothing started; shows that the fault was one.
    `lateness_seconds`: from the nominal time of a fire to the start of its first run, the least and the most."""

    kind: str
    injected: int
    verdict: Verdict
    recovery_seconds: float | None
    pause_seconds: float
    lateness_seconds: tuple[float, float]
    answers: Counter[str]
    worst_answer_seconds: float
    seconds: float
    load: float = 0.0
    wrong: Sequence[str] = ()
    measured: str = ""
    features: Sequence[OfFeature] = ()

    @property
    def is_prompt(self) -> bool:
        """Did work go on soon enough? Says as much about the machine as about hetuflow when others use it too."""
        return self.recovery_seconds is not None and self.recovery_seconds < RECOVERY_SECONDS_MAX

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and not self.wrong and self.is_prompt


@define
class Rounds:
    """Rounds of kinds with equal setups, on one cluster."""

    cluster: Cluster
    jobs: Mapping[str, str]
    features: Sequence[type[Feature]] = ()
    seen: set[str] = Factory(set)
    """The tasks of earlier rounds."""

    async def run(self, fault: Fault, draw: random.Random) -> Result:
        began = time.time()
        workload = await self._window(fault)
        scene = Scene(self.cluster, workload, draw)
        healed: Healed | None = None
        with trio.CancelScope() as hands:
            async with trio.open_nursery() as nursery:
                if fault.by_hand:
                    nursery.start_soon(workload.ask_by_hand)
                await trio.sleep(max(0.0, workload.start.timestamp() + LEAD_SECONDS - time.time()))
                with trio.move_on_after(STRIKE_SECONDS_MAX):
                    healed = await fault.strike(scene)
                hands.deadline = trio.current_time() + STRIKE_SECONDS_MAX
                await trio.sleep(max(0.0, workload.end.timestamp() - time.time()))
        wrong = [] if healed else [f"the fault was not over after {STRIKE_SECONDS_MAX:.0f} s"]
        healed = healed or Healed(at=time.time())
        wrong += await workload.until_features_are_done(healed.at, self.seen)
        await workload.end_features()
        open_ = await leftovers.until_nothing_is_open(self.cluster, self.jobs)
        wrong += [open_] if open_ else []
        wrong += await leftovers.look(self.cluster)
        wrong += healed.notes
        return self._judge(fault, workload, healed, wrong, time.time() - began)

    def _features(self, fault: Fault) -> Sequence[type[Feature]]:
        return [it for it in self.features if it.name not in fault.without] if fault.by_hand else []

    async def _window(self, fault: Fault) -> Workload:
        for turn in range(WINDOWS_MAX):
            start, end = window(LEAD_SECONDS + fault.seconds + TAIL_SECONDS, CREATE_SECONDS * 2**turn)
            workload = Workload(self.cluster, self.jobs, start, end)
            try:
                await workload.create(fault.load, self._features(fault))
            except Late:
                # Those schedules fire as they like; what they run is none of this round's.
                await trio.sleep(max(0.0, end.timestamp() - time.time()))
                await workload.end_features()
                await leftovers.until_nothing_is_open(self.cluster, self.jobs)
                self.seen |= {run.task for run in lines.read(self.cluster.lines)}
            else:
                return workload
        raise RuntimeError(f"this machine could not create {len(fault.load)} schedules in time, {WINDOWS_MAX} times")

    def _judge(self, fault: Fault, workload: Workload, healed: Healed, wrong: Sequence[str], seconds: float) -> Result:
        runs = [run for run in lines.read(self.cluster.lines) if run.task not in self.seen]
        self.seen |= {run.task for run in runs}
        verdict = solve(workload.slots(), runs, healed.silences, workload.unslotted(), workload.harmless())
        theirs = [of_feature(feature, runs, verdict, healed.at) for feature in workload.features]
        recovery = recovered(runs, healed)
        return Result(
            kind=fault.name,
            injected=healed.injected,
            verdict=verdict,
            recovery_seconds=recovery,
            pause_seconds=max((later.start - run.start for run, later in pairwise(runs)), default=0.0),
            lateness_seconds=lateness(runs),
            answers=workload.asker.answers,
            worst_answer_seconds=workload.asker.worst_answer_seconds,
            seconds=seconds,
            load=os.getloadavg()[0],
            wrong=(
                *wrong,
                *(f"{it.name}: {text}" for it in theirs for text in it.broken),
                *(f"ended by the fault, which must not touch it: {run}" for run in harmed(runs, healed)),
            ),
            features=theirs,
            measured=healed.measured,
        )


def of_feature(feature: Feature, runs: Sequence[Run], verdict: Verdict, healed_at: float) -> OfFeature:
    theirs = feature.of(runs)
    names = {job.name for job in feature.jobs}
    return OfFeature(
        name=feature.name,
        expected=len(feature.slots),
        missed=sum(slot.job in names for slot in verdict.missed),
        extra=sum(extra.runs[0].job in names for extra in verdict.extra),
        tasks=len({run.task for run in theirs}),
        broken=feature.broken(theirs),
        recovery_seconds=feature.back_after(theirs, healed_at),
    )


def recovered(runs: Sequence[Run], healed: Healed) -> float | None:
    """Seconds until the first run that started after the fault was over, of those that show that work goes on."""
    after = [run for run in runs if run.start >= healed.at and healed.agent in (None, run.agent)]
    if healed.lost_on is not None:
        lost = {run.task for run in runs if run.outcome is None and run.agent == healed.lost_on}
        after = [run for run in after if run.task in lost]
    return min(run.start for run in after) - healed.at if after else None


def harmed(runs: Sequence[Run], healed: Healed) -> list[Run]:
    """The runs that were alive while the fault lasted, and have not come to their own end."""
    return [
        run
        for run in runs
        for span in healed.unharmed
        if run.agent == span.agent
        and run.outcome is None
        and run.start <= span.until
        and run.seen >= span.since - TICK_SECONDS
    ]


def lateness(runs: Sequence[Run]) -> tuple[float, float]:
    """Of the first runs of fires; below zero where the server's clock was ahead. (0, 0) when there are none."""
    first = {run.task: run for run in reversed(runs) if run.job in SCHEDULED}.values()
    seconds = [run.start - run.nominal.timestamp() for run in first]
    return (min(seconds), max(seconds)) if seconds else (0.0, 0.0)


async def run_all(
    kinds: Sequence[type[Fault]],
    rounds: int,
    seed: int,
    directory: Path,
    report: Callable[[Result], None],
    say: Say,
    features: Sequence[type[Feature]] = tuple(FEATURES.values()),
) -> None:
    """Run so many rounds of each kind, those of equal setups on one cluster, one kind after the other in each round.

    After a round that came to no verdict nobody knows what state the cluster is in: the rest gets a new one. Begins
    with clearing away what harnesses that were killed have left.
    """
    for text in await trio.to_thread.run_sync(remains.clear):
        say(text)
    with remains.claimed(directory):
        await _run_all(kinds, rounds, seed, directory, report, say, features)


async def _run_all(
    kinds: Sequence[type[Fault]],
    rounds: int,
    seed: int,
    directory: Path,
    report: Callable[[Result], None],
    say: Say,
    features: Sequence[type[Feature]] = tuple(FEATURES.values()),
) -> None:
    setups: dict[Setup, deque[tuple[int, type[Fault]]]] = {}
    for turn in range(rounds):
        for kind in kinds:
            setups.setdefault(kind.setup, deque()).append((turn, kind))
    clusters = 0
    for number, (setup, left) in enumerate(setups.items(), 1):
        while left:
            say(f"starting PostgreSQL, a server and {setup.agents} agents (setup {number} of {len(setups)})")
            clusters += 1
            async with open_cluster(setup, directory / f"cluster-{clusters}") as cluster:
                on_it = Rounds(cluster, await create_jobs(cluster), features)
                while left:
                    turn, kind = left.popleft()
                    say(f"{kind.name}, round {turn + 1} of {rounds}")
                    try:
                        result = await on_it.run(kind(), random.Random(f"{seed} {kind.name} {turn}"))
                    except Exception as exc:
                        report(without_verdict(kind, exc))
                        break
                    cluster.forget_ended()
                    report(result)


def without_verdict(kind: type[Fault], problem: Exception) -> Result:
    """The round could not be finished."""
    said = "".join(traceback.format_exception(problem)).strip()
    return Result(
        kind=kind.name,
        injected=1,
        verdict=Verdict(expected=0, satisfied=0),
        recovery_seconds=None,
        pause_seconds=0.0,
        lateness_seconds=(0.0, 0.0),
        answers=Counter(),
        worst_answer_seconds=0.0,
        seconds=0.0,
        wrong=(f"no verdict: {said}",),
    )
