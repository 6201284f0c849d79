"""The keeper of an agent's runs, what watches over it, and the agent with it: killed and stopped, in all combinations.

Whatever is killed or stopped, nothing runs twice at the same time, and what was running is over when its lease is.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import ClassVar

import trio

from tests.faults.cluster import Setup
from tests.faults.kinds.agent import AGENT, silence
from tests.faults.kinds.fault import ENDS_PROGRAMS, Fault, Healed, Scene, now, pause
from tests.faults.processes import kill_all, signal_all, stop_all, working_below

LEASE_SECONDS = 5.0
GONE_SECONDS_MAX = 3.0
"""A killed keeper takes its processes with it within this time, on a machine that is busy with other things."""
NOTICED_SECONDS = 12.0
"""The agent kills a keeper that does not answer after ten seconds, and reports what it ran."""


def running(scene: Scene) -> list[int]:
    """What programs of the agent run now."""
    return working_below(scene.cluster.work_dir(AGENT))


def keeper(scene: Scene) -> tuple[int, int]:
    """(what watches over the keeper, the keeper); there must be both."""
    watchdog, pid = scene.cluster.machines[AGENT].keeper_pids()
    return watchdog, pid


async def until_gone(pids: Sequence[int], scene: Scene) -> list[int]:
    """Those that still work there after all that is allowed."""
    left = list(pids)
    with trio.move_on_after(GONE_SECONDS_MAX):
        while left := sorted(set(pids) & set(running(scene))):  # noqa: ASYNC110 - of others, there is no event
            await trio.sleep(0.02)
    return left


class KeeperKilled(Fault):
    """kill -9 of what keeps an agent's runs: they are gone with it, and made again."""

    name = "keeper-kill"
    without = ENDS_PROGRAMS
    seconds = 5.0

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        _, pid = keeper(scene)
        stop_all([pid])  # so that what runs now is all that it had started
        programs = running(scene)
        at = now()
        kill_all([pid])
        left = await until_gone(programs, scene)
        notes = tuple(f"process {pid} outlives its keeper" for pid in left)
        measured = f"{len(programs)} processes gone after {now() - at:.2f} s"
        return Healed(at=at, agent=AGENT, silences=(silence(at, now()),), notes=notes, measured=measured)


class KeeperStopped(Fault):
    """SIGSTOP of what keeps an agent's runs: their leases end them, and the agent replaces it."""

    name = "keeper-stop"
    without = ENDS_PROGRAMS
    setup = Setup(lease_seconds=LEASE_SECONDS)
    seconds = NOTICED_SECONDS + 3

    async def strike(self, scene: Scene) -> Healed:
        _, pid = keeper(scene)
        since = now()
        stop_all([pid])
        with trio.move_on_after(NOTICED_SECONDS):
            while keeper_is(scene, pid):  # noqa: ASYNC110 - a file tells
                await trio.sleep(0.05)
        notes = ("the agent has not replaced it",) if keeper_is(scene, pid) else ()
        measured = f"replaced after {now() - since:.1f} s"
        return Healed(at=now(), agent=AGENT, silences=(silence(since, now()),), notes=notes, measured=measured)


def keeper_is(scene: Scene, pid: int) -> bool:
    pids = scene.cluster.machines[AGENT].keeper_pids()
    return pids[1:] == [pid]


class _AgentAndMore(Fault):
    """The agent is killed, and more with it; it is started again after a second."""

    without = ENDS_PROGRAMS
    seconds = 6.0
    with_watchdog: ClassVar[bool]

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        cluster = scene.cluster
        watchdog, pid = keeper(scene)
        killed = [watchdog, pid] if self.with_watchdog else [pid]
        stop_all([cluster.agents[AGENT].pid, *killed])
        programs = running(scene)
        at = now()
        kill_all(killed)
        await cluster.agents[AGENT].kill()
        left = [] if self.with_watchdog else await until_gone(programs, scene)
        await trio.sleep(1.0)
        started = now()
        cluster.spawn_agent(AGENT)
        notes = tuple(f"process {pid} outlives its keeper" for pid in left)
        # What nobody watches over is ended by the next start, which is when its end is told.
        return Healed(at=started, agent=AGENT, silences=(silence(at, started + 2.0),), notes=notes)


class AgentAndKeeperKilled(_AgentAndMore):
    """kill -9 of an agent and of what keeps its runs: what watches over them ends them."""

    name, with_watchdog = "agent-keeper-kill", False


class AgentAndAllKilled(_AgentAndMore):
    """kill -9 of an agent, its keeper, and what watches over that: the next start ends what was left."""

    name, with_watchdog = "agent-keeper-watchdog-kill", True


class WatchdogKilled(Fault):
    """kill -9 of what watches over the keeper: it is replaced, and nothing else happens."""

    name = "watchdog-kill"
    seconds = 4.0

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        watchdog, _ = keeper(scene)
        since = now()
        kill_all([watchdog])
        with trio.move_on_after(GONE_SECONDS_MAX):
            while len(pids := scene.cluster.machines[AGENT].keeper_pids()) < 2 or watchdog in pids:  # noqa: ASYNC110
                await trio.sleep(0.05)
        is_replaced = len(pids) == 2 and watchdog not in pids
        notes = () if is_replaced else ("it is not replaced",)
        span = silence(since, now())
        return Healed(at=now(), agent=AGENT, unharmed=(span,), notes=notes)


class _Stopped(Fault):
    setup = Setup(lease_seconds=LEASE_SECONDS)
    seconds = 2 * LEASE_SECONDS + 3
    with_keeper: ClassVar[bool]

    async def strike(self, scene: Scene) -> Healed:
        """What runs there must be over when the lease is: the server gives it to others."""
        _, pid = keeper(scene)
        stopped = [scene.cluster.agents[AGENT].pid, *([pid] if self.with_keeper else [])]
        since = now()
        stop_all(stopped)
        programs = running(scene)
        await trio.sleep(LEASE_SECONDS)
        left = sorted(set(programs) & set(running(scene)))
        await trio.sleep(LEASE_SECONDS)
        signal_all(stopped, signal.SIGCONT)
        at = now()
        notes = tuple(f"process {pid} of a stopped agent outlives its lease" for pid in left)
        return Healed(at=at, agent=AGENT, silences=(silence(since, at + LEASE_SECONDS),), notes=notes)


class AgentStopped(_Stopped):
    """SIGSTOP of an agent for twice the lease: its keeper ends its runs in time."""

    name, with_keeper = "agent-stop-alone", False


class AgentAndKeeperStopped(_Stopped):
    """SIGSTOP of an agent and of what keeps its runs, for twice the lease."""

    name, with_keeper = "agent-stop", True


KINDS = (
    KeeperKilled,
    KeeperStopped,
    WatchdogKilled,
    AgentAndKeeperKilled,
    AgentAndAllKilled,
    AgentStopped,
    AgentAndKeeperStopped,
)
