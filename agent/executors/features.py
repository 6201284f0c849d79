"""Which executors this agent has, as it tells the server: a task that needs one comes only to agents that have it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Final

from agent.distributions import entry_points
from agent.programs import find_program
from hetuflow.ports.processes import StartError

GROUP: Final = "hetuflow.executors"
"""The group of entry points; the name of one is the `executor` of a job."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a job can name."""
OWN: Final = ("python", "wasm")
"""Names that mean ours, whatever a package says."""


def available(environment: Mapping[str, str]) -> tuple[str, ...]:
    """`python` where there is an interpreter for environments, `wasm` where Extism is installed, `executors`, and
    `executor.<name>` for each that a package brings."""
    python = ("python",) if python3(environment) is not None else ()
    wasm = ("wasm",) if has_extism() else ()
    return (*python, *wasm, "executors", *(f"executor.{name}" for name in names()))


def has_extism() -> bool:
    """Whether modules of WebAssembly can be run; found out without importing it."""
    return importlib.util.find_spec("extism") is not None


def python3(environment: Mapping[str, str]) -> str | None:
    """The interpreter that environments are made with when a job names no version."""
    try:
        return find_program("python3", environment, "/")
    except StartError:
        return None


def names() -> tuple[str, ...]:
    """Executors that packages bring, sorted."""
    return tuple(dict.fromkeys(name for name, _, _ in packages()))


def packages() -> list[tuple[str, str, str]]:
    """Executor, package, and what of it is called; sorted."""
    return sorted(row for row in entry_points(GROUP) if NAME.fullmatch(row[0]) and row[0] not in OWN)
