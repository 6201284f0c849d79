"""What processes and clients of a simulated cluster *saw*: the evidence that the judges hold against the log.

Whoever acts in a run writes here what it was told, at the moment it was told: an operator what was acknowledged, a
reader of the feed what it received, the cluster when it stepped a clock or healed. Nothing here comes out of the system
afterwards. Times are virtual seconds (`trio.current_time()`), wall times are aware UTC datetimes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import attrs
import trio
from attrs import define, field, frozen

from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog

SECRET = "hunter2-do-not-show"
"""The value of every secret of a run: wherever it shows besides the process that needs it, L6 is violated."""

LINES_MAX = 100


@frozen(slots=True)
class Acknowledged:
    """A write that a client was told is done. `version` is that of the stream's last event of this write."""

    at: float
    stream: str
    version: int
    position: int
    event_ids: tuple[UUID, ...] = ()


@frozen(slots=True)
class Act:
    """An operator's wish on one stream: `what` is create, edit, resume, pause, delete, cancel, retry, run, ...

    `asked_at` and `answered_at` are virtual seconds, `asked_wall` what the wall clock said when it was asked first.
    `accepted`: False when the answer was no. Between the two the wish may have taken effect at any time, once.
    """

    what: str
    stream: str
    asked_at: float
    asked_wall: datetime
    answered_at: float
    accepted: bool = True


@frozen(slots=True)
class KeyUse:
    """One answer to a request with an idempotency key. `effect` names what the answer says was made or changed."""

    key: str
    at: float
    answer: str
    effect: str


@frozen(slots=True)
class ClockStep:
    """The wall clock of `server` (or of the store, or an agent) was moved by `seconds`; negative = back."""

    server: str
    at: float
    seconds: float


@frozen(slots=True)
class LiveState:
    """The state of an actor as a client read it then, at this version; `digest` from `digest_of`."""

    stream: str
    version: int
    digest: str


@define(slots=True, eq=False)
class Reading:
    """One life of a feed reader: it resumed after position `after` and received these, in this order."""

    after: int
    received: list[tuple[int, UUID]] = field(factory=list)


@define(slots=True, eq=False)
class Observed:
    """Everything seen in one run."""

    writes: list[Acknowledged] = field(factory=list)
    acts: list[Act] = field(factory=list)
    keys: list[KeyUse] = field(factory=list)
    clock_steps: list[ClockStep] = field(factory=list)
    live_states: list[LiveState] = field(factory=list)
    readers: dict[str, list[Reading]] = field(factory=dict)
    cancelled: dict[str, float] = field(factory=dict)
    """Task -> when a cancel was acknowledged and no retry has been asked for since."""
    calm: list[tuple[float, float]] = field(factory=list)
    """Stretches without any fault, the last one after everything has healed."""
    leaks: list[tuple[str, str]] = field(factory=list)
    """(Where, line) of each log line, error or metric that shows `SECRET`."""
    lines_seen: int = 0
    """Lines looked at for `SECRET`: 0 means that nobody looked."""
    _calm_from: float | None = None

    def wrote(self, stream: str, version: int, position: int, event_ids: Iterable[UUID] = ()) -> None:
        """A client was told that this write is done."""
        self.writes.append(Acknowledged(trio.current_time(), stream, version, position, tuple(event_ids)))

    def acted(self, what: str, stream: str, asked_at: float, asked_wall: datetime, *, accepted: bool = True) -> None:
        """An operator has its answer now."""
        self.acts.append(Act(what, stream, asked_at, asked_wall, trio.current_time(), accepted))

    def answered(self, key: str, answer: str, effect: str) -> None:
        """A request with this idempotency key was answered now."""
        self.keys.append(KeyUse(key, trio.current_time(), answer, effect))

    def stepped(self, server: str, seconds: float) -> None:
        """A wall clock was moved now."""
        self.clock_steps.append(ClockStep(server, trio.current_time(), seconds))

    def saw_state(self, stream: str, version: int, state: object) -> None:
        """A client read this actor's state now."""
        self.live_states.append(LiveState(stream, version, digest_of(state)))

    def resumed(self, reader: str, after: int) -> Reading:
        """A feed reader begins, or begins again, after this position; it appends to `received` itself."""
        reading = Reading(after)
        self.readers.setdefault(reader, []).append(reading)
        return reading

    def became_calm(self) -> None:
        """No fault is on from now on."""
        if self._calm_from is None:
            self._calm_from = trio.current_time()

    def ended_calm(self) -> None:
        """A fault begins now, or the run ends."""
        if self._calm_from is not None:
            self.calm.append((self._calm_from, trio.current_time()))
            self._calm_from = None

    def line(self, where: str, text: str) -> None:
        """A line of a log, an error or a metric that somebody could read."""
        self.lines_seen += 1
        if SECRET in text and len(self.leaks) < LINES_MAX:
            self.leaks.append((where, text[:300]))


def digest_of(state: object) -> str:
    """A short name of a state: equal states, equal names."""
    return hashlib.sha256(repr(_plain(state)).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """The same for equal values, whichever mapping, sequence or zone they are made of."""
    if attrs.has(type(value)):
        return (
            type(value).__name__,
            [_plain(getattr(value, each.name)) for each in attrs.fields(type(value)) if each.eq],
        )
    if isinstance(value, Mapping):
        return sorted((repr(_plain(key)), _plain(member)) for key, member in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_plain(member)) for member in value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Enum):
        return value.value
    return value


class WitnessedLog(MemoryLog):
    """A log that knows when each of its events was committed, in virtual seconds: no wall clock is needed for it."""

    def __init__(self) -> None:
        super().__init__()
        self.committed_at: list[float] = []

    def commit(self, claims: Sequence[Claim], now: datetime) -> Appended:
        appended = super().commit(claims, now)
        self.committed_at += [trio.current_time()] * (len(self.events) - len(self.committed_at))
        return appended
