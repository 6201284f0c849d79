"""The wall clock of this server against the database's: measured with every beat, watched in between.

Nominal times are instants of the wall clock. A clock that is wrong fires early or late, so it is compared with
PostgreSQL's, which every server of a database shares:

* offset = our wall clock - PostgreSQL's, at the middle of the question's way there and back; what the way took bounds the
  error, and an answer that took long measures nothing.
* Between two measurements PostgreSQL's clock is taken to go on as our monotonic clock does. So a step of the wall clock
  shows in the same instant, before anything is fired by it.
* Beyond the bound the server steps back from firing, and gives its leases to another server when there is one. Nothing
  that comes due is asked until the clock is right again, and then by itself and at once: what came due meanwhile is
  decided by the misfire policy, so that nothing is without a trace.
  When PostgreSQL's clock has stepped too (one machine, or all of them were set), the next measurement says so: the clocks
  agree, and the server goes on.

* Nothing is dated ahead: while the clocks disagree, what is decided all the same (an end that an agent reports and the
  retry after it, a run that is asked for) is dated by the earlier of both (`AgreedClock`), and waits are measured by it.
  So no time that is kept lies further ahead than the rules say once the clock is right. By a clock that is behind, it
  lies in the past, and what waits for it is due at once.

A clock that steps back never fires a nominal time again: schedules keep a cursor, and it only grows. While the clocks
agree, a step back makes the server wait until the wall clock is where it was; never longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import trio
from attrs import frozen

from hetuflow.ports.clock import Clock

log = logging.getLogger(__name__)

WARN_SHARE = 0.1
"""Of the bound: beyond it an offset is worth a warning."""

UNCERTAINTY_SHARE_MAX = 0.5
"""Of the bound: a measurement that is less certain is none."""


@frozen(slots=True)
class ClockStatus:
    """`offset_seconds`: our wall clock minus PostgreSQL's, None = not measured yet."""

    offset_seconds: float | None
    uncertainty_seconds: float
    offset_seconds_max: float
    is_right: bool


@frozen(slots=True)
class _Measurement:
    at: datetime
    """PostgreSQL's clock, at the monotonic moment `middle`."""
    middle: float
    uncertainty: float


class ClockWatch:
    """`offset_seconds_max`: beyond it, nothing is fired. `now` is monotonic.

    `doubt` is called when a step is noticed, `gone_off` when it is measured as too wide, `right_again` when firing may
    go on.
    """

    def __init__(self, offset_seconds_max: float, now: Callable[[], float] = trio.current_time) -> None:
        self._offset_seconds_max = offset_seconds_max
        self._now = now
        self._measurement: _Measurement | None = None
        self._offset = 0.0
        self._is_off = False
        self._is_doubted = False
        self._has_warned = False
        self.doubt: Callable[[], None] = lambda: None
        self.right_again: Callable[[], None] = lambda: None
        self.gone_off: Callable[[], None] = lambda: None

    def measured(self, wall: datetime, database: datetime, sent: float, answered: float) -> None:
        """The database said `database` between the two monotonic moments; `wall` is ours at the second."""
        uncertainty = (answered - sent) / 2
        if uncertainty > UNCERTAINTY_SHARE_MAX * self._offset_seconds_max:
            return
        self._measurement = _Measurement(database, (sent + answered) / 2, uncertainty)
        was_doubted, self._is_doubted = self._is_doubted, False
        offset = self._offset = self._offset_at(wall, answered)
        if abs(offset) > self._offset_seconds_max:
            if not self._is_off:
                log.error(
                    "the clock of this server is %s by %.3f s against PostgreSQL's, more than %g s: it fires nothing"
                    " until both agree again. Set the clock (NTP), or raise scheduler.clock_offset_max",
                    "ahead" if offset > 0 else "behind",
                    abs(offset),
                    self._offset_seconds_max,
                )
                self._is_off = True
                self.gone_off()
            return
        if self._is_off:
            log.warning("the clock agrees with PostgreSQL's again (offset %.3f s): firing goes on", offset)
            self._is_off = False
            was_doubted = True
        if was_doubted:
            self.right_again()
        is_notable = abs(offset) - uncertainty > WARN_SHARE * self._offset_seconds_max
        if is_notable and not self._has_warned:
            log.warning("the clock of this server differs by %.3f s from PostgreSQL's", offset)
        self._has_warned = is_notable

    def allows(self, wall: datetime) -> bool:
        """Whether things may be fired by this reading of the wall clock."""
        if self._measurement is None:
            return True  # nothing to compare with yet: the start itself needed the database a moment ago
        offset = self._offset_at(wall, self._now())
        is_within = abs(offset) <= self._offset_seconds_max
        if is_within == self._is_off and not self._is_doubted:  # it has stepped since it was measured
            self._is_doubted = True
            log.warning("the wall clock has stepped by %.3f s", offset - self._offset)
            self.doubt()
        return is_within and not self._is_off

    def cautious(self, wall: datetime) -> datetime:
        """The earlier of both clocks while they disagree: for what must neither begin early nor be kept ahead."""
        return min(wall, self.shared(wall))

    def shared(self, wall: datetime) -> datetime:
        """The database's clock while they disagree: for what is compared with times that the store recorded."""
        if self._measurement is None or self.allows(wall):
            return wall
        return self._measurement.at + timedelta(seconds=self._now() - self._measurement.middle)

    def status(self) -> ClockStatus:
        measurement = self._measurement
        return ClockStatus(
            offset_seconds=None if measurement is None else self._offset,
            uncertainty_seconds=0.0 if measurement is None else measurement.uncertainty,
            offset_seconds_max=self._offset_seconds_max,
            is_right=not self._is_off,
        )

    def _offset_at(self, wall: datetime, now: float) -> float:
        assert self._measurement is not None
        return (wall - self._measurement.at).total_seconds() - (now - self._measurement.middle)


class AgreedClock:
    """The wall clock, as far as the database's bears it out: what decisions are dated by. As `Clock`, may step back."""

    def __init__(self, wall: Clock, watch: ClockWatch) -> None:
        self._wall = wall
        self._watch = watch

    def now(self) -> datetime:
        return self._watch.cautious(self._wall.now())
