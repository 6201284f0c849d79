"""A tree that no control group holds together: followed through the process table, and ended although it may not want to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

from agent import process_tree
from agent.process_tree import Process

STOP_ROUNDS_MAX: Final = 10
"""Of stopping what was forked meanwhile. Who calls again until nothing lives gets as many as it takes."""
CHASE_ROUNDS_MAX: Final = 200


class Followed:
    """Root, session, descendants, and orphans with the tree's ticket or mark: see `process_tree`."""

    def __init__(self, root: int, mark: str | None, ticket: int | None, count_orphans: Callable[[], int]) -> None:
        """`count_orphans`: reaps the keeper's orphans that have ended; how many that have been, ever."""
        self._root, self._mark, self._ticket = root, mark, ticket
        self._count_orphans = count_orphans
        self.is_root_reaped = False

    def members(self) -> list[int]:
        """The whole of /proc searched."""
        found = process_tree.members(self._root, self._mark, self._ticket)
        if self.is_root_reaped and self._root in found:
            return []  # its number belongs to somebody else now, and so does its session
        return found

    def processes(self) -> list[Process]:
        """Cheaply: what descends from the root and from the keeper's orphans of this tree."""
        if not process_tree.HAS_PROC:
            return []
        roots = [] if self.is_root_reaped else [self._root]
        return process_tree.descendants([*roots, *self._orphans()])

    def is_populated(self) -> bool:
        """Whether something lives, the root having ended.

        What forks and exits, over and over, can be missed by any search. But the one that forked is an orphan of the
        keeper's then, and its end is noticed: nothing lives only when nothing has ended while nothing was found.
        """
        before = self._count_orphans()
        return bool(self.members()) or self._count_orphans() != before

    def kill(self) -> None:
        """What is more than one process group is stopped before it is killed: it could fork meanwhile."""
        if not self.is_root_reaped:
            process_tree.send_group_signal(self._root, signal.SIGKILL)
        stopped: set[int] = set()
        for _ in range(STOP_ROUNDS_MAX):
            more = [pid for pid in self.members() if pid not in stopped]
            if not more:
                break
            process_tree.send_signal(more, signal.SIGSTOP)
            stopped.update(more)
        process_tree.send_signal(sorted(stopped), signal.SIGKILL)
        if self.is_root_reaped and process_tree.HAS_PROC:
            self._chase()

    def _chase(self) -> None:
        """Orphans that are somebody else by the time /proc has been searched. Their list alone is read in 20 us."""
        ended = self._count_orphans()
        for _ in range(CHASE_ROUNDS_MAX):
            orphans = self._orphans()
            process_tree.send_signal(orphans, signal.SIGKILL)
            before, ended = ended, self._count_orphans()
            if not orphans and before == ended:
                break

    def _orphans(self) -> list[int]:
        orphans = process_tree.adopted_children((self._root, os.getpid()))
        return [pid for pid in orphans if process_tree.is_marked(pid, self._mark, self._ticket)]
