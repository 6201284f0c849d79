"""What the gateway needs of the scheduler; `hetuflow.scheduler.Scheduler` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hetuflow.domain.commands import LoseInstance, RequeueInstance
from hetuflow.domain.decider import Available, Occupy, Stop


class SchedulerHooks(Protocol):
    def heard_from(self, agent_id: str) -> None:
        """The agent's work loop lives: its lease is renewed."""
        ...

    def is_trusted(self) -> bool:
        """Whether this server may renew leases now: it knows that it is one of the living."""
        ...

    def is_unsent(self, occupy: Occupy, session: str) -> bool:
        """Whether the instance was committed for this session, and its order goes out when the session is opened."""
        ...

    def open_session(self, agent_id: str, session: str) -> None:
        """The agent is connected here, greeted and reconciled: it may be sent work on this session."""
        ...

    def close_session(self, agent_id: str, session: str) -> None:
        """Nothing new on this session."""
        ...

    def occupants(self, agent_id: str) -> Mapping[str, Occupy]:
        """The instances that hold a slot of the agent, by instance id."""
        ...

    def available(self, agent_id: str) -> Available | None:
        """The agent as the log has it: labels and draining; None while it is connected nowhere."""
        ...

    def stops(self, agent_id: str) -> Sequence[Stop]:
        """The instances that the agent should end."""
        ...

    def settle(self, occupy: Occupy, settlement: RequeueInstance | LoseInstance) -> None:
        """Requeue or lose the instance, in the background, until it holds its slot no more."""
        ...

    async def settle_now(self, occupy: Occupy, settlement: RequeueInstance | LoseInstance) -> None:
        """The same, once and awaited. Raises what `ActorSystem.ask` raises, but not `Rejected`."""
        ...

    def refused_by(self, agent_id: str) -> None:
        """The agent refused work that it had a slot for."""
        ...

    def accepted_by(self, agent_id: str) -> None:
        """The agent started work."""
        ...
