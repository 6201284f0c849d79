"""Declares agents lost whose lease ran out, and their instances with them.

A lease is renewed by hearing from the agent and runs on this server's monotonic clock: a connection that dropped, or a
wall clock that stepped, is no reason. The agent ends its own work a grace earlier, counted from the *sending* of what
we acknowledged, so that an instance is never declared lost while it may still run. A server that has just started has
heard from nobody: it waits one full lease for every agent that the log does not say is lost.

Whose agents: our own sessions (those of our previous life too), and, for the server that decides, those of servers that
the log says have ended (`peers`). The agents of a server that lives are its own business: what renews their leases never
reaches us. One that has ended may have renewed them until its trust in itself ran out: so its agents are lost a trust
window, a lease and a margin after we heard of its end, and the append is guarded by that end (the arithmetic: `trust`).

A server that is not sure of itself loses nobody, and nobody at once when it is sure again: what agents said to it while it
was paused is still to be read.

Two rules, both driven by what is wanted now, so that a crash between their steps changes nothing: an agent that is
watched and silent is lost; an instance that holds a slot of an agent nobody watches is lost. The second asks the log
first whether the agent has a session after all, and if the agent was removed, waits until its lease has run out: its
program may run that long, and the agent may come back with it. A lease that another server renewed counts from when we
heard that its session is over, and a trust window more.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from heapq import heappop, heappush

import trio

from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import LoseAgent
from hetuflow.domain.decider import Address, Watch
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.peers import Peers
from hetuflow.scheduler.settling import Settling, lose

log = logging.getLogger(__name__)

MARGIN_SECONDS = 2.0
"""Beyond the lease: for the difference in rate of two clocks over a lease (100 ppm of 120 s is 12 ms) and a slow loop."""

REMOVED_LOOK_SECONDS = 5.0
"""How often a removed agent with open instances is looked at before its lease ends."""

LOST = "the agent was not heard from within its lease"
UNWATCHED = "its agent had been declared lost"
REMOVED = "its agent was removed, and has not come back within its lease"


class Reaper:
    def __init__(
        self,
        system: ActorSystem,
        agenda: Agenda,
        settling: Settling,
        peers: Peers,
        server_id: str,
        is_deciding: Callable[[], bool],
    ) -> None:
        self._is_deciding = is_deciding
        self._session_heard: dict[str, tuple[str, float]] = {}
        self._system = system
        self._agenda = agenda
        self._peers = peers
        self._server_id = server_id
        self._settling = settling
        self._heard: dict[str, float] = {}
        self._gone: list[tuple[float, str, float | None]] = []
        """A heap of agents whose session is over: when their lease has run out, and when they had been heard from."""
        self._started = -math.inf
        self._losing: set[str] = set()
        self._suspects: dict[str, None] = {}
        self._looking_at: set[str] = set()
        self._patience = Patience()
        self.alarm = Alarm()
        self.agents_lost = 0

    def heard_from(self, agent_id: str) -> None:
        """The agent's work loop lives."""
        self._heard[agent_id] = trio.current_time()

    def watched(self, watch: Watch) -> None:
        """The log tells of a session: its lease counts from when we hear of it, at the earliest."""
        known = self._session_heard.get(watch.agent_id)
        if known is None or known[0] != watch.session:
            self._session_heard[watch.agent_id] = (watch.session, trio.current_time())
        self.alarm.ring()

    def unwatched(self, watch: Watch) -> None:
        """The log tells that the session is over, and there is no newer one."""
        if watch.server_id != self._server_id:
            self._heard[watch.agent_id] = trio.current_time() + self._peers.trust.window_seconds
        self._session_heard.pop(watch.agent_id, None)
        lease_ends = self._heard_or_started(watch.agent_id) + watch.lease_seconds + MARGIN_SECONDS
        heappush(self._gone, (lease_ends, watch.agent_id, self._heard.get(watch.agent_id)))
        self.suspect(watch.agent_id)

    def look_again(self) -> None:
        """This server decides from now on: it has to see to what nobody watches."""
        self._suspects.update(dict.fromkeys(self._agenda.occupied_agents()))
        self.alarm.ring()

    def suspect(self, agent_id: str) -> None:
        """Look whether instances hold slots of the agent though nobody watches it."""
        self._suspects[agent_id] = None
        self.alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start when everything open has been loaded: what is missing from the agenda counts as not watched."""
        self._started = trio.current_time()
        self._suspects.update(dict.fromkeys(self._agenda.occupied_agents()))
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now, next_deadline = trio.current_time(), math.inf
                steady = self._peers.trust.valid_since(now) + MARGIN_SECONDS
                for watch in self._agenda.watched():
                    if watch.agent_id in self._losing:
                        continue
                    deadline = max(self._deadline(watch), steady)
                    if deadline <= now:
                        self._losing.add(watch.agent_id)
                        nursery.start_soon(self._lose, watch)
                    else:
                        next_deadline = min(next_deadline, deadline)
                suspects, self._suspects = self._suspects, {}
                for agent_id in suspects if self._is_deciding() else ():
                    if agent_id not in self._looking_at and self._is_suspect(agent_id):
                        self._looking_at.add(agent_id)
                        nursery.start_soon(self._look_at, agent_id)
                self._forget_the_gone(now)  # not before: what they ran is lost for a reason that is told from this
                if math.isinf(steady):
                    next_deadline = now + MARGIN_SECONDS
                await self.alarm.wait(next_deadline - now)

    def _forget_the_gone(self, now: float) -> None:
        """Agents come and go, under ever new names: nothing is kept of one whose lease is over, and that has no session."""
        while self._gone and self._gone[0][0] <= now:
            _, agent_id, heard = heappop(self._gone)
            is_gone = self._agenda.watch_of(agent_id) is None and agent_id not in self._looking_at
            if is_gone and self._heard.get(agent_id) == heard:
                self._heard.pop(agent_id, None)

    def _deadline(self, watch: Watch) -> float:
        """When the agent is lost; never while another server that lives answers for it."""
        _, session_heard = self._session_heard.get(watch.agent_id, ("", self._started))
        since = max(self._heard_or_started(watch.agent_id), session_heard)
        if watch.server_id != self._server_id:
            ended = self._peers.ended_at(watch.server_id)
            if ended is None or not self._is_deciding():
                return math.inf
            since = max(since, ended) + self._peers.trust.window_seconds
        return since + watch.lease_seconds + MARGIN_SECONDS

    def _heard_or_started(self, agent_id: str) -> float:
        return max(self._heard.get(agent_id, -math.inf), self._started)

    def _is_suspect(self, agent_id: str) -> bool:
        return self._agenda.watch_of(agent_id) is None and bool(self._agenda.occupants(agent_id))

    async def _look_at(self, agent_id: str) -> None:
        """Lose what an agent without a session runs: at once when it is lost, after its lease when it was removed."""
        try:
            while self._is_suspect(agent_id):
                try:
                    state = (await self._system.read(Address("agent", agent_id))).state
                except STOPPING:
                    return
                except FAILING as problem:
                    log.warning("agent %s cannot be looked at yet: %s", agent_id, problem)
                    await trio.sleep(self._patience.failed(agent_id))
                    continue
                lease_ends = self._heard_or_started(agent_id) + state.lease_seconds + MARGIN_SECONDS
                if state.was_removed and trio.current_time() < lease_ends:
                    await trio.sleep(min(lease_ends - trio.current_time(), REMOVED_LOOK_SECONDS))
                elif self._is_suspect(agent_id):
                    message = REMOVED if state.was_removed else LOST if agent_id in self._heard else UNWATCHED
                    for occupy in self._agenda.occupants(agent_id).values():
                        self._settling.put(occupy, lose(occupy, message))
                    break
            if self._agenda.watch_of(agent_id) is None:
                self._heard.pop(agent_id, None)
            self._patience.worked(agent_id)
        finally:
            self._looking_at.discard(agent_id)

    async def _lose(self, watch: Watch) -> None:
        """Ask until the agent is lost, or has been heard from after all."""
        try:
            while self._deadline(watch) <= trio.current_time() and self._agenda.watch_of(watch.agent_id) == watch:
                try:
                    log.warning("agent %s was silent for its lease: it is lost", watch.agent_id)
                    guard = None if watch.server_id == self._server_id else self._peers.guard_of_end(watch.server_id)
                    guards = () if guard is None else (guard,)
                    command = LoseAgent(session=watch.session, guards=guards)
                    await self._system.ask(Address("agent", watch.agent_id), command)
                except STOPPING:
                    return
                except Rejected as no:
                    log.info("agent %s is not declared lost: %s", watch.agent_id, no)
                except FAILING as problem:
                    log.warning("agent %s cannot be declared lost yet: %s", watch.agent_id, problem)
                if self._agenda.watch_of(watch.agent_id) == watch:
                    await trio.sleep(self._patience.failed(watch.agent_id))
                else:
                    self.agents_lost += 1
            self._patience.worked(watch.agent_id)
        finally:
            self._losing.discard(watch.agent_id)
            self.alarm.ring()
