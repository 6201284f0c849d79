"""Which instances hold a slot of which agent, and which slots are held for questions under way. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from hetuflow.domain.decider import Occupy

T = TypeVar("T")


class ByAgent(Generic[T]):
    """One value per instance, found by its agent."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, T]] = {}

    def put(self, agent_id: str, instance_id: str, value: T) -> bool:
        """True when the instance had none."""
        values = self._values.setdefault(agent_id, {})
        is_new = instance_id not in values
        values[instance_id] = value
        return is_new

    def discard(self, agent_id: str, instance_id: str, value: T) -> bool:
        """Remove exactly this value; a newer one of the instance stays. True when it was there."""
        values = self._values.get(agent_id)
        if values is None or values.get(instance_id) != value:
            return False
        del values[instance_id]
        if not values:
            del self._values[agent_id]
        return True

    def of(self, agent_id: str) -> Mapping[str, T]:
        """By instance id."""
        return self._values.get(agent_id, {})

    def agents(self) -> Sequence[str]:
        return list(self._values)


class Occupancy:
    """A held slot counts as used until it is released, whether an instance took it or not."""

    def __init__(self) -> None:
        self._occupied: ByAgent[Occupy] = ByAgent()
        self._leased: ByAgent[Occupy] = ByAgent()
        self._held: dict[str, int] = {}
        self.instances = 0
        self.held = 0

    def add(self, occupy: Occupy) -> None:
        self.instances += self._occupied.put(occupy.agent_id, occupy.instance_id, occupy)
        if occupy.lease_seconds:
            self._leased.put(occupy.agent_id, occupy.instance_id, occupy)

    def remove(self, occupy: Occupy) -> bool:
        """False: it does not hold its slot any more, or does so anew."""
        was_there = self._occupied.discard(occupy.agent_id, occupy.instance_id, occupy)
        self.instances -= was_there
        if occupy.lease_seconds:
            self._leased.discard(occupy.agent_id, occupy.instance_id, occupy)
        return was_there

    def hold(self, agent_id: str) -> None:
        self._held[agent_id] = self._held.get(agent_id, 0) + 1
        self.held += 1

    def release(self, agent_id: str) -> None:
        """Give one held slot back. Raises `ValueError` when none is held."""
        held = self._held.get(agent_id, 0)
        if not held:
            raise ValueError(f"no slot of agent {agent_id} is held")
        if held == 1:
            del self._held[agent_id]
        else:
            self._held[agent_id] = held - 1
        self.held -= 1

    def used(self, agent_id: str) -> int:
        """How many slots of the agent are taken or held."""
        return len(self._occupied.of(agent_id)) + self._held.get(agent_id, 0)

    def of(self, agent_id: str) -> Mapping[str, Occupy]:
        """The instances that hold a slot of the agent, by instance id."""
        return self._occupied.of(agent_id)

    def leased(self) -> Sequence[str]:
        """The agents that hold an instance with a lease of its own."""
        return self._leased.agents()

    def agents(self) -> Sequence[str]:
        """Those of which an instance holds a slot."""
        return self._occupied.agents()

    def has(self, occupy: Occupy) -> bool:
        return self._occupied.of(occupy.agent_id).get(occupy.instance_id) == occupy
