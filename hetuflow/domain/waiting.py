"""Tasks that want a slot now: in order, by what they ask of an agent, and apart from those that a limit holds back. Pure.

Tasks that ask the same are one group (`lines`), and only the first of a group is ever looked at. A group whose first task
is held back by a limit is *parked* before it, and comes back when the limit has opened: one group for each requirement
and opening, the best, and the next when that one was placed or found another limit in its way. So a hundred thousand
tasks of a job at its limit cost nothing while they wait, and each change costs O(log n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from hetuflow.domain.decider import Offer, Rate
from hetuflow.domain.gates import Barrier, Bounds, Gates
from hetuflow.domain.instants import Instants
from hetuflow.domain.lines import Group, Line, Rank, Requirement
from hetuflow.domain.starts import Starts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def rank(offer: Offer, ageing_seconds: int = 0) -> Rank:
    """Smaller is served first: higher priority, then who has waited longer, then the earlier time, then the task's id.

    With `ageing_seconds`, so many seconds of waiting are worth one point of priority: a - b points more win against
    less than (a - b) × `ageing_seconds` of longer waiting. It never changes while the task waits. A task waits from the
    moment it may start, and not before it was made.
    """
    not_before = (offer.not_before_at - _EPOCH) // _MICROSECOND
    if not ageing_seconds:
        return (-offer.priority, not_before, offer.task_id)
    since = not_before
    if offer.made_at is not None and offer.made_at > offer.not_before_at:
        since = (offer.made_at - _EPOCH) // _MICROSECOND
    return (since - offer.priority * ageing_seconds * 1_000_000, not_before, offer.task_id)


class Waiting:
    """`ageing_seconds` of `rank`, and the waiting after which a place is kept for a task that needs several limits at
    once (0 = never). `is_usable`: whether an agent that fits is there at all, free or not."""

    def __init__(self, gates: Gates | None = None, starts: Starts | None = None, ageing_seconds: int = 0) -> None:
        self.gates = Gates() if gates is None else gates
        self.starts = Starts() if starts is None else starts
        self._ageing_seconds = ageing_seconds
        self.is_usable: Callable[[Requirement], bool] = lambda requirement: True
        self._offers: dict[str, tuple[Offer, Group]] = {}
        self._groups: dict[tuple[Requirement, Bounds, tuple[str, Rate] | None], Group] = {}
        self._lines: dict[Requirement, Line] = {}
        self._claims: dict[str, tuple[Requirement, Bounds]] = {}
        self._instants = Instants()
        self._now = datetime.min.replace(tzinfo=UTC)
        self.steps = 0
        """Groups looked at since the start: for whoever wants to know what a change costs."""

    def __len__(self) -> int:
        return len(self._offers)

    def held_back(self) -> int:
        """Tasks of groups that were found to have a limit in their way. O(groups)."""
        return sum(
            len(group) for group in self._groups.values() if group.line is not self._lines.get(group.requirement)
        )

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._offers

    # --- who waits -----------------------------------------------------------------------------------------------------

    def push(self, offer: Offer) -> None:
        """Add the offer; it replaces an earlier one of the same task."""
        self.discard(offer.task_id)
        requirement = Requirement.of(offer)
        bounds = self.gates.bounds(offer.bounds, offer.namespace_id)
        rate = None if offer.rate is None else (offer.job_id, offer.rate)
        key = (requirement, bounds, rate)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(requirement, bounds, rate)
        own_rank = rank(offer, self._ageing_seconds)
        self._offers[offer.task_id] = offer, group
        group.add(own_rank, offer)
        self.gates.join(bounds)
        if group.line is None or (group.listed is not None and own_rank < group.listed):
            self._line(requirement).put(group, own_rank)  # a parked one too: the limit may be open by now

    def discard(self, task_id: str) -> None:
        found = self._offers.pop(task_id, None)
        if found is None:
            return
        group = found[1]
        self._leave(task_id, group)
        self.gates.leave(group.bounds)

    def _leave(self, task_id: str, group: Group) -> None:
        group.discard(task_id)
        if task_id in self._claims:
            del self._claims[task_id]
            self.gates.unclaim(group.bounds, task_id)
        if not len(group):
            if group.line is not None:
                group.line.drop(group)
            del self._groups[group.requirement, group.bounds, group.rate]
            self._succeed(group)

    def _line(self, requirement: Requirement) -> Line:
        line = self._lines.get(requirement)
        if line is None:
            line = self._lines[requirement] = Line()
        return line

    # --- who is next ---------------------------------------------------------------------------------------------------

    def requirements(self) -> list[Requirement]:
        """Of those that no limit is known to hold back."""
        self._wake_opened()
        return list(self._lines)

    def first(self, requirement: Requirement) -> tuple[Rank, Offer] | None:
        """The task with that requirement that is served next; None: nobody waits, or limits hold all of them back."""
        line = self._lines.get(requirement)
        if line is None:
            return None
        while (group := line.first()) is not None:
            self.steps += 1
            best = group.first()
            if best[0] != group.listed:
                line.put(group, best[0])
                self._succeed(group)
                continue
            barrier = self._barrier(group, best)
            if barrier is None:
                return best
            barrier.park(group, best[0])
            self._succeed(group)
        del self._lines[requirement]
        return None

    def take(self, offer: Offer) -> None:
        """Remove an offer that is the `first` of its requirement. Its limits are held until `Gates.release`."""
        group = self._offers.pop(offer.task_id)[1]
        self.gates.pass_waiting(group.bounds)
        if group.rate is not None:
            self.starts.of(group.rate[0]).held += 1
        self._leave(offer.task_id, group)
        if len(group):
            self._line(group.requirement).put(group, group.first()[0])
            self._succeed(group)
        self._wake_opened()

    def holds_back(self, bounds: Bounds) -> bool:
        """Whether a limit is in the way of a task that has not waited."""
        return self.gates.shut(bounds, None) is not None

    def _barrier(self, group: Group, best: tuple[Rank, Offer]) -> Barrier | None:
        """What holds the first task of the group back."""
        gate = self.gates.shut(group.bounds, best[0])
        if gate is not None:
            self._claim(group, best)
            return gate
        if group.rate is None:
            return None
        job_id, rate = group.rate
        job = self.starts.of(job_id)
        at = job.may_start_at(rate)
        if at is not None and at <= self._now:
            return None
        if at is not None:
            known = self._instants.at(job_id)
            self._instants.set(job_id, at if known is None else min(at, known))
        return job

    # --- limits that open ----------------------------------------------------------------------------------------------

    def ripen(self, now: datetime) -> None:
        """It is now so late: rates may allow more."""
        self._now = now
        for job_id in self._instants.take(now, len(self._instants)):
            self.starts_changed(job_id)

    def next_at(self) -> datetime | None:
        """When a rate allows more."""
        return self._instants.first_at()

    def starts_changed(self, job_id: str) -> None:
        """More is known of the job's starts."""
        job = self.starts.get(job_id)
        if job is not None:
            for requirement in list(job.lines):
                while (group := job.first(requirement)) is not None:
                    self._line(requirement).put(group, group.first()[0])

    def agents_changed(self) -> None:
        """Nothing is kept any more for tasks that no agent is there for."""
        for task_id, (requirement, bounds) in list(self._claims.items()):
            if not self.is_usable(requirement):
                del self._claims[task_id]
                self.gates.unclaim(bounds, task_id)

    def _wake_opened(self) -> None:
        for gate in self.gates.take_opened():
            if gate.room > 0:
                self._wake(gate, list(gate.lines))

    def _succeed(self, group: Group) -> None:
        """The group is out of the way, or has fallen back: let the next one come to the limits that it leaves open."""
        for bound in group.bounds:
            gate = self.gates.of(bound)
            if gate.lines.get(group.requirement) is not group.line and gate.room > 0:
                self._wake(gate, [group.requirement])

    def _wake(self, barrier: Barrier, requirements: Iterable[Requirement]) -> None:
        for requirement in requirements:
            group = barrier.first(requirement)
            if group is not None:
                self._line(requirement).put(group, group.first()[0])

    # --- nothing starves -----------------------------------------------------------------------------------------------

    def _claim(self, group: Group, best: tuple[Rank, Offer]) -> None:
        """Keep a place before each of its limits for a task that has waited long: else one that needs two of them, or a
        limit and a rare agent, could be overtaken for ever by those that need one."""
        own_rank, offer = best
        if not self._ageing_seconds or not self.is_usable(group.requirement):
            return
        waits_since = max(offer.not_before_at, offer.made_at or offer.not_before_at)
        if self._now - waits_since < timedelta(seconds=self._ageing_seconds):
            return
        for bound in group.bounds:
            gate = self.gates.of(bound)
            if gate.claim is None or own_rank < gate.claim[0]:
                gate.claim = own_rank, offer.task_id
                self._claims[offer.task_id] = group.requirement, group.bounds
