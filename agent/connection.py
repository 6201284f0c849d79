"""The agent's side of the wire: dial, greet, work (`link`), and dial again, for as long as the agent lives.

Reconnection waits uniform(0, min(30 s, 0.2 s * 2^n)), "full jitter", so that a server that comes back is not met by all
agents at once; while nobody answers at all, or a server that had let us in is gone, it waits 3 s at most, for then a dial
costs next to nothing and its delay is all that keeps work waiting.
With several addresses the next one is tried each time, and n counts the rounds.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from agent.limits import NO_LEASE
from agent.link import Link, Silent
from agent.wakeup import Wakeup
from agent.work import Work
from hetuflow.ports.network import ConnectionLost, Dialer, DialError
from hetuflow.ports.randomness import Random
from hetuflow.protocol.errors import CloseCode, ProtocolError

log = structlog.get_logger()

BACKOFF_SECONDS_FIRST: Final = 0.2
BACKOFF_SECONDS_MAX: Final = 30.0
UNREACHABLE_SECONDS_MAX: Final = 3.0
"""The longest wait while nobody answers. A thousand agents dial a dead server 700 times a second, which a kernel refuses
unnoticed; with 30 s, work went on up to half a minute after a server that had been away for as long was back."""
STEADY_SECONDS: Final = 5.0
"""A connection that lasted this long was a good one: the next failure counts as the first again."""
DIAL_SECONDS_MAX: Final = 10.0


class Connection:
    """Keeps one connection to the server. `run` until cancelled."""

    def __init__(self, work: Work, dialer: Dialer, random: Random, ready: Wakeup) -> None:
        self._work, self._dialer, self._random, self._ready = work, dialer, random, ready
        self._link: Link | None = None
        self._turn = 0
        """Which address is tried: every one in turn, beginning with the first."""

    @property
    def is_open(self) -> bool:
        return self._link is not None and self._link.is_open

    async def run(self) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            problem = await self._connect_once()
            if trio.current_time() - began >= STEADY_SECONDS:
                failures = 0
            self._turn += 1
            rounds = failures // len(self._work.profile.server_urls)
            longest = BACKOFF_SECONDS_MAX if self._is_shut_out else UNREACHABLE_SECONDS_MAX
            delay = self._random.uniform(0, min(longest, BACKOFF_SECONDS_FIRST * 2 ** min(rounds, 20)))
            if self._link is not None and self._link.refusal is not None:
                log.error("the server refuses this agent", reason=self._link.refusal, retry_seconds=round(delay, 3))
            else:
                log.warning("no connection to the server", problem=problem, retry_seconds=round(delay, 3))
            failures += 1
            await trio.sleep(delay)

    @property
    def _is_shut_out(self) -> bool:
        """Somebody answered, and does not let us in; a server that only cannot do anything now does not count."""
        link = self._link
        return link is not None and not link.is_away and (link.refusal is not None or not link.was_let_in)

    async def watch_lease(self) -> None:
        """End what has outlived its lease, should the keeper not do so: the server will give it to others. Until cancelled."""
        work = self._work
        while True:
            await work.lease_changed.wait(until=work.next_lease_deadline())
            now = trio.current_time()
            overdue = work.executor.end_overdue(work.renewed_at, now)
            if overdue:
                log.error("the lease has run out; running work is ended", instances=overdue)
            if now < work.lease.deadline:
                continue
            work.lease = NO_LEASE
            if self._link is not None:  # what is on its way by it was meant for a lease that is over
                self._link.end("the lease has run out")

    async def _connect_once(self) -> str:
        """One connection, from dial to loss; why there is none any more."""
        self._link = None
        urls = self._work.profile.gateway_urls
        url = urls[self._turn % len(urls)]
        try:
            with trio.fail_after(DIAL_SECONDS_MAX):
                stream = await self._dialer.dial(url)
        except DialError as exc:
            return str(exc)
        except trio.TooSlowError:
            return f"{url}: no connection within {DIAL_SECONDS_MAX:g} s"
        self._link = Link(self._work, stream, self._ready)
        code, reason, problem = CloseCode.NORMAL, "", "closed"
        try:
            problem = await self._link.run()
        except ConnectionLost as exc:
            problem = str(exc)
        except ProtocolError as exc:
            code, reason, problem = exc.code, exc.close_reason, str(exc)
        except Silent as exc:
            code, reason, problem = CloseCode.SILENT, str(exc), str(exc)
        finally:
            self._link.session.close()
            self._work.changed()
            await stream.aclose(code, reason)
        return problem
