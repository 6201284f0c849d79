"""A machine with an agent on it, life after life: disk and processes outlive the agent, as they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import trio

from agent.daemon import Agent, Ports
from agent.policy import Policy
from agent.profile import Profile
from tests.support.disk import Life, MemoryDisk
from tests.support.keepers import MachineKeepers
from tests.support.nodes import Node
from tests.support.ports import SeededIds, SeededRandom, TrioClock
from tests.support.processes import Machine

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Host:
    """`agent_id` is the name, unless the machine is a copy of another one."""

    def __init__(
        self, cluster: Cluster, name: str, *, slots: int, labels: dict[str, str], server_url: str, agent_id: str = ""
    ) -> None:
        self.cluster, self.name, self.slots, self.labels = cluster, name, slots, labels
        self.server_url, self.agent_id = server_url, agent_id or name
        self.clock: TrioClock = cluster.clock.another()
        self.machine = Machine(name)
        self.disk = MemoryDisk(self.clock)
        self.keepers = MachineKeepers(self.machine, self.disk, self.clock, cluster.rng)
        self.has_watchdog = cluster.rng.random() < 0.5
        """Whether a keeper's dead-man's switch survives what kills the keeper."""
        self.protected = ("zone",) if crc32(f"{cluster.seed} {self.agent_id}".encode()) % 3 == 0 else ()
        """Labels that its owner lets no operator change."""
        self.lives = 0
        self.agent: Agent | None = None
        self.node = Node(name)
        self.ended = trio.Event()
        self._life = Life()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Host {self.name}: life {self.lives}, {len(self.machine.living())} processes>"

    def start(self) -> None:
        """Start the agent's next life; returns at once."""
        assert self.cluster.nursery is not None
        self.keepers.nursery = self.cluster.nursery
        self.lives += 1
        self.node = Node(f"{self.name}#{self.lives}")
        self._life, self._scope, self.ended = Life(), trio.CancelScope(), trio.Event()
        seed = f"{self.cluster.seed} {self.name} {self.lives}"
        ports = Ports(
            clock=self.clock,
            ids=SeededIds(seed, self.clock),
            random=SeededRandom(seed),
            disk=self.disk.mount(self._life),
            dialer=self.cluster.network.dialer(self.name),
            keepers=self.keepers,
        )
        self.agent = Agent(self._profile(), ports)
        self.node.start_soon(self.cluster.nursery, self._live, self.agent, self._life, self._scope, self.ended)

    def _profile(self) -> Profile:
        scale = self.cluster.scale
        return Profile(
            agent_id=self.agent_id,
            name=self.agent_id,
            boot_id=f"{self.name}-{self.keepers.boots}",
            host=self.name,
            version="0",
            server_url=self.server_url,
            state_dir="/state",
            work_dir="/work",
            slots=self.slots,
            labels=self.labels,
            policy=Policy(protected_labels=self.protected),
            features=("policies",),
            heartbeat_interval=scale.heartbeat,
            check_interval=scale.check,
            lost_after_seconds=scale.lease,
            cleanup_interval=max(60.0, 2 * scale.lease),
        )

    async def _live(self, agent: Agent, life: Life, scope: trio.CancelScope, ended: trio.Event) -> None:
        try:
            with scope:
                await agent.run()
        except BaseExceptionGroup as group:
            cancelled, other = group.split(trio.Cancelled)
            if other is not None and not life.is_dead:
                raise
            if cancelled is not None:
                raise cancelled from None
        except Exception:
            if not life.is_dead:
                raise
        finally:
            ended.set()

    def kill(self) -> None:
        """SIGKILL of the agent: its keeper and what that runs go on."""
        self._life.is_dead = True
        self.cluster.network.drop(self.name)
        self._scope.cancel()
        self.node.resume()

    def kill_keeper(self) -> None:
        """SIGKILL of the keeper: its processes end with it, or by the next one, when its switch was killed too."""
        self.keepers.kill(with_switch=not self.has_watchdog)

    def pause_keeper(self) -> Callable[[], None]:
        """SIGSTOP of the keeper; the answer continues it, if it lives."""
        life = self.keepers.current
        if life is None:
            return lambda: None
        life.hang()
        return life.go_on

    def power_off(self, *, silently: bool) -> None:
        """The whole machine ends; `silently`: its peers are not told, as when a cable is cut."""
        self._life.is_dead = True
        self.keepers.power_off()
        if silently:
            self.cluster.network.vanish(self.name)
        self.kill()
