"""`hetuflow-agent policy …`: what this machine allows, and whether a job would be let in. Asks no server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from agent.facts import SystemFacts
from agent.host import base_environment
from agent.policy import MEGABYTE, Lowered
from agent.settings import AgentSettings
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch

REFUSED: Final = 1
USAGE_ERROR: Final = 2
EXAMPLE_DIRECTORY: Final = "/example-instance"
"""Stands for the directory that an instance would have of its own."""
_OUTPUT_BYTES_MAX: Final = 10 * MEGABYTE
_TIMEOUT_SECONDS: Final = 3600
"""A job's own when it gives none. Source: REST contract, "TaskConfig"."""


def show(settings: AgentSettings, *, json_: bool) -> int:
    """Print the policy with the source of each value. Returns the exit status, as `check` does."""
    rows = [row for row in settings.configuration.rows() if row[0].startswith("policy.")]
    if json_:
        click.echo(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows], indent=2))
        return 0
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    return 0


def check(settings: AgentSettings, file: str, *, json_: bool) -> int:
    """Say of a job, as JSON, whether it is allowed here, and which of its limits are lowered. 1 = it is not allowed."""
    try:
        order = order_of(_job(file))
    except (OSError, ValueError) as exc:
        click.echo(f"hetuflow-agent: {file}: {getattr(exc, 'strerror', None) or exc}", err=True)
        return USAGE_ERROR
    environment = {**base_environment(settings.executor.environment_allow), **order.environment}
    try:
        refusal = settings.policy.check(order, SystemFacts(), environment, EXAMPLE_DIRECTORY)
        problem = None if refusal is None else str(refusal)
    except StartError as exc:
        problem = str(exc)
    lowered = settings.policy.lowered(order)
    _say(problem, lowered, json_)
    return REFUSED if problem else 0


def _say(problem: str | None, lowered: Lowered, json_: bool) -> None:
    if json_:
        answer = {"allowed": problem is None, "refusal": problem, "lowered": dict(lowered.notes)}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    click.echo("allowed" if problem is None else problem)
    for reason, note in lowered.notes.items():
        click.echo(f"{reason}: {note}")


def _job(file: str) -> Mapping[str, Any]:
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("must hold one job, as a JSON object")
    config = found.get("config", found)
    if not isinstance(config, dict):
        raise ValueError("its config must be an object")
    return {**config, "environment": {**(found.get("environment") or {}), **(config.get("environment") or {})}}


def order_of(config: Mapping[str, Any]) -> Dispatch:
    """What an agent would be told of a job's config, as far as a policy asks. Raises `ValueError`."""
    limits = config.get("resource_limits") or {}
    executor = next((name for name in ("python", "wasm") if config.get(name)), None) or config.get("executor") or ""
    times = [n for n in (_get(config, "timeout", int, _TIMEOUT_SECONDS), limits.get("max_execution_time_secs")) if n]
    size = limits.get("max_output_size_bytes")
    output = _get(config, "max_output_size", int, _OUTPUT_BYTES_MAX)
    return Dispatch(
        task_id="",
        job_id="",
        instance_id="",
        epoch=1,
        attempt=1,
        cmd=_get(config, "cmd", str, "bash"),
        environment={name: str(value) for name, value in config["environment"].items()},
        timeout_seconds=min(times, default=0),
        output_bytes_max=output if size is None else min(output, size),
        working_dir=_get(config, "working_dir", str, ""),
        run_as=_get(config, "run_as", str, ""),
        nice=_get(config, "nice", int, 0),
        memory_bytes_max=_get(limits, "max_memory_mb", int, 0) * MEGABYTE,
        cpu_cores_max=float(limits.get("max_cpu_percent") or 0),
        processes_max=_get(limits, "max_processes", int, 0),
        executor=str(executor),
    )


def _get(values: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = values.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {'a text' if kind is str else 'a whole number'}, got {value!r}")
    return value
