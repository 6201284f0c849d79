"""Which file a program's name means, and why it cannot be started, in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final

from hetuflow.ports.processes import StartError


def find_program(name: str, environment: Mapping[str, str], work_dir: str) -> str:
    """The path of a program: as given when it has a slash, else searched on the PATH. Raises `StartError`."""
    if not name:
        raise StartError("no program is named: cmd is empty")
    if "\0" in name:
        raise StartError("the program's name contains a NUL character")
    if "/" in name:
        given = os.path.join(work_dir, name)
        problem = _why_not(given)
        if problem:
            raise StartError(f"program {name!r}: {problem}")
        return given
    searched = searched_directories(environment)
    found, blocked = _search(name, searched)
    if found is None and blocked is None and name in _ELSE:
        found, blocked = _search(_ELSE[name], searched)
    if found is None:
        raise StartError(blocked or _not_found(name, searched))
    return found


def searched_directories(environment: Mapping[str, str]) -> list[str]:
    """Where a program is looked for, in order."""
    return list(dict.fromkeys([*_path_of(environment), *_path_of(os.environ)]))


COMMON: Final = ("bash", "uv", "python", "node", "npx", "cargo", "java")
"""Programs that jobs name most. Source: REST contract, "ExecuteCommand"."""

_ELSE: Final[Mapping[str, str]] = {"python": "python3"}
"""What is meant where a name does not exist: Debian and its children have no `python` unless a package adds it."""

_MISSING: Final = "does not exist"


def _why_not(path: str) -> str | None:
    """Why a path cannot be executed; None when it can."""
    if os.access(path, os.X_OK) and not os.path.isdir(path):
        return None
    if not os.path.lexists(path):
        return _MISSING
    if os.path.isdir(path):
        return "is a directory"
    if not os.path.exists(path):
        return "is a link to nothing"
    return "is not executable (chmod +x?)"


def _search(name: str, directories: Sequence[str]) -> tuple[str | None, str | None]:
    """The program's path, or else why a file of this name is none."""
    blocked: str | None = None
    for directory in directories:
        path = os.path.join(directory, name)
        problem = _why_not(path)
        if problem is None:
            return path, None
        if problem != _MISSING:
            blocked = blocked or f"program {name!r}: {path} {problem}"
    return None, blocked


def _not_found(name: str, directories: Sequence[str]) -> str:
    """That it is not there, and what is: names like it, and the programs that jobs name most."""
    text = f"program {name!r} was not found on the PATH ({os.pathsep.join(directories)})"
    near = _near(name, directories)
    common = [
        each for each in COMMON if _search(each, directories)[0] or _search(_ELSE.get(each, each), directories)[0]
    ]
    if near:
        text += f"; names like it there: {', '.join(near)}"
    if name in COMMON and common:
        text += f"; this agent has {', '.join(common)}"
    return text


def _near(name: str, directories: Sequence[str]) -> list[str]:
    from difflib import get_close_matches  # 2 ms, that only a mistake costs

    names: set[str] = set()
    for directory in directories:
        try:
            names.update(os.listdir(directory))
        except OSError:
            continue
    near = get_close_matches(name, sorted(names), n=6, cutoff=0.75)
    return [each for each in near if _search(each, directories)[0] is not None][:3]


def _path_of(environment: Mapping[str, str]) -> list[str]:
    return [directory for directory in environment.get("PATH", "").split(os.pathsep) if directory]


def explain(path: str, exc: OSError, user: str | None = None) -> str:
    """What the operating system's refusal means. `user`: as whom it was to run, None = the agent's."""
    if exc.errno == errno.ENOEXEC:
        return f"program {path!r} has no executable format (a script needs a first line such as #!/bin/sh)"
    if exc.errno == errno.ENOENT:
        return f"program {path!r}, or the interpreter that its first line names, does not exist"
    if exc.errno == errno.E2BIG:
        return f"program {path!r}: arguments and environment are larger than the system allows"
    as_whom = f" by user {user}" if user is not None else ""
    return f"program {path!r} cannot be started{as_whom}: {exc.strerror}"


def why_impossible(argv: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Arguments and variables that no operating system takes; None when there are none."""
    for number, argument in enumerate(argv[1:]):
        if "\0" in argument:
            return f"args[{number}] contains a NUL character"
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            return f"environment variable {name!r} has a name or value that the system does not take"
    return None
