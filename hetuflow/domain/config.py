"""The TaskConfig of jobs and tasks: what is known, its defaults and bounds, and how one lays over another.

A config travels as a JSON object: known members typed, open ones kept as they came. Stored configs are *effective*:
all known members present, but those of `execution` only where they differ from their default. Unknown members that resemble a known one are the API's to refuse; here only values count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import frozen

from hetuflow.domain import execution, parameters, retry
from hetuflow.domain import limits as task_limits
from hetuflow.domain.rejection import Rejected

JSON = Mapping[str, Any]

MAX_RETRIES_MAX = 1000
CMD_LENGTH_MAX = 4096

STORED: JSON = MappingProxyType(
    {
        "timeout": 3600,
        "max_retries": 3,
        "retry_interval": 60,
        "cmd": "bash",
        "args": (),
        "capture_output": True,
        "max_output_size": 10_485_760,
        "environment": None,
        "labels": None,
        "resource_limits": None,
        "start_deadline_seconds": 0,
        "retry": None,
        "params": None,
        "limits": None,
    }
)
"""The members that every stored config has, and the value each has when it is not given."""

DEFAULTS: JSON = MappingProxyType({**STORED, **execution.DEFAULTS})
"""All known members. Source: REST contract, "TaskConfig"."""

RESERVED: tuple[str, ...] = ("secrets",)
"""Refused until they are built, so that no stored job changes its meaning later."""

_NOTHING_GIVEN: JSON = MappingProxyType({})


def effective(job_config: JSON, overrides: JSON | None = None) -> dict[str, Any]:
    """Return `job_config` with `overrides` laid over it member by member, as it is stored.

    A known member that is None in either counts as not given. Open members are kept, their None too.
    """
    merged = dict(STORED)
    for layer in (job_config, overrides or _NOTHING_GIVEN):
        for name, value in layer.items():
            if value is not None or name not in DEFAULTS:
                merged[name] = value
    merged["args"] = list(merged["args"])
    return execution.without_defaults(merged)


def completed(config: JSON) -> JSON:
    """A stored config with the members that it lacks, so that what is shown has always the same ones."""
    return {**DEFAULTS, **config}


@frozen(slots=True)
class TaskConfig:
    """An effective config, typed. Seconds and bytes; 0 seconds of timeout = no limit; None = no limit."""

    timeout_seconds: int
    max_retries: int
    retry_interval_seconds: int
    cmd: str
    args: tuple[str, ...]
    capture_output: bool
    output_bytes_max: int
    environment: JSON | None
    labels: tuple[tuple[str, str], ...]
    memory_mb_max: int | None
    cpu_percent_max: float | None

    @classmethod
    def of(cls, config: JSON) -> TaskConfig:
        """Read an effective config. Of two limits of the same thing the smaller holds."""
        limits = config["resource_limits"] or {}
        return cls(
            timeout_seconds=timeout_seconds(config),
            max_retries=config["max_retries"],
            retry_interval_seconds=config["retry_interval"],
            cmd=config["cmd"],
            args=tuple(config["args"]),
            capture_output=config["capture_output"],
            output_bytes_max=output_bytes_max(config),
            environment=config["environment"],
            labels=required_labels(config),
            memory_mb_max=limits.get("max_memory_mb"),
            cpu_percent_max=limits.get("max_cpu_percent"),
        )


def required_labels(config: JSON) -> tuple[tuple[str, str], ...]:
    """The labels an agent must have, as sorted pairs: those of the config, and one for each feature that it needs."""
    labels = config["labels"]
    features = execution.features_of(config)
    if features:
        labels = {**(labels or {}), **{f"{execution.FEATURE_LABEL}{name}": "true" for name in features}}
    return tuple(sorted(labels.items())) if labels else ()


def timeout_seconds(config: JSON) -> int:
    """How long an instance may run, 0 = no limit: the smaller of `timeout` and `max_execution_time_secs`."""
    timeout: int = config["timeout"]
    limits = config["resource_limits"]
    limit: int = (limits.get("max_execution_time_secs") or 0) if limits else 0
    return min(timeout, limit) if timeout and limit else timeout or limit


def start_deadline_seconds(config: JSON) -> int:
    """How long after its scheduled time a task may still be given to an agent; 0 = for ever, as in older configs."""
    seconds: int = config.get("start_deadline_seconds") or 0
    return seconds


def output_bytes_max(config: JSON) -> int:
    """How much output is kept: the smaller of `max_output_size` and `max_output_size_bytes`."""
    size: int = config["max_output_size"]
    limits = config["resource_limits"]
    limit: int | None = limits.get("max_output_size_bytes") if limits else None
    return size if limit is None else min(size, limit)


# --- bounds --------------------------------------------------------------------------------------------------------


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value >= 0


def _is_strings(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_variables(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(item, str | int | float) for name, item in value.items()
    )


def _is_labels(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


_Bound = tuple[Callable[[Any], bool], str]

_COUNT: _Bound = (_is_count, "must be an integer ≥ 0")

BOUNDS: Mapping[str, _Bound] = {
    "timeout": _COUNT,
    "max_retries": (lambda v: _is_count(v) and v <= MAX_RETRIES_MAX, f"must be an integer 0-{MAX_RETRIES_MAX}"),
    "retry_interval": _COUNT,
    "cmd": (
        lambda v: isinstance(v, str) and 1 <= len(v) <= CMD_LENGTH_MAX,
        f"must be a string of 1-{CMD_LENGTH_MAX} characters",
    ),
    "args": (_is_strings, "must be an array of strings"),
    "capture_output": (lambda v: isinstance(v, bool), "must be true or false"),
    "max_output_size": _COUNT,
    "environment": (_is_variables, "must be an object of strings, numbers or booleans"),
    "labels": (_is_labels, "must be an object of strings"),
    "resource_limits": (lambda v: isinstance(v, Mapping), "must be an object"),
    "start_deadline_seconds": _COUNT,
    "retry": (lambda v: isinstance(v, Mapping), "must be an object"),
    "params": (lambda v: isinstance(v, Mapping), "must be an object"),
    "limits": (lambda v: isinstance(v, Mapping), "must be an object"),
    **execution.BOUNDS,
}

LIMIT_BOUNDS: Mapping[str, _Bound] = {
    "max_memory_mb": (lambda v: _is_int(v) and v >= 1, "must be an integer ≥ 1"),
    "max_cpu_percent": (
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v > 0,
        "must be a number > 0",
    ),
    "max_processes": (lambda v: _is_int(v) and v >= 1, "must be an integer ≥ 1"),
    "max_execution_time_secs": _COUNT,
    "max_output_size_bytes": _COUNT,
}


def problems(config: JSON, path: str = "config") -> list[tuple[str, str]]:
    """Return (path, message) of every known member that is out of its bounds. None is "not given"."""
    found = _out_of_bounds(config, BOUNDS, path)
    limits = config.get("resource_limits")
    if isinstance(limits, Mapping):
        where = f"{path}.resource_limits"
        found += [(f"{where}.{name}", "is not known") for name in limits if name not in LIMIT_BOUNDS]
        found += _out_of_bounds(limits, LIMIT_BOUNDS, where)
    if isinstance(config.get("retry"), Mapping):
        found += retry.problems(config["retry"], f"{path}.retry")
    if isinstance(config.get("params"), Mapping):
        where = f"{path}.params"
        found += [(f"{where}.{each.path}".rstrip("."), each.message) for each in parameters.faults(config["params"])]
    found += task_limits.problems(config.get("limits"), f"{path}.limits")
    found += execution.problems(config, path)
    found += [(f"{path}.{name}", "is not supported by this version") for name in RESERVED if name in config]
    return found


def checked(config: JSON, path: str = "config") -> JSON:
    """Return `config`.

    Raises:
      Rejected: `invalid`, naming the first member that is out of its bounds.
    """
    found = problems(config, path)
    if found:
        where, message = found[0]
        raise Rejected("invalid", f"{where} {message}", {"path": where})
    return config


def _out_of_bounds(values: JSON, bounds: Mapping[str, _Bound], path: str) -> list[tuple[str, str]]:
    return [
        (f"{path}.{name}", f"{message}, got {values[name]!r}")
        for name, (holds, message) in bounds.items()
        if values.get(name) is not None and not holds(values[name])
    ]
