"""The agents' own faults: what works already, and the places of those that come with the agent item."""

from __future__ import annotations

from typing import ClassVar

import trio

from hetuflow.scheduler.reaper import MARGIN_SECONDS
from tests.faults.cluster import Setup
from tests.faults.kinds.fault import UNREPORTED_SECONDS, Fault, Healed, Scene, now, pause
from tests.faults.processes import kill_all, working_below
from tests.faults.verdict import Silence

AGENT = "agent-01"
LEASE_SECONDS = 5.0
WATCHDOG_SECONDS = 12.0
"""The watchdog and the next start end what a killed agent left: SIGTERM, ten seconds, SIGKILL."""


class AgentKilled(Fault):
    """kill -9 of an agent, which is started again after a second."""

    name = "agent-kill"
    seconds = 5.0

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        at = now()
        await scene.cluster.agents[AGENT].kill()
        await trio.sleep(1.0)
        started = now()
        scene.cluster.spawn_agent(AGENT)
        return Healed(at=started, agent=AGENT, silences=(silence(at, started + WATCHDOG_SECONDS),))


class MachineKilled(Fault):
    """The whole machine of an agent dies, its runs with it, and is back after two seconds."""

    name = "machine-kill"
    seconds = 6.0

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        at = now()
        await kill_machine(scene, AGENT)
        await trio.sleep(2.0)
        started = now()
        scene.cluster.spawn_agent(AGENT)
        return Healed(at=started, agent=AGENT, silences=(silence(at, started),))


class MachineGone(Fault):
    """The whole machine of an agent dies and stays away until its lease is over: others do its work."""

    name = "machine-gone"
    setup = Setup(lease_seconds=LEASE_SECONDS)
    seconds = LEASE_SECONDS + 6

    async def strike(self, scene: Scene) -> Healed:
        at = now()
        await kill_machine(scene, AGENT)
        # At the earliest: it counts from the last heartbeat, up to a quarter of it before the end.
        lease_ends = at + LEASE_SECONDS * 3 / 4 + MARGIN_SECONDS
        await trio.sleep(lease_ends - now() + LEASE_SECONDS / 4 + 2.0)
        scene.cluster.spawn_agent(AGENT)
        return Healed(at=lease_ends, lost_on=AGENT, silences=(silence(at, now()),))


async def kill_machine(scene: Scene, agent: str) -> None:
    """The agent first, then whatever works below its directory, its watchdog too late to matter."""
    await scene.cluster.agents[agent].kill()
    kill_all(working_below(scene.cluster.work_dir(agent)))


def silence(since: float, until: float) -> Silence:
    return Silence(agent=AGENT, since=since - UNREPORTED_SECONDS, until=until)


class _Later(Fault):
    later: ClassVar[str | None] = "comes with the agent item"

    async def strike(self, scene: Scene) -> Healed:
        raise NotImplementedError(self.later)


class AgentAndKeeperKilled(_Later):
    """kill -9 of an agent and of what keeps its runs."""

    name = "agent-keeper-kill"


class AgentSuspended(_Later):
    """SIGSTOP of an agent, and of what keeps its runs, for twice the lease."""

    name = "agent-stop"


class SpoolFull(_Later):
    """The disk under the agent's spool is full."""

    name = "agent-disk-full"


class IdentityCloned(_Later):
    """A machine is copied, and two agents have one identity."""

    name = "agent-cloned"


class AgentClock(_Later):
    """The agent's wall clock is wrong."""

    name = "agent-clock"


class MachineRebooted(_Later):
    """The agent's machine boots anew: other process ids, another boot id."""

    name = "machine-reboot"


KINDS = (
    AgentKilled,
    MachineKilled,
    MachineGone,
    AgentAndKeeperKilled,
    AgentSuspended,
    SpoolFull,
    IdentityCloned,
    AgentClock,
    MachineRebooted,
)
