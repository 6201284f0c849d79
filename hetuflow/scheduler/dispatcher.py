"""Gives waiting tasks their slots: a pure match, then one append per task, then the order goes out.

The agent may be connected to another server: that one learns of the dispatch from the log, and sends the order.

Nothing is sent before its dispatch is committed: the order itself is an intent of the task's actor. Slots that a fire or
a user's run may use at once (`reserve`) are held here too, so that creation and dispatch are one append.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import trio

from eventstore.errors import EventStoreError
from hetuflow.actors import FOLLOWING, ActorSystem, Answer, GuardLost, Question
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import DispatchTask
from hetuflow.domain.decider import Address, Available, Choice, Guard, Offer, Placement
from hetuflow.domain.gates import Bounds
from hetuflow.domain.need import Need
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.agenda import Agenda, later
from hetuflow.scheduler.agenda_views import Match
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ASKING_MAX = 512
"""Dispatches under way at once: two full batches of the writer (500 events), so that it never waits for us."""


StartsOf = Callable[[str], Awaitable[Sequence[datetime]]]
"""The latest starts of a job's tasks that have a rate, as the log has it."""


class Dispatcher:
    """`tick_seconds`: longest time without a look at the wall clock. `starts_of` may raise errors of the store."""

    def __init__(
        self,
        system: ActorSystem,
        agenda: Agenda,
        leases: Leases,
        clock: Clock,
        clocks: ClockWatch,
        server_id: str,
        starts_of: StartsOf,
        *,
        tick_seconds: float,
    ) -> None:
        self._starts_of = starts_of
        self._clocks = clocks
        self._server_id = server_id
        self._system = system
        self._agenda = agenda
        self._leases = leases
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._asking = 0
        self._patience = Patience()
        self._reserved: dict[int, Bounds] = {}
        """The limits held with a placement that was handed out, by its identity."""
        self._in_doubt: list[tuple[str, Bounds, Offer | None]] = []
        """Slots and limits, held while an append had an unknown outcome: perhaps they are taken. With the offer that was
        asked for with an unknown outcome, if its job has a rate: perhaps it was started."""
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
                    matches = self._agenda.take_placements(now, ASKING_MAX - self._asking)
                    self._asking += len(matches)
                    if len(matches) == 1:
                        nursery.start_soon(self._dispatch, matches[0])
                    elif matches:
                        nursery.start_soon(self._dispatch_each, nursery, matches)
                    for job_id in self._agenda.rates.take_unknown():
                        nursery.start_soon(self._learn_starts, job_id)
                await self.alarm.wait(self._seconds_until_next())

    def reserve(self, need: Need) -> Placement | None:
        """Hold a slot for a task that is about to be made; None when it has to wait its turn.

        Give it back with `release` once the command that carried it has been answered, whether it was used or not.
        """
        guard = self._leases.guard(need.job_id)
        if guard is None:
            return None
        held = self._agenda.reserve(need, self._clocks.cautious(self._clock.now()))
        if held is None:
            return None
        agent, choice, bounds = held
        placement = self._placement(agent, choice, guard)
        self._reserved[id(placement)] = bounds
        return placement

    def release(self, placement: Placement) -> None:
        self._give_back(placement.agent_id, self._reserved.pop(id(placement)), None)
        if self._agenda.has_waiting:
            self.alarm.ring()

    def _give_back(self, agent_id: str, bounds: Bounds, unknown: Offer | None) -> None:
        """Let go of a slot; while an append has an unknown outcome, later: it may have filled the slot, and this server
        does not count it yet. Given back at once, the slot would be used twice, beyond the limits too."""
        if self._system.has_doubts:
            self._in_doubt.append((agent_id, bounds, unknown))
            self._doubted.set()
            return
        self._let_go(agent_id, bounds, unknown)

    def _let_go(self, agent_id: str, bounds: Bounds, unknown: Offer | None) -> None:
        """Nothing is in doubt: what was committed has its effects here, and an offer that still stands was not started."""
        if unknown is not None:
            self._tell_start(unknown, was_started=not self._agenda.stands(unknown))
        self._agenda.release(agent_id, bounds)

    def _tell_start(self, offer: Offer, *, was_started: bool) -> None:
        """A start counts from its answer on: it was committed before that, so no window begins too early."""
        if offer.rate is not None:
            at = self._clocks.shared(self._clock.now()) if was_started else None
            self._agenda.rates.started(offer.job_id, at)

    async def _settle_doubts(self) -> None:
        while True:
            await self._doubted.wait()
            await self._system.until_known()
            self._doubted = trio.Event()
            doubted, self._in_doubt = self._in_doubt, []
            for agent_id, bounds, unknown in doubted:
                self._let_go(agent_id, bounds, unknown)
            self.alarm.ring()

    async def _learn_starts(self, job_id: str) -> None:
        """Read what the job started lately: until then none of its tasks that have a rate is."""
        try:
            times = await self._starts_of(job_id)
        except STOPPING:
            return
        except (EventStoreError, *FAILING) as problem:
            log.warning("the latest starts of job %s cannot be read yet: %s", job_id, problem)
            await trio.sleep(self._patience.failed(job_id))
            self._agenda.rates.failed(job_id)
        else:
            self._patience.worked(job_id)
            self._agenda.rates.known(job_id, times)
        self.alarm.ring()

    def _seconds_until_next(self) -> float:
        at = self._agenda.next_offer_at()
        if at is None or not self._leases.is_deciding:
            return self._tick_seconds
        seconds = (at - self._clocks.cautious(self._clock.now())).total_seconds()
        return min(seconds, self._tick_seconds)

    async def _dispatch_each(self, nursery: trio.Nursery, matches: Sequence[Match]) -> None:
        """In one turn of the store; who was not answered there is asked alone, which tells what was wrong."""
        unanswered = list(matches)
        try:
            guards = {job_id: self._leases.guard(job_id) for job_id in {match.offer.job_id for match in matches}}
            questions = [
                Question(_address(match), self._command(match, guard), FOLLOWING)
                for match in matches
                if (guard := guards[match.offer.job_id]) is not None
            ]
            answers = await self._system.ask_each(questions)
            while unanswered:
                match = unanswered.pop()
                answer = answers.get(_address(match))
                if answer is None:
                    nursery.start_soon(self._dispatch, match)
                else:
                    self._answered(match, self._was_started(match, answer))
                    self._settle(match)
        except STOPPING:
            pass
        except (EventStoreError, *FAILING) as problem:
            log.warning("%d tasks cannot be dispatched yet: %s", len(unanswered), problem)
        finally:
            for match in unanswered:
                self._answered(match, None)
                self._settle(match)

    def _was_started(self, match: Match, answer: Answer | EventStoreError) -> bool | None:
        if isinstance(answer, Answer):
            self.dispatched += 1
            return True
        log.warning("task %s cannot be dispatched yet: %s", match.offer.task_id, answer)
        return None

    async def _dispatch(self, match: Match) -> None:
        guard = self._leases.guard(match.offer.job_id)
        was_started: bool | None = False
        try:
            if guard is not None:
                was_started = None
                was_started = await self._ask(match, guard)
        finally:
            self._answered(match, was_started)
        self._settle(match)

    def _answered(self, match: Match, was_started: bool | None) -> None:
        """Count a start, and give its slot back: used, it is the task's own by now. None: nobody knows."""
        offer = match.offer
        self._asking -= 1
        if was_started is not None:
            self._tell_start(offer, was_started=was_started)
        unknown = offer if was_started is None and offer.rate is not None else None
        self._give_back(match.agent.agent_id, match.bounds, unknown)
        self.alarm.ring()

    def _settle(self, match: Match) -> None:
        """Put back an offer that still stands."""
        offer = match.offer
        if self._leases.guard(offer.job_id) is None:
            self._agenda.park_offer(offer.task_id)  # another server decides for this job
        elif self._agenda.wants(offer.task_id):
            self._agenda.settle_offer(offer.task_id, later(self._clock.now(), self._patience.failed(offer.task_id)))
        else:
            self._patience.worked(offer.task_id)
            self._agenda.settle_offer(offer.task_id)

    async def _ask(self, match: Match, guard: Guard) -> bool | None:
        """Commit the dispatch; None: nobody knows whether it was. Whatever goes wrong, the task's own intent says whether
        it still waits."""
        offer = match.offer
        try:
            await self._system.ask(_address(match), self._command(match, guard), FOLLOWING)
        except STOPPING:
            return None
        except Rejected as no:
            log.info("task %s is not dispatched: %s", offer.task_id, no)
            return False
        except GuardLost as lost:
            if not self._leases.lost(lost.stream_id, lost.actual):
                log.info("task %s: %s", offer.task_id, lost)
            return False
        except FAILING as problem:
            log.warning("task %s cannot be dispatched yet: %s", offer.task_id, problem)
            return None
        self.dispatched += 1
        return True

    def _command(self, match: Match, guard: Guard) -> DispatchTask:
        placement = self._placement(match.agent, match.choice, guard)
        return DispatchTask(instance_id=match.offer.instance_id, placement=placement)

    def _placement(self, agent: Available, choice: Choice | None, guard: Guard) -> Placement:
        """On the agent's session, wherever that is: the server that has it sees the event, and sends the order."""
        return Placement(
            agent_id=agent.agent_id,
            session=agent.session,
            server_id=self._server_id,
            guards=(guard, *agent.guard),
            choice=choice,
        )


def _address(match: Match) -> Address:
    return Address("task", match.offer.task_id)
