"""How an instance has ended, in the words and figures of its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import define, frozen

from agent.keeper.system import Usage
from hetuflow.ports.processes import Exit

LEFT: Final = "processes of it could not be ended and may still run"
KILLED: Final = "the keeper was killed, and its processes with it"
UNKNOWN: Final = "the exit status could not be collected"
RESTARTED: Final = "the machine was restarted"
COPIED: Final = "its agent's state directory was copied: it is the original's, whose keeper runs"


@frozen(slots=True)
class Why:
    """Why an instance is ended, and how its report says so."""

    reason: str
    message: str


@define(slots=True)
class Outcome:
    reason: str | None
    message: str | None = None


def instant(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def lease_message(seconds: float) -> str:
    return f"the server could not be reached for the length of the lease ({seconds:g} s)"


def outcome_of(ended: Exit) -> Outcome:
    """How an end by itself counts."""
    if ended.signal is not None:
        return Outcome("signal", f"ended by signal {ended.signal}")
    if ended.exit_code is None:
        return Outcome("lost", UNKNOWN)
    if ended.exit_code != 0:
        return Outcome("exit_code", f"ended with exit code {ended.exit_code}")
    return Outcome(None)


def sampled(usage: Usage) -> Mapping[str, float]:
    """The values of a `Sample`."""
    return {
        "cpu_seconds": usage.cpu_seconds,
        "memory_bytes": usage.memory_bytes,
        "memory_peak": usage.memory_peak_bytes,
        "disk_read": usage.disk_read_bytes,
        "disk_write": usage.disk_write_bytes,
        "processes": usage.processes,
        **pressure(usage),
    }


def measured(ended: Exit, usage: Usage) -> Mapping[str, float]:
    """The `metrics` of a report: of the root and what it has reaped, or of the whole tree where that is known."""
    return {
        "cpu_time": max(ended.cpu_seconds, usage.cpu_seconds),
        "memory_peak": max(ended.memory_peak_bytes, usage.memory_peak_bytes),
        "disk_read": max(ended.disk_read_bytes, usage.disk_read_bytes),
        "disk_write": max(ended.disk_write_bytes, usage.disk_write_bytes),
        "network_in": 0,
        "network_out": 0,
        **pressure(usage),
    }


def pressure(usage: Usage) -> Mapping[str, float]:
    if not usage.cpu_pressure_seconds and not usage.memory_pressure_seconds:
        return {}
    found = {"cpu_pressure": usage.cpu_pressure_seconds, "memory_pressure": usage.memory_pressure_seconds}
    return {name: seconds for name, seconds in found.items() if seconds}
