"""What the agenda hands out: matches for the dispatcher, counts for status pages."""

from __future__ import annotations

from attrs import frozen

from hetuflow.domain.decider import Available, Choice, Offer
from hetuflow.domain.gates import Bounds


@frozen(slots=True)
class Match:
    """A task, and the slot and the limits that are held for it."""

    offer: Offer
    agent: Available
    choice: Choice | None = None
    bounds: Bounds = ()


@frozen(slots=True, kw_only=True)
class AgendaStatus:
    """Counts for status pages."""

    schedules_due: int
    tasks_waiting: int
    tasks_later: int
    tasks_in_hand: int
    slots_total: int
    slots_free: int
    instances: int
    reserved: int
    agents_usable: int
    agents_watched: int
    tasks_max: int = 0
    tasks_held_back: int = 0
    """Of those that wait, the ones that a limit holds back."""
