"""What an agent finds out about its machine: labels of its own, and what a policy has to know."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from typing import Final

import psutil

from agent.host import DEFAULT_PATH, hostname
from agent.policy import SUPERUSER
from agent.programs import find_program
from hetuflow.ports.processes import StartError

LINKS_MAX: Final = 40
"""As many as the kernel follows."""


def system_labels() -> dict[str, str]:
    """`sys.os`, `sys.arch`, `sys.hostname`, `sys.cores` (that this process may use), `sys.memory_gb` (GiB, rounded, at least 1)."""
    machine = os.uname()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "sys.os": machine.sysname.lower(),
        "sys.arch": machine.machine,
        "sys.hostname": hostname(),
        "sys.cores": str(cores),
        "sys.memory_gb": str(max(1, round(psutil.virtual_memory().total / 2**30))),
    }


class SystemFacts:
    """See `agent.policy.Facts`."""

    def program(self, name: str, environment: Mapping[str, str], directory: str) -> str:
        return find_program(name, environment, directory)

    def own_program(self, name: str) -> str | None:
        try:
            return self.steps(find_program(name, {"PATH": DEFAULT_PATH if not os.environ.get("PATH") else ""}, "/"))[0]
        except StartError:
            return None

    def steps(self, path: str) -> Sequence[str]:
        found: list[str] = []
        for _ in range(LINKS_MAX):
            directory, name = os.path.split(path)
            if name in ("", ".", ".."):
                found.append(os.path.realpath(path))
                break
            path = os.path.join(os.path.realpath(directory), name)
            found.append(path)
            try:
                path = os.path.join(os.path.dirname(path), os.readlink(path))
            except OSError:  # not a link
                break
        return found

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def user(self) -> str:
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a user id without an entry, as in containers
            return str(os.geteuid())

    def is_superuser(self, name: str) -> bool:
        try:
            return name == SUPERUSER or pwd.getpwnam(name).pw_uid == 0
        except (KeyError, ValueError):
            return name in (SUPERUSER, "0")
