"""When the leases of agents were renewed last, as far as this server knows. Pure: times are its monotonic seconds.

A lease is renewed by hearing from the agent, and counts from the latest of: that, our hearing of its session, and our own
start (one that has just started has heard from nobody). What another server renewed counts from when we heard that the
session, or the server, is over, and a trust window more (the arithmetic: `trust`).

An instance with a lease of its own counts it from the same renewals, and at the earliest from its dispatch: an agent
beats as often as the shortest of them asks for, but only once it has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

from hetuflow.domain.decider import Occupy, Watch

LOOK_SECONDS = 60.0
"""How often an agent that is gone, and still holds something, is kept in mind for longer."""


class Renewals:
    """`ended_at`: when we heard that a server has ended, None while it lives."""

    def __init__(self, server_id: str, ended_at: Callable[[str], float | None], window_seconds: float) -> None:
        self._server_id = server_id
        self._ended_at = ended_at
        self._window_seconds = window_seconds
        self._heard: dict[str, float] = {}
        self._session_heard: dict[str, tuple[str, float]] = {}
        self._dispatched: dict[str, tuple[int, float]] = {}
        self._gone: list[tuple[float, str, float | None]] = []
        """A heap of agents whose session is over: when their lease has run out, and when they had been heard from."""
        self._started = -math.inf

    def __len__(self) -> int:
        """What is kept."""
        return len(self._heard) + len(self._session_heard) + len(self._dispatched) + len(self._gone)

    def started(self, now: float) -> None:
        """This server knows all that is open in the log."""
        self._started = now

    def heard_from(self, agent_id: str, now: float) -> None:
        self._heard[agent_id] = now

    def has_heard(self, agent_id: str) -> bool:
        return agent_id in self._heard

    def watched(self, watch: Watch, now: float) -> None:
        """The log tells of a session."""
        known = self._session_heard.get(watch.agent_id)
        if known is None or known[0] != watch.session:
            self._session_heard[watch.agent_id] = (watch.session, now)

    def unwatched(self, watch: Watch, now: float, margin_seconds: float) -> None:
        """The log tells that the session is over, and there is no newer one."""
        if watch.server_id != self._server_id:
            known = self.of_session(watch, is_deciding=True)
            self._heard[watch.agent_id] = known if known < now else now + self._window_seconds
        self._session_heard.pop(watch.agent_id, None)
        lease_ends = self.of_agent(watch.agent_id) + watch.lease_seconds + margin_seconds
        heappush(self._gone, (lease_ends, watch.agent_id, self._heard.get(watch.agent_id)))

    def dispatched(self, occupy: Occupy, now: float) -> None:
        """The log tells of an instance that has a lease of its own."""
        self._dispatched[occupy.instance_id] = (occupy.epoch, now)

    def vacated(self, occupy: Occupy) -> None:
        if self._dispatched.get(occupy.instance_id, (None,))[0] == occupy.epoch:
            del self._dispatched[occupy.instance_id]

    # --- since when ----------------------------------------------------------------------------------------------------

    def of_session(self, watch: Watch, *, is_deciding: bool) -> float:
        """Of an agent that the log does not say is lost; infinity while another server that lives answers for it."""
        _, session_heard = self._session_heard.get(watch.agent_id, ("", self._started))
        since = max(self.of_agent(watch.agent_id), session_heard)
        if watch.server_id == self._server_id:
            return since
        ended = self._ended_at(watch.server_id)
        if ended is None or not is_deciding:
            return math.inf
        return max(since, ended) + self._window_seconds

    def of_agent(self, agent_id: str) -> float:
        """Of one that has no session."""
        return max(self._heard.get(agent_id, -math.inf), self._started)

    def of_instance(self, occupy: Occupy, of_its_agent: float) -> float:
        known = self._dispatched.get(occupy.instance_id)
        return of_its_agent if known is None or known[0] != occupy.epoch else max(of_its_agent, known[1])

    # --- nothing is kept for ever ---------------------------------------------------------------------------------------

    def forget_gone(self, now: float, is_needed: Callable[[str], bool]) -> None:
        """Agents come and go, under ever new names: nothing is kept of one whose lease is over and that is not needed."""
        while self._gone and self._gone[0][0] <= now:
            _, agent_id, heard = heappop(self._gone)
            if self._heard.get(agent_id) != heard:
                continue  # it was heard from since, so it has or had a session since: that one's end is in the heap
            if is_needed(agent_id):
                heappush(self._gone, (now + LOOK_SECONDS, agent_id, heard))
            else:
                self._heard.pop(agent_id, None)
