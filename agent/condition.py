"""What people want to know of an agent beyond its hello, as the facts of a `Condition`: few, bounded, no secrets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import fields

from agent.keeping import Attached
from agent.policy import OPEN, Policy
from agent.profile import Profile
from agent.workplace import instant
from hetuflow.protocol.messages import PROTOCOL_VERSION

ENTRIES_SHOWN_MAX: Final = 20
CHARACTERS_SHOWN_MAX: Final = 200


def facts_of(profile: Profile, incarnation: int, started_at: datetime) -> dict[str, Any]:
    """Those that do not change while the agent lives."""
    return {
        "version": profile.version,
        "protocol": PROTOCOL_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "host": profile.host,
        "boot_id": profile.boot_id,
        "incarnation": incarnation,
        "started_at": instant(started_at),
        "slots": profile.slots,
        "features": list(profile.features),
        "work_dir": _cut(profile.work_dir),
        "protected_labels": _shown(profile.policy.protected_labels),
        "policy": summary(profile.policy),
    }


def keeper_facts(keeper: Attached) -> dict[str, Any]:
    """Those that come from the keeper, and change with it."""
    return {
        "isolation": _cut(keeper.isolation),
        "limits": _shown(tuple(keeper.limits)),
        "keeper_pid": keeper.pid,
    }


def refusal_facts(problem: str | None) -> dict[str, Any]:
    """`refusal`: why it takes nothing now, though it is connected; left out while it does."""
    return {} if problem is None else {"refusal": _cut(problem)}


def summary(policy: Policy) -> Mapping[str, Any]:
    """The keys of `[policy]` that say something."""
    given = {each.name: getattr(policy, each.name) for each in fields(Policy)}
    return {name: _shown(value) for name, value in given.items() if value != getattr(OPEN, name)}


def _shown(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, tuple):
        return value
    shown = [_cut(entry) for entry in value[:ENTRIES_SHOWN_MAX]]
    more = len(value) - len(shown)
    return [*shown, f"… and {more} more"] if more else shown


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN_MAX else text[: CHARACTERS_SHOWN_MAX - 1] + "…"
