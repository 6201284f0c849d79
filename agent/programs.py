"""Which file a program's name means, and why it cannot be started, in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from hetuflow.ports.processes import StartError


def find_program(name: str, environment: Mapping[str, str], work_dir: str) -> str:
    """The path of a program: as given when it has a slash, else searched on the PATH. Raises `StartError`."""
    if not name:
        raise StartError("no program is named: cmd is empty")
    if "\0" in name:
        raise StartError("the program's name contains a NUL character")
    if "/" in name:
        path = os.path.join(work_dir, name)
        problem = _why_not(path)
        if problem:
            raise StartError(f"program {name!r}: {problem}")
        return path
    searched = [*_path_of(environment), *_path_of(os.environ)]
    blocked = None
    for directory in dict.fromkeys(searched):
        path = os.path.join(directory, name)
        problem = _why_not(path)
        if problem is None:
            return path
        if problem != _MISSING:
            blocked = blocked or f"program {name!r}: {path} {problem}"
    raise StartError(blocked or f"program {name!r} was not found on the PATH ({os.pathsep.join(searched)})")


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


def _path_of(environment: Mapping[str, str]) -> list[str]:
    return [directory for directory in environment.get("PATH", "").split(os.pathsep) if directory]


def explain(path: str, exc: OSError) -> str:
    """What the operating system's refusal means."""
    if exc.errno == errno.ENOEXEC:
        return f"program {path!r} has no executable format (a script needs a first line such as #!/bin/sh)"
    if exc.errno == errno.ENOENT:
        return f"program {path!r}, or the interpreter that its first line names, does not exist"
    if exc.errno == errno.E2BIG:
        return f"program {path!r}: arguments and environment are larger than the system allows"
    return f"program {path!r} cannot be started: {exc.strerror}"
