"""What goes wrong with nodes and links. Which kinds, and how often, is drawn once per run: some runs are quiet in some respect.

A fault is carried to its healing. Several may be on at once, also on the same node.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import define, field

from tests.simulation.cluster import Cluster
from tests.simulation.host import Host
from tests.simulation.server_node import ServerNode
from tests.support.ports import TrioClock

log = logging.getLogger("simulation")

LEFTOVERS_SECONDS_MAX: Final = 3.0
"""How long an agent that was killed with its keeper and the keeper's switch stays dead beside its processes: with a
heartbeat (4 s) and their grace (10 s) less than a lease. Nobody enforces the lease in their place."""

START_SECONDS: Final = 0.5
"""Within this time after its start a server is killed again: it takes its leases and recovers then."""

CLOCK_STEPS: Final = (0.011, 0.5, 2, 20, 288, 3600)
"""Seconds, forward or back; each run draws the largest it knows."""

DISK_ROOM_MAX: Final = 2000
"""Bytes that a disk which is nearly full has left, at most."""

ALWAYS: Final = ("cut", "kill agent", "kill server")
"""These in every run."""


HELD_BACK: Final[dict[str, str]] = {}
"""Kinds that the product does not survive yet, and why: they never strike."""


@define(slots=True, eq=False)
class Faults:
    """`weights`: how likely each kind is in this run; 0 = off. `injected` counts."""

    cluster: Cluster
    weights: dict[str, int] = field(init=False)
    injected: dict[str, int] = field(factory=dict)
    steps: tuple[float, ...] = field(init=False)
    farthest: float = 0.0
    """The largest error that a clock had, in seconds."""
    _killed: dict[str, float] = field(factory=dict)
    _struck: set[str] = field(factory=set)
    """Servers and hosts whose process is being killed, stopped or replaced by a fault now."""

    def __attrs_post_init__(self) -> None:
        draw = self.cluster.rng
        self.weights = {kind: draw.choice([0, 0, 1, 3]) for kind in self.kinds()}
        self.weights.update(dict.fromkeys(HELD_BACK, 0))
        self.weights["drop"] += 1  # so that there is one kind at least
        self.steps = CLOCK_STEPS[: draw.randint(1, len(CLOCK_STEPS))]
        self.cluster.store_faults.draw()

    @classmethod
    def kinds(cls) -> dict[str, Callable[[Faults], Awaitable[None]]]:
        """Each kind with what does it, from beginning to healing."""
        return {
            "cut": cls._cut,
            "silence": cls._silence,
            "one way": cls._one_way,
            "drop": cls._drop,
            "tear": cls._tear,
            "clog": cls._clog,
            "frames": cls._frames,
            "cut server": cls._cut_server,
            "kill server": cls._kill_server,
            "kill starting server": cls._kill_starting_server,
            "pause server": cls._pause_server,
            "replace server": cls._replace_server,
            "kill agent": cls._kill_agent,
            "kill keeper": cls._kill_keeper,
            "kill agent and keeper": cls._kill_agent_and_keeper,
            "power off": cls._power_off,
            "pause agent": cls._pause_agent,
            "pause keeper": cls._pause_keeper,
            "pause agent and keeper": cls._pause_agent_and_keeper,
            "clone agent": cls._clone_agent,
            "disk full": cls._disk_full,
            "agent clock": cls._agent_clock,
            "server clock": cls._server_clock,
            "store clock": cls._store_clock,
            "store full": cls._store_full,
        }

    async def strike(self) -> None:
        """One fault, carried to its healing."""
        draw = self.cluster.rng
        first = [kind for kind in ALWAYS if kind not in self.injected]
        kinds = list(self.kinds())
        kind = first[0] if first else draw.choices(kinds, [self.weights[kind] for kind in kinds])[0]
        log.info("%.3f fault: %s", trio.current_time(), kind)
        self._count(kind)
        await self.kinds()[kind](self)

    def heal(self) -> None:
        cluster = self.cluster
        cluster.store_faults.heal()
        cluster.network.heal_all()
        for name, clock in self._clocks().items():
            self._step(name, clock, -clock.offset.total_seconds())
        for host in cluster.hosts.values():
            host.clock.offset = cluster.clock.offset
            host.disk.room_bytes = None

    def _count(self, kind: str) -> None:
        self.injected[kind] = self.injected.get(kind, 0) + 1

    def _host(self) -> Host:
        return self.cluster.hosts[self.cluster.rng.choice(sorted(self.cluster.hosts))]

    def _server(self) -> ServerNode:
        return self.cluster.servers[self.cluster.rng.choice(sorted(self.cluster.servers))]

    def _seconds(self) -> float:
        return self.cluster.rng.choice(self.cluster.scale.outages)

    def _clocks(self) -> dict[str, TrioClock]:
        """Those by which something is decided."""
        return {"store": self.cluster.clock, **{name: each.clock for name, each in self.cluster.servers.items()}}

    # --- network ----------------------------------------------------------------------------------------------------

    async def _cut(self) -> None:
        host, network = self._host(), self.cluster.network
        network.cut(host.name)
        await trio.sleep(self._seconds())
        network.heal(host.name)

    async def _silence(self) -> None:
        host, network = self._host(), self.cluster.network
        network.silence(host.name)
        await trio.sleep(self._seconds())
        network.heal(host.name)

    async def _one_way(self) -> None:
        host, network = self._host(), self.cluster.network
        out = self.cluster.rng.random() < 0.5
        network.silence(host.name, out=out, into=not out)
        await trio.sleep(self._seconds())
        network.heal(host.name)

    async def _drop(self) -> None:
        self.cluster.network.drop(self._host().name)

    async def _tear(self) -> None:
        self.cluster.network.tear(self._host().name, self.cluster.rng.expovariate(1))

    async def _clog(self) -> None:
        """A random subset of the links, one by one, released in another order."""
        draw, network = self.cluster.rng, self.cluster.network
        hosts = sorted(self.cluster.hosts)
        clogged = draw.sample(hosts, draw.randint(1, len(hosts)))
        for name in clogged:
            network.silence(name)
            await trio.sleep(draw.expovariate(1))
        await trio.sleep(self._seconds())
        for name in draw.sample(clogged, len(clogged)):
            network.heal(name)
            await trio.sleep(draw.expovariate(1))

    async def _frames(self) -> None:
        """For a while frames are delayed, doubled, cut short, or lost with the rest of their connection."""
        draw, faults = self.cluster.rng, self.cluster.network.frame_faults
        faults.delay_rate = draw.choice([0, 0.05, 0.3])
        faults.delay_seconds_mean = draw.choice([0.1, 1.0])
        faults.double_rate = draw.choice([0, 0.02, 0.5])
        faults.truncate_rate = draw.choice([0, 0.005, 0.05])
        faults.lose_rate = draw.choice([0, 0.005, 0.05])
        await trio.sleep(2 * self._seconds())
        faults.heal()

    async def _cut_server(self) -> None:
        """Away from all its agents, while it still reaches the store."""
        life, network = self._server().life, self.cluster.network
        if life is not None:
            network.cut(life.node.name)
            await trio.sleep(self._seconds())
            network.heal(life.node.name)

    # --- servers ----------------------------------------------------------------------------------------------------

    async def _kill_server(self) -> None:
        server = self._server()
        if server.name in self._struck:
            return
        self._struck.add(server.name)
        await server.kill()
        is_first = self.injected["kill server"] == 1
        missed = 3 * self.cluster.scale.interval + 1  # long enough for several missed nominal times
        await trio.sleep(max(self._seconds(), missed) if is_first else self._seconds())
        server.start()
        self._struck.discard(server.name)

    async def _kill_starting_server(self) -> None:
        """Killed at any await, then again while it takes its leases, loads and recovers."""
        draw, server = self.cluster.rng, self._server()
        if server.name in self._struck:
            return
        self._struck.add(server.name)
        for _ in range(draw.randint(1, 3)):
            await server.kill()
            server.start()
            await trio.sleep(draw.uniform(0, START_SECONDS))
        await server.kill()
        server.start()
        self._struck.discard(server.name)

    async def _pause_server(self) -> None:
        server, seconds = self._server(), self.cluster.rng.choice([0.001, 0.1, *self.cluster.scale.outages, 600])
        life = server.life
        if server.name in self._struck or life is None:
            return
        self._struck.add(server.name)
        life.node.pause()
        await trio.sleep(min(seconds, 5 * self.cluster.scale.lease))
        life.node.resume()
        self._struck.discard(server.name)

    async def _replace_server(self) -> None:
        """It hangs, another life of it is started in its place, and then it wakes up and believes that it still rules."""
        draw, server = self.cluster.rng, self._server()
        life = server.life
        if server.name in self._struck or life is None:
            return
        self._struck.add(server.name)
        life.node.pause()
        await trio.sleep(self._seconds())
        server.replace()
        await trio.sleep(draw.choice([0.001, 0.05, 0.5, 5]))
        life.node.resume()
        await trio.sleep(self._seconds())
        await server.bury()
        self._struck.discard(server.name)

    # --- agents -----------------------------------------------------------------------------------------------------

    async def _kill_agent(self) -> None:
        """What it runs goes on for as long as its lease: its keeper sees to that."""
        host = self._host()
        if host.name in self._struck:
            return
        self._struck.add(host.name)
        host.kill()
        await host.ended.wait()
        await trio.sleep(self._seconds())
        host.start()
        self._struck.discard(host.name)

    async def _kill_keeper(self) -> None:
        """Its switch ends what ran; where that was killed too, the next keeper does."""
        host = self._host()
        if host.name not in self._struck:
            self._count("kill keeper with switch" if host.has_watchdog else "kill keeper and switch")
            host.kill_keeper()

    async def _kill_agent_and_keeper(self) -> None:
        """With a switch, which ends their processes, they may be away for any time, and be killed again.

        Where it was killed too they leave them running, and nobody ends them before the agent is started again: so it is
        started soon, and not killed twice within a lease (see `LEFTOVERS_SECONDS_MAX`; seed 15 found that).
        """
        host = self._host()
        if host.name in self._struck or (not host.has_watchdog and self._was_killed_lately(host)):
            await self._power_off_host(host)
            return
        self._struck.add(host.name)
        self._killed[host.name] = trio.current_time()
        host.kill_keeper()
        host.kill()
        await host.ended.wait()
        await trio.sleep(self._seconds() if host.has_watchdog else min(self._seconds(), LEFTOVERS_SECONDS_MAX))
        host.start()
        self._struck.discard(host.name)

    async def _power_off(self) -> None:
        await self._power_off_host(self._host())

    async def _power_off_host(self, host: Host) -> None:
        if host.name in self._struck:
            return
        self._struck.add(host.name)
        self._killed[host.name] = trio.current_time()
        host.power_off(silently=self.cluster.rng.random() < 0.5)
        await host.ended.wait()
        await trio.sleep(self._seconds())
        host.start()
        self._struck.discard(host.name)

    def _was_killed_lately(self, host: Host) -> bool:
        return trio.current_time() - self._killed.get(host.name, float("-inf")) < 2 * self.cluster.scale.lease

    async def _pause_agent(self) -> None:
        await self._pause(agent=True, keeper=False)

    async def _pause_keeper(self) -> None:
        """Its agent kills it when it has not answered for a while."""
        await self._pause(agent=False, keeper=True)

    async def _pause_agent_and_keeper(self) -> None:
        """Only the keeper's switch ends then what outlives its lease."""
        await self._pause(agent=True, keeper=True)

    async def _pause(self, *, agent: bool, keeper: bool) -> None:
        host, seconds = self._host(), self.cluster.rng.choice([0.001, 0.1, *self.cluster.scale.outages, 600])
        if host.name in self._struck:
            return
        self._struck.add(host.name)
        node = host.node
        if agent:
            node.pause()
        go_on = host.pause_keeper() if keeper else lambda: None
        await trio.sleep(min(seconds, 5 * self.cluster.scale.lease))
        both = [node.resume, go_on]
        for resume in both if self.cluster.rng.random() < 0.5 else reversed(both):
            resume()
        self._struck.discard(host.name)

    async def _clone_agent(self) -> None:
        """A copy of its disk, identity and state included, runs on a second machine while the first one goes on.

        Which of the two processes of an instance is the right one nobody can know, so the judges leave out what ran on
        both meanwhile; all else must hold, and the work must end when the copy is gone and the first is restarted.
        """
        cluster, host = self.cluster, self._host()
        if host.name in self._struck or host.agent_id != host.name:
            return
        self._struck.add(host.name)
        name = f"{host.name}-copy-{self.injected['clone agent']}"
        host.machine.double()
        copy = await cluster.add_host(name, zone=host.labels["zone"], agent_id=host.name, like=host)
        await trio.sleep(self._seconds())
        copy.power_off(silently=cluster.rng.random() < 0.5)
        await copy.ended.wait()
        host.power_off(silently=False)
        await host.ended.wait()
        await trio.sleep(cluster.scale.lease + LEFTOVERS_SECONDS_MAX)
        host.start()
        host.machine.is_doubled = False
        del cluster.hosts[name]
        cluster.gone[name] = copy
        self._struck.discard(host.name)

    async def _disk_full(self) -> None:
        host = self._host()
        host.disk.room_bytes = self.cluster.rng.randint(0, DISK_ROOM_MAX)
        await trio.sleep(self._seconds())
        host.disk.room_bytes = None

    async def _agent_clock(self) -> None:
        host, draw = self._host(), self.cluster.rng
        host.clock.step(draw.choice([-1, 1]) * draw.choice([1, 60, 3600, 86_400]))

    # --- wall clocks and the store -----------------------------------------------------------------------------------

    def _step(self, name: str, clock: TrioClock, seconds: float) -> None:
        if seconds:
            clock.step(seconds)
            self.cluster.observed.stepped(name, seconds)
            self.farthest = max(self.farthest, abs(clock.offset.total_seconds()))

    async def _server_clock(self) -> None:
        """Stepped once; what is wrong stays wrong until it is stepped again, often back to the truth."""
        server, draw = self._server(), self.cluster.rng
        offset = server.clock.offset.total_seconds()
        seconds = draw.choice([-1, 1]) * draw.choice(self.steps)
        self._step(server.name, server.clock, -offset if offset and draw.random() < 0.5 else seconds)

    async def _store_clock(self) -> None:
        clock, draw = self.cluster.clock, self.cluster.rng
        offset = clock.offset.total_seconds()
        seconds = draw.choice([-1, 1]) * draw.choice(self.steps)
        self._step("store", clock, -offset if offset and draw.random() < 0.5 else seconds)

    async def _store_full(self) -> None:
        self.cluster.store_faults.is_full = True
        await trio.sleep(self._seconds())
        self.cluster.store_faults.is_full = False
