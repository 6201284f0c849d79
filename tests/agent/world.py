"""What an agent lives in: real processes and disk around it, or fakes of them in virtual time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from agent.daemon import Agent, Ports
from agent.directories import RecycledDirectories
from agent.executors.step import EnvironmentRules, Executors
from agent.host import SystemLeftovers, base_environment
from agent.inside import InsideKeepers
from agent.policy import Facts, PlainFacts
from agent.preparation import Preparations
from agent.processes import open_processes
from agent.profile import Profile
from hetuflow.ports.disk import DiskError
from hetuflow.ports.files import FileWatcher, NoFileWatcher
from hetuflow.ports.processes import Exit, ProcessSpec, StartError
from hetuflow.ports.real import SystemClock, SystemDisk, SystemIds, SystemRandom
from tests.agent.gateway import Gateway, MemoryDialer
from tests.support.ports import SeededIds, SeededRandom, TrioClock


def a_profile(root: str, **fields: Any) -> Profile:
    given: dict[str, Any] = {
        "agent_id": "agent-1",
        "name": "agent-1",
        "boot_id": "boot-1",
        "host": "host-1",
        "version": "0.1",
        "server_url": "ws://127.0.0.1:8081",
        "state_dir": f"{root}/state",
        "work_dir": f"{root}/work",
        "slots": 16,
        **fields,
    }
    return Profile(**given)


@frozen(slots=True)
class World:
    agent: Agent
    gateway: Gateway
    dialer: MemoryDialer
    ports: Ports
    runner: Any


@contextlib.asynccontextmanager
async def real_world(
    tmp_path: Path, gateway: Gateway | None = None, *, facts: Facts | None = None, **fields: Any
) -> AsyncIterator[World]:
    """An agent with real processes and a real disk, and a gateway in memory; connected."""
    disk, base, facts = SystemDisk(), base_environment(), facts or PlainFacts()
    profile = a_profile(str(tmp_path), **fields)
    executors = Executors(EnvironmentRules(root=f"{tmp_path}/environments"), base, profile.policy, facts)
    async with open_processes() as runner, trio.open_nursery() as nursery:
        ports = Ports(
            clock=SystemClock(),
            ids=SystemIds(),
            random=SystemRandom(),
            disk=disk,
            dialer=MemoryDialer(nursery, Gateway()),
            keepers=InsideKeepers(runner, disk, SystemClock(), SystemLeftovers()),
            directories=RecycledDirectories(disk),
            leftovers=SystemLeftovers(),
            facts=facts,
            base_environment=base,
            preparations=Preparations(steps=(executors.step,), cleaners=(executors.clean_up,)),
        )
        async with _running(nursery, runner, ports, profile, gateway or Gateway()) as world:
            yield world
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def fake_world(
    gateway: Gateway | None = None,
    *,
    disk: MemoryDisk | None = None,
    script: Callable[[ProcessSpec], Script] | None = None,
    seed: int = 1,
    files: FileWatcher | None = None,
    **fields: Any,
) -> AsyncIterator[World]:
    """An agent with everything faked, for virtual time; connected. `disk` survives from one life to the next."""
    clock, mounted = TrioClock(), disk or MemoryDisk()
    runner = ScriptedRunner(script or (lambda spec: Script()))
    async with trio.open_nursery() as nursery:
        ports = Ports(
            clock=clock,
            ids=SeededIds(seed, clock),
            random=SeededRandom(seed),
            disk=mounted,
            dialer=MemoryDialer(nursery, Gateway()),
            keepers=InsideKeepers(runner, mounted, clock),
            files=files or NoFileWatcher(),
        )
        async with _running(nursery, runner, ports, a_profile("/agent", **fields), gateway or Gateway()) as world:
            yield world
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _running(
    nursery: trio.Nursery, runner: Any, ports: Ports, profile: Profile, gateway: Gateway
) -> AsyncIterator[World]:
    dialer = MemoryDialer(nursery, gateway)
    ports = evolve(ports, dialer=dialer)
    agent = Agent(profile, ports)
    await nursery.start(agent.run)
    await gateway.until_connected()
    yield World(agent, gateway, dialer, ports, runner)


# --- disk ----------------------------------------------------------------------------------------------------------


class MemoryDisk:
    """Files in memory. `full` = every write fails; `crash_of_machine` forgets what was not synced."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.synced: dict[str, int] = {}
        self.directories: dict[str, float] = {}
        self.full = False
        self.free = 1 << 40
        self.unwritable: set[str] = set()
        self.syncs = 0
        self.sync_seconds = 0.0

    def crash_of_machine(self) -> None:
        for path, data in self.files.items():
            del data[self.synced.get(path, 0) :]

    def open_append(self, path: str) -> MemoryFile:
        self._check(path)
        self.files.setdefault(path, bytearray())
        return MemoryFile(self, path)

    def read(self, path: str) -> bytes | None:
        return bytes(self.files[path]) if path in self.files else None

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if path not in self.files:
            raise DiskError(f"cannot read {path}: missing")
        return bytes(self.files[path][offset : offset + length])

    def replace(self, path: str, data: bytes) -> None:
        self._check(path)
        self.files[path] = bytearray(data)
        self.synced[path] = len(data)

    def make_private_dir(self, path: str) -> None:
        self._check(path)
        self.directories.setdefault(path, trio.current_time())

    def list(self, path: str) -> Sequence[str]:
        names = [*self.files, *self.directories]
        return sorted({name[len(path) + 1 :].split("/")[0] for name in names if name.startswith(f"{path}/")})

    def remove(self, path: str) -> None:
        self.files.pop(path, None)
        self.directories.pop(path, None)
        for name in [name for name in [*self.files, *self.directories] if name.startswith(f"{path}/")]:
            self.files.pop(name, None)
            self.directories.pop(name, None)

    def free_bytes(self, path: str) -> int:
        return 0 if self.full else self.free

    def total_bytes(self, path: str) -> int:
        return 1 << 40

    def age_seconds(self, path: str) -> float:
        return trio.current_time() - self.directories.get(path, trio.current_time())

    def _check(self, path: str) -> None:
        if self.full:
            raise DiskError(f"cannot write {path}: No space left on device")
        if any(path.startswith(prefix) for prefix in self.unwritable):
            raise DiskError(f"cannot write {path}: Read-only file system")


class MemoryFile:
    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def append(self, data: bytes) -> None:
        if self._disk.full:
            self._disk.files[self._path] += data[: len(data) // 2]  # as a real disk: what fits is written
        self._disk._check(self._path)
        self._disk.files[self._path] += data

    async def sync(self) -> None:
        covers = len(self._disk.files[self._path])
        await trio.sleep(self._disk.sync_seconds)
        self._disk._check(self._path)
        self._disk.syncs += 1
        self._disk.synced[self._path] = covers

    def close(self) -> None:
        pass


# --- processes -----------------------------------------------------------------------------------------------------


@define(slots=True)
class Script:
    """What a faked process does."""

    seconds: float = 1.0
    exit_code: int = 0
    output: Sequence[tuple[int, bytes]] = ()
    obeys_sigterm: bool = True
    leaves_child: bool = False
    start_error: str | None = None
    started: int = field(default=0)


class ScriptedProcess:
    def __init__(self, script: Script, pid: int) -> None:
        self._script, self._pid = script, pid
        self._pieces: Iterator[tuple[int, bytes]] = iter(script.output)
        self._end = trio.Event()
        self._exit: Exit | None = None
        self._deadline = trio.current_time() + script.seconds
        self._child_alive = script.leaves_child
        self.signals: list[str] = []

    @property
    def pid(self) -> int:
        return self._pid

    async def receive_output(self) -> tuple[int, bytes] | None:
        await trio.lowlevel.checkpoint()
        piece = next(self._pieces, None)
        if piece is None:
            await self.wait()
        return piece

    async def wait(self) -> Exit:
        with trio.move_on_at(self._deadline):
            await self._end.wait()
        if self._exit is None:
            self._finish(self._script.exit_code, None)
        assert self._exit is not None
        return self._exit

    def terminate_tree(self) -> None:
        self.signals.append("TERM")
        if self._script.obeys_sigterm:
            self._child_alive = False
            self._finish(143, 15)

    def kill_tree(self) -> None:
        self.signals.append("KILL")
        self._child_alive = False
        self._finish(137, 9)

    def tree_is_alive(self) -> bool:
        return self._child_alive or (self._exit is None and trio.current_time() < self._deadline)

    def _finish(self, exit_code: int, signal: int | None) -> None:
        if self._exit is None:
            self._exit = Exit(exit_code=exit_code, signal=signal, cpu_seconds=0.5, memory_peak_bytes=1000)
            self._end.set()


class ScriptedRunner:
    def __init__(self, script: Callable[[ProcessSpec], Script]) -> None:
        self._script = script
        self.started: list[tuple[ProcessSpec, ScriptedProcess]] = []

    async def start(self, spec: ProcessSpec) -> ScriptedProcess:
        await trio.lowlevel.checkpoint()
        script = self._script(spec)
        if script.start_error is not None:
            raise StartError(script.start_error)
        process = ScriptedProcess(script, 1000 + len(self.started))
        self.started.append((spec, process))
        return process
