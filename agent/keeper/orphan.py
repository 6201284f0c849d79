"""What a keeper that was killed has left of an instance: found by what its root and its environment say."""

from __future__ import annotations

import signal

from agent import process_tree
from agent.keeper.messages import Launched
from agent.keeper.system import Usage


class OrphanTree:
    """See `Tree`. It has no listener, and its root is nobody's child here."""

    isolation = "session"
    began = 0.0

    def __init__(self, launched: Launched) -> None:
        self.pid, self.identity = launched.pid, launched.identity
        self._mark = launched.instance_id

    def terminate(self) -> None:
        process_tree.send_signal(self._members(), signal.SIGTERM)
        process_tree.send_signal(self._members(), signal.SIGCONT)

    def kill(self) -> None:
        process_tree.send_signal(self._members(), signal.SIGKILL)

    def is_alive(self) -> bool:
        return bool(self._members())

    def usage(self) -> Usage:
        return Usage()

    def exceeded(self) -> tuple[str, str] | None:
        return None

    def close(self) -> None: ...

    def _members(self) -> list[int]:
        """A pid counts with its start time only. A process may have cleaned its environment, and stayed in the session."""
        found = process_tree.marked(self._mark)
        if self.pid and process_tree.identity(self.pid) == self.identity:
            found += process_tree.members(self.pid, self._mark)
        return sorted(set(found))
