"""The keeper's loop: descriptors that became ready, instants that have come. One thread, no library."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable
from typing import Final

from agent.keeper.polling import READ, WRITE, new_poller
from agent.keeper.watchdog import Alarm

Callback = Callable[[], None]

WAIT_SECONDS_MAX: Final = 5.0
"""At a time, while an instant is awaited and there is no `Alarm`: timeouts stand still while the machine sleeps, leases do not."""
SHORT_SECONDS: Final = 0.05
"""To wait so long costs no alarm."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NEVER: Final = float("inf")


def lease_now() -> float:
    """Seconds of the clock of leases: it goes on while the machine sleeps, and is the same in every process."""
    return time.clock_gettime(_CLOCK)


class Loop:
    """See `agent.keeper.system.Loop`. `turn` it until done."""

    def __init__(self, complain: Callable[[str], None] = lambda problem: None) -> None:
        self._poller = new_poller()
        self._events: dict[int, int] = {}
        """What the poller looks for, by descriptor."""
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Callback]] = []
        self._timer_count = 0
        self._complain = complain
        self._alarm = Alarm()
        if self._alarm.fd >= 0:
            self.watch(self._alarm.fd, self._alarm.silence)

    def now(self) -> float:
        return lease_now()

    def watch(self, fd: int, callback: Callback) -> None:
        self._readers[fd] = callback
        self._follow(fd, READ | self._events.get(fd, 0))

    def watch_writable(self, fd: int, callback: Callback) -> None:
        """Call back whenever something can be written to `fd`, or nobody reads any more."""
        self._writers[fd] = callback
        self._follow(fd, WRITE | self._events.get(fd, 0))

    def unwatch(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._follow(fd, 0)

    def unwatch_writable(self, fd: int) -> None:
        self._writers.pop(fd, None)
        self._follow(fd, self._events.get(fd, 0) & ~WRITE)

    def call_at(self, instant: float, callback: Callback) -> None:
        """Once, in seconds of `now`. It cannot be taken back: the callback looks whether it is still wanted."""
        self._timer_count += 1
        heapq.heappush(self._timers, (instant, self._timer_count, callback))

    def turn(self, until: float) -> None:
        """Wait for something to happen, at most to the instant `until`, and call back for all of it."""
        until = min(until, self._timers[0][0] if self._timers else NEVER)
        for fd, events in self._poller.poll(self._patience(until)):
            if events & ~WRITE and (reader := self._readers.get(fd)):  # an error, or the end, is for both
                self._call(reader)
            if events & ~READ and (writer := self._writers.get(fd)):
                self._call(writer)
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            self._call(heapq.heappop(self._timers)[2])

    def close(self) -> None:
        self._poller.close()
        self._alarm.close()

    def _patience(self, until: float) -> float | None:
        """Seconds to wait, None: until something happens. An alarm may ring too early, when what is awaited was put off."""
        if until == NEVER:
            return None
        wait = max(0.0, until - self.now())
        if wait <= SHORT_SECONDS:
            return wait
        if self._alarm.fd < 0:
            return min(wait, WAIT_SECONDS_MAX)
        if until < self._alarm.at:
            self._alarm.set(until)
        return None

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as exc:  # whoever it is, the others go on
            self._complain(f"internal error of the keeper in {callback!r}: {exc!r}")

    def _follow(self, fd: int, events: int) -> None:
        before = self._events.get(fd, 0)
        if events == before:
            return
        if not events:
            del self._events[fd]
            with contextlib.suppress(OSError):  # it was closed by somebody
                self._poller.unregister(fd)
            return
        if before:
            self._poller.modify(fd, events)
        else:
            self._poller.register(fd, events)
        self._events[fd] = events
