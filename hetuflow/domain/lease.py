"""A lease: which server decides for one of the 64 slots of jobs.

Taking it is an append at the expected version, so of two takers one wins, without a clock and without a lock. The
version of `LeaseTaken` **is** the epoch: every append that is decided from memory of many streams names
(`lease-<slot>`, version) as a guard, and PostgreSQL itself refuses a server that was paused while another one took over.
Who *should* take a lease is decided elsewhere, by liveness; here only who took it for free is told that it is not.
"""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.domain.commands import ReleaseLease, TakeLease
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.events import LeaseReleased, LeaseTaken
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import TableDecider


@frozen(slots=True)
class LeaseState:
    """Who holds the slot; None: nobody."""

    holder_id: str | None = None
    taken_at: datetime | None = None


def _take(command: TakeLease, state: LeaseState, now: datetime) -> Decision:
    """Always an event, also for the present holder: a restarted server must fence its own previous life.

    Raises:
      Rejected: `lease_held`, by a server that the command does not name: of two takers one wins, and the other learns it.
    """
    if command.over is not None and state.holder_id not in (None, command.server_id, *command.over):
        raise Rejected("lease_held", f"server {state.holder_id} holds it", {"holder": state.holder_id})
    taken = LeaseTaken(slot=command.slot, server_id=command.server_id, taken_at=now)
    return Decision([taken], guards=command.guards)


def _release(command: ReleaseLease, state: LeaseState, now: datetime) -> Decision:
    if state.holder_id != command.server_id:
        return NOTHING
    return Decision([LeaseReleased(slot=command.slot, server_id=command.server_id)])


def _taken(state: LeaseState, event: LeaseTaken) -> LeaseState:
    return LeaseState(event.server_id, event.taken_at)


def _released(state: LeaseState, event: LeaseReleased) -> LeaseState:
    return INITIAL


INITIAL = LeaseState()

LEASE: TableDecider[LeaseState] = TableDecider(
    "lease",
    INITIAL,
    {TakeLease: _take, ReleaseLease: _release},
    {LeaseTaken: _taken, LeaseReleased: _released},
)
