"""What an agent finds out about its machine: labels of its own, and what a policy has to know."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

import psutil

from agent.host import DEFAULT_PATH, hostname
from agent.policy import SUPERUSER
from agent.programs import find_program
from hetuflow.ports.processes import StartError

if TYPE_CHECKING:
    from agent.reaching import Reachable

T = TypeVar("T")

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

    async def look(self, question: Callable[[], T]) -> T:
        from agent.reaching import look

        return await look(question)

    def program(self, name: str, environment: Mapping[str, str], directory: str) -> str:
        if "\0" not in name:  # else there is none
            self._reachable.check_program(name, environment, directory)
        return find_program(name, environment, directory)

    def own_program(self, name: str) -> str | None:
        environment = {"PATH": DEFAULT_PATH if not os.environ.get("PATH") else ""}
        self._reachable.check_program(name, environment, "/")
        try:
            return self.steps(find_program(name, environment, "/"))[0]
        except StartError:
            return None

    def steps(self, path: str) -> Sequence[str]:
        self._reachable.check_path(path)
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
        self._reachable.check_path(path)
        return os.path.realpath(path)

    @cached_property
    def _reachable(self) -> Reachable:
        from agent.reaching import Reachable  # what nobody needs who has no policy

        return Reachable()

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
