"""What a task is to wait for, held against the tasks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.api.call import Call
from hetuflow.api.problems import Problems
from hetuflow.api.schemas.dependencies import ids_of
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.flow_graph import cycle_in
from hetuflow.domain.task_dependencies import WAITING

VISITED_MAX = 10_000
"""Tasks looked at when a changed dependency is followed to see whether it leads back."""


async def require_known(
    call: Call, dependencies: Mapping[str, Any] | None, path: str, problems: Problems, made_here: frozenset[str]
) -> None:
    """Add a problem for each task that there is not. `made_here`: ids of the same batch."""
    ids = ids_of(dependencies)
    others = [Address("task", each) for each in ids if each not in made_here]
    found = await call.rooms.system.read_many(others) if others else {}
    for index, task_id in enumerate(ids):
        reading = found.get(Address("task", task_id))
        if task_id not in made_here and (reading is None or not reading.state.exists):
            problems.add(f"{path}.task_ids[{index}]", f"there is no task {task_id}")


async def require_no_circle(
    call: Call, task_id: str, dependencies: Mapping[str, Any], problems: Problems
) -> list[Guard]:
    """Add a problem when one of these tasks waits for this one, through however many others.

    Returns guards on the tasks that were looked at and may still be made to wait: so two edits of one moment cannot
    close a circle.
    """
    graph: dict[str, Sequence[str]] = {task_id: ids_of(dependencies)}
    guards: list[Guard] = []
    rest = [each for each in graph[task_id] if each != task_id]
    while rest and len(graph) < VISITED_MAX:
        readings = await call.rooms.system.read_many([Address("task", each) for each in rest])
        for address, reading in readings.items():
            graph[address.id] = reading.state.waits_for
            if reading.state.status in WAITING:
                guards.append(Guard(address.stream_id, reading.version))
        rest = [each for task in rest for each in graph.get(task, ()) if each not in graph]
    if (circle := cycle_in([task_id], lambda each: graph.get(each, ()))) is not None:
        problems.add(
            "dependencies.task_ids", f"{_shown(circle)}: a circle of tasks that wait for each other never ends"
        )
    return guards


def require_no_circle_within(tasks: Mapping[str, tuple[str, Mapping[str, Any] | None]], problems: Problems) -> None:
    """The same for tasks made together: id -> (path, dependencies). None that exists can wait for one of them."""
    circle = cycle_in(tasks, lambda each: [to for to in ids_of(tasks[each][1]) if to in tasks])
    if circle is not None:
        path = tasks[circle[0]][0]
        problems.add(f"{path}.task_ids", f"{_shown(circle)}: a circle of tasks that wait for each other never ends")


def _shown(circle: Sequence[str]) -> str:
    shown = [*circle[:5], *(["…"] if len(circle) > 5 else [])]
    return " waits for ".join([*shown, circle[0]])


async def still_open(call: Call, dependencies: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Those of the tasks that have not ended."""
    ids = ids_of(dependencies)
    found = await call.rooms.system.read_many([Address("task", each) for each in ids]) if ids else {}
    return tuple(
        address.id for address, reading in found.items() if reading.state.exists and not reading.state.is_terminal
    )
