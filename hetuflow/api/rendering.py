"""Rows of the tables as the shapes of the contract's §4: every member, computed ones included, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hetuflow.api.kinds import Integer
from hetuflow.api.rooms import Agents, Row
from hetuflow.api.schemas.agent import AGENT, AGENT_METRICS, STATISTICS
from hetuflow.api.schemas.backfill import BACKFILL
from hetuflow.api.schemas.calendar import CALENDAR
from hetuflow.api.schemas.flow import FLOW
from hetuflow.api.schemas.instance import INSTANCE
from hetuflow.api.schemas.job import JOB
from hetuflow.api.schemas.schedule import SCHEDULE
from hetuflow.api.schemas.server import SERVER
from hetuflow.api.schemas.task import TASK, with_mirror
from hetuflow.api.shapes import Entity
from hetuflow.domain import daemon_rules
from hetuflow.domain.config import completed
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus
from projections.output import Tail

JSON = dict[str, Any]


def _names(entity: Entity, *computed: str) -> tuple[str, ...]:
    """The members that a row has itself."""
    return tuple(m.name for m in entity.members if m.is_returned and m.name not in computed)


_JOB = _names(JOB)
_SCHEDULE = _names(SCHEDULE)
_TASK = tuple(name for name in _names(TASK, "config", "max_retries", "lock_version"))
_INSTANCE = _names(INSTANCE, "output", "output_truncated")
_AGENT = _names(AGENT, "metrics", "last_heartbeat_at", "statistics")
_SERVER = _names(SERVER)
_CALENDAR = _names(CALENDAR)
_FLOW = _names(FLOW)
_BACKFILL = _names(BACKFILL)
_STATISTICS = tuple(member.name for member in STATISTICS.members)
_METRICS = tuple(member.name for member in AGENT_METRICS.members)
_COUNTS = frozenset(member.name for member in AGENT_METRICS.members if isinstance(member.kind, Integer))


def job(row: Row) -> JSON:
    return {**{name: row[name] for name in _JOB}, "config": completed(row["config"])}


def schedule(row: Row) -> JSON:
    shown = {name: row[name] for name in _SCHEDULE}
    shown["kind"] = ScheduleKind(row["schedule_kind"]).name.lower()
    shown["interval_seconds"] = row["interval_secs"]
    shown["enabled"] = row["status"] == ScheduleStatus.ENABLED
    shown["daemon"] = None if row["daemon"] is None else daemon_rules.effective(row["daemon"])
    return shown


def task(row: Row) -> JSON:
    shown = {name: row[name] for name in _TASK}
    shown["config"] = with_mirror(dict(completed(row["config"])), row["retry_count"])
    shown["max_retries"] = row["config"]["max_retries"]
    shown["lock_version"] = row["version"]
    if shown["event"] is not None:
        shown["event"] = {"count": None, **shown["event"]}
    return shown


def instance(row: Row, tail: Tail | None, *, dropped_before: datetime | None = None) -> JSON:
    """`tail`: the end of its output; None when there is none. `dropped_before`: older output was dropped by retention."""
    shown = {name: row[name] for name in _INSTANCE}
    shown["output"] = None if tail is None else tail_text(tail.data)
    was_dropped = dropped_before is not None and (row["completed_at"] or dropped_before) < dropped_before
    shown["output_truncated"] = not tail.is_whole if tail is not None else was_dropped and row["started_at"] is not None
    return shown


def past_instance(row: Row) -> JSON:
    """As it was: output is no event, so what had been printed by then is not told."""
    return {**instance(row, None), "output_truncated": row["started_at"] is not None}


def agent(row: Row, agents: Agents | None) -> JSON:
    """`agents` None: as the log alone knows it."""
    agent_id = row["id"]
    shown = {name: row[name] for name in _AGENT}
    shown["statistics"] = {name: row["statistics"][name] for name in _STATISTICS}
    shown["metrics"] = None if agents is None else metrics(agents.metrics(agent_id))
    heard_at = None if agents is None else agents.last_heard_at(agent_id)
    shown["last_heartbeat_at"] = _latest(row["last_heartbeat_at"], heard_at)
    return shown


def metrics(heartbeat: Mapping[str, Any] | None) -> JSON | None:
    """Counts are whole numbers here; an agent tells every figure as a float."""
    if heartbeat is None:
        return None
    return {name: int(heartbeat.get(name, 0)) if name in _COUNTS else heartbeat.get(name, 0) for name in _METRICS}


def server(row: Row) -> JSON:
    return {name: row[name] for name in _SERVER}


def calendar(row: Row) -> JSON:
    return {name: row[name] for name in _CALENDAR}


def flow(row: Row) -> JSON:
    return {name: row[name] for name in _FLOW}


def backfill(row: Row) -> JSON:
    return {name: row[name] for name in _BACKFILL}


def _latest(recorded: datetime, heard: datetime | None) -> datetime:
    return recorded if heard is None else max(recorded, heard)


def tail_text(data: bytes) -> str:
    """The bytes as text; a character cut at the beginning is left out, other invalid bytes are replaced."""
    for cut in range(min(3, len(data))):
        if data[cut] & 0xC0 != 0x80:  # not the continuation of a character
            return data[cut:].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")
