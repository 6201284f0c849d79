"""Histories made by hand: what the judges are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from eventstore.event import Claim, NewEvent
from tests.simulation.checkers import Evidence, Verdict
from tests.simulation.checkers.evidence import MachineSeen
from tests.simulation.observed import WitnessedLog
from tests.support.ports import EPOCH
from tests.support.processes import Running

Events = Sequence[tuple[str, Mapping[str, Any]]]

RUN_1 = {"instance_id": "i1", "epoch": 1, "agent_id": "m"}
RUN_2 = {"instance_id": "i2", "epoch": 2, "agent_id": "m"}


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


CONFIG = {"max_retries": 1, "labels": None}
TASK = {"task_id": "t", "config": CONFIG, "scheduled_at": at(0)}
LAWFUL: list[tuple[str, Mapping[str, Any]]] = [
    ("TaskCreated", TASK),
    ("TaskLocked", {}),
    ("TaskDispatched", RUN_1),
    ("InstanceStarted", RUN_1),
    ("InstanceFailed", {**RUN_1, "reason": "exit_code"}),
    ("TaskRetryScheduled", {"instance_id": "i2", "retry_at": at(0)}),
    ("TaskLocked", {}),
    ("TaskDispatched", RUN_2),
    ("InstanceStarted", RUN_2),
    ("InstanceSucceeded", RUN_2),
    ("TaskSucceeded", {}),
]

SCHEDULE = {
    "schedule_id": "s",
    "job_id": "j",
    "schedule_kind": 2,
    "status": 100,
    "interval_secs": 10,
    "cron_expression": None,
    "timezone": "UTC",
    "start_time": None,
    "end_time": None,
    "max_count": None,
    "misfire_policy": "fire_once",
    "misfire_grace_seconds": 3600,
    "overlap_policy": "allow",
    "jitter_seconds": 0,
    "anchor_at": at(0),
    "created_at": at(0),
}


def write(log: WitnessedLog, stream: str, events: Events, seconds: float) -> None:
    """Append one by one, all at that time."""
    for kind, data in events:
        version = log.version(stream)
        event = NewEvent(event_id=UUID(int=len(log.events) + 1), type=kind, data=msgspec.json.encode(data).decode())
        MemoryCommit = super(WitnessedLog, log).commit
        MemoryCommit([Claim(stream, version, [event])], EPOCH + timedelta(seconds=seconds))
        log.committed_at.append(seconds)


def a_log(stream: str, events: Events, seconds: float = 0) -> WitnessedLog:
    log = WitnessedLog()
    write(log, stream, events, seconds)
    return log


def a_process(
    key: Mapping[str, Any], started: float, ended: float | None, task_id: str = "t", machine: str = "m"
) -> Running:
    return Running(
        machine=machine,
        pid=int(started),
        task_id=task_id,
        instance_id=key["instance_id"],
        epoch=key["epoch"],
        arguments={},
        started=started,
        ended=ended,
        changed=None,  # type: ignore[arg-type]
        scope=None,  # type: ignore[arg-type]
    )


def a_machine(*history: Running, slots: int = 3, name: str = "m", **labels: str) -> MachineSeen:
    return MachineSeen(name, name, slots, labels, history)


def found(checker: Callable[[Evidence, Verdict], None], evidence: Evidence) -> set[str]:
    """The invariants that this judge says are violated."""
    verdict = Verdict()
    checker(evidence, verdict)
    return verdict.promises
