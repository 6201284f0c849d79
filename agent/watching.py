"""Watches files for the server's event schedules: which ones it says, what happens is reported through the journal.

What is not possible (a directory that is missing, or may not be read) is reported too, once, and tried again. A change of
what is wanted leaves alone what stays wanted; a directory that is watched by two for a moment is told once, for an
observation's id is derived from what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

import structlog
import trio

from agent.reports import OBSERVED_MAX, Reports
from agent.wakeup import Wakeup
from agent.watch_plan import Root, Wanted, plan
from agent.workplace import instant
from hetuflow.ports.clock import Clock
from hetuflow.ports.files import ChangeKind, FileChange, FileWatcher, WatchError
from hetuflow.protocol.messages import FileWatch, Observed, WatchFiles

log = structlog.get_logger()

RETRY_SECONDS: Final = 2.0
"""Between two tries to watch a directory that cannot be watched."""
REMEMBERED_MAX: Final = 10_000
"""Observations that are recognised when they are made again."""


class Watching:
    """`run` until cancelled; `want` at any time. Imports and starts nothing while nothing is wanted."""

    def __init__(self, agent_id: str, incarnation: int, reports: Reports, files: FileWatcher, clock: Clock) -> None:
        self._agent_id, self._incarnation = agent_id, incarnation
        self._reports, self._files, self._clock = reports, files, clock
        self._watches: tuple[FileWatch, ...] = ()
        self._wanted: Mapping[Root, Sequence[Wanted]] = {}
        self._refused: Mapping[str, str] = {}
        self._scopes: dict[Root, trio.CancelScope] = {}
        self._recent: dict[str, None] = {}
        self._changed = Wakeup()
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<Watching {len(self._scopes)} directories for {len(self._watches)} globs>"

    def want(self, message: WatchFiles) -> None:
        """Watch exactly this from now on."""
        if message.watches != self._watches:
            self._watches = message.watches
            self._changed.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._changed.wait()
                found = plan(self._watches)
                self._wanted = found.roots
                for glob in found.refused.keys() - self._refused.keys():
                    self._failed(glob, f"{glob}: {found.refused[glob]}")
                self._refused = found.refused
                for root in found.roots.keys() - self._scopes.keys():
                    self._scopes[root] = trio.CancelScope()
                    nursery.start_soon(self._keep, root, self._scopes[root])
                for root in self._scopes.keys() - found.roots.keys():
                    self._scopes.pop(root).cancel()

    # --- one directory ---------------------------------------------------------------------------------------------

    async def _keep(self, root: Root, scope: trio.CancelScope) -> None:
        """Watch it, and try again when it cannot be watched, until it is not wanted any more."""
        problem = ""
        with scope:
            while True:
                try:
                    await self._watch(root)
                except WatchError as exc:
                    if str(exc) != problem:
                        problem = str(exc)
                        self._failed(root.directory, problem)
                else:
                    problem = ""
                await trio.sleep(RETRY_SECONDS)

    async def _watch(self, root: Root) -> None:
        async with self._files.watch(root.directory, recursive=root.recursive) as changes:
            log.info("watching", directory=root.directory, recursive=root.recursive)
            self._report(
                "watch.started",
                {"path": root.directory, "recursive": root.recursive},
                f"{root.directory}|{self._clock.now().timestamp()}",
            )
            async for group in changes:
                for change in group:
                    self._changed_file(root, change)

    def _changed_file(self, root: Root, change: FileChange) -> None:
        event_type = f"file.{change.kind}"
        if not any(wanted.fits(event_type, change.path) for wanted in self._wanted.get(root, ())):
            return
        data: dict[str, object] = {"path": change.path}
        if change.kind is ChangeKind.DELETED:
            what = f"{self._clock.now().timestamp()}"
        else:
            data |= {"size": change.size, "modified_at": _instant_of(change.modified_ns)}
            what = f"{change.inode}|{change.modified_ns}"
        self._report(event_type, data, f"{change.path}|{what}")

    def _failed(self, path: str, problem: str) -> None:
        log.warning("files cannot be watched", problem=problem)
        self._report("watch.failed", {"path": path, "error": problem}, f"{path}|{self._clock.now().timestamp()}")

    def _report(self, event_type: str, data: Mapping[str, object], what: str) -> None:
        event_id = sha256(
            f"{self._agent_id}|{self._incarnation}|{event_type}|{what}".encode(errors="replace")
        ).hexdigest()[:32]
        if event_id in self._recent:
            return
        self._recent[event_id] = None
        if len(self._recent) > REMEMBERED_MAX:
            del self._recent[next(iter(self._recent))]
        observed = Observed(
            event_id=event_id,
            sequence=0,
            type=event_type,
            at=instant(self._clock.now()),
            data={**data, "agent_id": self._agent_id},
        )
        if self._reports.observed(observed):
            self._dropped = 0
            return
        self._dropped += 1
        if self._dropped == 1:
            log.error("observations are dropped: the server has not acknowledged so many", count=OBSERVED_MAX)


def _instant_of(nanoseconds: int) -> str:
    """RFC 3339, whole microseconds."""
    return instant(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000))
