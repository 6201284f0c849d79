"""One run, drawn from one seed, in two phases.

Phase one has faults and everybody is busy; phase two heals everything and asks whether all due work ends. The safety
checks hold at the end of both, for they read the whole log and all that the machines ever ran.
"""

from __future__ import annotations

import time

import trio

from tests.simulation.checkers import Verdict, check_safety, evidence_of, is_quiet
from tests.simulation.checkers.outside import DECISION_SECONDS_MAX
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults
from tests.simulation.lines import watched
from tests.simulation.operators import Operators
from tests.simulation.outcome import Outcome
from tests.simulation.readers import READERS, follow
from tests.simulation.report import tail_of
from tests.simulation.shape import Shape, drawn
from tests.simulation.states import check_states
from tests.simulation.workload import Workload
from tests.support.simulate import log_hash, run

CLOSING_SECONDS = 15.0
"""For the last reports, acknowledgements and output."""

LONGEST_PROGRAM_SECONDS = 50.0
"""With what dispatching it takes."""

QUEUE_LENGTH_MAX = 11
"""Tasks of a schedule that run one after another: ten wait at most, for each other and for the one that runs."""

STRIKERS = (1, 1, 2)
"""How many faults are on at once."""


def simulate(seed: int, *, is_small: bool = False) -> Outcome:
    """One run, from nothing to quiet. Raises nothing for a violated promise: the outcome says so."""
    began = time.process_time()
    outcome = run(seed, _simulate, drawn(seed, is_small=is_small))
    outcome.cpu_seconds = time.process_time() - began
    return outcome


async def _simulate(shape: Shape) -> Outcome:
    cluster = Cluster(shape)
    with watched(cluster.observed):
        return await _played(cluster)


async def _played(cluster: Cluster) -> Outcome:
    shape = cluster.shape
    verdict = Verdict()
    operators = Operators(cluster)
    workload = Workload(operators)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        cluster.nursery = nursery
        await cluster.start()
        for number in range(READERS):
            nursery.start_soon(follow, cluster, f"reader-{number + 1}", (1, shape.scale.busy / 4))
        faults = Faults(cluster)
        with trio.move_on_after(shape.scale.busy):
            async with trio.open_nursery() as busy:
                busy.start_soon(workload.work)
                for _ in range(cluster.rng.choice(STRIKERS)):
                    busy.start_soon(_strike_forever, faults)
        await _settle(workload, faults, verdict)
        await check_states(cluster, verdict)
        check_safety(evidence_of(cluster, has_settled=True), verdict)
        nursery.cancel_scope.cancel()
    injected = {**faults.injected, **cluster.store_faults.seen, **cluster.network.frame_faults.seen}
    return Outcome(
        shape,
        log_hash(cluster.log.events),
        len(cluster.log.events),
        sum(len(host.machine.history) for host in cluster.hosts.values()),
        trio.current_time() - began,
        verdict,
        injected,
        {**operators.done, **verdict.seen},
        tail_of(cluster.log, verdict),
    )


async def _strike_forever(faults: Faults) -> None:
    draw, pace = faults.cluster.rng, faults.cluster.scale.pace_faults
    await trio.sleep(draw.uniform(0.2, 1) * pace)
    while True:
        # A fault and its healing are carried to the end: who is cancelled in between leaves a cluster without a server.
        with trio.CancelScope(shield=True):
            await faults.strike()
        await trio.sleep(draw.uniform(0.1, 2) * pace)


async def _settle(workload: Workload, faults: Faults, verdict: Verdict) -> None:
    """Heal everything, stop making work, and require that all that was due ends."""
    operators = workload.operators
    cluster = operators.cluster
    scale = cluster.scale
    faults.heal()
    cluster.observed.became_calm()
    await workload.undo()
    for schedule_id in operators.schedules:
        await operators.disable(schedule_id)
        await operators.enable(schedule_id)
    # The schedules fire again, for longer than a decision may take (C1).
    await trio.sleep(max(9 * scale.interval, scale.lease + 2 * DECISION_SECONDS_MAX))
    for schedule_id in operators.schedules:
        await operators.disable(schedule_id)
    with trio.move_on_after(scale.settle_max + faults.farthest + _backlog_seconds(cluster)):
        while not is_quiet(cluster):  # noqa: ASYNC110 - nobody tells when a whole cluster is quiet
            await trio.sleep(scale.settle_max / 240)
        await trio.sleep(CLOSING_SECONDS)
        cluster.observed.ended_calm()
        return
    cluster.observed.ended_calm()
    verdict.fail("V1", "work is left although everything has healed", cluster.unfinished())


def _backlog_seconds(cluster: Cluster) -> float:
    """How long what waits takes at most, in the slots that there are: a slow job that fires often is a long queue.

    Those of a queue run one after another, whatever is free.
    """
    slots = sum(host.slots for host in cluster.hosts.values())
    lanes = min(slots, cluster.tasks_max or slots)
    waiting = len(cluster.unfinished())
    return LONGEST_PROGRAM_SECONDS * max(waiting / lanes, min(waiting, QUEUE_LENGTH_MAX))
