"""The open work of this server, in memory: what is due, what waits, who is free, who is watched.

A pure structure, filled from the intents of the actors (`add`, `remove`) and from the connections of the gateway
(`open_session`, `close_session`); the duties (ticker, dispatcher, reaper) take their work out of it. Nothing here
decides an event, reads a clock or waits. Every change costs O(log n).

What is taken out (`take_due`, `take_placements`, `reserve`) is *in hand* until it is put back (`settle_*`, `release`):
nothing is asked twice at once, and a slot in hand counts as used. An intent that is still wanted when its question has
been answered comes back: whatever failed is tried again, at the earliest after the pause that the caller names. What
another server decides for is *parked* (`park_due`, `park_offer`): out of the way, until `unpark`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hetuflow.domain.decider import (
    Address,
    Available,
    Await,
    Backfill,
    Choice,
    Due,
    Expire,
    Follow,
    Intent,
    Keep,
    Occupy,
    Offer,
    Send,
    Stop,
    Tend,
    Watch,
    WatchFor,
)
from hetuflow.domain.gates import Bounds, Gates, GateStatus
from hetuflow.domain.instants import Instants
from hetuflow.domain.lines import Requirement
from hetuflow.domain.need import Need
from hetuflow.domain.placement import Slots, place
from hetuflow.domain.starts import Starts
from hetuflow.domain.waiting import Waiting
from hetuflow.scheduler.agenda_views import AgendaStatus, Match
from hetuflow.scheduler.due import DueSchedules
from hetuflow.scheduler.occupancy import ByAgent, Occupancy
from hetuflow.scheduler.orders import Orders
from hetuflow.scheduler.rates import Rates


class Agenda:
    """See the module. `tasks_max`: most instances at once in the whole cluster, `namespaces_max` by namespace (see
    `Gates`); 0 = no limit. `ageing_seconds` of waiting are worth one point of priority; 0 = they are not."""

    def __init__(
        self,
        server_id: str,
        *,
        tasks_max: int = 0,
        namespaces_max: Mapping[str, int] | None = None,
        ageing_seconds: int = 0,
    ) -> None:
        self._server_id = server_id
        self.tasks_max = tasks_max
        self._due = DueSchedules()
        self._offers: dict[str, Offer] = {}
        self._offers_in_hand: set[str] = set()
        self._offers_parked: dict[str, None] = {}
        self._later = Instants()
        self._gates = Gates(namespaces_max)
        self._waiting = Waiting(self._gates, Starts(), ageing_seconds)
        self.rates = Rates(self._waiting)
        self._available: dict[str, Available] = {}
        self._sessions: dict[str, str] = {}
        self._suspended: set[str] = set()
        self._servers_up: frozenset[str] = frozenset()
        self.orders = Orders()
        self._slots = Slots()
        self._waiting.is_usable = self._slots.fits_any
        self._occupancy = Occupancy()
        self._watched: dict[str, Watch] = {}
        self._stops: ByAgent[Stop] = ByAgent()
        self._adding: Mapping[type[Intent], Callable[[Address, Any], None]] = {
            Due: self._add_due,
            Offer: self._add_offer,
            Occupy: self._add_occupy,
            Available: self._add_available,
            Watch: self._add_watch,
            Send: self._add_send,
            Stop: self._add_stop,
            Await: self._pass,
            Tend: self._pass,
            Expire: self._pass,
            WatchFor: self._pass,
            Follow: self._pass,
            Backfill: self._pass,
            Keep: self._pass,
        }
        self._removing: Mapping[type[Intent], Callable[[Address, Any], None]] = {
            Due: self._remove_due,
            Offer: self._remove_offer,
            Occupy: self._remove_occupy,
            Available: self._remove_available,
            Watch: self._remove_watch,
            Send: self._remove_send,
            Stop: self._remove_stop,
            Await: self._pass,
            Tend: self._pass,
            Expire: self._pass,
            WatchFor: self._pass,
            Follow: self._pass,
            Backfill: self._pass,
            Keep: self._pass,
        }

    def __repr__(self) -> str:
        return (
            f"<Agenda: {len(self._due)} due, {len(self._offers)} offers, {self._occupancy.instances} instances, "
            f"{self._slots.free} of {self._slots.total} slots free>"
        )

    # --- intents ---------------------------------------------------------------------------------------------------

    def add(self, address: Address, intent: Intent) -> None:
        """The intent is wanted. Adding it again changes nothing."""
        self._adding[type(intent)](address, intent)

    def remove(self, address: Address, intent: Intent) -> None:
        """The intent is not wanted any more. A newer one of the same key stays."""
        self._removing[type(intent)](address, intent)

    def _add_due(self, address: Address, due: Due) -> None:
        self._due.add(address.id, due.at)

    def _remove_due(self, address: Address, due: Due) -> None:
        self._due.remove(address.id, due.at)

    def _add_offer(self, _: Address, offer: Offer) -> None:
        self._offers[offer.task_id] = offer
        self._offers_parked.pop(offer.task_id, None)
        if offer.task_id not in self._offers_in_hand:
            self._waiting.discard(offer.task_id)
            self._later.set(offer.task_id, offer.not_before_at)

    def _remove_offer(self, _: Address, offer: Offer) -> None:
        if self._offers.get(offer.task_id) == offer:
            del self._offers[offer.task_id]
            self._offers_parked.pop(offer.task_id, None)
            self._later.discard(offer.task_id)
            self._waiting.discard(offer.task_id)

    def _add_occupy(self, _: Address, occupy: Occupy) -> None:
        known = self._occupancy.of(occupy.agent_id).get(occupy.instance_id)
        self._occupancy.add(occupy)
        self._refresh(occupy.agent_id)
        if known is not None:
            self._vacate(known)
        self._gates.occupy(self._bounds(occupy), occupy.instance_id, occupy.epoch, occupy.task_id)

    def _remove_occupy(self, _: Address, occupy: Occupy) -> None:
        known = self._occupancy.of(occupy.agent_id).get(occupy.instance_id)
        if self._occupancy.remove(occupy):
            self._refresh(occupy.agent_id)
            self._vacate(occupy if known is None else known)

    def _bounds(self, of: Offer | Occupy | Need) -> Bounds:
        return self._gates.bounds(of.bounds, of.namespace_id)

    def _vacate(self, occupy: Occupy) -> None:
        self._gates.vacate(self._bounds(occupy), occupy.instance_id, occupy.epoch)

    def _add_available(self, _: Address, agent: Available) -> None:
        self._available[agent.agent_id] = agent
        self._refresh(agent.agent_id)

    def _remove_available(self, _: Address, agent: Available) -> None:
        if self._available.get(agent.agent_id) == agent:
            del self._available[agent.agent_id]
            self._refresh(agent.agent_id)

    def _add_watch(self, _: Address, watch: Watch) -> None:
        self._watched[watch.agent_id] = watch

    def _remove_watch(self, _: Address, watch: Watch) -> None:
        if self._watched.get(watch.agent_id) == watch:
            del self._watched[watch.agent_id]

    def _add_stop(self, _: Address, stop: Stop) -> None:
        self._stops.put(stop.agent_id, stop.instance_id, stop)

    def _remove_stop(self, _: Address, stop: Stop) -> None:
        self._stops.discard(stop.agent_id, stop.instance_id, stop)

    def _add_send(self, _: Address, send: Send) -> None:
        self.orders.want(send)

    def _remove_send(self, _: Address, send: Send) -> None:
        self.orders.unwant(send)

    def _pass(self, _: Address, __: Await | Backfill | Expire | Follow | Keep | Tend | WatchFor) -> None:
        """What waits for other tasks is not due; what is to end is not work; others have duties of their own."""

    # --- connections -----------------------------------------------------------------------------------------------

    def open_session(self, agent_id: str, session: str) -> None:
        """The agent may be sent work on this session: it is connected here, greeted and reconciled."""
        self._sessions[agent_id] = session
        self._refresh(agent_id)

    def servers_up(self, server_ids: frozenset[str]) -> None:
        """The other servers whose agents may be given work."""
        changed = self._servers_up ^ server_ids
        self._servers_up = server_ids
        for agent in [each for each in self._available.values() if each.server_id in changed]:
            self._refresh(agent.agent_id)

    def close_session(self, agent_id: str, session: str) -> None:
        """Nothing new is sent on this session of this server, ever."""
        self.orders.close(session)
        if self._sessions.get(agent_id) == session:
            del self._sessions[agent_id]
            self._refresh(agent_id)

    def session_of(self, agent_id: str) -> str | None:
        """The session on which the agent may be sent work."""
        return self._sessions.get(agent_id)

    def available(self, agent_id: str) -> Available | None:
        """The agent as the log has it, while it is connected somewhere."""
        return self._available.get(agent_id)

    def available_session(self, agent_id: str) -> str | None:
        """The session that the agent has according to the log."""
        agent = self._available.get(agent_id)
        return None if agent is None else agent.session

    def sessions_here(self) -> list[tuple[str, str]]:
        """(agent id, session) of every agent that is connected to this server according to the log."""
        return [(a.agent_id, a.session) for a in self._available.values() if a.server_id == self._server_id]

    def suspend(self, agent_id: str) -> None:
        """Give the agent nothing new until `resume`: it has just refused work."""
        self._suspended.add(agent_id)
        self._refresh(agent_id)

    def resume(self, agent_id: str) -> None:
        self._suspended.discard(agent_id)
        self._refresh(agent_id)

    # --- schedules -------------------------------------------------------------------------------------------------

    def next_due_at(self) -> datetime | None:
        return self._due.first_at()

    def due_at(self, schedule_id: str) -> datetime | None:
        """The moment that the schedule wants to be asked at."""
        return self._due.at(schedule_id)

    def take_due(self, now: datetime, most: int) -> list[str]:
        """Schedules whose instant has come, earliest first; each stays in hand until `settle_due`."""
        return self._due.take(now, most)

    def settle_due(self, schedule_id: str, not_before_at: datetime | None = None) -> None:
        """The schedule was asked. If it still wants a moment, that is due again, at the earliest `not_before_at`."""
        self._due.settle(schedule_id, not_before_at)

    def park_due(self, schedule_id: str) -> None:
        """Another server asks the schedule: it is put back by `unpark`, or when it wants another moment."""
        self._due.park(schedule_id)

    # --- tasks and slots -------------------------------------------------------------------------------------------

    def next_offer_at(self) -> datetime | None:
        """When the next task that may not start yet may start, be it for its own time or for the rate of its job."""
        own, rated = self._later.first_at(), self._waiting.next_at()
        return own if rated is None or (own is not None and own < rated) else rated

    def ripen(self, now: datetime) -> None:
        """Move the tasks whose time has come to those that wait for a slot."""
        self._waiting.ripen(now)
        for task_id in self._later.take(now, len(self._later)):
            self._waiting.push(self._offers[task_id])

    @property
    def has_waiting(self) -> bool:
        """Whether a task whose time has come waits for a slot."""
        return len(self._waiting) > 0

    def wants(self, task_id: str) -> bool:
        """Whether the task still wants a slot, now or later."""
        return task_id in self._offers

    def stands(self, offer: Offer) -> bool:
        """Whether the task wants exactly this."""
        return self._offers.get(offer.task_id) == offer

    @property
    def room(self) -> int:
        """How many more instances the cluster-wide limit allows."""
        if not self.tasks_max:
            return 1 << 30
        return max(0, self.tasks_max - self._occupancy.instances - self._occupancy.held)

    def take_placements(self, now: datetime, most: int) -> list[Match]:
        """Give slots to waiting tasks, best first. Task and slot stay in hand: `settle_offer` and `release` each."""
        self.ripen(now)
        if not len(self._waiting):
            return []
        placed = place(self._waiting, self._slots, min(most, self.room))
        for offer, agent_id in placed:
            self._offers_in_hand.add(offer.task_id)
            self._occupancy.hold(agent_id)
        after = Counter(agent_id for _, agent_id in placed)
        return [
            Match(offer, self._available[agent_id], self._choice(offer, agent_id, after), self._bounds(offer))
            for offer, agent_id in placed
        ]

    def _choice(self, offer: Offer, agent_id: str, after: Counter[str]) -> Choice:
        """As it was when this offer was placed: those placed on the same agent after it do not count."""
        after[agent_id] -= 1
        return self._slots.choice(agent_id, Requirement.of(offer), after[agent_id])

    def settle_offer(self, task_id: str, not_before_at: datetime | None = None) -> None:
        """The task was asked. If it still wants a slot, it waits again, at the earliest from `not_before_at`."""
        self._offers_in_hand.discard(task_id)
        offer = self._offers.get(task_id)
        if offer is not None:
            self._later.set(task_id, offer.not_before_at, not_before_at)

    def park_offer(self, task_id: str) -> None:
        """Another server decides for the task: it is put back by `unpark`, or when its offer changes."""
        self._offers_in_hand.discard(task_id)
        if task_id in self._offers:
            self._offers_parked[task_id] = None

    def put_forward(self) -> None:
        """The clock was set: no pause counts any more that began by the wrong one."""
        self._due.put_forward()
        self._later.put_forward()

    def unpark(self) -> None:
        """Put back all that was parked."""
        self._due.unpark()
        offers, self._offers_parked = self._offers_parked, {}
        for task_id in offers:
            self.settle_offer(task_id)

    def reserve(self, need: Need, now: datetime) -> tuple[Available, Choice, Bounds] | None:
        """Hold a slot, and the limits that are returned, for a task that does not exist yet; None when there is none, or
        a waiting task has a right to it. One with a rate always waits its turn.

        Return it with `release` after the question in which it was offered has been answered, used or not.
        """
        self.ripen(now)
        bounds = self._bounds(need)
        if self.room < 1 or need.rate is not None or self._waiting.holds_back(bounds):
            return None
        requirement = Requirement(need.labels, need.agent_id)
        found = self._slots.least_loaded(requirement)
        if found is None or self._is_awaited(found):
            return None
        self._occupancy.hold(found)
        self._gates.hold(bounds)
        self._slots.take(found)
        return self._available[found], self._slots.choice(found, requirement), bounds

    def release(self, agent_id: str, bounds: Bounds = ()) -> None:
        """Give a held slot back, and the limits held with it. When the instance was dispatched, its `Occupy` already
        counts in its place."""
        self._occupancy.release(agent_id)
        self._gates.release(bounds)
        self._refresh(agent_id)

    def full_limits(self, need: Need, task_id: str) -> Sequence[GateStatus]:
        """Those of the limits of a waiting task that are used up."""
        return self._gates.full(self._bounds(need), task_id)

    def _is_awaited(self, agent_id: str) -> bool:
        if not len(self._waiting):
            return False
        labels = self._slots.labels_of(agent_id)
        return any(requirement.fits(agent_id, labels) for requirement in self._waiting.requirements())

    def _refresh(self, agent_id: str) -> None:
        agent = self._available.get(agent_id)
        usable = (
            agent is not None
            and (
                agent.session == self._sessions.get(agent_id)
                if agent.server_id == self._server_id
                else agent.server_id in self._servers_up
            )
            and not agent.draining
            and agent_id not in self._suspended
            and agent.slots > 0
        )
        if agent is None or not usable:
            self._slots.remove(agent_id)
            self._waiting.agents_changed()
            return
        self._slots.put(agent_id, agent.labels, agent.slots, self._occupancy.used(agent_id))

    # --- what is wanted --------------------------------------------------------------------------------------------

    def occupants(self, agent_id: str) -> Mapping[str, Occupy]:
        """The instances that hold a slot of the agent, by instance id."""
        return self._occupancy.of(agent_id)

    def occupied_agents(self) -> Sequence[str]:
        return self._occupancy.agents()

    def leased_agents(self) -> Sequence[str]:
        """Those that hold an instance with a lease of its own."""
        return self._occupancy.leased()

    def is_stopping(self, occupy: Occupy) -> bool:
        """Whether the instance is to be ended."""
        stop = self._stops.of(occupy.agent_id).get(occupy.instance_id)
        return stop is not None and stop.epoch == occupy.epoch

    def is_occupying(self, occupy: Occupy) -> bool:
        return self._occupancy.has(occupy)

    def stops(self, agent_id: str) -> Iterable[Stop]:
        """What the agent should end."""
        return list(self._stops.of(agent_id).values())

    def watch_of(self, agent_id: str) -> Watch | None:
        return self._watched.get(agent_id)

    def watched(self) -> Sequence[Watch]:
        return list(self._watched.values())

    def status(self) -> AgendaStatus:
        return AgendaStatus(
            schedules_due=len(self._due),
            tasks_waiting=len(self._waiting),
            tasks_later=len(self._later),
            tasks_in_hand=len(self._offers_in_hand),
            slots_total=self._slots.total,
            slots_free=self._slots.free,
            instances=self._occupancy.instances,
            reserved=self._occupancy.held,
            agents_usable=len(self._slots),
            agents_watched=len(self._watched),
            tasks_max=self.tasks_max,
            tasks_held_back=self._waiting.held_back(),
        )


def later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
