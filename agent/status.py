"""What the agent says of itself in its state directory, for commands on the same machine: `agent.json`.

A reader must know that the writer lives: its pid *and* its start time *and* the boot of the machine are there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, Final

import structlog
from attrs import asdict, evolve, frozen

from agent import process_tree
from agent.profile import Profile

log = structlog.get_logger()

STATUS_FILE: Final = "agent.json"


@frozen(slots=True, kw_only=True)
class Status:
    """`state`: running, draining (nothing new, then restart), keeping (restart at once), stopping. `running`: instances,
    when this was written.
    """

    state: str = "running"
    incarnation: int = 0
    connected: bool = False
    server: str = ""
    running: int = 0
    agent_id: str = ""
    version: str = ""
    boot_id: str = ""
    pid: int = 0
    start_time: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process that has written it is there."""
        if self.pid <= 0 or process_tree.identity(self.pid) != self.start_time:
            return False
        found = process_tree.read_process(self.pid) if process_tree.HAS_PROC else None
        return found is None or found.state not in "ZX"


class StatusFile:
    """Writes it. Never fsynced: after a crash of the machine it means nothing."""

    def __init__(self, profile: Profile) -> None:
        self._path = f"{profile.state_dir}/{STATUS_FILE}"
        self._mine: Mapping[str, Any] = {
            "agent_id": profile.agent_id,
            "version": profile.version,
            "boot_id": profile.boot_id,
            "pid": os.getpid(),
            "start_time": process_tree.identity(os.getpid()) or "",
        }

    def write(self, status: Status) -> None:
        text = json.dumps(asdict(evolve(status, **self._mine)), indent=1) + "\n"
        temporary = f"{self._path}.tmp"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
            os.replace(temporary, self._path)
        except OSError as exc:  # a full disk: nobody but a person who asks needs it
            log.debug("the status cannot be written", problem=str(exc))


def read_status(state_dir: str) -> Status | None:
    """What the agent of this state directory last said; None when nothing can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        fd = os.open(f"{state_dir}/{STATUS_FILE}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = json.loads(os.read(fd, 64 * 1024))
        finally:
            os.close(fd)
        names = Status.__annotations__
        return Status(**{name: value for name, value in found.items() if name in names})
    return None
