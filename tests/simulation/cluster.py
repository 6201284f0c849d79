"""A whole cluster in virtual time: real servers and agents over memory store, memory network, simulated machines.

Only the seven ports are fakes. Agents dial one address behind which the live servers are, or one server by name.
"""

from __future__ import annotations

import random

import trio
from attrs import define, field

from hetuflow.domain.decider import Address
from projections.usage import MemoryUsage
from tests.simulation.checkers import unfinished_tasks
from tests.simulation.database import KnownByTables, MemoryOutput, StoreFaults
from tests.simulation.host import Host
from tests.simulation.observed import Observed, WitnessedLog
from tests.simulation.server_node import NoAnswer, ServerLife, ServerNode
from tests.simulation.shape import Scale, Shape
from tests.support.network import MemoryNetwork
from tests.support.ports import TrioClock

BALANCER = "servers:8081"
"""The address behind which all servers are."""


@define(slots=True, eq=False)
class Cluster:
    """`nursery` owns everything; all chance comes from the shape's seed. `clock` is the database's."""

    shape: Shape
    warm_cells: int = 50
    tasks_max: int = 0
    namespaces_max: dict[str, int] = field(factory=lambda: {"narrow": 2})
    nursery: trio.Nursery | None = None
    rng: random.Random = field(init=False)
    clock: TrioClock = field(init=False)
    log: WitnessedLog = field(factory=WitnessedLog)
    output: MemoryOutput = field(factory=MemoryOutput)
    usage: MemoryUsage = field(factory=MemoryUsage)
    observed: Observed = field(factory=Observed)
    servers: dict[str, ServerNode] = field(factory=dict)
    hosts: dict[str, Host] = field(factory=dict)
    gone: dict[str, Host] = field(factory=dict)
    """Machines that were there for a while."""
    store_faults: StoreFaults = field(init=False)
    tables: KnownByTables = field(init=False)
    network: MemoryNetwork = field(init=False)
    last_words: list[str] = field(factory=list)
    """What dying servers raised: for who looks for the reason of something."""

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(f"cluster {self.seed}")
        self.clock = TrioClock(self.shape.starts_at)
        self.store_faults = StoreFaults(self.rng)
        self.tables = KnownByTables(self.log, self.store_faults)
        self.network = MemoryNetwork(self.rng)
        self.tasks_max = self.rng.choice([0, 0, 0, 2, 5])
        for number in range(1, self.shape.servers + 1):
            server = ServerNode(self, f"server-{number}")
            self.servers[server.name] = server
        self.network.balance(BALANCER, [server.address for server in self.servers.values()])

    @property
    def seed(self) -> int:
        return self.shape.seed

    @property
    def scale(self) -> Scale:
        return self.shape.scale

    @property
    def server(self) -> ServerLife | None:
        """A life that serves, if there is one."""
        return next((node.life for node in self.servers.values() if node.is_serving), None)

    def lives(self) -> list[ServerLife]:
        """The lives that serve."""
        return [node.life for node in self.servers.values() if node.life is not None and node.is_serving]

    def any_life(self) -> ServerLife:
        """One that a client's connection ends at: also one that is paused. Raises `NoAnswer`."""
        found = [node.life for node in self.servers.values() if node.life is not None and node.life.core is not None]
        if not found:
            raise NoAnswer("no server listens")
        return self.rng.choice(found)

    def addresses(self) -> list[Address]:
        """Every actor of the log."""
        return [Address.of_stream(name) for name in self.log.streams]

    def unfinished(self) -> list[str]:
        return unfinished_tasks(self.log)

    async def start(self) -> None:
        """All servers and agents that belong to the shape."""
        for server in self.servers.values():
            server.start()
        for number in range(1, self.shape.agents + 1):
            await self.add_host(f"agent-{number}", zone="ab"[number % 2])

    async def add_host(self, name: str, *, zone: str, agent_id: str = "", like: Host | None = None) -> Host:
        """A machine of its own with an agent that dials a balancer, one server, or several in turn; `like`: with a copy of its disk."""
        assert self.nursery is not None
        slots = self.rng.choice([1, 2, 3]) if len(self.hosts) > 1 else 3 - len(self.hosts)
        servers = [server.address for server in self.servers.values()]
        addresses = self.rng.choice(
            [[BALANCER], [self.rng.choice(servers)], self.rng.sample(servers, len(servers)), [BALANCER, servers[0]]]
        )
        server_url = ",".join(f"ws://{address}" for address in addresses)
        host = self.hosts[name] = Host(
            self, name, slots=slots, labels={"zone": zone}, server_url=server_url, agent_id=agent_id
        )
        if like is not None:
            host.slots, host.disk, host.machine.is_doubled = like.slots, like.disk.copy(), True
        await self.nursery.start(host.machine.run)
        host.start()
        return host
