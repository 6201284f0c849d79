"""What a job is to follow, held against the jobs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.api.call import Call
from hetuflow.api.errors import not_found
from hetuflow.api.problems import Problems
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.flow_graph import cycle_in, shown_cycle, upstream_ids

VISITED_MAX = 10_000
"""Jobs looked at when a new edge is followed to see whether it leads back."""


async def require_upstream(call: Call, job_id: str, name: str, upstream: Mapping[str, Any] | None) -> tuple[Guard, ...]:
    """Make sure that the jobs exist, and that none of them follows this one, through however many others.

    Returns guards on every job that was looked at, whatever it follows: of two edits of one moment that together close a
    circle, the second one loses its guard, and finds the circle when it looks again.

    Raises:
      ApiError: 404, naming the member; 422, with the path of the circle.
    """
    ids = upstream_ids(upstream)
    graph: dict[str, Sequence[str]] = {job_id: ids}
    names = {job_id: name}
    guards: list[Guard] = []
    rest: Sequence[str] = [each for each in ids if each != job_id]
    while rest:
        readings = await call.rooms.system.read_many([Address("job", each) for each in rest])
        for each in rest:
            reading = readings.get(Address("job", each))
            exists = reading is not None and reading.state.exists
            if each in ids and not exists:
                raise not_found("job", each, f"upstream.jobs[{ids.index(each)}].job_id")
            graph[each] = upstream_ids(reading.state.upstream) if reading is not None and exists else ()
            if reading is not None and exists:
                names[each] = reading.state.name
                guards.append(Guard(f"job-{each}", reading.version))
        rest = list(dict.fromkeys(other for each in rest for other in graph[each] if other not in graph))
        if len(graph) + len(rest) > VISITED_MAX:
            _refuse(call, f"more than {VISITED_MAX} jobs lead to this one")
    if (circle := cycle_in([job_id], lambda each: graph.get(each, ()))) is not None:
        path = shown_cycle([(each, names[each]) for each in circle])
        _refuse(call, f"a circle of jobs that follow each other never ends: {path}")
    return tuple(guards)


def _refuse(call: Call, message: str) -> None:
    problems = Problems()
    problems.add("upstream", message)
    call.refuse(problems)
