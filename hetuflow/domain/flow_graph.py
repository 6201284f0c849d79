"""Graphs of jobs that follow each other: what a flow holds, in which order, who waits for whom, and circles.

An edge stands at the job that follows: its `upstream`, `{"jobs": [{"job_id", "on"}], "match": "all" | "any"}`. `on` says
how the task of that job must have ended: `succeeded`, `failed`, or `finished`, however it ended.

A flow is its roots and every job that follows one of them, through however many others. What a job waits for outside of
that is not waited for: it is not part of this run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from heapq import heappop, heappush
from typing import Any, Final

from attrs import frozen

from hetuflow.domain.commands.snapshots import JobSnapshot

JSON = Mapping[str, Any]

FLOW_JOBS_MAX: Final = 1000
"""Jobs of one flow: its tasks are made in one commit, as those of a batch."""

UPSTREAM_MAX: Final = 100
"""Jobs that one job may follow."""


class On(StrEnum):
    """How a task must have ended for the one that follows it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FINISHED = "finished"


class Match(StrEnum):
    """Whether all that a task follows must have ended so, or any of it."""

    ALL = "all"
    ANY = "any"


@frozen(slots=True)
class Edge:
    """`to` follows `from_`; both are job ids."""

    from_: str
    to: str
    on: str


@frozen(slots=True)
class FlowGraph:
    """The jobs of a flow, each after all that it follows; roots follow nothing in it."""

    jobs: tuple[JobSnapshot, ...]
    edges: tuple[Edge, ...]

    @property
    def roots(self) -> tuple[str, ...]:
        following = {edge.to for edge in self.edges}
        return tuple(job.job_id for job in self.jobs if job.job_id not in following)

    def conditions(self) -> Mapping[str, Mapping[str, str]]:
        """Of each job: the jobs that it follows here, and how their tasks must have ended."""
        found: dict[str, dict[str, str]] = {job.job_id: {} for job in self.jobs}
        for edge in self.edges:
            found[edge.to][edge.from_] = edge.on
        return found

    def as_json(self, task_of: Mapping[str, str]) -> JSON:
        """As it is recorded and shown; `task_of`: job id -> task id."""
        return {
            "nodes": [
                {
                    "job_id": job.job_id,
                    "name": job.name,
                    "task_id": task_of.get(job.job_id),
                    "match": match_of(job.upstream),
                }
                for job in self.jobs
            ],
            "edges": [{"from": edge.from_, "to": edge.to, "on": edge.on} for edge in self.edges],
        }


def upstream_ids(upstream: JSON | None) -> tuple[str, ...]:
    """The jobs that a job with this `upstream` follows, each once."""
    return tuple(dict.fromkeys(each["job_id"] for each in (upstream or {}).get("jobs") or ()))


def match_of(upstream: JSON | None) -> str:
    return str((upstream or {}).get("match") or Match.ALL)


def graph_of(roots: Sequence[str], jobs: Mapping[str, JobSnapshot]) -> FlowGraph:
    """Return the flow of these roots among these jobs; a job that no root leads to is left out.

    Raises:
      ValueError: a circle, with its path.
    """
    followers: dict[str, list[str]] = {job_id: [] for job_id in jobs}
    for job in jobs.values():
        for other in upstream_ids(job.upstream):
            if other in followers:
                followers[other].append(job.job_id)
    reached = _reached(roots, followers)
    waits_for = {
        job_id: [other for other in upstream_ids(jobs[job_id].upstream) if other in reached] for job_id in reached
    }
    if (circle := cycle_in(reached, lambda each: waits_for[each])) is not None:
        raise ValueError(shown_cycle([(job_id, jobs[job_id].name) for job_id in circle]))
    named = sorted(reached, key=lambda each: (each not in roots, jobs[each].name, each))
    ordered = in_order(named, waits_for)
    edges = [
        Edge(each["job_id"], job_id, str(each.get("on") or On.SUCCEEDED))
        for job_id in ordered
        for each in _once_each((jobs[job_id].upstream or {}).get("jobs") or ())
        if each["job_id"] in reached
    ]
    return FlowGraph(tuple(jobs[job_id] for job_id in ordered), tuple(edges))


def _once_each(upstream: Iterable[JSON]) -> Iterable[JSON]:
    return {each["job_id"]: each for each in upstream}.values()


def _reached(roots: Sequence[str], followers: Mapping[str, Sequence[str]]) -> Collection[str]:
    reached = dict.fromkeys(root for root in roots if root in followers)
    rest = list(reached)
    while rest:
        for job_id in followers[rest.pop()]:
            if job_id not in reached:
                reached[job_id] = None
                rest.append(job_id)
    return reached.keys()


def in_order(names: Iterable[str], waits_for: Mapping[str, Collection[str]]) -> list[str]:
    """The names, each after all that it waits for; of those that may be next, the first given. There is no circle."""
    place = {name: index for index, name in enumerate(names)}
    listed = list(place)
    open_count = {name: sum(other in place for other in set(waits_for[name])) for name in listed}
    followers: dict[str, list[str]] = {name: [] for name in listed}
    for name in listed:
        for other in set(waits_for[name]):
            if other in place:
                followers[other].append(name)
    ready = [place[name] for name in listed if not open_count[name]]
    ordered: list[str] = []
    while ready:
        name = listed[heappop(ready)]
        ordered.append(name)
        for following in followers[name]:
            open_count[following] -= 1
            if not open_count[following]:
                heappush(ready, place[following])
    return ordered


def cycle_in(starts: Iterable[str], waits_for: Callable[[str], Iterable[str]]) -> list[str] | None:
    """The ids of a circle of things that wait for each other, each for the next; None when there is none.

    Args:
      starts: those to begin at.
      waits_for: what one of them waits for; asked once for each.
    """
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        path: dict[str, None] = {start: None}
        rest = [iter(waits_for(start))]
        while rest:
            following = next(rest[-1], None)
            if following is None:
                rest.pop()
                done.add(path.popitem()[0])
            elif following in path:
                names = list(path)
                return names[names.index(following) :]
            elif following not in done:
                path[following] = None
                rest.append(iter(waits_for(following)))
    return None


def shown_cycle(circle: Sequence[tuple[str, str]]) -> str:
    """A circle of (job id, name), each of which follows the next, as it would run: `a (id) -> b (id) -> a (id)`."""
    forward = list(reversed(circle))
    shown = [f"{name} ({job_id})" for job_id, name in [*forward, forward[0]]]
    return " -> ".join(shown)
