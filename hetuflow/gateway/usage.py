"""What agents tell of what their instances use and of how they do: the latest in memory, and some of it for the tables.

Best effort: nothing waits for it, and what cannot be stored in time is dropped and counted. An agent is believed only
about what it runs.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import trio
from attrs import Factory, define, frozen

from hetuflow.actors.patience import Patience
from hetuflow.protocol.messages import InstanceUsage, UsagePoint

log = logging.getLogger(__name__)

GATHER_SECONDS: Final = 5.0
"""What comes meanwhile is written with one statement."""
WAITING_MAX: Final = 20_000
"""Points that wait to be written; the oldest go first."""
AGENT_POINT_SECONDS: Final = 60.0
HEARTBEATS_SHOWN: Final = 10
FACTS_CHARACTERS_MAX: Final = 500
FACTS_MAX: Final = 200
FACTS_DEPTH_MAX: Final = 4


@frozen(slots=True)
class UsageAt:
    """`of` an instance and epoch, as it was at that moment of this server's clock."""

    instance_id: str
    epoch: int
    at: datetime
    point: UsagePoint
    cores: float | None = None
    """Of CPU, since the point before; None = there is no other."""


@frozen(slots=True)
class Beat:
    at: datetime
    metrics: Mapping[str, float]


class UsageUnavailable(Exception):
    """It cannot be stored now; the message says why."""


class UsageSink(Protocol):
    async def store(self, points: Sequence[UsageAt], beats: Sequence[tuple[str, Beat]]) -> None:
        """Points of instances, and heartbeats of agents by id. Raises `UsageUnavailable`."""
        ...


class NoUsage:
    """Keeps nothing."""

    async def store(self, points: Sequence[UsageAt], beats: Sequence[tuple[str, Beat]]) -> None:
        pass


class UsageIntake:
    """Of all agents of this server. `run` writes down."""

    def __init__(self, sink: UsageSink) -> None:
        self._sink = sink
        self._points: deque[UsageAt] = deque()
        self._beats: deque[tuple[str, Beat]] = deque()
        self._patience = Patience(most_seconds=60.0)
        self._arrived = trio.Event()
        self.dropped = 0
        """Since the start."""

    def put(self, points: Iterable[UsageAt], beats: Iterable[tuple[str, Beat]] = ()) -> None:
        self._points.extend(points)
        self._beats.extend(beats)
        queues: tuple[deque[Any], ...] = (self._points, self._beats)
        for queue in queues:
            while len(queue) > WAITING_MAX:
                queue.popleft()
                self.dropped += 1
        if self._points or self._beats:
            self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await trio.sleep(GATHER_SECONDS)
            points, beats = tuple(self._points), tuple(self._beats)
            self._points.clear()
            self._beats.clear()
            self._arrived = trio.Event()
            try:
                await self._sink.store(points, beats)
            except UsageUnavailable as problem:
                log.warning("what instances use is not stored: %s", problem)
                self._points.extendleft(reversed(points))
                self._beats.extendleft(reversed(beats))
                self.put(())
                await trio.sleep(self._patience.failed(None))
            else:
                self._patience.worked(None)


@define(slots=True)
class Condition:
    """How one agent does, as far as its connection has told."""

    facts: Mapping[str, Any] = Factory(dict)
    beats: deque[Beat] = Factory(lambda: deque(maxlen=HEARTBEATS_SHOWN))
    usage: dict[str, UsageAt] = Factory(dict)
    _beat_kept_at: datetime | None = None

    def beat(self, metrics: Mapping[str, float], at: datetime) -> Beat | None:
        """Note a heartbeat; return it when it is one to keep, about one in a minute."""
        beat = Beat(at, metrics)
        self.beats.append(beat)
        kept_at = self._beat_kept_at
        if kept_at is not None and timedelta(0) <= at - kept_at < timedelta(seconds=AGENT_POINT_SECONDS):
            return None
        self._beat_kept_at = at
        return beat

    def use(self, told: InstanceUsage, at: datetime) -> list[UsageAt]:
        """Note what an instance uses; return what is to be kept. Times are counted back from its latest figures."""
        latest, before = told.latest, self.usage.get(told.instance_id)
        if not is_sound(latest):
            return []
        self.usage[told.instance_id] = UsageAt(told.instance_id, told.epoch, at, latest, _cores(before, told))
        return [
            UsageAt(
                told.instance_id,
                told.epoch,
                at - timedelta(seconds=latest.elapsed_seconds - point.elapsed_seconds),
                point,
            )
            for point in told.points
            if is_sound(point) and point.elapsed_seconds <= latest.elapsed_seconds
        ]

    def forget(self, instance_id: str) -> None:
        self.usage.pop(instance_id, None)


def _cores(before: UsageAt | None, told: InstanceUsage) -> float | None:
    """The mean since the figures before, else since the start."""
    latest = told.latest
    seconds, used = latest.elapsed_seconds, latest.cpu_seconds
    if before is not None and before.epoch == told.epoch:
        seconds, used = seconds - before.point.elapsed_seconds, used - before.point.cpu_seconds
    return None if seconds <= 0 else max(0.0, used / seconds)


def is_sound(point: UsagePoint) -> bool:
    """Whether the tables can hold it."""
    reals = (point.elapsed_seconds, point.cpu_seconds, point.cpu_pressure_seconds, point.memory_pressure_seconds)
    counts = (point.memory_bytes, point.memory_peak_bytes, point.disk_read_bytes, point.disk_write_bytes)
    return (
        all(math.isfinite(each) and 0 <= each < 2**33 for each in reals)
        and all(0 <= each < 2**63 for each in counts)
        and 0 <= point.processes < 2**31
    )


def bounded(value: Any, depth: int = 0) -> Any:
    """A value of an agent's facts as the API may show it: JSON, short, without NUL."""
    if isinstance(value, str):
        return value[:FACTS_CHARACTERS_MAX].replace("\0", "\ufffd")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < FACTS_DEPTH_MAX and isinstance(value, Mapping):
        return {bounded(str(name)): bounded(each, depth + 1) for name, each in list(value.items())[:FACTS_MAX]}
    if depth < FACTS_DEPTH_MAX and isinstance(value, (list, tuple)):
        return [bounded(each, depth + 1) for each in value[:FACTS_MAX]]
    return bounded(str(value))
