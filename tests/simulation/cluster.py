"""A whole cluster in virtual time: real servers and agents over memory store, memory network, simulated machines.

Only the seven ports are fakes. Killing something first makes its ports dead and then cancels its tasks, so that no
`finally` gets to say goodbye.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import trio
from attrs import define, field

from agent.daemon import Agent, Ports
from agent.profile import Profile
from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog, MemoryStore
from hetuflow.actors import ActorSystem, Limits
from hetuflow.core import Core, CoreSettings, open_core
from hetuflow.domain.decider import Address
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.protocol.messages import Output
from projections.definition import Table
from projections.fold import Tables
from projections.open_work import OPEN_WORK
from projections.schedules import SCHEDULES
from tests.simulation.checkers import unfinished_tasks
from tests.support.disk import Life, MemoryDisk
from tests.support.network import MemoryNetwork
from tests.support.ports import SeededIds, SeededRandom, TrioClock
from tests.support.processes import Machine

log = logging.getLogger(__name__)

SERVER = "server-1"
ADDRESS = "server:8081"
LEASE_SECONDS = 20.0
HEARTBEAT_SECONDS = 4.0
CHECK_SECONDS = 8.0


class StoreFaults:
    """Faults of the store by chance: refused, slow, committed with the answer lost. Off while the rates are 0."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self.before_rate = self.after_rate = self.read_rate = self.slow_rate = 0.0
        self.seen: dict[str, int] = defaultdict(int)

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await trio.sleep(self._random.uniform(0.0005, 0.003))
        if self._strikes("slow", self.slow_rate):
            await trio.sleep(self._random.uniform(0, 5))
        if self._strikes("refused", self.before_rate):
            raise StoreUnavailable

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        await trio.sleep(self._random.uniform(0, 0.001))
        if self._strikes("answer lost", self.after_rate):
            raise StoreTimeout

    async def before_read(self, what: str) -> None:
        await trio.sleep(self._random.uniform(0.0002, 0.002))
        if self._strikes("read refused", self.read_rate):
            raise StoreUnavailable

    def heal(self) -> None:
        self.before_rate = self.after_rate = self.read_rate = self.slow_rate = 0.0

    def _strikes(self, kind: str, rate: float) -> bool:
        if self._random.random() >= rate:
            return False
        self.seen[kind] += 1
        return True


class MemoryOutput:
    """The gateway's output store: bytes by (instance, stream) and offset."""

    def __init__(self) -> None:
        self.chunks: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.contradictions: list[Output] = []

    async def store(self, chunks: Sequence[Output]) -> None:
        await trio.sleep(0.001)
        for chunk in chunks:
            kept = self.chunks[chunk.instance_id, chunk.stream].setdefault(chunk.offset, bytes(chunk.data))
            if kept != bytes(chunk.data):
                self.contradictions.append(chunk)

    def text(self, instance_id: str, stream: str) -> bytes:
        chunks = self.chunks.get((instance_id, stream), {})
        return b"".join(chunks[offset] for offset in sorted(chunks))


class Server:
    """One life of a server: the real composition, over a store of its own on the common log."""

    def __init__(self, cluster: Cluster, life_number: int) -> None:
        self.cluster = cluster
        self.store = MemoryStore(cluster.clock.now, log=cluster.log, hooks=cluster.store_faults)
        self.ended = trio.Event()
        self._ids = SeededIds(f"{cluster.seed} server {life_number}", cluster.clock)
        self._scope = trio.CancelScope()
        self._core: Core | None = None

    @property
    def core(self) -> Core:
        """Raises `LookupError` while the server starts."""
        if self._core is None:
            raise LookupError("the server is starting")
        return self._core

    @property
    def system(self) -> ActorSystem:
        return self.core.system

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        cluster = self.cluster
        settings = CoreSettings(
            server_name=SERVER,
            version="0",
            address=ADDRESS,
            gateway=GatewaySettings(
                server_id=SERVER,
                heartbeat_seconds=HEARTBEAT_SECONDS,
                check_seconds=CHECK_SECONDS,
            ),
            limits=Limits(warm_cells=cluster.warm_cells),
        )
        try:
            with self._scope:
                async with open_core(
                    self.store,
                    cluster.output,
                    cluster.clock,
                    self._ids,
                    settings,
                    find_open=self._find_open,
                    schedules_of=self._schedules_of,
                ) as self._core:
                    listener = cluster.network.listener(ADDRESS)
                    async with trio.open_nursery() as nursery:
                        await nursery.start(listener.serve, self._core.gateway.serve_connection)
                        task_status.started()
                        await trio.sleep_forever()
        finally:
            self.ended.set()

    def kill(self) -> None:
        self.store.close()
        for host in sorted(self.cluster.hosts):
            self.cluster.network.drop(host)
        self._scope.cancel()

    async def _find_open(self, position: int) -> Sequence[Address]:
        """What the table of open work says: the same definition, folded in Python."""
        await self.cluster.store_faults.before_read("open work")
        rows = self.cluster.tables({"open_work": OPEN_WORK}).folds["open_work"].rows()
        return [Address.of_stream(str(name)) for name in rows]

    async def _schedules_of(self, job_id: str, position: int) -> Sequence[str]:
        await self.cluster.store_faults.before_read("schedules of a job")
        rows = self.cluster.tables({"schedules": SCHEDULES}).folds["schedules"].rows()
        return [str(key) for key, row in rows.items() if row["job_id"] == job_id]


class Host:
    """A machine with an agent on it, life after life."""

    def __init__(self, cluster: Cluster, name: str, *, slots: int, labels: dict[str, str]) -> None:
        self.cluster, self.name, self.slots, self.labels = cluster, name, slots, labels
        self.machine = Machine(name, cluster.rng)
        self.disk = MemoryDisk(cluster.clock)
        self.lives = 0
        self.boots = 1
        self.agent: Agent | None = None
        self._life = Life()
        self._scope = trio.CancelScope()
        self.ended = trio.Event()

    async def start(self) -> None:
        assert self.cluster.nursery is not None
        self.lives += 1
        self._life, self._scope, self.ended = Life(), trio.CancelScope(), trio.Event()
        profile = Profile(
            agent_id=self.name,
            name=self.name,
            boot_id=f"{self.name}-{self.boots}",
            host=self.name,
            version="0",
            server_url=f"ws://{ADDRESS}",
            state_dir="/state",
            work_dir="/work",
            slots=self.slots,
            labels=self.labels,
            heartbeat_interval=HEARTBEAT_SECONDS,
            check_interval=CHECK_SECONDS,
            lost_after_seconds=LEASE_SECONDS,
            cleanup_interval=60.0,
        )
        seed = f"{self.cluster.seed} {self.name} {self.lives}"
        ports = Ports(
            clock=self.cluster.clock,
            ids=SeededIds(seed, self.cluster.clock),
            random=SeededRandom(seed),
            disk=self.disk.mount(self._life),
            dialer=self.cluster.network.dialer(self.name),
            runner=self.machine.runner(self._life),
            leftovers=self.machine,
        )
        self.agent = Agent(profile, ports)
        self.cluster.nursery.start_soon(self._live, self.agent, self._life, self._scope, self.ended)

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

    def kill(self, *, with_machine: bool) -> None:
        """SIGKILL of the agent alone (its processes go on), or the whole machine loses power."""
        self._life.is_dead = True
        if with_machine:
            self.machine.power_off()
            self.boots += 1
        self.cluster.network.drop(self.name)
        self._scope.cancel()


@define(slots=True, eq=False)
class Cluster:
    """`nursery` owns everything; `seed` is where all chance comes from."""

    seed: int
    warm_cells: int = 50
    nursery: trio.Nursery | None = None
    rng: random.Random = field(init=False)
    clock: TrioClock = field(factory=TrioClock)
    log: MemoryLog = field(factory=MemoryLog)
    output: MemoryOutput = field(factory=MemoryOutput)
    hosts: dict[str, Host] = field(factory=dict)
    store_faults: StoreFaults = field(init=False)
    network: MemoryNetwork = field(init=False)
    server: Server | None = None
    server_lives: int = 0

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(f"cluster {self.seed}")
        self.store_faults = StoreFaults(self.rng)
        self.network = MemoryNetwork(self.rng)

    def addresses(self) -> list[Address]:
        """Every actor of the log."""
        return [Address.of_stream(name) for name in self.log.streams]

    def tables(self, definitions: Mapping[str, Table]) -> Tables:
        """The tables as of now."""
        tables = Tables(definitions)
        tables.apply(self.log.events)
        return tables

    def unfinished(self) -> list[str]:
        return unfinished_tasks(self.log)

    async def start_server(self) -> None:
        assert self.nursery is not None
        self.server_lives += 1
        self.server = Server(self, self.server_lives)
        await self.nursery.start(self.server.run)

    async def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        await self.server.ended.wait()
        self.server = None

    async def add_host(self, name: str, *, slots: int, labels: dict[str, str]) -> Host:
        assert self.nursery is not None
        host = self.hosts[name] = Host(self, name, slots=slots, labels=labels)
        await self.nursery.start(host.machine.run)
        await host.start()
        return host
