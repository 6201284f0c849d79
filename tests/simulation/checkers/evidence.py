"""What the judges are given: the raw log, decoded once, and what processes, machines and clients saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import msgspec
from attrs import Factory, define, field, frozen

from eventstore.event import RecordedEvent
from tests.simulation.checkers import loose
from tests.simulation.observed import Observed
from tests.support.processes import Running


class Log(Protocol):
    """What is read of a log; `MemoryLog` is one."""

    events: list[RecordedEvent]
    streams: dict[str, list[RecordedEvent]]


class Output(Protocol):
    """The stored output; `contradictions` are chunks that came twice with different bytes."""

    contradictions: list[Any]

    def text(self, instance_id: str, stream: str) -> bytes: ...


@frozen(slots=True)
class Fact:
    """An event, decoded. `at` is when it was committed, in virtual seconds."""

    position: int
    stream: str
    version: int
    type: str
    data: Mapping[str, Any]
    at: float
    recorded_at: datetime

    def time(self, name: str) -> datetime | None:
        """The member as an instant."""
        text = self.data.get(name)
        return None if text is None else datetime.fromisoformat(text)


@frozen(slots=True)
class MachineSeen:
    """A machine, and everything that ever ran on it."""

    name: str
    agent_id: str
    slots: int
    labels: Mapping[str, str]
    history: Sequence[Running]
    most_at_once: int = 0
    protected: tuple[str, ...] = ()
    """Names of labels that operators cannot change for placement."""


@frozen(slots=True)
class Held:
    """What one server says of slots: instances that hold one, and slots reserved for a decision under way."""

    server: str
    instances: int
    reserved: int


@define(eq=False)
class Evidence:
    """One run. `lease` in seconds; `tasks_max` 0 = no limit; `ended` in virtual seconds; `started_at` is the true wall
    time at virtual second 0."""

    log: Log
    observed: Observed = field(factory=Observed)
    machines: Sequence[MachineSeen] = ()
    output: Output | None = None
    held: Sequence[Held] = ()
    handler_errors: Sequence[BaseException] = ()
    lease: float = 20.0
    tasks_max: int = 0
    namespaces_max: Mapping[str, int] = Factory(dict)
    ended: float = 0.0
    started_at: datetime | None = None
    has_settled: bool = False
    """Everything had healed, and there was time for all due work to end."""
    _at: Sequence[float] = Factory(list)

    @cached_property
    def history(self) -> list[Running]:
        """All processes, in the order of their starts."""
        found = [process for machine in self.machines for process in machine.history]
        return sorted(found, key=lambda each: (each.started, each.machine, each.pid))

    @cached_property
    def given_up(self) -> dict[tuple[str, int], float]:
        """See `loose`."""
        return loose.given_up(stream for _, stream in self.streams("task"))

    @cached_property
    def going_on(self) -> set[str]:
        """Tasks whose programs may outlive their lease."""
        tasks = self.streams("task")
        return {name.partition("-")[2] for name, stream in tasks if loose.goes_on(stream[0].data["config"])}

    @cached_property
    def counted(self) -> list[Running]:
        """All processes, each for as long as it counts: see `loose`."""
        return loose.counted(self.history, self.given_up)

    @cached_property
    def facts(self) -> list[Fact]:
        """The log, decoded. Commit times are those that the log witnessed, else counted from the store's clock."""
        witnessed: Sequence[float] = getattr(self.log, "committed_at", ())
        begin = self.started_at or (self.log.events[0].recorded_at if self.log.events else None)
        found = []
        for number, event in enumerate(self.log.events):
            at = witnessed[number] if number < len(witnessed) else (event.recorded_at - begin).total_seconds()  # type: ignore[operator]
            data = msgspec.json.decode(event.data)
            found.append(Fact(event.position, event.stream_id, event.version, event.type, data, at, event.recorded_at))
        return found

    @cached_property
    def by_stream(self) -> dict[str, list[Fact]]:
        found: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.facts:
            found[fact.stream].append(fact)
        return dict(found)

    def streams(self, category: str) -> Iterator[tuple[str, list[Fact]]]:
        """The streams of that kind, with their names."""
        for name, stream in self.by_stream.items():
            if name.startswith(f"{category}-"):
                yield name, stream

    # --- clocks ------------------------------------------------------------------------------------------------------

    @cached_property
    def _offsets(self) -> dict[str, list[tuple[float, float]]]:
        """Per stepped clock: (virtual seconds, offset from then on)."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(lambda: [(float("-inf"), 0.0)])
        for step in sorted(self.observed.clock_steps, key=lambda each: each.at):
            found[step.server].append((step.at, found[step.server][-1][1] + step.seconds))
        return found

    def clock_error(self, at: float, lately: float = 60.0) -> timedelta:
        """How far two wall clocks may have been apart in the time up to `at`, or one from itself."""
        low = high = 0.0
        for steps in self._offsets.values():
            for number, (begin, offset) in enumerate(steps):
                end = steps[number + 1][0] if number + 1 < len(steps) else float("inf")
                if begin <= at and end >= at - lately:
                    low, high = min(low, offset), max(high, offset)
        return timedelta(seconds=high - low)

    def reached_by_all(self, instant: datetime) -> float:
        """The virtual second from which on every clock shows `instant` or later."""
        assert self.started_at is not None
        true = (instant - self.started_at).total_seconds()
        latest = true
        for steps in self._offsets.values():
            for number, (begin, offset) in enumerate(steps):
                end = steps[number + 1][0] if number + 1 < len(steps) else float("inf")
                reached = true - offset  # on this stretch it is behind before that
                if reached > begin:
                    latest = max(latest, min(reached, end))
        return latest

    def calm_until(self, begin: float, end: float, settle: float) -> bool:
        """Whether [begin, end] lies in one stretch without faults, begun `settle` seconds before."""
        return any(since + settle <= begin and end <= until for since, until in self.observed.calm)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
