"""Faults of the agents and of their machines."""

from __future__ import annotations

import uuid
from typing import ClassVar

import trio

from hetuflow.scheduler.reaper import MARGIN_SECONDS
from tests.faults.cluster import Setup
from tests.faults.kinds.disk import no_mounts
from tests.faults.kinds.fault import ENDS_PROGRAMS, UNREPORTED_SECONDS, Fault, Healed, Scene, now, pause
from tests.faults.machines import no_boots, no_clock
from tests.faults.processes import Node, kill_all, stop_all, working_below
from tests.faults.verdict import Silence

AGENT = "agent-01"
LEASE_SECONDS = 5.0
FULL_SECONDS = 6.0
CLONED_SECONDS = 8.0
"""How long two agents have one identity: more than a lease."""
TAKEN_SECONDS = 12.0
"""Usually, until the copy that was refused several times dials again."""
WATCHDOG_SECONDS = 12.0
"""The watchdog and the next start end what a killed agent left: SIGTERM, ten seconds, SIGKILL."""


class AgentKilled(Fault):
    """kill -9 of an agent, which is started again after a second: what it ran goes on, and is told once."""

    name = "agent-kill"
    seconds = 5.0

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        at = now()
        await scene.cluster.agents[AGENT].kill()
        await trio.sleep(1.0)
        started = now()
        scene.cluster.spawn_agent(AGENT)
        return Healed(at=started, agent=AGENT, unharmed=(Silence(agent=AGENT, since=at, until=started),))


class MachineKilled(Fault):
    """The whole machine of an agent dies, its runs with it, and is back after two seconds."""

    name = "machine-kill"
    without = ENDS_PROGRAMS
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
    without = ENDS_PROGRAMS
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
    """All of its processes at once: none of them sees another one die."""
    keepers = scene.cluster.machines[agent].keeper_pids()
    stop_all([scene.cluster.agents[agent].pid, *keepers])
    kill_all([*keepers, *working_below(scene.cluster.work_dir(agent))])
    await scene.cluster.agents[agent].kill()
    kill_all(working_below(scene.cluster.work_dir(agent)))


def silence(since: float, until: float) -> Silence:
    return Silence(agent=AGENT, since=since - UNREPORTED_SECONDS, until=until)


class SpoolFull(Fault):
    """The disk under an agent's journal and spools is full for some seconds."""

    name = "agent-disk-full"
    setup = Setup(agent_mb=24)
    seconds = FULL_SECONDS + 2

    def unavailable(self) -> str | None:
        return no_mounts()

    async def strike(self, scene: Scene) -> Healed:
        """What it was asked to run meanwhile is refused, and others run it; its own runs end as they would have."""
        disk = scene.cluster.machines[AGENT].disk
        assert disk is not None
        await pause(scene, 0.0, 1.0)
        disk.fill()
        await trio.sleep(FULL_SECONDS)
        disk.free()
        return Healed(at=now(), agent=AGENT)


class SpoolFullAndKilled(SpoolFull):
    """The disk under an agent's journal and spools is full, and the agent is killed and started with it so."""

    name = "agent-disk-full-kill"
    seconds = FULL_SECONDS + WATCHDOG_SECONDS

    async def strike(self, scene: Scene) -> Healed:
        disk = scene.cluster.machines[AGENT].disk
        assert disk is not None
        disk.fill()
        await pause(scene, 1.0, 2.0)
        at = now()
        await scene.cluster.agents[AGENT].kill()
        while now() < at + FULL_SECONDS:
            node = scene.cluster.spawn_agent(AGENT)
            with trio.move_on_after(at + FULL_SECONDS - now()):
                await node.ended()  # it says what is wrong, and whoever watches over it starts it again
                node.is_expected = True
                await trio.sleep(1.0)
        disk.free()
        started = now()
        if not scene.cluster.agents[AGENT].is_alive:
            scene.cluster.spawn_agent(AGENT)
        return Healed(at=started, agent=AGENT, silences=(silence(at - FULL_SECONDS, started + WATCHDOG_SECONDS),))


class IdentityCloned(Fault):
    """A machine is copied while its agent works, and two agents have one identity; then the copy is switched off."""

    name = "agent-cloned"
    setup = Setup(lease_seconds=LEASE_SECONDS, agent_boots=True)
    seconds = CLONED_SECONDS + 2

    def unavailable(self) -> str | None:
        return no_boots()

    async def strike(self, scene: Scene) -> Healed:
        """The first of them is in its right for as long as it answers: nothing of its work is disturbed."""
        clone = await self.clone(scene)
        await trio.sleep(CLONED_SECONDS)
        await clone.kill()
        return Healed(at=now(), agent=AGENT)

    async def clone(self, scene: Scene) -> Node:
        await pause(scene, 0.0, 1.0)
        cluster = scene.cluster
        place = cluster.directory / f"clone-{uuid.uuid4().hex[:8]}"
        machine = await trio.to_thread.run_sync(cluster.machines[AGENT].copied, place)
        return cluster.spawn_agent_on(machine, AGENT, name=place.name)


class IdentityClonedAndLeft(IdentityCloned):
    """A machine is copied while its agent works; then the first one dies, and the copy takes over its work."""

    name = "agent-cloned-left"
    without = ENDS_PROGRAMS
    seconds = CLONED_SECONDS + TAKEN_SECONDS + 2

    async def strike(self, scene: Scene) -> Healed:
        clone = await self.clone(scene)
        await trio.sleep(CLONED_SECONDS)
        at = now()
        await kill_machine(scene, AGENT)
        while "connected " not in clone.log.read_text():  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.1)
        taken = now()
        await trio.sleep(1.0)
        await clone.kill()
        scene.cluster.spawn_agent(AGENT)
        measured = f"the copy took over after {taken - at:.1f} s"
        return Healed(at=now(), agent=AGENT, silences=(silence(at, now()),), measured=measured)


class _AgentClock(Fault):
    setup = Setup(agent_clock=True)
    seconds = 6.0
    offset: ClassVar[float]

    def unavailable(self) -> str | None:
        return no_clock()

    async def strike(self, scene: Scene) -> Healed:
        machine = scene.cluster.machines[AGENT]
        machine.offset_clock(self.offset)
        await trio.sleep(4.0)
        wrong = await scene.cluster.database.query(
            "select count(*) from sched_task_instance where agent_id = $1 and abs(extract(epoch from started_at - now())) > $2",
            AGENT,
            abs(self.offset) / 2,
        )
        machine.offset_clock(0.0)
        notes = () if wrong[0][0] else ("the agent's clock was not wrong",)
        return Healed(at=now(), agent=AGENT, injected=2, notes=notes)


class AgentClockAhead(_AgentClock):
    """The wall clock of an agent's machine jumps an hour ahead, and back."""

    name, offset = "agent-clock-ahead", 3600.0


class AgentClockBack(_AgentClock):
    """The wall clock of an agent's machine jumps an hour back, and ahead."""

    name, offset = "agent-clock-back", -3600.0


class MachineRebooted(Fault):
    """The agent's machine boots anew: all its processes are gone, and the boot id is another."""

    name = "machine-reboot"
    without = ENDS_PROGRAMS
    setup = IdentityCloned.setup
    seconds = 6.0

    def unavailable(self) -> str | None:
        return no_boots()

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        at = now()
        await kill_machine(scene, AGENT)
        scene.cluster.machines[AGENT].boot_anew()
        await trio.sleep(2.0)
        started = now()
        scene.cluster.spawn_agent(AGENT)
        return Healed(at=started, agent=AGENT, silences=(silence(at, started),))


KINDS = (
    AgentKilled,
    MachineKilled,
    MachineGone,
    SpoolFull,
    SpoolFullAndKilled,
    IdentityCloned,
    IdentityClonedAndLeft,
    AgentClockAhead,
    AgentClockBack,
    MachineRebooted,
)
