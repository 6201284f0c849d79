"""How long this server may believe that it is one of the living: the arithmetic of "never two at once".

A server that is paused, slow or cut off from PostgreSQL does not know what others decide meanwhile. What it *appends* is
refused by the store itself (guards). What it *says* to agents is not: acknowledging a heartbeat renews the agent's right
to run. So a server that cannot confirm that it lives acknowledges nothing and decides nothing.

With S = `lost_seconds` (a server that is silent for so long is declared lost), beats every S/5, a trust window
W = 0.6 S, L the agent's lease, and every server on its own monotonic clock:

* Server A sends a beat at s. It believes in itself until s + W, and renews leases only before. A beat that shows that A
  was declared lost confirms nothing: A announces itself anew first, which changes the version of its stream.
* Server B sees A's counter change for the last time at b, and declares A lost not before b + 0.95 S, at T.
  A beat of A that B has not seen was sent before T, or shows A that it is lost: A renews nothing after T + W.
* An agent of A counts its lease from the *sending* of what A acknowledged, so from T + W at the latest. Its programs
  are gone at (sending + L), the end of its work having begun a grace earlier.
* B declares the agent lost not before T + W + L + margin, counted from when B *heard* of T, of the agent's session, or
  began itself, whichever is last; and its append is guarded by the version of A's stream: when A has announced itself
  anew meanwhile, the store refuses it.

So the agent's work is gone, by a margin, before anybody gives it to another, whatever was paused, cut or slow; the
margin covers clocks that differ in rate. W < S also means that A, unless it has just come back, has stopped deciding before
B takes its leases; what it decides all the same is refused by the guards. S must be the same on all servers of a database.
"""

from __future__ import annotations

import math

from attrs import frozen

BEATS_PER_LOSS = 5
WINDOW_SHARE = 0.6
QUIET_BEATS = 2
LOOK_SHARE = 0.95
"""Of a beat's length, at least, between two looks that count: something that rings often must not make time pass."""


@frozen(slots=True)
class Timing:
    """`lost_seconds`: silence after which a server is declared lost; everything else follows from it."""

    lost_seconds: float = 10.0

    @property
    def beat_seconds(self) -> float:
        return self.lost_seconds / BEATS_PER_LOSS

    @property
    def window_seconds(self) -> float:
        return WINDOW_SHARE * self.lost_seconds


class Witness:
    """What one server has seen of another's counter. Times are monotonic seconds.

    Silence is counted in looks that were answered, each at least a beat after the one before: a witness that was paused,
    or whose database was away, has seen nothing meanwhile.
    """

    __slots__ = ("_beat_seconds", "_counted", "_counter", "silent_beats")

    def __init__(self, beat_seconds: float) -> None:
        self._beat_seconds = beat_seconds
        self._counter: int | None = None
        self._counted = -math.inf
        self.silent_beats = -1

    def looked(self, counter: int | None, sent: float) -> None:
        """The look that was sent then showed this counter; None: there is none."""
        if counter is not None and counter != self._counter:
            self._counter, self._counted, self.silent_beats = counter, sent, 0
        elif self.silent_beats < 0 or sent - self._counted >= LOOK_SHARE * self._beat_seconds:
            self._counted = sent
            self.silent_beats += 1

    @property
    def is_quiet(self) -> bool:
        """It has missed so many beats that it is given nothing to do."""
        return self.silent_beats > QUIET_BEATS

    @property
    def is_lost(self) -> bool:
        return self.silent_beats >= BEATS_PER_LOSS


class Trust:
    """Times are monotonic seconds, of one clock."""

    def __init__(self, window_seconds: float) -> None:
        self.window_seconds = window_seconds
        self._confirmed = -math.inf
        self._since = math.inf
        self._is_revoked = False

    def __repr__(self) -> str:
        return f"<Trust {'revoked' if self._is_revoked else f'confirmed at {self._confirmed:.3f}'}>"

    def confirmed(self, sent: float, now: float) -> bool:
        """A beat sent at `sent` was answered. True when that ends a stretch in which this server was not sure."""
        was_valid = self.is_valid(now)
        self._confirmed = max(self._confirmed, sent)
        if was_valid or not self.is_valid(now):
            return False
        self._since = now
        return True

    def revoke(self) -> None:
        """For good: a later life of this server runs elsewhere."""
        self._is_revoked = True

    @property
    def is_revoked(self) -> bool:
        return self._is_revoked

    def is_valid(self, now: float) -> bool:
        return not self._is_revoked and now < self._confirmed + self.window_seconds

    def deadline(self) -> float:
        """Until when it holds without another beat."""
        return -math.inf if self._is_revoked else self._confirmed + self.window_seconds

    def valid_since(self, now: float) -> float:
        """Since when without a gap; infinity when it is not valid now."""
        return self._since if self.is_valid(now) else math.inf
