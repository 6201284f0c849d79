"""How a program is run, and under what: the members of a config that only its agent acts on. Pure.

They are optional, and a stored config has only those that differ from their default: most jobs have none of them, and
what is stored is copied into every task. What an agent needs for a member is a *feature*, which it tells when it
connects; a task is placed only on agents that have those it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from attrs import Factory, frozen

from hetuflow.domain import executors, inputs
from hetuflow.domain.enums import OnDisconnect
from hetuflow.domain.inputs import ArtifactWanted, FileGiven

JSON = Mapping[str, Any]
_Bound = tuple[Callable[[Any], bool], str]

STDIN_BYTES_MAX = 64 * 1024
PATH_LENGTH_MAX = 4096
KILL_GRACE_SECONDS = 10
KILL_GRACE_SECONDS_MAX = 3600
LOST_AFTER_SECONDS_MIN = 5
LOST_AFTER_SECONDS_MAX = 86_400
NICE_MIN, NICE_MAX = -20, 19
UMASK = 0o077

WORKING_DIR_PATTERN = r"/[\s\S]*"
RUN_AS_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
RUN_AS_RULE = "the name of a user: 1-32 of A-Z a-z 0-9 . _ -, beginning with a letter or _"
UMASK_PATTERN = "0?[0-7]{3}"
UMASK_RULE = 'an octal text such as "0077"'
IONICE_PATTERN = "idle|best-effort(:[0-7])?"
IONICE_RULE = '"idle", "best-effort", or "best-effort:0" to "best-effort:7"'

DEFAULTS: JSON = MappingProxyType(
    {
        "working_dir": None,
        "stdin": None,
        "kill_grace_seconds": KILL_GRACE_SECONDS,
        "on_disconnect": str(OnDisconnect.STOP),
        "lost_after_seconds": None,
        "idempotent": False,
        "run_as": None,
        "umask": None,
        "nice": 0,
        "ionice": None,
        "files": None,
        "artifacts": None,
        "python": None,
        "wasm": None,
        "executor": None,
        "executor_options": None,
    }
)
"""The members, and the value each has when it is not given."""

LIMITS = ("max_memory_mb", "max_cpu_percent", "max_processes")
"""Of `resource_limits`, those that need an agent which can tell a whole process tree's use."""

FEATURE_LABEL: Final = "sys.feature."
"""An agent that has the feature `x` has the label `sys.feature.x`, with the value "true"."""


def without_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Remove the members that say what is so anyway. Changes `config`, and returns it."""
    if _gives(config):
        for name, default in DEFAULTS.items():
            if name in config and config[name] == default and type(config[name]) is type(default):
                del config[name]
    return config


# --- what a task has of it -----------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Execution:
    """The members, typed. Seconds and bytes; 0 and "" mean "not given", of limits "none"."""

    working_dir: str = ""
    stdin: bytes = b""
    kill_grace_seconds: int = KILL_GRACE_SECONDS
    on_disconnect: str = OnDisconnect.STOP
    lost_after_seconds: int = 0
    run_as: str = ""
    umask: int = UMASK
    nice: int = 0
    ionice: str = ""
    memory_bytes_max: int = 0
    cpu_cores_max: float = 0.0
    processes_max: int = 0
    files: tuple[FileGiven, ...] = ()
    artifacts: tuple[ArtifactWanted, ...] = ()
    executor: str = ""
    executor_options: JSON = Factory(dict)
    parameters: JSON = Factory(dict)
    """The task's own, for an executor that is not a plain program."""


PLAIN: Final = Execution()
"""Of a config that gives none of the members, as most do."""


def execution_of(config: JSON, parameters: JSON) -> Execution:
    """What the agent is told beyond the program and its environment."""
    limits = config.get("resource_limits")
    if not _gives(config) and not (limits and any(limits.get(name) is not None for name in LIMITS)):
        return PLAIN
    umask = config.get("umask")
    executor, options = executors.chosen(config)
    limits = limits or {}
    return Execution(
        working_dir=config.get("working_dir") or "",
        stdin=(config.get("stdin") or "").encode(),
        kill_grace_seconds=kill_grace_seconds(config),
        on_disconnect=on_disconnect(config),
        lost_after_seconds=lost_after_seconds(config),
        run_as=config.get("run_as") or "",
        umask=UMASK if umask is None else int(umask, 8),
        nice=config.get("nice") or 0,
        ionice=config.get("ionice") or "",
        memory_bytes_max=(limits.get("max_memory_mb") or 0) * 1024 * 1024,
        cpu_cores_max=float(limits.get("max_cpu_percent") or 0),
        processes_max=limits.get("max_processes") or 0,
        files=inputs.files_of(executors.files_of(config)),
        artifacts=inputs.artifacts_of(config.get("artifacts")),
        executor=executor,
        executor_options=options,
        parameters=parameters if executor else {},
    )


def kill_grace_seconds(config: JSON) -> int:
    """Between SIGTERM and SIGKILL."""
    seconds: int | None = config.get("kill_grace_seconds")
    return KILL_GRACE_SECONDS if seconds is None else seconds


def on_disconnect(config: JSON) -> str:
    return config.get("on_disconnect") or OnDisconnect.STOP


def lost_after_seconds(config: JSON) -> int:
    """The lease of the config's instances; 0 = that of their agent's session."""
    return config.get("lost_after_seconds") or 0


def is_idempotent(config: JSON) -> bool:
    """Whether running twice at the same time is harmless."""
    return bool(config.get("idempotent"))


def is_kept(config: JSON) -> bool:
    """Whether an instance is its agent's however long that is silent: it goes on there, and may run nowhere else."""
    return on_disconnect(config) == OnDisconnect.CONTINUE and not is_idempotent(config)


def may_outlive_its_lease(config: JSON) -> bool:
    """Whether the program may still run when its instance is lost."""
    return on_disconnect(config) == OnDisconnect.CONTINUE


def features_of(config: JSON) -> tuple[str, ...]:
    """What an agent must be able to do, beyond running a program; in a fixed order."""
    limits = config.get("resource_limits")
    found = ["limits"] if limits and any(limits.get(name) is not None for name in LIMITS) else []
    if _gives(config):
        found += [feature for feature, names in _NEEDED.items() if any(_differs(config, name) for name in names)]
        if executors.brings_module(config) and "files" not in found:
            found.append("files")
        if name := config.get("executor"):
            found.append(f"executor.{name}")
    return tuple(found)


_NEEDED: Mapping[str, Sequence[str]] = {
    "manners": ("working_dir", "stdin", "run_as", "umask", "nice", "ionice"),
    "policies": ("kill_grace_seconds", "on_disconnect", "lost_after_seconds"),
    "files": ("files",),
    "artifacts": ("artifacts",),
    "python": ("python",),
    "wasm": ("wasm",),
    "executors": ("executor",),
}


def _gives(config: JSON) -> bool:
    return not DEFAULTS.keys().isdisjoint(config)


def _differs(config: JSON, name: str) -> bool:
    return config.get(name, DEFAULTS[name]) not in (None, DEFAULTS[name])


# --- bounds --------------------------------------------------------------------------------------------------------


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _integer(low: int, high: int) -> _Bound:
    return lambda value: _is_int(value, low, high), f"must be an integer from {low} to {high}"


def _text(pattern: str, rule: str, most: int = PATH_LENGTH_MAX) -> _Bound:
    holds = re.compile(pattern)

    def fits(value: Any) -> bool:
        return isinstance(value, str) and len(value) <= most and "\0" not in value and bool(holds.fullmatch(value))

    return fits, f"must be {rule}"


def _is_stdin(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode(errors="replace")) <= STDIN_BYTES_MAX


ON_DISCONNECT = tuple(str(each) for each in OnDisconnect)

BOUNDS: Mapping[str, _Bound] = {
    "working_dir": _text(WORKING_DIR_PATTERN, f"an absolute path ≤ {PATH_LENGTH_MAX} characters"),
    "stdin": (_is_stdin, f"must be a string of at most {STDIN_BYTES_MAX} bytes"),
    "kill_grace_seconds": _integer(0, KILL_GRACE_SECONDS_MAX),
    "on_disconnect": (lambda value: value in ON_DISCONNECT, f"must be one of {', '.join(ON_DISCONNECT)}"),
    "lost_after_seconds": _integer(LOST_AFTER_SECONDS_MIN, LOST_AFTER_SECONDS_MAX),
    "idempotent": (lambda value: isinstance(value, bool), "must be true or false"),
    "run_as": _text(RUN_AS_PATTERN, RUN_AS_RULE),
    "umask": _text(UMASK_PATTERN, UMASK_RULE),
    "nice": _integer(NICE_MIN, NICE_MAX),
    "ionice": _text(IONICE_PATTERN, IONICE_RULE),
    "files": (lambda value: isinstance(value, Mapping), "must be an object of files by path"),
    "artifacts": (lambda value: isinstance(value, list | tuple), "must be an array of path globs"),
    "python": (lambda value: isinstance(value, Mapping), "must be an object"),
    "wasm": (lambda value: isinstance(value, Mapping), "must be an object"),
    "executor": _text(executors.NAME_PATTERN, executors.NAME_RULE),
    "executor_options": (lambda value: isinstance(value, Mapping), "must be an object"),
}


def problems(config: JSON, path: str) -> list[tuple[str, str]]:
    """(path, message) of what is wrong inside the members that hold their `BOUNDS`. None is "not given"."""
    if not _gives(config):
        return []
    found: list[tuple[str, str]] = []
    for name, faults in FAULTS.items():
        value = config.get(name)
        if value is not None and BOUNDS[name][0](value):
            found += [(f"{path}.{name}{where}", message) for where, message in faults(value)]
    return found + [(f"{path}.{name}", message) for name, message in executors.conflicts(config)]


Faults = Callable[[Any], list[tuple[str, str]]]

FAULTS: Mapping[str, Faults] = {
    "files": inputs.faults_of_files,
    "artifacts": inputs.faults_of_artifacts,
    "python": executors.faults_of_python,
    "wasm": executors.faults_of_wasm,
    "executor_options": executors.faults_of_options,
}
"""Member -> what is wrong inside it, as (path from the member on, message)."""
