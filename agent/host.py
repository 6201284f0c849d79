"""Facts about the machine, and the processes that an earlier life left on it."""

from __future__ import annotations

import os
import pwd
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Final

import psutil

from agent import process_tree
from hetuflow.glob import Glob
from hetuflow.ports.disk import Disk, DiskError

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
SETTINGS: Final = ("SERVER_URL", "DATABASE_URL", "REDIS_URL")
"""Names of the guide; with them goes all that begins with `SETTINGS_PREFIX`."""
SETTINGS_PREFIX: Final = "HETUFLOW_"


def boot_id(disk: Disk) -> str:
    """Changes with every boot of the machine: pids of an earlier boot mean nothing."""
    try:
        found = (disk.read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
    except DiskError:
        found = ""
    return found or f"boot-{int(psutil.boot_time())}"


def hostname() -> str:
    return socket.gethostname()


def base_environment(allowed: Sequence[str] = ()) -> Mapping[str, str]:
    """What every process gets before the order's own variables: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, TMPDIR.

    Nothing else of the agent's environment, not what an operator had exported by chance, but for the names (or patterns)
    `allowed`; and never its settings, which may hold secrets.
    """
    globs = [Glob(pattern) for pattern in allowed]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if value and (name in INHERITED or (name not in SETTINGS and _fits(name, globs)))
    }
    try:
        account = pwd.getpwuid(os.geteuid())
        user, home, shell = account.pw_name, account.pw_dir, account.pw_shell or "/bin/sh"
    except KeyError:  # a user id without an entry, as in containers
        user, home, shell = str(os.geteuid()), os.environ.get("HOME", "/"), "/bin/sh"
    return {
        "PATH": DEFAULT_PATH,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": shell,
        "LANG": "C.UTF-8",
        **inherited,
    }


def _fits(name: str, globs: Sequence[Glob]) -> bool:
    return not name.startswith(SETTINGS_PREFIX) and any(glob.matches(name) for glob in globs)


class SystemGauges:
    """See `Gauges`: percent of all cores since the last reading, of memory, of the disk that holds `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        psutil.cpu_percent(None)

    def read(self) -> Mapping[str, float]:
        existing = self._path
        while not os.path.exists(existing):
            existing = os.path.dirname(existing) or "/"
        return {
            "cpu_usage": psutil.cpu_percent(None),
            "memory_usage": psutil.virtual_memory().percent,
            "disk_usage": psutil.disk_usage(existing).percent,
            "load": round(os.getloadavg()[0], 2),
        }


class SystemLeftovers:
    """See `agent.workplace.Leftovers`. An instance's processes carry its id in their environment.

    The root that was journaled counts when pid and start time are the same, and with it everything in its session (a
    process may have cleaned its environment).
    """

    def identity(self, pid: int) -> str | None:
        return process_tree.identity(pid)

    def of(self, instance_id: str, pid: int | None, identity: str | None) -> list[int]:
        found = process_tree.marked(instance_id)
        if pid is not None and identity is not None and process_tree.identity(pid) == identity:
            found.extend(process_tree.members(pid, instance_id))
        return sorted(set(found))

    def kill(self, pids: list[int], *, forcefully: bool) -> None:
        process_tree.send_signal(pids, signal.SIGKILL if forcefully else signal.SIGTERM)
        if not forcefully:
            process_tree.send_signal(pids, signal.SIGCONT)
