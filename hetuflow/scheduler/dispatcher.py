"""Gives waiting tasks their slots: a pure match, then one append per task, then the order goes out.

The agent may be connected to another server: that one learns of the dispatch from the log, and sends the order.

Nothing is sent before its dispatch is committed: the order itself is an intent of the task's actor. Slots that a fire or
a user's run may use at once (`reserve`) are held here too, so that creation and dispatch are one append.
"""

from __future__ import annotations

import logging

import trio

from hetuflow.actors import FOLLOWING, ActorSystem, GuardLost
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import DispatchTask
from hetuflow.domain.decider import Address, Available, Choice, Guard, Placement
from hetuflow.domain.placement import Labels
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import Agenda, Match, later
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ASKING_MAX = 512
"""Dispatches under way at once: two full batches of the writer (500 events), so that it never waits for us."""


class Dispatcher:
    """`tick_seconds`: longest time without a look at the wall clock."""

    def __init__(
        self,
        system: ActorSystem,
        agenda: Agenda,
        leases: Leases,
        clock: Clock,
        clocks: ClockWatch,
        server_id: str,
        *,
        tick_seconds: float,
    ) -> None:
        self._clocks = clocks
        self._server_id = server_id
        self._system = system
        self._agenda = agenda
        self._leases = leases
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._asking = 0
        self._patience = Patience()
        self._in_doubt: list[str] = []
        """Agents of slots whose append has an unknown outcome: perhaps they are taken."""
        self._doubted = trio.Event()
        self.alarm = Alarm()
        self.dispatched = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle_doubts)
            task_status.started()
            while True:
                if self._leases.is_deciding:
                    now = self._clocks.cautious(self._clock.now())
                    for match in self._agenda.take_placements(now, ASKING_MAX - self._asking):
                        self._asking += 1
                        nursery.start_soon(self._dispatch, match)
                await self.alarm.wait(self._seconds_until_next())

    def reserve(self, labels: Labels, agent_id: str | None, job_id: str) -> Placement | None:
        """Hold a slot for a task of that job that is about to be made; None when it has to wait its turn.

        Give it back with `release` once the command that carried it has been answered, whether it was used or not.
        """
        guard = self._leases.guard(job_id)
        if guard is None:
            return None
        held = self._agenda.reserve(labels, agent_id, self._clocks.cautious(self._clock.now()))
        return None if held is None else self._placement(*held, guard)

    def release(self, placement: Placement) -> None:
        self._give_back(placement.agent_id)
        if self._agenda.has_waiting:
            self.alarm.ring()

    def _give_back(self, agent_id: str) -> None:
        """Let go of a slot; while an append has an unknown outcome, later: it may have filled the slot, and this server
        does not count it yet. Given back at once, the slot would be used twice, beyond the cluster's limit too."""
        if self._system.has_doubts:
            self._in_doubt.append(agent_id)
            self._doubted.set()
        else:
            self._agenda.release(agent_id)

    async def _settle_doubts(self) -> None:
        while True:
            await self._doubted.wait()
            await self._system.until_known()
            self._doubted = trio.Event()
            agents, self._in_doubt = self._in_doubt, []
            for agent_id in agents:
                self._agenda.release(agent_id)
            self.alarm.ring()

    def _seconds_until_next(self) -> float:
        at = self._agenda.next_offer_at()
        if at is None or not self._leases.is_deciding:
            return self._tick_seconds
        seconds = (at - self._clocks.cautious(self._clock.now())).total_seconds()
        return min(seconds, self._tick_seconds)

    async def _dispatch(self, match: Match) -> None:
        offer = match.offer
        guard = self._leases.guard(offer.job_id)
        try:
            if guard is not None:
                await self._ask(match, guard)
        finally:
            self._asking -= 1
            self._give_back(match.agent.agent_id)
            self.alarm.ring()
        if self._leases.guard(offer.job_id) is None:
            self._agenda.park_offer(offer.task_id)  # another server decides for this job
        elif self._agenda.wants(offer.task_id):
            self._agenda.settle_offer(offer.task_id, later(self._clock.now(), self._patience.failed(offer.task_id)))
        else:
            self._patience.worked(offer.task_id)
            self._agenda.settle_offer(offer.task_id)

    async def _ask(self, match: Match, guard: Guard) -> None:
        """Commit the dispatch. Whatever goes wrong, the task's own intent says whether it still waits."""
        offer = match.offer
        command = DispatchTask(
            instance_id=offer.instance_id, placement=self._placement(match.agent, match.choice, guard)
        )
        try:
            await self._system.ask(Address("task", offer.task_id), command, FOLLOWING)
        except STOPPING:
            pass
        except Rejected as no:
            log.info("task %s is not dispatched: %s", offer.task_id, no)
        except GuardLost as lost:
            if not self._leases.lost(lost.stream_id, lost.actual):
                log.info("task %s: %s", offer.task_id, lost)
        except FAILING as problem:
            log.warning("task %s cannot be dispatched yet: %s", offer.task_id, problem)
        else:
            self.dispatched += 1

    def _placement(self, agent: Available, choice: Choice | None, guard: Guard) -> Placement:
        """On the agent's session, wherever that is: the server that has it sees the event, and sends the order."""
        return Placement(
            agent_id=agent.agent_id,
            session=agent.session,
            server_id=self._server_id,
            guards=(guard, *agent.guard),
            choice=choice,
        )
