"""Machines on which simulated programs run: they outlive who started them, as processes do.

A program is described by its arguments: `seconds=2.5`, `exit=1`, `ignore_term`, `output=300` (bytes in all),
`exit_below_epoch=3` (fails while the epoch is smaller), `signal=9` (ends by that signal, as one that the kernel kills
for its memory), `fork=5` (leaves a child behind that lives so many seconds longer, and holds no pipe). Everything that
ran is kept in `Machine.history`: what the checkers judge by, for it does not come from the system under test.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import define, field

from agent.keeper.messages import Launch
from hetuflow.ports.processes import Exit, StartError
from tests.support.nodes import start_outside

FOREVER = float("inf")


@define(slots=True, eq=False)
class Running:
    """One process tree, from the start of its root to the end of its last process (monotonic seconds)."""

    machine: str
    pid: int
    task_id: str
    instance_id: str
    epoch: int
    arguments: dict[str, str]
    started: float
    ended: float | None = None
    root_ended: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    written: dict[int, bytes] = field(factory=lambda: {1: b"", 2: b""})
    terminated_at: float | None = None
    _pieces: deque[tuple[int, bytes]] = field(factory=deque)
    _changed: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def live(self) -> None:
        seconds = float(self.arguments.get("seconds", "0"))
        with self._scope:
            self._write(int(self.arguments.get("output", "0")) // 2)
            await trio.sleep(seconds)
            self._write(int(self.arguments.get("output", "0")) // 2)
            self._end_root()
            await trio.sleep(float(self.arguments.get("fork", "0")))
        self.ended = trio.current_time()
        self.root_ended = self.ended if self.root_ended is None else self.root_ended
        self._wake()

    def _end_root(self) -> None:
        if "signal" in self.arguments:
            self.signal = int(self.arguments["signal"])
        elif self.epoch < int(self.arguments.get("exit_below_epoch", "0")):
            self.exit_code = 1
        else:
            self.exit_code = int(self.arguments.get("exit", "0"))
        self.root_ended = trio.current_time()
        self._wake()

    def end_by(self, signal: int) -> None:
        if signal == 15:
            self.terminated_at = self.terminated_at or trio.current_time()
            if "ignore_term" in self.arguments:
                return
        if self.ended is None and not self._scope.cancel_called:
            if self.root_ended is None:
                self.signal = signal
            self._scope.cancel()

    def _write(self, size: int) -> None:
        for stream in (1, 2):
            data = (f"{self.instance_id}.{self.epoch}.{stream} " * (size // 8 + 1)).encode()[:size]
            if data:
                self.written[stream] += data
                self._pieces.append((stream, data))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def exit(self) -> Exit:
        return Exit(exit_code=self.exit_code, signal=self.signal, cpu_seconds=0.01, memory_peak_bytes=1 << 20)

    async def next_piece(self) -> tuple[int, bytes] | None:
        await trio.lowlevel.checkpoint()
        while not self._pieces:
            if self.root_ended is not None:
                return None
            await self._changed.wait()
        return self._pieces.popleft()

    async def until_root_ended(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.root_ended is None:
            await self._changed.wait()


class Machine:
    """A host with processes. `run` owns them; `power_off` ends all of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.history: list[Running] = []
        self.doubtful: list[Running] = []
        """What ran while another machine had the same identity: no server can tell the two apart."""
        self.is_doubled = False
        self.most_at_once = 0
        self._nursery: trio.Nursery | None = None
        self._alive: dict[int, Running] = {}
        self._pids = 100

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def living(self) -> list[Running]:
        """What has not ended, in the order of its start."""
        for pid in [pid for pid, process in self._alive.items() if process.ended is not None]:
            del self._alive[pid]
        return list(self._alive.values())

    def double(self) -> None:
        """Another machine has this one's identity from now on, until `is_doubled` is taken back."""
        self.is_doubled = True
        living = self.living()
        self.history = [process for process in self.history if process not in living]
        self.doubtful += [process for process in living if process not in self.doubtful]

    def power_off(self) -> None:
        for process in self.living():
            process.end_by(9)

    def spawn(self, launch: Launch) -> Running:
        """A process that outlives whoever starts it. Raises `StartError`."""
        if launch.argv[0] != "program":
            raise StartError(f"{launch.argv[0]}: no such program")
        assert self._nursery is not None
        self._pids += 1
        process = Running(
            machine=self.name,
            pid=self._pids,
            task_id=launch.task_id,
            instance_id=launch.instance_id,
            epoch=launch.epoch,
            arguments={name: value for name, _, value in (argument.partition("=") for argument in launch.argv[1:])},
            started=trio.current_time(),
        )
        (self.doubtful if self.is_doubled else self.history).append(process)
        self._alive[process.pid] = process
        self.most_at_once = max(self.most_at_once, len(self.living()))
        start_outside(self._nursery, process.live)  # it goes on while its keeper is stopped
        return process
