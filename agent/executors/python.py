"""The member `python` of a job: its program runs in an environment that has these packages.

`cmd: python`, and every program that the packages bring, is then that environment's: its `bin` comes first on the PATH.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, Final

from agent.executors.api import OptionProblem
from agent.executors.environments import Environments
from agent.executors.requirements import PythonOptions, python_options, read_requirements
from agent.policy import Facts
from hetuflow.ports.processes import StartError

FILE_BYTES_MAX: Final = 256 * 1024


async def prepare(
    given: Mapping[str, Any],
    instance_id: str,
    directory: str,
    environment: Mapping[str, str],
    kept: Environments,
    facts: Facts,
) -> dict[str, str]:
    """Return `environment` (complete, with its PATH) with the environment of Python in it. `facts` look at files.

    Raises:
      StartError: an option is not allowed, or there is no such environment and it cannot be built.
    """
    try:
        wanted = python_options(given)
        lines = await facts.look(lambda: _lines(wanted, directory)) if wanted.requirements_file else wanted.requirements
    except OptionProblem as exc:
        raise StartError(str(exc)) from exc
    existing = await facts.look(lambda: _existing(wanted.venv)) if wanted.venv else None
    found = existing if existing is not None else await kept.take(instance_id, wanted.version, lines)
    changed = {name: value for name, value in environment.items() if name != "PYTHONHOME"}
    path = os.pathsep.join(part for part in (f"{found}/bin", environment.get("PATH", "")) if part)
    return {**changed, "VIRTUAL_ENV": found, "PATH": path}


def _existing(path: str) -> str:
    python = os.path.join(path, "bin", "python")
    if not os.access(python, os.X_OK):
        raise StartError(f"python.venv: {path} is no environment of Python on this agent: there is no program {python}")
    return path


def _lines(wanted: PythonOptions, directory: str) -> tuple[str, ...]:
    path = os.path.join(directory, wanted.requirements_file)
    named = f"python.requirements_file ({wanted.requirements_file})"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise StartError(f"{named} cannot be read: {exc.strerror}") from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StartError(f"{named} is no file")
        data = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX:
        raise StartError(f"{named} is larger than {FILE_BYTES_MAX} bytes")
    try:
        return read_requirements(data.decode(), named)
    except UnicodeDecodeError as exc:
        raise StartError(f"{named} is no text in UTF-8") from exc
