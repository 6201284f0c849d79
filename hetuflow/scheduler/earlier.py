"""What is told of the tasks that a schedule made before, when its overlap policy asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, frozen

from hetuflow.actors import ActorSystem
from hetuflow.domain.decider import Address, Guard


@frozen(slots=True)
class Earlier:
    has_ended: Mapping[str, bool] = Factory(dict)
    guards: tuple[Guard, ...] = ()


async def look_at(system: ActorSystem, task_ids: Sequence[str]) -> Earlier:
    """Whether the tasks have ended; one that has is guarded, so that it has not been retried meanwhile."""
    readings = await system.read_many([Address("task", task_id) for task_id in task_ids])
    ended = {each.id: reading.state.is_terminal or reading.state.is_deleted for each, reading in readings.items()}
    guards = [Guard(each.stream_id, reading.version) for each, reading in readings.items() if ended[each.id]]
    return Earlier(ended, tuple(guards))


async def which_backfilled(system: ActorSystem, task_ids: Sequence[str]) -> Mapping[str, bool]:
    """Whether a backfill made the task. A task that exists does so for ever: no guard is needed."""
    readings = await system.read_many([Address("task", task_id) for task_id in task_ids])
    return {
        each.id: reading.state.spec is not None and reading.state.spec.backfill_id is not None
        for each, reading in readings.items()
    }
