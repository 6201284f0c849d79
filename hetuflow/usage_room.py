"""The gateway's port for what instances use, over its store."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from eventstore.errors import SqlError, StoreClosed, StoreTimeout, StoreUnavailable
from hetuflow.gateway.usage import Beat, UsageAt, UsageUnavailable
from projections.usage import AgentPoint, InstancePoint, UsageStore


@frozen(slots=True)
class StoredUsage:
    """See `hetuflow.gateway.usage.UsageSink`."""

    usage: UsageStore

    async def store(self, points: Sequence[UsageAt], beats: Sequence[tuple[str, Beat]]) -> None:
        try:
            await self.usage.store(
                [point_of(each) for each in points], [_agent_point(agent_id, beat) for agent_id, beat in beats]
            )
        except (StoreUnavailable, StoreTimeout, StoreClosed, SqlError) as exc:
            raise UsageUnavailable(str(exc)) from exc


def point_of(used: UsageAt) -> InstancePoint:
    point = used.point
    return InstancePoint(
        instance_id=used.instance_id,
        at=used.at,
        elapsed_seconds=point.elapsed_seconds,
        cpu_seconds=point.cpu_seconds,
        memory_bytes=point.memory_bytes,
        memory_peak_bytes=point.memory_peak_bytes,
        disk_read_bytes=point.disk_read_bytes,
        disk_write_bytes=point.disk_write_bytes,
        processes=point.processes,
        cpu_pressure_seconds=point.cpu_pressure_seconds,
        memory_pressure_seconds=point.memory_pressure_seconds,
    )


def _agent_point(agent_id: str, beat: Beat) -> AgentPoint:
    def figure(name: str) -> float:
        return min(max(beat.metrics.get(name, 0.0), 0.0), 1e9)

    return AgentPoint(
        agent_id=agent_id,
        at=beat.at,
        cpu_usage=figure("cpu_usage"),
        memory_usage=figure("memory_usage"),
        disk_usage=figure("disk_usage"),
        load=figure("load"),
        active_tasks=int(figure("active_tasks")),
        slots=int(figure("slots")),
    )
