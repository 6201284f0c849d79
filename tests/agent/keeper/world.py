"""A machine without processes for the keeper's core: trees that do what a test says, a clock that a test moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from agent.keeper.core import Keeper, KeeperProfile
from agent.keeper.messages import Attach, Finished, Held, Holding, KeeperMessage, Launch, Launched
from agent.keeper.system import Listener, Usage, Wanted
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import Exit, StartError


class FakeDisk:
    """Files that survive keepers. `room_bytes`: what can still be written."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.room_bytes = 1 << 40

    def write(self, path: str, data: bytes) -> None:
        kept = data[: self.room_bytes]
        self.room_bytes -= len(kept)
        self.files.setdefault(path, bytearray()).extend(kept)
        if len(kept) < len(data):
            raise DiskError(f"cannot write {path}: No space left on device")

    def open_append(self, path: str) -> FakeFile:
        self.files.setdefault(path, bytearray())
        return FakeFile(self, path)

    def read(self, path: str) -> bytes | None:
        found = self.files.get(path)
        return None if found is None else bytes(found)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if path not in self.files:
            raise DiskError(f"cannot read {path}: No such file or directory")
        return bytes(self.files[path][offset : offset + length])

    def replace(self, path: str, data: bytes) -> None:
        if len(data) > self.room_bytes:
            raise DiskError(f"cannot write {path}: No space left on device")
        self.files[path] = bytearray(data)

    def make_private_dir(self, path: str) -> None: ...

    def list(self, path: str) -> Sequence[str]:
        return sorted(name[len(path) + 1 :] for name in self.files if name.startswith(f"{path}/"))

    def remove(self, path: str) -> None:
        self.files.pop(path, None)

    def free_bytes(self, path: str) -> int:
        return self.room_bytes

    def age_seconds(self, path: str) -> float:
        return 0.0


class FakeFile:
    def __init__(self, disk: FakeDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def append(self, data: bytes) -> None:
        self._disk.write(self._path, data)

    async def sync(self) -> None: ...
    def close(self) -> None: ...


class FakeTree:
    """`stubborn`: SIGTERM does nothing. `immortal`: SIGKILL neither. `leftovers`: what the root leaves running."""

    def __init__(self, machine: FakeMachine, pid: int, launch: Launch, listener: Listener | None) -> None:
        self.machine, self.pid, self.launch, self.listener = machine, pid, launch, listener
        self.identity = f"start-{pid}"
        self.began = machine.seconds
        self.environment: Mapping[str, str] = {}
        self.isolation = "session"
        self.stubborn = self.immortal = False
        self.root_lives = True
        self.leftovers = 0
        self.broken: tuple[str, str] | None = None
        self.is_closed = self.was_told_closed = False
        self.signals: list[int] = []

    def terminate(self) -> None:
        self.signals.append(15)
        if not self.stubborn:
            self._die(15)

    def kill(self) -> None:
        self.signals.append(9)
        if not self.immortal:
            self._die(9)

    def is_alive(self) -> bool:
        return self.root_lives or self.leftovers > 0

    def usage(self) -> Usage:
        return Usage(cpu_seconds=1.5, memory_bytes=1000, memory_peak_bytes=2000, processes=1)

    def exceeded(self) -> tuple[str, str] | None:
        return self.broken

    def close(self) -> None:
        self.is_closed = True

    # --- what a test does ------------------------------------------------------------------------------------------

    def write(self, data: bytes, stream: int = 1) -> None:
        if self.listener is not None and not self.is_closed:
            self.listener.wrote(stream, data)

    def exit(self, code: int | None = 0, signal: int | None = None, *, closes: bool = True) -> None:
        """The root ends; `closes`: so do its streams."""
        if not self.root_lives:
            return
        self.root_lives = False
        if self.listener is not None:
            self.listener.exited(Exit(exit_code=code, signal=signal, cpu_seconds=0.25, memory_peak_bytes=100))
        if closes:
            self.close_streams()

    def close_streams(self) -> None:
        if self.listener is not None and not self.was_told_closed and not self.is_closed:
            self.was_told_closed = True
            self.listener.closed()

    def _die(self, signal: int) -> None:
        """Told by the loop later, as a real end is."""
        self.leftovers = 0
        if self.root_lives:
            self.machine.pending.append(lambda: self.exit(128 + signal, signal))


class FakeMachine:
    """See `System`; survives keepers, as `trees` do."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.trees: dict[tuple[str, int], FakeTree] = {}
        self.pending: list[object] = []
        self.refusal: str | None = None
        self.bug: Exception | None = None

    def now(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def spawn_all(self, wanted: Sequence[Wanted]) -> list[FakeTree | Exception]:
        return [self._spawn(each) for each in wanted]

    def _spawn(self, wanted: Wanted) -> FakeTree | Exception:
        if self.bug is not None:
            return self.bug
        if self.refusal is not None:
            return StartError(self.refusal)
        launch = wanted.launch
        key = (launch.instance_id, launch.epoch)
        assert key not in self.trees, "started twice"
        tree = FakeTree(self, 100 + len(self.trees), launch, wanted.listener)
        tree.environment = wanted.environment
        self.trees[key] = tree
        return tree

    def orphan(self, launched: Launched) -> FakeTree:
        key = (launched.instance_id, launched.epoch)
        tree = self.trees.get(key)
        if tree is None:
            tree = FakeTree(self, 0, None, None)  # type: ignore[arg-type]
            tree.root_lives = False
        tree.listener = None
        return tree

    def isolation(self) -> str:
        return "session"

    def limits(self) -> Mapping[str, str]:
        return {"memory": "sampled"}


class World:
    """A machine, its disk, the keeper of the moment, and what the agent has heard."""

    def __init__(self, boot_id: str = "boot-1") -> None:
        self.machine, self.disk, self.boot_id = FakeMachine(), FakeDisk(), boot_id
        self.heard: list[KeeperMessage] = []
        self.problems: list[str] = []
        self.keeper = self._new_keeper()

    def _new_keeper(self) -> Keeper:
        profile = KeeperProfile(log_path="/state/keeper.log", pid=7, version="1", boot_id=self.boot_id, mark="m")
        return Keeper(self.machine, self.disk, profile, complain=self.problems.append)

    def attach(self, incarnation: int = 1) -> tuple[Held, ...]:
        self.keeper.receive(Attach(agent_id="a", incarnation=incarnation, version="1"))
        held: list[Held] = []
        while isinstance(message := self.keeper.next_message(), Holding):
            held.extend(message.instances)
            if not message.more:
                break
        self.heard.clear()
        return tuple(held)

    def say(self, message: KeeperMessage) -> None:
        self.keeper.receive(message)

    def settle(self) -> None:
        """What is pending on the machine happens, and everything is told."""
        while self.machine.pending:
            self.machine.pending.pop(0)()  # type: ignore[operator]
        while (message := self.keeper.next_message()) is not None:
            self.heard.append(message)

    def wait(self, seconds: float) -> None:
        """Time passes, deadline by deadline."""
        until = self.machine.seconds + seconds
        self.settle()
        while self.keeper.next_deadline <= until:
            self.machine.seconds = max(self.machine.seconds, self.keeper.next_deadline)
            self.keeper.tick()
            self.settle()
        self.machine.seconds = until

    def kill_keeper(self) -> None:
        """Programs go on, and their output goes nowhere."""
        for tree in self.machine.trees.values():
            tree.listener = None
        self.machine.pending.clear()
        self.keeper = self._new_keeper()
        self.settle()

    def launch(self, instance_id: str = "i", epoch: int = 1, **changed: object) -> FakeTree:
        self.say(launch(instance_id, epoch, **changed))
        return self.machine.trees[(instance_id, epoch)]

    def ends(self) -> list[Finished]:
        return [message for message in self.heard if isinstance(message, Finished)]


def launch(instance_id: str = "i", epoch: int = 1, **changed: object) -> Launch:
    values: dict[str, object] = {
        "task_id": f"task-{instance_id}",
        "instance_id": instance_id,
        "epoch": epoch,
        "argv": ("/bin/program",),
        "environment": {"A": "b"},
        "directory": "/runs",
        "spool_path": f"/runs/{instance_id}.{epoch}.out",
        **changed,
    }
    return Launch(**values)  # type: ignore[arg-type]
