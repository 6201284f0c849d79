"""What a program finds in its environment, and the order that is sent for one instance.

Later wins: job < job's config < task < task's config < parameters (`HETUFLOW_PARAM_<NAME>`) < what hetuflow itself says.
The first four are merged once, when the task is made; the rest is added at dispatch, because it names the instance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hetuflow.domain.config import output_bytes_max, timeout_seconds
from hetuflow.domain.decider import DispatchOrder
from hetuflow.domain.execution import execution_of

JSON = Mapping[str, Any]

PARAMETER_PREFIX = "HETUFLOW_PARAM_"
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


def merged(*layers: JSON | None) -> dict[str, Any] | None:
    """Return the layers laid over each other, later ones winning; None when there is none."""
    given = [layer for layer in layers if layer is not None]
    if not given:
        return None
    result: dict[str, Any] = {}
    for layer in given:
        result.update(layer)
    return result


def as_text(value: Any) -> str:
    """Return a value as the text a program reads: strings as they are, booleans `true`/`false`, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def parameter_name(name: str) -> str:
    """Return the variable of a parameter: upper-case, every other character than `A-Z 0-9 _` replaced by `_`."""
    return PARAMETER_PREFIX + _NOT_IN_NAMES.sub("_", name.upper())


def rfc3339(at: datetime) -> str:
    """Return the instant in UTC with `Z`: six fraction digits, none when the fraction is zero."""
    text = at.isoformat() if at.tzinfo is UTC else at.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def variables(environment: JSON | None, parameters: JSON, own: Mapping[str, str]) -> dict[str, str]:
    """Return the final environment.

    Two parameters that give one variable: the later name in code point order wins, whatever order they were stored in.
    """
    final = {name: as_text(value) for name, value in environment.items()} if environment else {}
    for name in sorted(parameters):
        final[parameter_name(name)] = as_text(parameters[name])
    final.update(own)
    return final


def dispatch_order(
    *,
    task_id: str,
    job_id: str,
    instance_id: str,
    epoch: int,
    attempt: int,
    config: JSON,
    environment: JSON | None,
    parameters: JSON,
    scheduled_at: datetime,
    event: JSON | None = None,
    rendered: JSON | None = None,
) -> DispatchOrder:
    """Return all that an agent needs to run one instance.

    Args:
      config: effective.
      environment: the task's, merged when it was made.
      scheduled_at: the nominal time where a schedule made the task.
      event: what triggered the task, where an event did.
      rendered: the arguments and variables that came of its templates; None when it has none.
    """
    own = {
        **(rendered["variables"] if rendered else {}),
        "HETUFLOW_JOB_ID": job_id,
        "HETUFLOW_TASK_ID": task_id,
        "HETUFLOW_INSTANCE_ID": instance_id,
        "HETUFLOW_EPOCH": str(epoch),
        "HETUFLOW_ATTEMPT": str(attempt),
        "HETUFLOW_SCHEDULED_AT": rfc3339(scheduled_at),
    }
    if event is not None:
        own["HETUFLOW_EVENT_ID"], own["HETUFLOW_EVENT_TYPE"] = event["id"], event["type"]
    return DispatchOrder(
        task_id=task_id,
        job_id=job_id,
        instance_id=instance_id,
        epoch=epoch,
        attempt=attempt,
        cmd=config["cmd"],
        args=tuple(rendered["args"] if rendered else config["args"]),
        environment=variables(environment, parameters, own),
        timeout_seconds=timeout_seconds(config),
        capture_output=config["capture_output"],
        output_bytes_max=output_bytes_max(config),
        scheduled_at=scheduled_at,
        execution=execution_of(config, parameters),
    )
