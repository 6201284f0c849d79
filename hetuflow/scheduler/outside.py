"""Performs the actors' intents: keeps the agenda, wakes the duty concerned, hands orders to the gateway.

Everything here is synchronous and may be repeated. An order goes out only on the session it was committed for, by the
server that has this session, whoever committed it; one that is committed before the session is open waits for that.
One for a session of ours that is over was never sent, and comes back at once. One for a session that is not ours, or of
a previous life, waits: the agent's next hello, or its lease, tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from hetuflow.domain.decider import (
    Address,
    Available,
    Await,
    Backfill,
    DispatchOrder,
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
from hetuflow.domain.event_watch import Watches
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.backfills import Backfills
from hetuflow.scheduler.daemons import Daemons
from hetuflow.scheduler.dependencies import Dependencies
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.expiry import Expiry
from hetuflow.scheduler.file_watches import FileWatches
from hetuflow.scheduler.flows import Flows
from hetuflow.scheduler.following import Following
from hetuflow.scheduler.reaper import Reaper
from hetuflow.scheduler.settling import Settling, requeue
from hetuflow.scheduler.ticker import Ticker

STALE_SESSION = "committed for a session that had ended: never sent"


class Deliveries(Protocol):
    """The way to connected agents; implemented by the gateway. Never waits; for a session that is not here: nothing."""

    def deliver(self, agent_id: str, session: str, order: DispatchOrder) -> None:
        """Send the order on that session."""
        ...

    def stop(self, stop: Stop) -> None:
        """Have the agent end that instance, on whatever session it has."""
        ...

    def close(self, agent_id: str, session: str, reason: str) -> None:
        """End that session: the log says that it is over."""
        ...

    def stand(self, agent: Available) -> None:
        """Tell the agent how it is counted now: its labels, and whether it is draining."""
        ...

    def watch(self, agent_id: str, session: str, watches: Watches) -> None:
        """Have the agent watch these files and no others."""
        ...

    def close_all(self, reason: str) -> None:
        """End every session: this server is not to serve agents any more."""
        ...


class NoDeliveries:
    """While no gateway is there, nobody is connected."""

    def deliver(self, agent_id: str, session: str, order: DispatchOrder) -> None: ...

    def stop(self, stop: Stop) -> None: ...

    def close(self, agent_id: str, session: str, reason: str) -> None: ...

    def close_all(self, reason: str) -> None: ...

    def stand(self, agent: Available) -> None: ...

    def watch(self, agent_id: str, session: str, watches: Watches) -> None: ...


@frozen(slots=True)
class Duties:
    """Whom a change concerns."""

    ticker: Ticker
    dispatcher: Dispatcher
    reaper: Reaper
    settling: Settling
    dependencies: Dependencies
    expiry: Expiry
    following: Following
    backfills: Backfills
    daemons: Daemons
    file_watches: FileWatches
    flows: Flows


class Outside:
    """Implements `hetuflow.actors.Effects`. Until `bind`, it only keeps the agenda."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._duties: Duties | None = None
        self.deliveries: Deliveries = NoDeliveries()
        self._added: Mapping[type[Intent], Callable[[Any, Duties], None]] = {
            Due: self._due,
            Offer: self._offered,
            Available: self._available,
            Occupy: self._occupied,
            Send: self._send,
            Stop: self._stop,
            Watch: self._watched,
            Await: lambda wish, duties: duties.dependencies.add(wish),
            Expire: lambda wish, duties: duties.expiry.add(wish),
            Follow: lambda wish, duties: duties.following.add(wish),
            Backfill: lambda wish, duties: duties.backfills.add(wish),
            Keep: lambda wish, duties: duties.daemons.add(wish),
            WatchFor: lambda wish, duties: duties.file_watches.add(wish),
            Tend: lambda wish, duties: duties.flows.add(wish),
        }
        self._withdrawn: Mapping[type[Intent], Callable[[Any, Duties], None]] = {
            Available: self._unavailable,
            Occupy: self._vacated,
            Watch: self._unwatched,
            Await: lambda wish, duties: duties.dependencies.remove(wish),
            Expire: lambda wish, duties: duties.expiry.remove(wish),
            Follow: lambda wish, duties: duties.following.remove(wish),
            Backfill: lambda wish, duties: duties.backfills.remove(wish),
            Keep: lambda wish, duties: duties.daemons.remove(wish),
            WatchFor: lambda wish, duties: duties.file_watches.remove(wish),
            Tend: lambda wish, duties: duties.flows.remove(wish),
        }

    def opened(self, agent_id: str, session: str) -> None:
        """The session is open for work: send what was committed for it meanwhile."""
        for send in self._agenda.orders.unsent(agent_id, session):
            self._deliver(send)

    def _deliver(self, send: Send) -> None:
        self._agenda.orders.sent(send)
        self.deliveries.deliver(send.agent_id, send.session, send.order)

    def bind(self, duties: Duties) -> None:
        self._duties = duties

    def reconcile(self, address: Address, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None:
        for intent in withdrawn:
            self._agenda.remove(address, intent)
        for intent in added:
            self._agenda.add(address, intent)
        if self._duties is not None:
            for intent in added:
                self._added[type(intent)](intent, self._duties)
            for intent in withdrawn:
                concerns = self._withdrawn.get(type(intent))
                if concerns is not None:
                    concerns(intent, self._duties)

    def _due(self, due: Due, duties: Duties) -> None:
        if self._agenda.next_due_at() == due.at:
            duties.ticker.alarm.ring()

    def _offered(self, offer: Offer, duties: Duties) -> None:
        duties.dispatcher.alarm.ring()

    def _available(self, agent: Available, duties: Duties) -> None:
        self.deliveries.stand(agent)
        duties.file_watches.look_again()
        if self._agenda.has_waiting:
            duties.dispatcher.alarm.ring()

    def _unavailable(self, agent: Available, duties: Duties) -> None:
        if self._agenda.available_session(agent.agent_id) != agent.session:
            if self._agenda.session_of(agent.agent_id) == agent.session:
                # one of another server is not ours to close: orders were perhaps sent on it that we do not know yet
                self._agenda.close_session(agent.agent_id, agent.session)
            self.deliveries.close(agent.agent_id, agent.session, "the agent was disconnected, lost or removed")

    def _occupied(self, occupy: Occupy, duties: Duties) -> None:
        duties.reaper.occupied(occupy)

    def _vacated(self, occupy: Occupy, duties: Duties) -> None:
        duties.reaper.vacated(occupy)
        if self._agenda.has_waiting:
            duties.dispatcher.alarm.ring()

    def _watched(self, watch: Watch, duties: Duties) -> None:
        duties.reaper.watched(watch)

    def _unwatched(self, watch: Watch, duties: Duties) -> None:
        if self._agenda.watch_of(watch.agent_id) is None:
            duties.reaper.unwatched(watch)

    def _stop(self, stop: Stop, duties: Duties) -> None:
        self.deliveries.stop(stop)
        duties.reaper.stopping(stop)

    def _send(self, send: Send, duties: Duties) -> None:
        if self._agenda.session_of(send.agent_id) == send.session:
            self._deliver(send)
        elif self._agenda.orders.is_over(send.session) and not self._agenda.orders.was_sent(send):
            occupy = self._agenda.occupants(send.agent_id).get(send.instance_id)
            if occupy is not None and occupy.epoch == send.epoch:
                duties.settling.put(occupy, requeue(occupy, STALE_SESSION))
