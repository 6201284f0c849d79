"""Finds the jobs of a flow: the roots, and all that follow one of them, as they are now.

Which jobs follow another one only the tables know; what each of them follows, its own stream. The first is looked up as
of the head of the log; what is in the flow is then read from the streams, and guarded there by whoever starts a run. A
job that began to follow one of them after the look is not part of this run: it came later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hetuflow.actors import ActorSystem
from hetuflow.domain.commands import JobSnapshot
from hetuflow.domain.decider import Address
from hetuflow.domain.flow_graph import FLOW_JOBS_MAX, FlowGraph, graph_of
from hetuflow.domain.job import snapshot

FollowersOf = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
"""(job ids) -> ids of the jobs that name one of them as upstream, as of at least the head of the log."""


class FlowUnusable(Exception):
    """No run can be made of the jobs as they are."""


class FlowTooLarge(FlowUnusable):
    """More than `FLOW_JOBS_MAX` jobs."""

    def __init__(self) -> None:
        super().__init__(f"the flow has more than {FLOW_JOBS_MAX} jobs")


async def find_flow(system: ActorSystem, followers_of: FollowersOf, roots: Sequence[str]) -> FlowGraph | None:
    """The flow of these roots; None when one of them does not exist.

    Raises:
      FlowTooLarge.
      FlowUnusable: a circle, with its path. Edits that close one are refused, so only a defect makes it.
    """
    jobs: dict[str, JobSnapshot] = {}
    frontier: Sequence[str] = list(dict.fromkeys(roots))
    while frontier:
        if len(jobs) + len(frontier) > FLOW_JOBS_MAX:
            raise FlowTooLarge
        readings = await system.read_many([Address("job", each) for each in frontier])
        for address, reading in readings.items():
            if reading.state.exists:
                jobs[address.id] = snapshot(reading.state, reading.version)
        found = await followers_of([each for each in frontier if each in jobs])
        frontier = [each for each in dict.fromkeys(found) if each not in jobs and each not in frontier]
    if any(root not in jobs for root in roots):
        return None
    try:
        return graph_of(roots, jobs)
    except ValueError as circle:
        raise FlowUnusable(str(circle)) from circle
