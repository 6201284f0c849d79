"""Follows the log: the tables for people on one checkpoint, `open_work` on another, off the store's own publication.

No query is needed to know that there is work, or to wait for a position: the subscription brings the events that this
process and others commit, and a read waits in memory. A tick is one transaction. Where a read waits it begins at once,
but no sooner than `tick_seconds` after the one before; where nobody waits, events are gathered for `gather_seconds`
first: a short task then costs one tick, not three, and a busy log is folded in larger ranges.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Protocol

import trio
from attrs import frozen

from eventstore.errors import StoreClosed, StoreTimeout, StoreUnavailable
from eventstore.event import RecordedEvent
from eventstore.postgres.database import Database
from eventstore.store import EventStore
from projections.definition import Table
from projections.errors import CheckpointHeld, ProjectionStalled
from projections.follower import CATCH_UP_POSITIONS_MAX, LIVE_POSITIONS_MAX, Follower, Stall
from projections.open_work import OPEN_WORK
from projections.rebuild import prepare
from projections.status import ProjectionStatus
from projections.tables import LIVE, LIVE_TABLES, OPEN_WORK_CHECKPOINT

log = logging.getLogger(__name__)

TICK_SECONDS = 0.010
"""At most a hundred transactions a second; a read after a write waits for less than two of them."""

GATHER_SECONDS = 0.100
"""How long events wait for more when no read waits for them: what somebody in psql sees may be so old."""

OPEN_WORK_SECONDS = 1.0
"""`open_work` is read at a start, which catches up first: it need not be current, only never far behind."""

STALLED_SECONDS = 5.0
"""How often a follower tries again the event that it could not fold."""

BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.1, 5.0
"""While the database is away."""


@frozen(slots=True, kw_only=True)
class RunnerSettings:
    """Durations in seconds."""

    tick_seconds: float = TICK_SECONDS
    gather_seconds: float = GATHER_SECONDS
    open_work_seconds: float = OPEN_WORK_SECONDS
    stalled_seconds: float = STALLED_SECONDS
    catch_up_positions: int = CATCH_UP_POSITIONS_MAX


class DatabaseStore(EventStore, Protocol):
    """An event store in a database that also holds the tables."""

    @property
    def database(self) -> Database: ...


class Runner:
    """Keeps the tables up with the log. `run` it in a nursery; ask `reached` before reading the tables."""

    def __init__(self, database: Database, store: EventStore, *, settings: RunnerSettings | None = None) -> None:
        self._store = store
        self._settings = settings or RunnerSettings()
        self._live = Follower(database, LIVE, LIVE_TABLES)
        self._open_work = Follower(database, OPEN_WORK_CHECKPOINT, {OPEN_WORK_CHECKPOINT: OPEN_WORK})
        self._waiting: list[tuple[Follower, int, trio.Event]] = []
        self._hurry = {follower.checkpoint: trio.Event() for follower in self._followers}
        self._work = {follower.checkpoint: trio.Event() for follower in self._followers}

    def __repr__(self) -> str:
        return f"<Runner {self._live}, {len(self._waiting)} waiting>"

    @property
    def _followers(self) -> Sequence[Follower]:
        return self._live, self._open_work

    @property
    def position(self) -> int:
        """The tables for people show the log up to here."""
        return self._live.position

    async def catch_up(self) -> int:
        """Bring all tables to the head of the log, however far it is; return that position.

        Raises:
          StoreUnavailable, StoreTimeout: the database was lost on the way; what was folded is kept.
        A follower that stalls stays behind and says so (`status`); one that another server holds up stays behind, too.
        """
        head = await self._store.head()
        for follower in self._followers:
            await follower.load()
            follower.expect(head)
            while follower.is_behind and follower.stall is None:
                try:
                    await follower.step(self._settings.catch_up_positions)
                except CheckpointHeld as exc:
                    log.warning("projection %s is not brought up to date at once: %s", follower.checkpoint, exc)
                    break
                self._wake_readers()
        return head

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Catch up, report started, then follow the log until cancelled or the store is closed."""
        head = await self._caught_up()
        async with self._store.subscribe(after=head) as feed, trio.open_nursery() as nursery:
            for follower in self._followers:
                follower.watch_from(head)
            nursery.start_soon(self._follow, self._live, self._settings.gather_seconds)
            nursery.start_soon(self._follow, self._open_work, self._settings.open_work_seconds)
            task_status.started()
            await self._collect(feed)
            nursery.cancel_scope.cancel()

    async def reached(self, position: int, timeout_seconds: float = 2.0) -> int:
        """Wait until the tables for people show `position`, at most `timeout_seconds`; return what they show by then.

        Less than `position` means that they did not get there in time. Makes no query.
        """
        if self._live.position < position:
            with trio.move_on_after(timeout_seconds):
                await self._wait_for(self._live, position)
        return self._live.position

    async def open_work_reached(self, position: int) -> int:
        """Wait until `open_work` shows `position`, without its usual pauses; return the position that it shows.

        Raises:
          ProjectionStalled: it met an event that cannot be folded.
        """
        follower = self._open_work
        while follower.position < position:
            if follower.stall is not None:
                raise ProjectionStalled(OPEN_WORK_CHECKPOINT, follower.stall.position, follower.stall.error)
            await self._wait_for(follower, position)
        return follower.position

    async def _wait_for(self, follower: Follower, position: int) -> None:
        """Until the follower shows the position, or stalls."""
        waiter = (follower, position, trio.Event())
        self._waiting.append(waiter)
        self._hurry[follower.checkpoint].set()
        try:
            await waiter[2].wait()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def status(self) -> Sequence[ProjectionStatus]:
        """Of every projection for people, and of `open_work` last. Makes no query."""
        tables: Mapping[str, Table] = LIVE_TABLES
        live = [self._status(name, table, self._live) for name, table in tables.items()]
        return [*live, self._status(OPEN_WORK_CHECKPOINT, OPEN_WORK, self._open_work)]

    def _status(self, name: str, table: Table, follower: Follower) -> ProjectionStatus:
        since = follower.pending_since()
        stall = follower.stall
        return ProjectionStatus(
            name=name,
            definition=table.fingerprint,
            status="stalled" if stall else "live",
            position=follower.position,
            head=follower.known,
            lag_events=follower.known - follower.position,
            lag_seconds=0.0 if since is None else max(0.0, trio.current_time() - since),
            updated_at=follower.updated_at,
            error=None
            if stall is None
            else f"the event after position {stall.position} cannot be folded: {stall.error}",
        )

    async def _caught_up(self) -> int:
        backoff_seconds = BACKOFF_SECONDS_MIN
        while True:
            try:
                return await self.catch_up()
            except (StoreUnavailable, StoreTimeout) as exc:
                log.warning("projections wait for the database: %s", exc)
                await trio.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)

    async def _collect(self, feed: AsyncIterator[Sequence[RecordedEvent]]) -> None:
        """Take note of what is committed, until the store is closed."""
        try:
            async for batch in feed:
                now = trio.current_time()
                for follower in self._followers:
                    follower.notice(batch, now)
                    self._work[follower.checkpoint].set()
        except StoreClosed:
            return

    async def _follow(self, follower: Follower, gather_seconds: float) -> None:
        started = -inf
        backoff_seconds = BACKOFF_SECONDS_MIN
        told: Stall | None = None
        while True:
            if not follower.is_behind:
                self._work[follower.checkpoint] = trio.Event()
                await self._work[follower.checkpoint].wait()
            if follower.stall is None and follower.known - follower.position < LIVE_POSITIONS_MAX:
                await self._gather(follower, started + self._settings.tick_seconds, gather_seconds)
            started = trio.current_time()
            try:
                await follower.step()
            except CheckpointHeld as exc:  # the lock was waited for: that was the pause
                log.warning("projection %s waits: %s", follower.checkpoint, exc)
                continue
            except (StoreUnavailable, StoreTimeout) as exc:
                log.warning("projection %s waits for the database: %s", follower.checkpoint, exc)
                await trio.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)
                continue
            except StoreClosed:
                return
            backoff_seconds = BACKOFF_SECONDS_MIN
            self._wake_readers()
            if follower.stall is not None:
                if follower.stall != told:
                    log.error("projection %s is stalled: %s", follower.checkpoint, follower.stall)
                await trio.sleep(self._settings.stalled_seconds)
            told = follower.stall

    async def _gather(self, follower: Follower, earliest: float, gather_seconds: float) -> None:
        """Until `earliest`, and then for more events unless somebody waits for those that are there."""
        await trio.sleep_until(earliest)
        if any(waiter[0] is follower for waiter in self._waiting):
            return
        self._hurry[follower.checkpoint] = trio.Event()
        with trio.move_on_after(gather_seconds):
            await self._hurry[follower.checkpoint].wait()

    def _wake_readers(self) -> None:
        still = []
        for waiter in self._waiting:
            follower, position, event = waiter
            if follower.position >= position or (follower is self._open_work and follower.stall is not None):
                event.set()
            else:
                still.append(waiter)
        self._waiting = still


@asynccontextmanager
async def open_runner(store: DatabaseStore, *, settings: RunnerSettings | None = None) -> AsyncIterator[Runner]:
    """Keep the tables up with the log for the duration of the block: rebuilt where their definition has changed, at the
    head of the log when the block begins.

    Raises:
      StoreUnavailable, StoreTimeout, RebuildRefused, SqlError: the tables could not be made ready.
    """
    await prepare(store.database)
    runner = Runner(store.database, store, settings=settings)
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        try:
            yield runner
        except BaseException as exc:  # leaves as it is, not wrapped in our nursery's group
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
