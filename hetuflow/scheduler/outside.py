"""Performs the actors' intents: keeps the agenda, wakes the duty concerned, hands orders to the gateway.

Everything here is synchronous and may be repeated. An order goes out only on the session it was committed for. One that
was committed for a session which another has replaced meanwhile was never sent, and comes back at once; one for an
agent that is not connected waits: its next hello, or its lease, tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hetuflow.domain.decider import (
    Address,
    Available,
    DispatchOrder,
    Due,
    Intent,
    Occupy,
    Offer,
    Send,
    Stop,
    Watch,
)
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.reaper import Reaper
from hetuflow.scheduler.settling import Settling, requeue
from hetuflow.scheduler.ticker import Ticker

STALE_SESSION = "committed for a session that had ended: never sent"


RECENT_MAX = 20_000
"""Actors remembered as known: more than are opened while the log's subscription lags; a forgotten one is only read."""


class Deliveries(Protocol):
    """The way to connected agents; implemented by the gateway. Never waits; for a session that is not here: nothing."""

    def deliver(self, agent_id: str, session: str, order: DispatchOrder) -> None:
        """Send the order on that session."""
        ...

    def stop(self, agent_id: str, instance_id: str, epoch: int, reason: str) -> None:
        """Have the agent end that instance, on whatever session it has."""
        ...

    def close(self, agent_id: str, session: str, reason: str) -> None:
        """End that session: the log says that it is over."""
        ...


class NoDeliveries:
    """While no gateway is there, nobody is connected."""

    def deliver(self, agent_id: str, session: str, order: DispatchOrder) -> None: ...

    def stop(self, agent_id: str, instance_id: str, epoch: int, reason: str) -> None: ...

    def close(self, agent_id: str, session: str, reason: str) -> None: ...


class Outside:
    """Implements `hetuflow.actors.Effects`. Until `bind`, it only keeps the agenda."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._recent: dict[Address, None] = {}
        self._duties: tuple[Ticker, Dispatcher, Reaper, Settling] | None = None
        self.deliveries: Deliveries = NoDeliveries()

    def bind(self, ticker: Ticker, dispatcher: Dispatcher, reaper: Reaper, settling: Settling) -> None:
        self._duties = (ticker, dispatcher, reaper, settling)

    def knows(self, address: Address) -> bool:
        """Whether intents of this actor were performed here lately."""
        return address in self._recent

    def reconcile(self, address: Address, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None:
        self._recent[address] = None
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        for intent in withdrawn:
            self._agenda.remove(address, intent)
        for intent in added:
            self._agenda.add(address, intent)
        if self._duties is not None:
            for intent in withdrawn:
                self._withdrawn(intent, *self._duties)
            for intent in added:
                self._added(intent, *self._duties)

    def _added(
        self, intent: Intent, ticker: Ticker, dispatcher: Dispatcher, reaper: Reaper, settling: Settling
    ) -> None:
        match intent:
            case Due(at):
                if self._agenda.next_due_at() == at:
                    ticker.alarm.ring()
            case Offer():
                dispatcher.alarm.ring()
            case Available():
                if self._agenda.has_waiting:
                    dispatcher.alarm.ring()
            case Occupy(agent_id):
                if self._agenda.watch_of(agent_id) is None:
                    reaper.suspect(agent_id)
            case Send():
                self._send(intent, settling)
            case Stop(agent_id, instance_id, epoch, _, reason):
                self.deliveries.stop(agent_id, instance_id, epoch, reason)
            case Watch():
                reaper.alarm.ring()

    def _withdrawn(
        self, intent: Intent, ticker: Ticker, dispatcher: Dispatcher, reaper: Reaper, settling: Settling
    ) -> None:
        match intent:
            case Occupy():
                if self._agenda.has_waiting:
                    dispatcher.alarm.ring()
            case Available(agent_id, _, session):
                if self._agenda.available_session(agent_id) != session:
                    self.deliveries.close(agent_id, session, "the agent was disconnected, lost or removed")
            case Watch(agent_id):
                if self._agenda.watch_of(agent_id) is None:
                    reaper.suspect(agent_id)

    def _send(self, intent: Send, settling: Settling) -> None:
        here = self._agenda.session_of(intent.agent_id)
        if here == intent.session:
            self.deliveries.deliver(intent.agent_id, intent.session, intent.order)
        elif here is not None:
            occupy = self._agenda.occupants(intent.agent_id).get(intent.instance_id)
            if occupy is not None and occupy.epoch == intent.epoch:
                settling.put(occupy, requeue(occupy, STALE_SESSION))
