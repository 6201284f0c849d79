"""The `daemon` member of a schedule as it is written in a file. Pure."""

from __future__ import annotations

from typing import Any

from hetuflow.cli.options import nearest_hint
from hetuflow.cli.times import duration_seconds
from hetuflow.domain import daemon_rules


def daemon(value: Any) -> dict[str, Any]:
    """How a daemon is kept running, complete; seconds may be written as durations, an integer is so many instances."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"instances": value}
    if not isinstance(value, dict):
        raise ValueError(f"must be an object or a number of instances, got {value!r}")
    given = {
        name: int(duration_seconds(inner)) if name.endswith("_seconds") and isinstance(inner, str) else inner
        for name, inner in value.items()
    }
    for name in given.keys() - daemon_rules.DEFAULTS.keys():
        raise ValueError(f"{name} is unknown; {nearest_hint(name, [*daemon_rules.DEFAULTS]) or 'see the reference'}")
    for path, message in daemon_rules.problems(given):
        raise ValueError(f"{path.removeprefix('daemon.')} {message}")
    return daemon_rules.effective(given)
