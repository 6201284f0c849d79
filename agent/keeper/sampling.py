"""What a process tree uses, read from /proc, and the limits that nobody but the keeper holds: those without control groups.

- **memory**: the tree's resident memory. Shared pages count once per process in that sum, so only a sum over the limit is
  looked at closely, by proportional set sizes. RLIMIT_AS is no answer: Java, Go, node and wasm reserve many times what they
  use. Between two looks a program may take more than its limit.
- **processes**: processes and threads, counted. RLIMIT_NPROC counts all of a user's, so it is only the second line.
- **cpu**: a tree that has had more than its share is stopped until its share has caught up (SIGSTOP and SIGCONT).

A look costs in proportion to the tree, not to the machine; the more it costs, the more seldom it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from agent import process_tree
from agent.containment.leaf import memory_sentence
from agent.keeper.messages import Limits
from agent.process_tree import Process

LOOK_SECONDS_MIN: Final = 0.05
LOOK_SECONDS_MAX: Final = 1.0
LOOK_SHARE_MAX: Final = 0.02
"""Of the keeper's time, for each tree."""
CPU_BURST_SECONDS: Final = 0.1
"""CPU time that a tree may be ahead of its share: the period of a control group."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen(slots=True, kw_only=True)
class Figures:
    """Of the processes of a tree that live now. `cpu_seconds` also has the ended children that they have waited for."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    processes: int = 0
    """And threads."""


def measure(processes: Sequence[Process]) -> Figures:
    return Figures(
        cpu_seconds=sum(process.cpu_ticks for process in processes) / _TICKS,
        memory_bytes=sum(process.resident_pages for process in processes) * _PAGE_BYTES,
        processes=sum(process.threads for process in processes),
    )


def disk_bytes(processes: Sequence[Process]) -> tuple[int, int]:
    """(read, written) so far, of those whose figures may be read."""
    read = written = 0
    for process in processes:
        for line in process_tree.read_proc(f"/proc/{process.pid}/io").splitlines():
            name, _, value = line.partition(b": ")
            if name == b"read_bytes":
                read += int(value)
            elif name == b"write_bytes":
                written += int(value)
    return read, written


def proportional_bytes(processes: Sequence[Process]) -> int:
    """Resident memory with each shared page counted once; as `measure` has it where that may not be read."""
    total = 0
    for process in processes:
        _, _, rest = process_tree.read_proc(f"/proc/{process.pid}/smaps_rollup").partition(b"\nPss:")
        total += int(rest.split(None, 1)[0]) * 1024 if rest else process.resident_pages * _PAGE_BYTES
    return total


class SampledLimits:
    """Those of one tree that no control group holds. Pure but for `proportional_bytes`."""

    def __init__(self, limits: Limits, started: float) -> None:
        self._limits = limits
        self._started = started
        self.is_stopped = False
        self.broken: tuple[str, str] | None = None

    def look(self, processes: Sequence[Process], figures: Figures, now: float) -> None:
        """Judge what was just measured."""
        if self.broken is None:
            self.broken = self._over(processes, figures)
        if self._limits.cpu_cores:
            self.is_stopped = self.seconds_ahead(figures, now) > (0 if self.is_stopped else CPU_BURST_SECONDS)

    def seconds_ahead(self, figures: Figures, now: float) -> float:
        """CPU time used beyond the share of the time since the start; below 0 after idleness, but never by more than a burst."""
        ahead = figures.cpu_seconds - self._limits.cpu_cores * (now - self._started)
        if ahead < -CPU_BURST_SECONDS:  # what was not used is not saved up: begin anew from here
            self._started = now - (figures.cpu_seconds + CPU_BURST_SECONDS) / self._limits.cpu_cores
            return -CPU_BURST_SECONDS
        return ahead

    def _over(self, processes: Sequence[Process], figures: Figures) -> tuple[str, str] | None:
        memory, most = self._limits.memory_bytes, self._limits.processes
        if memory and figures.memory_bytes > memory:
            used = proportional_bytes(processes)
            if used > memory:
                return "memory", memory_sentence(memory, used)
        if most and figures.processes > most:
            sentence = (
                f"ended because it had {figures.processes} processes and threads, its limit is {most} (processes)"
            )
            return "processes", sentence
        return None


def look_seconds(cost_seconds: float) -> float:
    """Until the next look, after one that took so long."""
    return min(LOOK_SECONDS_MAX, max(LOOK_SECONDS_MIN, cost_seconds / LOOK_SHARE_MAX))
