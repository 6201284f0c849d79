"""Keepers on simulated machines: the real core, over `tests.support.processes`, each with a life of its own.

A keeper outlives its agent; a keeper that is killed takes its processes with it, unless its dead-man's switch was killed
too: then the next keeper ends them. What was sent before somebody died arrives, as in a socket.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime

import trio

from agent.keeper.core import Keeper, KeeperProfile
from agent.keeper.instance import Instance
from agent.keeper.log import Key
from agent.keeper.messages import Attach, Held, Holding, KeeperMessage, Launched, Leave
from agent.keeper.system import Listener, Tree, Usage, Wanted
from agent.keeping import Attached, KeeperEvent
from agent.wakeup import Wakeup
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import StartError
from tests.support.disk import Life, MemoryDisk
from tests.support.nodes import Node, start_outside
from tests.support.ports import TrioClock
from tests.support.processes import Machine, Running

LINGER_SECONDS = 5.0
START_SECONDS = (0.05, 0.3)
TRANSIT_SECONDS = (0.0, 0.002)
UNREAD_MAX = 256
"""Messages in the socket; beyond it the keeper sums up."""
PROBE_SECONDS = 2.0
MISSED_MAX = 5
"""As in `agent.keeper.client`: probes without an answer, then the keeper hangs."""


class MachineKeepers:
    """The keepers of one machine and agent, one after another; see `agent.keeping.Keepers`.

    `nursery` and `node_name`: where and as what their tasks run: a keeper is paused and killed apart from its agent.
    """

    why_gone = "the keeper does not know it"
    remembers = True

    def __init__(self, machine: Machine, disk: MemoryDisk, clock: TrioClock, rng: random.Random) -> None:
        self.machine, self.disk, self.clock, self.random = machine, disk, clock, rng
        self.current: KeeperLife | None = None
        self.nursery: trio.Nursery | None = None
        self.boots = 1
        self.lives = 0

    def now(self) -> float:
        return trio.current_time()

    @asynccontextmanager
    async def opened(self, attach: Attach) -> AsyncIterator[MachineKeeping]:
        keeping = MachineKeeping(self, attach)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeping.run)
            try:
                yield keeping
            finally:
                keeping.close()
            nursery.cancel_scope.cancel()

    def start(self) -> KeeperLife:
        """A keeper process; its log may be an earlier one's. Raises `DiskError`."""
        assert self.nursery is not None
        self.lives += 1
        life = KeeperLife(self, self.lives)
        self.current = life
        life.node.start_soon(self.nursery, life.run)
        start_outside(self.nursery, life.switch.run)
        return life

    def kill(self, *, with_switch: bool = False) -> None:
        """SIGKILL of the keeper that runs; `with_switch`: and of its dead-man's switch, so that its processes stay."""
        life, self.current = self.current, None
        if life is not None:
            life.kill()
        if not with_switch:
            self.machine.power_off()

    def power_off(self) -> None:
        """The machine ends."""
        self.kill()
        self.boots += 1


class MachineSwitch:
    """The dead-man's switch of a keeper: no node, for it goes on when the keeper and the agent are stopped."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._leases: dict[Key, float] = {}
        self._renewed_at = float("-inf")
        self._news = Wakeup()
        self._is_over = False

    def expect(self, instances: Sequence[Instance]) -> None: ...

    def guard(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if instance.lease_seconds > 0:
                self._leases[instance.key] = instance.lease_seconds
                self._news.set()

    def release(self, key: Key) -> None:
        self._leases.pop(key, None)

    def renew(self, renewed_at: float) -> None:
        self._renewed_at = renewed_at

    def end(self) -> None:
        self._is_over = True
        self._news.set()

    async def run(self) -> None:
        """End what outlives its lease, until the keeper is gone."""
        while not self._is_over:
            now = trio.current_time()
            for key in [key for key, lease in self._leases.items() if self._renewed_at + lease <= now]:
                del self._leases[key]
                for process in self._machine.living():
                    if (process.instance_id, process.epoch) == key:
                        process.end_by(9)
            due = min((self._renewed_at + lease for lease in self._leases.values()), default=float("inf"))
            await self._news.wait(until=due)


class Pipe:
    """One connection between an agent and a keeper: what is under way in each direction, and whether it is cut."""

    def __init__(self, attach: Attach) -> None:
        self.attach = attach
        self.to_keeper: deque[KeeperMessage] = deque()
        self.to_agent: deque[KeeperMessage] = deque()
        self.is_closed = False
        self.agent_news = Wakeup()

    def close(self) -> None:
        self.is_closed = True
        self.agent_news.set()


class KeeperLife:
    """One keeper process."""

    def __init__(self, keepers: MachineKeepers, number: int) -> None:
        self.machine = keepers.machine
        self.node = Node(f"{self.machine.name} keeper#{number}")
        self._keepers = keepers
        self._life, self._scope = Life(), trio.CancelScope()
        self._news = Wakeup()
        self._pipe: Pipe | None = None
        self._waiting: deque[Pipe] = deque()
        self._nursery: trio.Nursery | None = None
        profile = KeeperProfile(
            log_path="/state/keeper.log", pid=number, version="0", boot_id=f"{self.machine.name}-{keepers.boots}"
        )
        self._system = MachineSystem(self.machine, keepers.clock, self)
        self._disk = keepers.disk.mount(self._life)
        self.switch = MachineSwitch(self.machine)
        self.is_hanging = False
        """Stopped, as by SIGSTOP; see `hang`."""
        self.core: Keeper = Keeper(self._system, self._disk, profile, switch=self.switch)

    def __repr__(self) -> str:
        return f"<KeeperLife {self.node.name}: {self.core!r}>"

    def connect(self, attach: Attach) -> Pipe:
        pipe = Pipe(attach)
        self._waiting.append(pipe)
        self._news.set()
        return pipe

    def wake(self) -> None:
        self._news.set()

    def follow(self, tree: MachineTree) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(tree.follow)

    def hang(self) -> None:
        """Stop; its agent's probes have no answer from now on."""
        self.is_hanging = True
        self.node.pause()
        if self._pipe is not None:
            self._pipe.agent_news.set()

    def go_on(self) -> None:
        self.is_hanging = False
        self.node.resume()

    def kill(self) -> None:
        self._life.is_dead = True
        self.switch.end()
        for pipe in [*self._waiting, *([self._pipe] if self._pipe else [])]:
            pipe.close()
        self._scope.cancel()
        self.node.resume()

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                await self._serve()
                self._nursery.cancel_scope.cancel()
        self.switch.end()
        if self._keepers.current is self:
            self._keepers.current = None
        if self._pipe is not None:
            self._pipe.close()

    async def _serve(self) -> None:
        done_at = trio.current_time() + LINGER_SECONDS
        while True:
            self.core.tick()
            self._accept()
            if self._pipe is not None:
                self._read(self._pipe)
            if self._pipe is not None:
                self._write(self._pipe)
            now = trio.current_time()
            if not self.core.is_done:
                done_at = float("inf")
            elif self.core.has_left or now >= done_at:
                return
            elif done_at == float("inf"):
                done_at = now + LINGER_SECONDS
            await self._news.wait(until=min(self.core.next_deadline, done_at))
            await trio.sleep(self._keepers.random.uniform(*TRANSIT_SECONDS))

    def _accept(self) -> None:
        while self._waiting:
            pipe = self._waiting.popleft()
            if self._pipe is not None:  # what it has sent was meant
                self._read(self._pipe)
            if not self.core.admits(pipe.attach):
                pipe.close()
                continue
            if self._pipe is not None:
                self._pipe.close()
                self.core.detached()
            self._pipe = pipe
            self.core.receive(pipe.attach)

    def _read(self, pipe: Pipe) -> None:
        while pipe.to_keeper:
            sent = list(pipe.to_keeper)
            pipe.to_keeper.clear()
            self.core.receive_all(sent)
        if pipe.is_closed and pipe is self._pipe:
            self._pipe = None
            self.core.detached()

    def _write(self, pipe: Pipe) -> None:
        while len(pipe.to_agent) < UNREAD_MAX and (message := self.core.next_message()) is not None:
            pipe.to_agent.append(message)
            pipe.agent_news.set()


class MachineKeeping:
    """An agent's link to whatever keeper its machine has; see `agent.keeping.Keeping`."""

    def __init__(self, keepers: MachineKeepers, attach: Attach) -> None:
        self.problem: str | None = None
        self._keepers, self._attach = keepers, attach
        self._pipe: Pipe | None = None
        self._events: deque[KeeperEvent] = deque()
        self._news = Wakeup()
        self._has_left = False

    def send(self, message: KeeperMessage) -> None:
        if self._pipe is not None and not self._pipe.is_closed:
            self._has_left = self._has_left or isinstance(message, Leave)
            self._pipe.to_keeper.append(message)
            self._wake_keeper()

    def gathered(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def receive(self) -> Sequence[KeeperEvent]:
        while not self._events:
            await self._news.wait()
        events = list(self._events)
        self._events.clear()
        return events

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The agent's process ends, or leaves: what it has sent is still read."""
        if self._pipe is not None:
            self._pipe.close()
            self._wake_keeper()

    async def run(self) -> None:
        why, last = "", 0
        while not self._has_left:
            life = await self._reach()
            self._pipe = life.connect(self._attach)
            held: list[Held] = []
            missed = 0
            while not (self._pipe.is_closed and not self._pipe.to_agent):
                if not self._pipe.to_agent:
                    missed = missed + 1 if life.is_hanging else 0
                    if missed > MISSED_MAX:
                        self._keepers.kill()
                    probe = trio.current_time() + PROBE_SECONDS if life.is_hanging else float("inf")
                    await self._pipe.agent_news.wait(until=probe)
                    continue
                message = self._pipe.to_agent.popleft()
                life.wake()
                if not isinstance(message, Holding):
                    self._tell(message)
                    continue
                held.extend(message.instances)
                if not message.more:
                    restarted = last not in (0, message.pid)
                    self._tell(Attached(instances=tuple(held), pid=message.pid, restarted=restarted, why=why))
                    held, last, self.problem = [], message.pid, None
            self._pipe, why = None, "the connection to the keeper is broken"

    async def _reach(self) -> KeeperLife:
        while True:
            await trio.sleep(self._keepers.random.uniform(*START_SECONDS))
            if self._keepers.current is not None:
                return self._keepers.current
            try:
                return self._keepers.start()
            except DiskError as exc:
                self.problem = str(exc)

    def _tell(self, event: KeeperEvent) -> None:
        self._events.append(event)
        self._news.set()

    def _wake_keeper(self) -> None:
        if self._keepers.current is not None:
            self._keepers.current.wake()


class MachineSystem:
    """See `agent.keeper.system.System`."""

    def __init__(self, machine: Machine, clock: TrioClock, life: KeeperLife) -> None:
        self._machine, self._clock, self._life = machine, clock, life

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> datetime:
        return self._clock.now()

    def spawn_all(self, wanted: Sequence[Wanted]) -> list[Tree | Exception]:
        return [self._spawn(each) for each in wanted]

    def _spawn(self, wanted: Wanted) -> Tree | Exception:
        try:
            process = self._machine.spawn(wanted.launch)
        except StartError as exc:
            return exc
        tree = MachineTree(self._machine, [process], wanted.listener, self._life)
        self._life.follow(tree)
        return tree

    def orphan(self, launched: Launched) -> Tree:
        left = [
            process
            for process in self._machine.living()
            if (process.instance_id, process.epoch) == (launched.instance_id, launched.epoch)
        ]
        return MachineTree(self._machine, left, None, self._life)

    def isolation(self) -> str:
        return "session"

    def limits(self) -> dict[str, str]:
        return {}


class MachineTree:
    """See `agent.keeper.system.Tree`: one simulated process, or what is left of one."""

    isolation = "session"

    def __init__(
        self, machine: Machine, processes: Sequence[Running], listener: Listener | None, life: KeeperLife
    ) -> None:
        self._machine, self._processes, self._listener, self._life = machine, processes, listener, life

    @property
    def pid(self) -> int:
        return self._processes[0].pid

    @property
    def identity(self) -> str:
        return f"{self._machine.name}/{self.pid}"

    @property
    def began(self) -> float:
        return self._processes[0].started

    async def follow(self) -> None:
        """Tell the listener what it does."""
        process, listener = self._processes[0], self._listener
        assert listener is not None
        while (piece := await process.next_piece()) is not None:
            listener.wrote(*piece)
            self._life.wake()
        await process.until_root_ended()
        listener.closed()
        listener.exited(process.exit())
        self._life.wake()

    def terminate(self) -> None:
        for process in self._processes:
            process.end_by(15)

    def kill(self) -> None:
        for process in self._processes:
            process.end_by(9)

    def is_alive(self) -> bool:
        return any(process.ended is None for process in self._processes)

    def usage(self) -> Usage:
        now = trio.current_time()
        seconds = sum((now if each.ended is None else each.ended) - each.started for each in self._processes)
        return Usage(cpu_seconds=seconds / 2, memory_bytes=1 << 20, memory_peak_bytes=1 << 20, processes=1)

    def exceeded(self) -> tuple[str, str] | None:
        return None

    def close(self) -> None: ...
