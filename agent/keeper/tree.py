"""One process tree of the keeper: its output, its signals, its end. See `Tree` for what is promised."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any, Final

from agent import process_tree
from agent.keeper.system import Listener, Loop, Usage
from hetuflow.ports.processes import Exit

READ_BYTES: Final = 48 * 1024
SAMPLE_SECONDS_FIRST: Final = 0.02
SAMPLE_SECONDS_MAX: Final = 1.0
_BLOCK_BYTES: Final = 512


class ProcessTree:
    """See `Tree`. Made by `OperatingSystem.spawn`, which also calls the methods that `Tree` does not have."""

    def __init__(self, loop: Loop, pid: int, mark: str | None, listener: Listener, now: float) -> None:
        self._loop = loop
        self._pid = pid
        self._identity = process_tree.identity(pid) or ""
        self._mark = mark
        self._listener = listener
        self._open_streams: dict[int, int] = {}
        self._closed_told = False
        self._exit: Exit | None = None
        self._tree_gone = False
        self.pidfd = -1
        self.memory_peak_bytes = 0
        self._sample_step = SAMPLE_SECONDS_FIRST
        self.sample_deadline = now + SAMPLE_SECONDS_FIRST

    def __repr__(self) -> str:
        return f"<ProcessTree {self._pid}: {'ended' if self._exit is not None else 'running'}>"

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def isolation(self) -> str:
        return "session"

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process cannot obey

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def is_alive(self) -> bool:
        if self._tree_gone:
            return False
        if self._exit is None or self._members():
            return True
        self._tree_gone = True
        return False

    def usage(self) -> Usage:
        if self._exit is None:
            return Usage(memory_peak_bytes=self.memory_peak_bytes)
        return Usage(
            cpu_seconds=self._exit.cpu_seconds,
            memory_peak_bytes=self._exit.memory_peak_bytes,
            disk_read_bytes=self._exit.disk_read_bytes,
            disk_write_bytes=self._exit.disk_write_bytes,
        )

    def exceeded(self) -> tuple[str, str] | None:
        return None

    def close(self) -> None:
        for fd in self._open_streams.values():
            self._loop.unwatch(fd)
            os.close(fd)
        self._open_streams.clear()
        self._unwatch_exit()

    # --- called by the system --------------------------------------------------------------------------------------

    def attach(self, stream: int, fd: int) -> None:
        self._open_streams[stream] = fd
        self._loop.watch(fd, lambda: self._readable(stream, fd))

    def ended(self, exit_: Exit, *, alone: bool) -> None:
        """The root has been reaped. `alone`: nothing else of its tree can be left."""
        self._unwatch_exit()
        self._exit = exit_
        self._tree_gone = alone
        if not self._open_streams:
            self._tell_closed()
        self._listener.exited(exit_)

    def sample(self, now: float) -> None:
        self.memory_peak_bytes = max(self.memory_peak_bytes, memory_peak_of(self._pid))
        self._sample_step = min(self._sample_step * 2, SAMPLE_SECONDS_MAX)
        self.sample_deadline = now + self._sample_step

    # --- inside ----------------------------------------------------------------------------------------------------

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
        found = process_tree.members(self._pid, self._mark)
        if self._exit is not None and self._pid in found:
            return []  # the root is reaped: its number belongs to somebody else now, and so does its session
        return found

    def _signal(self, number: signal.Signals) -> None:
        if self._exit is None:  # not reaped, so the number is still ours, and the group gets it at one instant
            process_tree.send_group_signal(self._pid, number)
        for pid in self._members():
            found = process_tree.read_process(pid) if process_tree.HAS_PROC else None
            if self._exit is not None or found is None or found.group != self._pid:
                process_tree.send_signal([pid], number)


def exit_of(status: int | None, usage: Any, sampled_bytes: int) -> Exit:
    """What wait4 said, with the sampled peak where its own is the keeper's. `status` None = somebody else took it."""
    if status is None or usage is None:
        return Exit(exit_code=None, signal=None, cpu_seconds=0.0, memory_peak_bytes=sampled_bytes)
    code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit
    if peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit:  # perhaps our own size at vfork
        peak = sampled_bytes
    return Exit(
        exit_code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6),
        memory_peak_bytes=max(peak, sampled_bytes),
        disk_read_bytes=usage.ru_inblock * _BLOCK_BYTES,
        disk_write_bytes=usage.ru_oublock * _BLOCK_BYTES,
    )


def memory_peak_of(pid: int) -> int:
    """VmHWM in bytes; 0 when it cannot be told."""
    data = process_tree.read_proc(f"/proc/{pid}/status")
    _, _, rest = data.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if rest else 0
