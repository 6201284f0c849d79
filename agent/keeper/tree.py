"""One process tree of the keeper: its output, its signals, its end. See `Tree` for what is promised."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from agent import process_tree
from agent.containment.leaf import NO_FIGURES, Leaf
from agent.keeper.following import Followed
from agent.keeper.messages import Limits
from agent.keeper.sampling import Figures, SampledLimits, disk_bytes, look_seconds, measure
from agent.keeper.system import Loop, Usage, Wanted
from agent.process_tree import Process
from hetuflow.ports.processes import Exit

READ_BYTES: Final = 48 * 1024
LOOK_SECONDS_FIRST: Final = 0.02
LOOK_SECONDS_MAX: Final = 1.0
LIMIT_SECONDS: Final = 0.2
"""Between two looks at a limit that the kernel holds: when it has killed one process, the others must follow."""
_BLOCK_BYTES: Final = 512

Number = TypeVar("Number", int, float)


class ProcessTree:
    """See `Tree`. Made by `OperatingSystem`, which also calls the methods that `Tree` does not have."""

    def __init__(
        self,
        loop: Loop,
        wanted: Wanted,
        pid: int,
        began: float,
        clock: Callable[[], float],
        held: Leaf | Followed,
    ) -> None:
        self._loop, self._listener, self._clock = loop, wanted.listener, clock
        self.began = began
        self._pid = pid
        self._identity = process_tree.identity(pid) or ""
        self._held = held
        self._leaf = held if not isinstance(held, Followed) else None
        self._sampled = _sampled(wanted.launch.limits, self._leaf, began)
        self._open_streams: dict[int, int] = {}
        self._closed_told = False
        self._exit: Exit | None = None
        self._tree_gone = False
        self._is_ending = False
        self.is_closed = False
        self._is_stopped = False
        self._figures = Figures()
        self.pidfd = -1
        self.memory_peak_bytes = 0
        self.when_closed: Callable[[ProcessTree], None] = lambda tree: None
        self._step = LOOK_SECONDS_FIRST
        self.look_deadline = clock() + LOOK_SECONDS_FIRST

    def __repr__(self) -> str:
        return f"<ProcessTree {self._pid}, {self.isolation}: {'ended' if self._exit is not None else 'running'}>"

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def isolation(self) -> str:
        level = self._leaf.level if self._leaf is not None else "session"
        return f"{level}+sampled" if self._sampled is not None else level

    @property
    def leaf(self) -> Leaf | None:
        return self._leaf

    @property
    def group(self) -> str:
        """Its control group's directory, for who must end it when the keeper cannot; "" = it has none."""
        return self._leaf.directory if self._leaf is not None else ""

    def terminate(self) -> None:
        self._is_ending, self._is_stopped = True, False
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process cannot obey

    def kill(self) -> None:
        self._is_ending, self._is_stopped = True, False
        self._held.kill()

    def is_alive(self) -> bool:
        if self._tree_gone:
            return False
        if self._exit is None or self._held.is_populated():
            return True
        self._tree_gone = True
        return False

    def usage(self) -> Usage:
        figures = self._measure() if not self._tree_gone else self._figures
        of_leaf = self._leaf.usage() if self._leaf is not None else NO_FIGURES
        exit_ = self._exit or Exit(exit_code=None, signal=None, cpu_seconds=0.0, memory_peak_bytes=0)
        read, written = disk_bytes(self._processes()) if self._exit is None else (0, 0)
        peak = max(self.memory_peak_bytes, exit_.memory_peak_bytes)
        return Usage(
            cpu_seconds=_first(of_leaf.cpu_seconds, max(figures.cpu_seconds, exit_.cpu_seconds)),
            memory_bytes=_first(of_leaf.memory_bytes, figures.memory_bytes),
            memory_peak_bytes=_first(of_leaf.memory_peak_bytes, peak),
            disk_read_bytes=_first(of_leaf.disk_read_bytes, max(read, exit_.disk_read_bytes)),
            disk_write_bytes=_first(of_leaf.disk_write_bytes, max(written, exit_.disk_write_bytes)),
            processes=figures.processes,
            cpu_pressure_seconds=_first(of_leaf.cpu_pressure_seconds, 0.0),
            memory_pressure_seconds=_first(of_leaf.memory_pressure_seconds, 0.0),
        )

    def exceeded(self) -> tuple[str, str] | None:
        held = self._leaf.broken() if self._leaf is not None else None
        return held or (self._sampled.broken if self._sampled is not None else None)

    def close(self) -> None:
        for fd in self._open_streams.values():
            self._loop.unwatch(fd)
            os.close(fd)
        self._open_streams.clear()
        self._unwatch_exit()
        if not self.is_closed:
            self.is_closed = True
            self.when_closed(self)

    # --- called by the system --------------------------------------------------------------------------------------

    def attach(self, stream: int, fd: int) -> None:
        self._open_streams[stream] = fd
        self._loop.watch(fd, lambda: self._readable(stream, fd))

    def ended(self, exit_: Exit, *, alone: bool) -> None:
        """The root has been reaped. `alone`: nothing else of its tree can be left."""
        self._unwatch_exit()
        self._exit = exit_
        if isinstance(self._held, Followed):
            self._held.is_root_reaped = True
        self._tree_gone = alone
        if not self._open_streams:
            self._tell_closed()
        self._listener.exited(exit_)

    def look(self, now: float) -> None:
        """Measure, and hold the limits that nobody else holds. A tree that has broken one is killed at once."""
        self.memory_peak_bytes = max(self.memory_peak_bytes, memory_peak_of(self._pid))
        self._step = min(self._step * 2, LOOK_SECONDS_MAX)
        if self._leaf is not None and not self._is_ending:
            if self._leaf.enforced:
                self._step = min(self._step, LIMIT_SECONDS)
            if self._leaf.broken() is not None:  # also without a limit of its own: no tree may have all pids
                self.kill()
        if self._sampled is not None and not self._is_ending:
            self._step = self._hold_limits(self._sampled, now)
        self.look_deadline = now + self._step

    # --- inside ----------------------------------------------------------------------------------------------------

    def _hold_limits(self, sampled: SampledLimits, now: float) -> float:
        """Seconds until the next look."""
        begun = self._clock()
        processes = self._processes()
        figures = self._measure(processes)
        self.memory_peak_bytes = max(self.memory_peak_bytes, figures.memory_bytes)
        sampled.look(processes, figures, now)
        if sampled.broken is not None:
            self.kill()
        elif sampled.is_stopped != self._is_stopped:
            self._is_stopped = sampled.is_stopped
            self._signal(signal.SIGSTOP if self._is_stopped else signal.SIGCONT)
        return look_seconds(self._clock() - begun)

    def _measure(self, processes: Sequence[Process] | None = None) -> Figures:
        measured = measure(self._processes() if processes is None else processes)
        cpu = max(self._figures.cpu_seconds, measured.cpu_seconds)  # of an ended orphan nobody tells afterwards
        self._figures = Figures(cpu_seconds=cpu, memory_bytes=measured.memory_bytes, processes=measured.processes)
        return self._figures

    def _processes(self) -> list[Process]:
        if isinstance(self._held, Followed):
            return self._held.processes()
        found = (process_tree.read_process(pid) for pid in self._held.pids())
        return [process for process in found if process is not None and process.state not in "ZX"]

    def _readable(self, stream: int, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._listener.wrote(stream, data)
            return
        self._loop.unwatch(fd)
        os.close(fd)
        del self._open_streams[stream]
        if not self._open_streams:
            self._tell_closed()

    def _tell_closed(self) -> None:
        if not self._closed_told:
            self._closed_told = True
            self._listener.closed()

    def _unwatch_exit(self) -> None:
        if self.pidfd != -1:
            self._loop.unwatch(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    def _members(self) -> list[int]:
        return self._held.members() if isinstance(self._held, Followed) else self._held.pids()

    def _signal(self, number: signal.Signals) -> None:
        if self._exit is None:  # not reaped, so the number is still ours, and the group gets it at one instant
            process_tree.send_group_signal(self._pid, number)
        for pid in self._members():
            found = process_tree.read_process(pid) if process_tree.HAS_PROC else None
            if self._exit is not None or found is None or found.group != self._pid:
                process_tree.send_signal([pid], number)


def _sampled(limits: Limits, leaf: Leaf | None, now: float) -> SampledLimits | None:
    """Those of the limits that its group does not hold; None = it holds all that were asked for."""
    if not (limits.memory_bytes or limits.cpu_cores or limits.processes):
        return None
    held = leaf.enforced if leaf is not None else ()
    left = Limits(
        memory_bytes=0 if "memory" in held else limits.memory_bytes,
        cpu_cores=0.0 if "cpu" in held else limits.cpu_cores,
        processes=0 if "processes" in held else limits.processes,
    )
    return SampledLimits(left, now) if left != Limits() else None


def _first(value: Number | None, otherwise: Number) -> Number:
    return otherwise if value is None else value


def exit_of(status: int | None, usage: Any, sampled_bytes: int) -> Exit:
    """What wait4 said, with the sampled peak where its own is the keeper's. `status` None = somebody else took it."""
    if status is None or usage is None:
        return Exit(exit_code=None, signal=None, cpu_seconds=0.0, memory_peak_bytes=sampled_bytes)
    code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit
    if _may_be_own(usage.ru_maxrss):  # our own size at vfork
        peak = sampled_bytes
    return Exit(
        exit_code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6),
        memory_peak_bytes=max(peak, sampled_bytes),
        disk_read_bytes=usage.ru_inblock * _BLOCK_BYTES,
        disk_write_bytes=usage.ru_oublock * _BLOCK_BYTES,
    )


def _may_be_own(peak: int) -> bool:
    """Whether this process has ever been that large."""
    global _own_peak
    if peak > _own_peak:
        _own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak <= _own_peak


_own_peak = 0
"""As it was when that was last asked: it never becomes less."""


def memory_peak_of(pid: int) -> int:
    """VmHWM in bytes; 0 when it cannot be told."""
    data = process_tree.read_whole(f"/proc/{pid}/status")
    _, _, rest = data.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if rest else 0
