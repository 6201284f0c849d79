"""The network between an agent and the server: cut, lossy, slow, late."""

from __future__ import annotations

import trio

from tests.faults import netns
from tests.faults.cluster import Setup
from tests.faults.kinds.fault import UNREPORTED_SECONDS, Fault, Healed, Scene, now
from tests.faults.verdict import Silence

LEASE_SECONDS = 5.0
AGENT = "agent-01"
RECONNECTED_SECONDS = 8.0
"""After the cut: until the agent has said what happened meanwhile."""


class _InNamespace(Fault):
    setup = Setup(lease_seconds=LEASE_SECONDS, net=True)

    def unavailable(self) -> str | None:
        return netns.unavailable()


class CutShort(_InNamespace):
    """All packets of an agent vanish for half of its lease: nothing is lost."""

    name = "network-cut-short"
    seconds = 6.0

    async def strike(self, scene: Scene) -> Healed:
        assert scene.cluster.net is not None
        scene.cluster.net.cut()
        await trio.sleep(LEASE_SECONDS / 2)
        scene.cluster.net.heal()
        return Healed(at=now(), agent=AGENT)


class CutLong(_InNamespace):
    """All packets of an agent vanish for twice its lease: its work goes to others, and it comes back."""

    name = "network-cut-long"
    seconds = 2 * LEASE_SECONDS + 5

    async def strike(self, scene: Scene) -> Healed:
        assert scene.cluster.net is not None
        since = now()
        scene.cluster.net.cut()
        await trio.sleep(2 * LEASE_SECONDS)
        scene.cluster.net.heal()
        at = now()
        silence = Silence(agent=AGENT, since=since - UNREPORTED_SECONDS, until=at + RECONNECTED_SECONDS)
        return Healed(at=at, agent=AGENT, silences=(silence,))


class Loss(_InNamespace):
    """A fifth of an agent's packets vanishes, in each direction."""

    name = "network-loss"
    seconds = 8.0

    async def strike(self, scene: Scene) -> Healed:
        assert scene.cluster.net is not None
        since = now()
        scene.cluster.net.lose(0.2)
        await trio.sleep(6.0)
        scene.cluster.net.heal()
        at = now()
        silence = Silence(agent=AGENT, since=since - UNREPORTED_SECONDS, until=at + RECONNECTED_SECONDS)
        return Healed(at=at, agent=AGENT, silences=(silence,))


class Slow(_InNamespace):
    """An agent's cable carries 48 kbit/s."""

    name = "network-slow"
    seconds = 8.0

    async def strike(self, scene: Scene) -> Healed:
        assert scene.cluster.net is not None
        scene.cluster.net.slow(48)
        await trio.sleep(6.0)
        scene.cluster.net.heal()
        return Healed(at=now(), agent=AGENT)


class Delay(Fault):
    """Every byte between agents and server takes 0.4 s."""

    name = "network-delay"
    setup = Setup(relay=True)
    seconds = 6.0

    async def strike(self, scene: Scene) -> Healed:
        assert scene.cluster.relay is not None
        scene.cluster.relay.delay_seconds = 0.4
        await trio.sleep(4.0)
        scene.cluster.relay.delay_seconds = 0.0
        return Healed(at=now())


class HalfOpen(Fault):
    """The agents' connections go silent, and nobody is told; new ones work."""

    name = "network-half-open"
    setup = Setup(lease_seconds=LEASE_SECONDS, relay=True)
    seconds = LEASE_SECONDS + 3

    async def strike(self, scene: Scene) -> Healed:
        """Noticed by whoever waits for a heartbeat's answer: half a lease at most has to run out."""
        assert scene.cluster.relay is not None
        since = now()
        count = scene.cluster.relay.swallow()
        await trio.sleep(LEASE_SECONDS / 2)
        notes = () if count else ("no connection was found",)
        silences = tuple(
            Silence(agent=agent, since=since - UNREPORTED_SECONDS, until=since + LEASE_SECONDS + RECONNECTED_SECONDS)
            for agent in scene.cluster.agents
        )
        return Healed(at=since + LEASE_SECONDS / 2, silences=silences, notes=notes)


KINDS = (CutShort, CutLong, Loss, Slow, Delay, HalfOpen)
