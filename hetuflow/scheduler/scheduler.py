"""The scheduler as one thing: its duties wired over one agenda, and the doors that gateway and API use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio
from attrs import frozen

from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import Patience
from hetuflow.domain.commands import StartServer
from hetuflow.domain.decider import Available, Occupy, Placement, Stop
from hetuflow.domain.placement import Labels
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import Agenda, AgendaStatus
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.dispatcher import Dispatcher
from hetuflow.scheduler.leases import Leases, LeaseStatus
from hetuflow.scheduler.outside import Deliveries, Duties, Outside
from hetuflow.scheduler.peers import Peers
from hetuflow.scheduler.reaper import Reaper
from hetuflow.scheduler.settling import Settlement, Settling
from hetuflow.scheduler.ticker import Ticker


@frozen(slots=True, kw_only=True)
class SchedulerStatus:
    """The scheduler at one moment. Lateness: seconds from the due moment to the committed decision, of the last 1000."""

    agenda: AgendaStatus
    leases: LeaseStatus
    fires_asked: int
    dispatched: int
    agents_lost: int
    settling: int
    lateness_seconds_p50: float
    lateness_seconds_p95: float
    lateness_seconds_p99: float

    @property
    def is_whole(self) -> bool:
        """Whether this server still decides for every job."""
        return not self.leases.lost


class Scheduler:
    """`outside` must be the `Effects` of `system`, over the same `agenda`; `announcement` is what the server said at start."""

    def __init__(
        self,
        system: ActorSystem,
        agenda: Agenda,
        outside: Outside,
        clock: Clock,
        announcement: StartServer,
        *,
        tick_seconds: float = 1.0,
    ) -> None:
        self._agenda = agenda
        self._outside = outside
        self.leases = Leases(system, announcement.server_id)
        self.peers = Peers(system, announcement)
        self._settling = Settling(system, agenda)
        self._dispatcher = Dispatcher(system, agenda, self.leases, clock, tick_seconds=tick_seconds)
        self._ticker = Ticker(system, agenda, self.leases, self._dispatcher, clock, tick_seconds=tick_seconds)
        self._reaper = Reaper(system, agenda, self._settling, self.peers, announcement.server_id)
        self.peers.ended_one = self._reaper.alarm.ring
        self._refusals = Patience(first_seconds=0.25, most_seconds=30.0)
        self._resume_deadlines: dict[str, float] = {}
        self._refused = Alarm()
        self.leases.regained = self._regained
        outside.bind(Duties(self._ticker, self._dispatcher, self._reaper, self._settling))

    def __repr__(self) -> str:
        return f"<Scheduler {self._agenda!r} {self.leases!r}>"

    def connect(self, deliveries: Deliveries) -> None:
        """From now on orders go out through the gateway."""
        self._outside.deliveries = deliveries

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Decide until cancelled. Start it with the leases taken and everything open activated."""
        async with trio.open_nursery() as nursery:
            for duty in (self._settling, self.leases, self.peers, self._dispatcher, self._ticker, self._reaper):
                await nursery.start(duty.run)
            nursery.start_soon(self._resume)
            task_status.started()

    # --- for the API -------------------------------------------------------------------------------------------------

    def reserve(self, labels: Labels, agent_id: str | None, job_id: str) -> Placement | None:
        """Hold a slot for a task of that job that is about to be made; None when it has to wait its turn.

        `release` it when the command that carried it has been answered, whether it was used or not.
        """
        return self._dispatcher.reserve(labels, agent_id, job_id)

    def release(self, placement: Placement) -> None:
        self._dispatcher.release(placement)

    @contextmanager
    def reserved(self, labels: Labels, agent_id: str | None, job_id: str) -> Iterator[Placement | None]:
        """`reserve` and `release` around one question."""
        placement = self.reserve(labels, agent_id, job_id)
        try:
            yield placement
        finally:
            if placement is not None:
                self.release(placement)

    def status(self) -> SchedulerStatus:
        lateness = sorted(self._ticker.lateness_seconds)
        return SchedulerStatus(
            agenda=self._agenda.status(),
            leases=self.leases.status(),
            fires_asked=self._ticker.asked,
            dispatched=self._dispatcher.dispatched,
            agents_lost=self._reaper.agents_lost,
            settling=len(self._settling),
            lateness_seconds_p50=_percentile(lateness, 0.50),
            lateness_seconds_p95=_percentile(lateness, 0.95),
            lateness_seconds_p99=_percentile(lateness, 0.99),
        )

    # --- for the gateway ---------------------------------------------------------------------------------------------

    def heard_from(self, agent_id: str) -> None:
        """The agent's work loop lives: its lease is renewed."""
        self._reaper.heard_from(agent_id)

    def open_session(self, agent_id: str, session: str) -> None:
        """The agent is connected here, greeted and reconciled: it may be sent work on this session."""
        self._agenda.open_session(agent_id, session)
        self._dispatcher.alarm.ring()

    def close_session(self, agent_id: str, session: str) -> None:
        """Nothing new on this session."""
        self._agenda.close_session(agent_id, session)

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
        """The agent refused work that it had a slot for: leave it alone for a while, longer each time."""
        self._agenda.suspend(agent_id)
        self._resume_deadlines[agent_id] = trio.current_time() + self._refusals.failed(agent_id)
        self._refused.ring()

    def accepted_by(self, agent_id: str) -> None:
        """The agent started work."""
        if self._refusals.failures(agent_id):
            self._refusals.worked(agent_id)

    def _regained(self) -> None:
        """Look at everything again that another server was deciding for."""
        self._agenda.unpark()
        self._ticker.alarm.ring()
        self._dispatcher.alarm.ring()

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
