"""Let it crash, but not for ever: counts the crashes of each actor and says when it is to be left alone.

A crash costs one command. More than `intensity` of them within `period_seconds` put the actor into quarantine, longer
each time: a stream that cannot be folded would otherwise be read again for every command.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from attrs import define, field, frozen

from hetuflow.domain.decider import Address

REMEMBERED_MAX = 1_000
"""Actors whose crashes are remembered: an operator looks at a handful; the oldest are dropped."""


@frozen(slots=True, kw_only=True)
class RestartPolicy:
    """Pure: failure times -> how long to stay away. Precedent: OTP's intensity and period, with a back-off."""

    intensity: int = 3
    period_seconds: float = 60.0
    backoff_seconds: float = 5.0
    backoff_seconds_max: float = 320.0

    def pause_seconds(self, crashes: Sequence[float], quarantines: int, now: float) -> float:
        """Seconds of quarantine after the newest crash, 0 for none; `crashes` and `now` are monotonic seconds.

        `quarantines` counts those since the actor last worked: in that state the first crash is one too many.
        """
        recent = sum(1 for at in crashes if now - at < self.period_seconds)
        if not quarantines and recent <= self.intensity:
            return 0.0
        pause: float = self.backoff_seconds * 2 ** min(quarantines, 10)
        return min(pause, self.backoff_seconds_max)


@define(slots=True)
class Record:
    crashes: deque[float]
    quarantines: int = 0
    retry_deadline: float = 0.0


@frozen(slots=True)
class Quarantine:
    """One actor that is left alone. `retry_deadline` in monotonic seconds."""

    address: Address
    crashes: int
    retry_deadline: float


@define(slots=True)
class Supervisor:
    policy: RestartPolicy
    crashes: int = 0
    _records: OrderedDict[Address, Record] = field(factory=OrderedDict)

    def pause_seconds(self, address: Address, now: float) -> float:
        """Seconds until the actor may be tried again; 0 when it may."""
        if not self._records:
            return 0.0
        record = self._records.get(address)
        return max(0.0, record.retry_deadline - now) if record is not None else 0.0

    def crashed(self, address: Address, now: float) -> float:
        """Count a crash; return the seconds of quarantine that follow, 0 for none."""
        self.crashes += 1
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = Record(deque(maxlen=self.policy.intensity + 1))
        self._records.move_to_end(address)
        record.crashes.append(now)
        pause = self.policy.pause_seconds(record.crashes, record.quarantines, now)
        if pause:
            record.quarantines += 1
            record.retry_deadline = now + pause
        if len(self._records) > REMEMBERED_MAX:
            self._records.popitem(last=False)
        return pause

    def worked(self, address: Address, now: float) -> None:
        """The actor answered: after a quarantine, or a period without a crash, its record is clean again."""
        if not self._records:
            return
        record = self._records.get(address)
        if record is not None and (record.quarantines or now - record.crashes[-1] >= self.policy.period_seconds):
            del self._records[address]

    def quarantines(self, now: float) -> tuple[Quarantine, ...]:
        """The actors that are left alone at present."""
        return tuple(
            Quarantine(address, len(record.crashes), record.retry_deadline)
            for address, record in self._records.items()
            if record.retry_deadline > now
        )
