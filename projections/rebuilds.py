"""The rebuilds that a running server was asked for: in the background, one per table, followed by their progress."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

import trio
from attrs import evolve, frozen

from eventstore.errors import EventStoreError
from eventstore.postgres.database import Database
from projections.errors import ProjectionError, RebuildRunning
from projections.rebuild import Progress, rebuild
from projections.tables import ALL_TABLES

log = logging.getLogger(__name__)


@frozen(slots=True, kw_only=True)
class Underway:
    """A rebuild: `position` of `target` positions are folded. `error`: why it ended without a new table."""

    id: str
    started_at: datetime
    position: int = 0
    target: int = 0
    events_per_second: float = 0.0
    error: str | None = None


class Rebuilds:
    """`run` is the task that owns them; `start` asks for one."""

    def __init__(self, database: Database, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._database, self._now, self._new_id = database, now, new_id
        self._known: dict[str, Underway] = {}
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Rebuilds {sorted(name for name, each in self._known.items() if each.error is None)}>"

    @property
    def underway(self) -> Mapping[str, Underway]:
        """By projection: those that run, and the last failure of those that do not."""
        return self._known

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def start(self, name: str) -> str:
        """Begin to rebuild that projection's table; return the rebuild's id.

        Raises:
          KeyError: there is no such projection. RebuildRunning: it is being rebuilt by this process.
        """
        if name not in ALL_TABLES:
            raise KeyError(name)
        running = self._known.get(name)
        if running is not None and running.error is None:
            raise RebuildRunning(f"{name} is being rebuilt since {running.started_at:%H:%M:%S}")
        assert self._nursery is not None, "it does not run"
        begun = self._known[name] = Underway(id=self._new_id(), started_at=self._now())
        self._nursery.start_soon(self._rebuild, name, begun)
        return begun.id

    async def _rebuild(self, name: str, begun: Underway) -> None:
        def note(progress: Progress) -> None:
            self._known[name] = evolve(
                begun,
                position=progress.position,
                target=progress.target,
                events_per_second=progress.events_per_second,
            )

        try:
            [rebuilt] = await rebuild(self._database, [name], on_progress=note)
        except (EventStoreError, ProjectionError) as exc:
            log.error("the rebuild of %s failed, the table is as before: %s", name, exc)
            self._known[name] = evolve(self._known[name], error=str(exc))
        else:
            log.info("rebuilt %s: %d events in %.1f s", name, rebuilt.position, rebuilt.seconds)
            del self._known[name]
