"""How a refused report is kept as evidence, and recognised when it comes again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import attrs

from hetuflow.domain.commands import ReportEnded, ReportStarted
from hetuflow.domain.environment import rfc3339

JSON = Mapping[str, Any]

_NAMED_IN_EVENT = frozenset({"instance_id", "agent_id", "epoch"})


def evidence_of(report: ReportStarted | ReportEnded) -> dict[str, Any]:
    """Return the report as a JSON object, without the members that the event itself names, and without empty lists: a
    report that an older program has seen has none."""
    said = {
        attribute.name: _as_json(getattr(report, attribute.name))
        for attribute in attrs.fields(type(report))
        if attribute.name not in _NAMED_IN_EVENT and getattr(report, attribute.name) != ()
    }
    return {"kind": "started" if isinstance(report, ReportStarted) else "ended", **said}


def digest_of(instance_id: str, agent_id: str, epoch: int, report: JSON) -> str:
    """Return what a repeat of the same report has in common with it, whatever order its members are stored in."""
    text = json.dumps([instance_id, agent_id, epoch, report], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return rfc3339(value) if isinstance(value, datetime) else value
