"""Declares agents lost whose lease ran out, and instances whose own did.

A lease is renewed by hearing from the agent and runs on this server's monotonic clock: a connection that dropped, or a
wall clock that stepped, is no reason. The agent ends its own work a grace earlier, counted from the *sending* of what
we acknowledged, so that an instance is never declared lost while it may still run; unless its job says that it goes on
(`on_disconnect: continue`) and that running twice is harmless. Without that word it is its agent's for as long as that is
away, and holds its slot: lost is then only what the agent comes back without, and what somebody wants to be ended.

Whose agents: our own sessions (those of our previous life too), and, for the server that decides, those of servers that
the log says have ended (`peers`). The agents of a server that lives are its own business: what renews their leases never
reaches us. One that has ended may have renewed them until its trust in itself ran out: so its agents are lost a trust
window, a lease and a margin after we heard of its end, and the append is guarded by that end (the arithmetic: `trust`).

A server that is not sure of itself loses nobody, and nobody at once when it is sure again: what agents said to it while it
was paused is still to be read.

Three rules, all driven by what is wanted now, so that a crash between their steps changes nothing: an agent that is
watched and silent is lost; an instance of a watched agent is lost when its own lease is over, the shorter one; an
instance that holds a slot of an agent nobody watches is lost with the agent, or when its own lease is over, the longer
one. The last two ask the log first who the agent is now, and the loss is guarded by that answer: an agent that has come
back with its work, to whichever server, keeps it. One that was removed is waited for until its lease has run out: its
program may run that long, and the agent may come back with it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import trio

from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.agent import AgentState
from hetuflow.domain.commands import LoseAgent
from hetuflow.domain.decider import Address, Guard, Occupy, Stop, Watch
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.peers import Peers
from hetuflow.scheduler.renewals import Renewals
from hetuflow.scheduler.settling import Settling, lose

log = logging.getLogger(__name__)

MARGIN_SECONDS = 2.0
"""Beyond the lease: for the difference in rate of two clocks over a lease (100 ppm of 120 s is 12 ms) and a slow loop."""

SETTLING_SECONDS = 5.0
"""When to look whether what was to be lost is."""

LOST = "the agent was not heard from within its lease"
OWN_LEASE = "the agent was not heard from within the lease of the instance"
UNWATCHED = "its agent had been declared lost"
REMOVED = "its agent was removed, and has not come back within its lease"
KEPT = "its agent is not heard from, and on_disconnect is continue: it may still run there"


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
        self._system = system
        self._agenda = agenda
        self._peers = peers
        self._server_id = server_id
        self._settling = settling
        settling.refuted = lambda occupy: self.suspect(occupy.agent_id)
        self._renewals = Renewals(server_id, peers.ended_at, peers.trust.window_seconds)
        self._losing: set[str] = set()
        self._suspects: dict[str, None] = {}
        self._looking_at: set[str] = set()
        self._looks: dict[str, float] = {}
        """When to look at an agent again: the first of its instances is overdue then, or its loss was asked for."""
        self._planned = math.inf
        """Until when the loop sleeps."""
        self._patience = Patience()
        self.alarm = Alarm()
        self.agents_lost = 0

    def heard_from(self, agent_id: str) -> None:
        """The agent's work loop lives."""
        self._renewals.heard_from(agent_id, trio.current_time())

    def watched(self, watch: Watch) -> None:
        """The log tells of a session: its lease counts from when we hear of it, at the earliest."""
        self._renewals.watched(watch, trio.current_time())
        self._looks.pop(watch.agent_id, None)
        self.alarm.ring()

    def unwatched(self, watch: Watch) -> None:
        """The log tells that the session is over, and there is no newer one."""
        self._renewals.unwatched(watch, trio.current_time(), MARGIN_SECONDS)
        self.suspect(watch.agent_id)

    def occupied(self, occupy: Occupy) -> None:
        """An instance holds a slot of its agent."""
        if occupy.lease_seconds:
            now = trio.current_time()
            self._renewals.dispatched(occupy, now)
            if now + occupy.lease_seconds + MARGIN_SECONDS < self._planned:
                self.alarm.ring()
        if self._agenda.watch_of(occupy.agent_id) is None:
            self.suspect(occupy.agent_id)

    def vacated(self, occupy: Occupy) -> None:
        if occupy.lease_seconds:
            self._renewals.vacated(occupy)

    def stopping(self, stop: Stop) -> None:
        """An instance is to be ended, so that its agent's return is not waited for."""
        occupy = self._agenda.occupants(stop.agent_id).get(stop.instance_id)
        if self._agenda.watch_of(stop.agent_id) is None or (occupy is not None and occupy.lease_seconds):
            self.suspect(stop.agent_id)

    def look_again(self) -> None:
        """This server decides from now on: it has to see to what nobody watches."""
        self._suspects.update(dict.fromkeys(self._agenda.occupied_agents()))
        self.alarm.ring()

    def suspect(self, agent_id: str) -> None:
        """Look whether instances hold slots of the agent though nobody watches it, or though their own lease is over."""
        self._suspects[agent_id] = None
        self.alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start when everything open has been loaded: what is missing from the agenda counts as not watched."""
        self._renewals.started(trio.current_time())
        self._suspects.update(dict.fromkeys(self._agenda.occupied_agents()))
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                now = trio.current_time()
                next_deadline = min(self._lose_silent(now, nursery), self._suspect_leased(now), self._suspect_due(now))
                for agent_id in self._take_suspects():
                    self._looking_at.add(agent_id)
                    nursery.start_soon(self._look_at, agent_id)
                self._renewals.forget_gone(now, self._is_needed)  # not before: the reason of a loss is told from this
                if math.isinf(self._steady(now)):
                    next_deadline = now + MARGIN_SECONDS
                self._planned = next_deadline
                await self.alarm.wait(next_deadline - now)

    # --- what is due ---------------------------------------------------------------------------------------------------

    def _steady(self, now: float) -> float:
        """From when on this server may believe what it has not heard; infinity when it is not sure of itself."""
        return self._peers.trust.valid_since(now) + MARGIN_SECONDS

    def _deadline(self, watch: Watch) -> float:
        """When the agent is lost; never while another server that lives answers for it."""
        return self._renewed(watch) + watch.lease_seconds + MARGIN_SECONDS

    def _renewed(self, watch: Watch) -> float:
        return self._renewals.of_session(watch, is_deciding=self._is_deciding())

    def _lose_silent(self, now: float, nursery: trio.Nursery) -> float:
        """Begin to lose agents whose lease is over; returns when the next one's is."""
        next_deadline, steady = math.inf, self._steady(now)
        for watch in self._agenda.watched():
            if watch.agent_id in self._losing:
                continue
            deadline = max(self._deadline(watch), steady)
            if deadline <= now:
                self._losing.add(watch.agent_id)
                nursery.start_soon(self._lose, watch)
            else:
                next_deadline = min(next_deadline, deadline)
        return next_deadline

    def _suspect_leased(self, now: float) -> float:
        """Suspect watched agents of whose instances one has outlived its own lease; returns when the next one has."""
        next_deadline, steady = math.inf, self._steady(now)
        for agent_id in self._agenda.leased_agents():
            watch = self._agenda.watch_of(agent_id)
            if watch is None or agent_id in self._looking_at or agent_id in self._looks:
                continue
            deadlines = (deadline for _, deadline, _ in self._own_deadlines(watch))
            deadline = max(min(deadlines, default=math.inf), steady)
            if deadline <= now:
                self._suspects[agent_id] = None
            else:
                next_deadline = min(next_deadline, deadline)
        return next_deadline

    def _suspect_due(self, now: float) -> float:
        for agent_id in [agent_id for agent_id, at in self._looks.items() if at <= now]:
            del self._looks[agent_id]
            self._suspects[agent_id] = None
        return min(self._looks.values(), default=math.inf)

    def _take_suspects(self) -> list[str]:
        """Those that are looked at now. One that is being looked at is looked at again when that has ended."""
        known, self._suspects = self._suspects, {}
        taken = []
        for agent_id in known:
            if agent_id in self._looking_at:
                self._suspects[agent_id] = None
            elif self._is_suspect(agent_id):
                taken.append(agent_id)
        return taken

    def _is_suspect(self, agent_id: str) -> bool:
        if self._agenda.watch_of(agent_id) is None:
            return self._is_deciding() and bool(self._agenda.occupants(agent_id))
        return any(occupy.lease_seconds for occupy in self._agenda.occupants(agent_id).values())

    def _is_needed(self, agent_id: str) -> bool:
        return self._agenda.watch_of(agent_id) is not None or bool(self._agenda.occupants(agent_id))

    # --- whose instances are overdue -----------------------------------------------------------------------------------

    def _own_deadlines(self, watch: Watch) -> Iterator[tuple[Occupy, float, str]]:
        """When which instances of a watched agent are lost before it is, and why."""
        renewed = self._renewed(watch)
        for occupy in self._agenda.occupants(watch.agent_id).values():
            if occupy.lease_seconds and not self._is_waited_for(occupy):
                since = self._renewals.of_instance(occupy, renewed)
                yield occupy, since + occupy.lease_seconds + MARGIN_SECONDS, KEPT if occupy.is_kept else OWN_LEASE

    def _last_deadlines(self, agent_id: str, state: AgentState) -> Iterator[tuple[Occupy, float, str]]:
        """When which instances of an agent without a session are lost, and why."""
        renewed = self._renewals.of_agent(agent_id)
        for occupy in self._agenda.occupants(agent_id).values():
            if self._is_waited_for(occupy):
                continue
            if state.was_removed:
                lease_seconds, message = occupy.lease_seconds or state.lease_seconds, REMOVED
            elif occupy.lease_seconds <= state.lease_seconds:  # the agent's is over, as the log says
                lease_seconds, message = -math.inf, LOST if self._renewals.has_heard(agent_id) else UNWATCHED
            else:
                lease_seconds, message = occupy.lease_seconds, OWN_LEASE
            since = self._renewals.of_instance(occupy, renewed)
            yield occupy, since + lease_seconds + MARGIN_SECONDS, KEPT if occupy.is_kept else message

    def _is_waited_for(self, occupy: Occupy) -> bool:
        """Whether only its agent's return can tell what became of it."""
        return occupy.is_kept and not self._agenda.is_stopping(occupy)

    async def _look_at(self, agent_id: str) -> None:
        """Lose what is overdue of an agent, and see when the next of its instances is."""
        try:
            try:
                reading = await self._system.read(Address("agent", agent_id))
            except STOPPING:
                return
            except FAILING as problem:
                log.warning("agent %s cannot be looked at yet: %s", agent_id, problem)
                self._looks[agent_id] = trio.current_time() + self._patience.failed(agent_id)
                return
            self._patience.worked(agent_id)
            self._settle(agent_id, reading.state, reading.version)
        finally:
            self._looking_at.discard(agent_id)
            self.alarm.ring()

    def _settle(self, agent_id: str, state: AgentState, version: int) -> None:
        """All in one step: nothing is heard between the question whether it is overdue and the answer."""
        if not self._is_suspect(agent_id):
            return
        now, watch = trio.current_time(), self._agenda.watch_of(agent_id)
        guards = [Guard(Address("agent", agent_id).stream_id, version)] if version else []
        if watch is None:
            deadlines = list(self._last_deadlines(agent_id, state))
        elif watch.session == state.session:
            deadlines = list(self._own_deadlines(watch))
            if watch.server_id != self._server_id and (end := self._peers.guard_of_end(watch.server_id)) is not None:
                guards.append(end)
        else:
            return  # the newer session is about to be told of
        steady, next_look = self._steady(now), math.inf
        for occupy, deadline, message in deadlines:
            if deadline == -math.inf or max(deadline, steady) <= now:
                self._settling.put(occupy, lose(occupy, message, guards))
                next_look = min(next_look, now + SETTLING_SECONDS)
            elif watch is None:
                next_look = min(next_look, max(deadline, steady))
        if next_look < math.inf:
            self._looks[agent_id] = next_look

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
