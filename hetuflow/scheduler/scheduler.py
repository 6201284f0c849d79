"""The scheduler as one thing: its duties wired over one agenda, and the doors that gateway and API use."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import trio
from attrs import frozen

from eventstore.store import EventStore
from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import Patience
from hetuflow.domain.commands import StartServer
from hetuflow.domain.decider import Address, Available, Occupy, Placement, Stop
from hetuflow.domain.gates import GateStatus
from hetuflow.domain.need import Need
from hetuflow.measure import Histogram
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.agenda_views import AgendaStatus
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.backfills import Backfills
from hetuflow.scheduler.clocks import ClockStatus, ClockWatch
from hetuflow.scheduler.daemons import Daemons
from hetuflow.scheduler.dependencies import Dependencies
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.event_decisions import EventDecisions
from hetuflow.scheduler.event_reader import EventReader
from hetuflow.scheduler.expiry import Expiry
from hetuflow.scheduler.file_watches import FileWatches
from hetuflow.scheduler.flow_graphs import FollowersOf
from hetuflow.scheduler.flows import Flows
from hetuflow.scheduler.following import Following
from hetuflow.scheduler.leases import Leases, LeaseStatus
from hetuflow.scheduler.outside import Deliveries, Duties, Outside
from hetuflow.scheduler.peers import Peers
from hetuflow.scheduler.reaper import Reaper
from hetuflow.scheduler.recent_starts import recent_starts
from hetuflow.scheduler.settling import Settlement, Settling
from hetuflow.scheduler.ticker import Ticker
from hetuflow.scheduler.trust import Timing


@frozen(slots=True, kw_only=True)
class SchedulerStatus:
    """The scheduler at one moment. Lateness: seconds from the due moment to the committed decision, of the last 1000."""

    agenda: AgendaStatus
    leases: LeaseStatus
    fires_asked: int
    dispatched: int
    agents_lost: int
    settling: int
    events_undecided: int
    """Events that schedules match and that are not decided about yet."""
    lateness_seconds_p50: float
    lateness_seconds_p95: float
    lateness_seconds_p99: float
    is_deciding: bool
    """Whether this server decides; else it stands by."""
    clock: ClockStatus
    problems: tuple[str, ...]
    """Why jobs do not run as they should, as far as this server can tell; a server that stands by has none."""


class Scheduler:
    """`outside` must be the `Effects` of `system`, over the same `agenda`; `announcement` is what the server said at start."""

    def __init__(
        self,
        system: ActorSystem,
        store: EventStore,
        agenda: Agenda,
        outside: Outside,
        clock: Clock,
        announcement: StartServer,
        *,
        life: str,
        timing: Timing,
        followers_of: FollowersOf,
        clocks: ClockWatch,
        tick_seconds: float = 1.0,
        event_depth_max: int = 8,
    ) -> None:
        self._system = system
        self._agenda = agenda
        self._outside = outside
        self._server_id = server_id = announcement.server_id
        self._started = trio.current_time()
        self.clocks = clocks
        self.peers = Peers(system, store, announcement, life, clock, self.clocks, timing)
        self.leases = Leases(
            system,
            server_id,
            is_fit=self.is_trusted,
            has_ended=self._has_ended,
            is_reluctant=lambda: not self.clocks.status().is_right,
            reluctant_seconds=timing.lost_seconds,
        )
        self._settling = Settling(system, agenda, self.is_trusted)
        self._dispatcher = Dispatcher(
            system,
            agenda,
            self.leases,
            clock,
            self.clocks,
            server_id,
            partial(recent_starts, store),
            tick_seconds=tick_seconds,
        )
        self._ticker = Ticker(
            system,
            agenda,
            self.leases,
            self._dispatcher,
            clock,
            self.clocks,
            followers_of,
            tick_seconds=tick_seconds,
        )
        self._reaper = Reaper(
            system, agenda, self._settling, self.peers, server_id, is_deciding=lambda: self.leases.is_deciding
        )
        self.peers.ended_one = self._ended_one
        self.peers.up_changed = self._up_changed
        self.peers.trusted_again = self._trusted_again
        self.clocks.doubt = self.peers.look_now
        self.clocks.right_again = self._clock_right_again
        self.clocks.gone_off = self._clock_gone_off
        self.dependencies = Dependencies(system, self.leases)
        self.expiry = Expiry(system, self.leases, clock, self.clocks, tick_seconds=tick_seconds)
        self.following = Following(system, store, self.leases)
        self.backfills = Backfills(system, self.leases)
        self.file_watches = FileWatches(system, agenda)
        self.flows = Flows(system, self.leases)
        decisions = EventDecisions(system, self.leases, self._dispatcher, depth_max=event_depth_max)
        self.events = EventReader(system, store, self.leases, decisions, tick_seconds=tick_seconds)
        self.daemons = Daemons(system, self.leases, clock, self.clocks, tick_seconds=tick_seconds)
        self._refusals = Patience(first_seconds=0.25, most_seconds=30.0)
        self._resume_deadlines: dict[str, float] = {}
        self._refused = Alarm()
        self.leases.regained = self._regained
        self.leases.catch_up = self._catch_up
        self.read_log: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Returns when all that is in the log now has its effects here; may raise errors of the store."""
        outside.bind(
            Duties(
                self._ticker,
                self._dispatcher,
                self._reaper,
                self._settling,
                self.dependencies,
                self.expiry,
                self.following,
                self.backfills,
                self.daemons,
                self.file_watches,
                self.flows,
            )
        )

    def __repr__(self) -> str:
        return f"<Scheduler {self._agenda!r} {self.leases!r}>"

    def connect(self, deliveries: Deliveries) -> None:
        """From now on orders go out through the gateway."""
        self._outside.deliveries = deliveries
        self.peers.superseded = deliveries.close_all
        self.file_watches.tell = deliveries.watch

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Decide until cancelled. Start it with the leases taken and everything open activated."""
        async with trio.open_nursery() as nursery:
            first = (self._settling, self.leases, self.peers)
            told = (
                self.dependencies,
                self.expiry,
                self.following,
                self.flows,
                self.backfills,
                self.daemons,
                self.events,
                self.file_watches,
            )
            for duty in (*first, self._dispatcher, self._ticker, self._reaper, *told):
                await nursery.start(duty.run)
            nursery.start_soon(self._resume)
            task_status.started()

    # --- for the API -------------------------------------------------------------------------------------------------

    def reserve(self, need: Need) -> Placement | None:
        """Hold a slot for a task that is about to be made; None when it has to wait its turn.

        `release` it when the command that carried it has been answered, whether it was used or not.
        """
        return self._dispatcher.reserve(need)

    def release(self, placement: Placement) -> None:
        self._dispatcher.release(placement)

    @contextmanager
    def reserved(self, need: Need) -> Iterator[Placement | None]:
        """`reserve` and `release` around one question."""
        placement = self.reserve(need)
        try:
            yield placement
        finally:
            if placement is not None:
                self.release(placement)

    def full_limits(self, need: Need, task_id: str) -> Sequence[GateStatus]:
        """Those of the limits of a waiting task that are used up, as far as this server knows."""
        return self._agenda.full_limits(need, task_id)

    @property
    def lateness(self) -> Histogram:
        """From due moments to their committed decisions, since the start."""
        return self._ticker.lateness

    def status(self) -> SchedulerStatus:
        lateness = sorted(self._ticker.lateness_seconds)
        return SchedulerStatus(
            agenda=self._agenda.status(),
            leases=self.leases.status(),
            fires_asked=self._ticker.asked,
            dispatched=self._dispatcher.dispatched,
            agents_lost=self._reaper.agents_lost,
            settling=len(self._settling),
            events_undecided=self.events.undecided,
            lateness_seconds_p50=_percentile(lateness, 0.50),
            lateness_seconds_p95=_percentile(lateness, 0.95),
            lateness_seconds_p99=_percentile(lateness, 0.99),
            is_deciding=self.leases.is_deciding,
            clock=self.clocks.status(),
            problems=tuple(self._problems()),
        )

    def _problems(self) -> Iterator[str]:
        clock, leases, trust = self.clocks.status(), self.leases.status(), self.peers.trust
        if trust.is_revoked:
            yield "another server was started with the id of this one: this one has stepped back"
        elif not self.is_trusted():
            yield "this server cannot confirm in the database that it is known to live: it decides nothing"
        elif not self.leases.is_deciding:
            holder = leases.holder_id
            if holder is None or not self.peers.is_up(holder) or holder == self._server_id:
                yield f"no server decides{f': {holder} is silent' if holder else ''}"
        elif not clock.is_right:
            yield (
                f"the clock of this server differs by {clock.offset_seconds:.3f} s from PostgreSQL's, more than"
                f" {clock.offset_seconds_max:g} s: nothing is fired"
            )

    # --- for the gateway ---------------------------------------------------------------------------------------------

    def is_trusted(self) -> bool:
        """Whether this server may still believe that it is one of the living: only then it renews agents' leases."""
        return self.peers.trust.is_valid(trio.current_time())

    def heard_from(self, agent_id: str) -> None:
        """The agent's work loop lives: its lease is renewed."""
        self._reaper.heard_from(agent_id)

    def open_session(self, agent_id: str, session: str) -> None:
        """The agent is connected here, greeted and reconciled: it may be sent work on this session."""
        self._agenda.open_session(agent_id, session)
        self._outside.opened(agent_id, session)
        self.file_watches.look_again()
        self._dispatcher.alarm.ring()

    def close_session(self, agent_id: str, session: str) -> None:
        """Nothing new on this session."""
        self._agenda.close_session(agent_id, session)

    def is_unsent(self, occupy: Occupy, session: str) -> bool:
        """Whether the instance was committed for this session, and its order is still to be sent."""
        return self._agenda.orders.is_unsent(occupy, session)

    def occupants(self, agent_id: str) -> Mapping[str, Occupy]:
        """The instances that hold a slot of the agent, by instance id."""
        return self._agenda.occupants(agent_id)

    def available(self, agent_id: str) -> Available | None:
        """The agent as the log has it: labels and draining; None while it is connected nowhere."""
        return self._agenda.available(agent_id)

    def is_occupying(self, occupy: Occupy) -> bool:
        return self._agenda.is_occupying(occupy)

    def stops(self, agent_id: str) -> Sequence[Stop]:
        """The instances that the agent should end."""
        return list(self._agenda.stops(agent_id))

    def settle(self, occupy: Occupy, settlement: Settlement) -> None:
        """Requeue or lose the instance, in the background, until it holds its slot no more."""
        self._settling.put(occupy, settlement)

    async def settle_now(self, occupy: Occupy, settlement: Settlement) -> None:
        """The same, once and awaited. Raises what `ActorSystem.ask` raises."""
        await self._settling.settle(occupy, settlement)

    def refused_by(self, agent_id: str) -> None:
        """The agent refused work that it had a slot for: leave it alone for a while, longer each time.

        What was on its way already when it refused the first is no new time.
        """
        if self._resume_deadlines.get(agent_id, 0.0) > trio.current_time():
            return
        self._agenda.suspend(agent_id)
        self._resume_deadlines[agent_id] = trio.current_time() + self._refusals.failed(agent_id)
        self._refused.ring()

    def accepted_by(self, agent_id: str) -> None:
        """The agent started work."""
        if self._refusals.failures(agent_id):
            self._refusals.worked(agent_id)

    async def _catch_up(self) -> None:
        """Know all that another server has decided, before anything is decided here: limits count it."""
        self._agenda.rates.forget()
        await self.read_log()

    def _regained(self) -> None:
        """Look at everything again that another server was deciding for."""
        self._agenda.unpark()
        self.dependencies.look_again()
        self.flows.look_again()
        self.expiry.look_again()
        self.following.look_again()
        self.backfills.look_again()
        self.events.look_again()
        self.daemons.look_again()
        self._ticker.alarm.ring()
        self._dispatcher.alarm.ring()
        self._reaper.look_again()

    def _trusted_again(self) -> None:
        self.leases.look()
        self._settling.look_again()
        self._regained()

    def _clock_gone_off(self) -> None:
        if self.peers.are_many:
            self.leases.step_down()

    def _clock_right_again(self) -> None:
        self.leases.look()
        self._agenda.put_forward()
        self._agenda.rates.forget()  # starts dated by the wrong clock; the log has them by the database's
        self.expiry.put_forward()
        self._dispatcher.alarm.ring()
        self._ticker.alarm.ring()
        self.daemons.look_again()

    def _ended_one(self) -> None:
        self.leases.look()
        self._reaper.alarm.ring()

    def _up_changed(self, up: frozenset[str]) -> None:
        self._agenda.servers_up(up)
        self._dispatcher.alarm.ring()

    async def _has_ended(self, server_id: str) -> bool:
        return not (await self._system.read(Address("server", server_id))).state.is_active

    async def _resume(self) -> None:
        """Give agents that refused work another chance."""
        while True:
            now = trio.current_time()
            for agent_id in [each for each, deadline in self._resume_deadlines.items() if deadline <= now]:
                del self._resume_deadlines[agent_id]
                self._agenda.resume(agent_id)
                self._dispatcher.alarm.ring()
            await self._refused.wait(min(self._resume_deadlines.values(), default=math.inf) - now)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed; 0.0 when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
