"""Programs that outlive their lease (`on_disconnect: continue`): from when on nobody counts them any more.

The one way in which two programs of a task may run at once: its job says that this is harmless (`idempotent`), and the
lease of the first was over; or somebody cancelled it while its agent was away, and was told that it may still run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from tests.support.processes import Running

Key = tuple[str, int]


def goes_on(config: Mapping[str, Any]) -> bool:
    return config.get("on_disconnect") == "continue"


def given_up(streams: Iterable[Sequence[Any]]) -> dict[Key, float]:
    """Dispatches of such tasks that the log ended although their program may run, and when."""
    found: dict[Key, float] = {}
    for stream in streams:
        config: Mapping[str, Any] = {}
        for fact in stream:
            config = fact.data.get("config") or config
            is_lost = fact.type == "InstanceFailed" and fact.data["reason"] == "lost" and config.get("idempotent")
            if goes_on(config) and (is_lost or fact.type == "InstanceCancelled"):
                found[fact.data["instance_id"], fact.data["epoch"]] = fact.at
    return found


def counted(history: Iterable[Running], given_up: Mapping[Key, float]) -> list[Running]:
    """Each process, for as long as it counts."""
    return [_until(process, given_up.get((process.instance_id, process.epoch))) for process in history]


def _until(process: Running, at: float | None) -> Running:
    if at is None or (process.ended is not None and process.ended <= at):
        return process
    shorter = copy(process)
    shorter.ended = max(at, process.started)
    return shorter
