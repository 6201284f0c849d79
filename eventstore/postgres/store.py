"""`EventStore` on PostgreSQL: composes the writer, the reader, the notifications and the pool.

Connections of one store: the writer's, the LISTEN one, the one of the signs of life, and the pool's.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import trio

from eventstore.errors import DatabaseUnreachable, EventStoreError, StartError, StoreClosed, StoreUnavailable
from eventstore.event import Appended, Claim, RecordedEvent, Snapshot
from eventstore.postgres.appender import Appender
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.connection import connect
from eventstore.postgres.database import Database
from eventstore.postgres.errors import translated
from eventstore.postgres.migrate import EVENTSTORE, Source, check
from eventstore.postgres.notifications import Notifications
from eventstore.postgres.pool import PooledDatabase
from eventstore.postgres.pulse import BEAT_SECONDS_MAX, PulseConnection, identity_of
from eventstore.postgres.reader import Reader
from eventstore.postgres.settings import PostgresSettings
from eventstore.postgres.writer import WriterConnection
from eventstore.pulse import Pulse
from eventstore.store import EventFilter
from eventstore.subscription import Feed

log = logging.getLogger(__name__)

STEP_SECONDS_MAX = 5.0
"""For each step of the stop after the flush: closing connections takes milliseconds."""


class PostgresStore:
    """See `eventstore.store.EventStore`. Made by `open_postgres_store`."""

    def __init__(self, bridge: Bridge, url: str, settings: PostgresSettings) -> None:
        self._origin = ""
        self._closed = False
        self._bridge = bridge
        self._settings = settings
        self._feed = Feed()
        self._database = PooledDatabase(bridge, url, settings)
        self._reader = Reader(self._database)
        self._writer = WriterConnection(
            partial(
                connect,
                url,
                settings,
                "writer",
                statement_seconds_max=settings.append_statement_seconds_max,
                role=settings.role,
            ),
            lambda: self._origin,
            settings.append_statement_seconds_max,
        )
        self._appender = Appender(bridge, self._writer, self._feed, settings)
        self._identity = ""
        self._pulse = PulseConnection(
            partial(connect, url, settings, "pulse", statement_seconds_max=BEAT_SECONDS_MAX, role=settings.role)
        )
        self._notifications = Notifications(
            bridge,
            partial(connect, url, settings, "listen", role=settings.role),
            lambda: self._origin,
            self._feed.hint,
            settings,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<PostgresStore {self._origin} {state}: {self._appender}, {len(self._feed)} subscriptions>"

    @property
    def origin(self) -> str:
        return self._origin

    @property
    def database(self) -> Database:
        """SQL for projections and queries."""
        return self._database

    async def append(self, claims: Sequence[Claim]) -> Appended:
        self._check_open()
        return await self._appender.append(claims)

    async def append_each(self, appends: Sequence[Sequence[Claim]]) -> Sequence[Appended | EventStoreError]:
        self._check_open()
        return await self._appender.append_each(appends)

    async def head(self) -> int:
        self._check_open()
        return await self._reader.head()

    async def read_stream(
        self, stream_id: str, *, after_version: int = 0, until_position: int | None = None
    ) -> Sequence[RecordedEvent]:
        self._check_open()
        return await self._reader.read_stream(stream_id, after_version, until_position)

    async def read_streams(self, stream_ids: Sequence[str]) -> Mapping[str, Sequence[RecordedEvent]]:
        self._check_open()
        return await self._reader.read_streams(stream_ids)

    async def read_all(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        descending: bool = False,
        where: EventFilter | None = None,
    ) -> Sequence[RecordedEvent]:
        self._check_open()
        return await self._reader.read_all(after, before, limit, descending, where)

    async def position_at(self, moment: datetime) -> int | None:
        self._check_open()
        return await self._reader.position_at(moment)

    @asynccontextmanager
    async def subscribe(
        self, *, after: int, buffer_events: int = 10_000
    ) -> AsyncIterator[AsyncIterator[Sequence[RecordedEvent]]]:
        async with self._feed.subscribe(
            self._reader.history, self._reader.head, after=after, buffer_events=buffer_events
        ) as subscription:
            yield subscription

    async def load_snapshot(self, stream_id: str, schema: int) -> Snapshot | None:
        self._check_open()
        return await self._reader.load_snapshot(stream_id, schema)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._check_open()
        await self._reader.save_snapshot(snapshot)

    async def beat(self, name: str, stream_id: str, *, count: bool, ended: Sequence[str] = ()) -> Pulse:
        self._check_open()
        try:
            return await self._bridge.call(self._pulse.beat, name, stream_id, count, ended)
        except StartError as exc:  # a database that is being restored, or a password that was changed
            raise StoreUnavailable(str(exc)) from exc

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def trouble(self) -> str | None:
        return self._appender.trouble

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed

    async def _open(self, sources: Sequence[Source], url: str) -> None:
        async def look(connection: Any) -> str:
            with translated():
                await check(connection, sources, url)
                self._identity = await identity_of(connection)
                # Unique for ever in this cluster: process ids come again, together with their start they do not.
                origin: str = await connection.fetchval(
                    "select pid::text || '-' || to_char(backend_start, 'YYYYMMDDHH24MISSUS')"
                    " from pg_stat_activity where pid = pg_backend_pid()"
                )
                return origin

        self._origin = await self._database.read(look)
        await self._appender.prepare()
        self._database.pool.opened = True

    async def _run(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Write until `_flush`. Shielded: an append survives its caller, only the stop ends the writer, in its order."""
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            await self._appender.run()

    async def _flush(self, writer: trio.CancelScope, ended: trio.Event) -> None:
        """Take nothing more, write what is queued, tell the subscribers."""
        self._closed = True
        self._appender.close()
        with trio.move_on_after(self._settings.close_seconds_max) as flush:
            await ended.wait()
        if flush.cancelled_caught:
            log.error("the writer could not flush within %s s", self._settings.close_seconds_max)
            writer.cancel()
        self._feed.close()

    async def _disconnect(self) -> None:
        for step in (
            self._database.close,
            partial(self._bridge.call, self._writer.close),
            partial(self._bridge.call, self._pulse.close),
        ):
            with trio.move_on_after(STEP_SECONDS_MAX, shield=True):
                await step()


@asynccontextmanager
async def open_postgres_store(
    url: str, *, settings: PostgresSettings | None = None, sources: Sequence[Source] = (EVENTSTORE,)
) -> AsyncIterator[PostgresStore]:
    """Open the store of a migrated database for the duration of the block; owns its tasks and its thread.

    Args:
      sources: the migrations that the database must have.
    Raises:
      StartError: unreachable, wrong credentials, too old, not migrated, too new.
    At the end what is queued is written first (within `close_seconds_max`), also when the block is cancelled.
    """
    settings = settings or PostgresSettings()
    async with Bridge() as bridge:
        store = PostgresStore(bridge, url, settings)
        try:
            try:
                await store._open(sources, url)
            except StoreUnavailable as exc:
                raise DatabaseUnreachable(str(exc)) from exc
            async with _running(store):
                yield store
        finally:
            await store._disconnect()


@asynccontextmanager
async def _running(store: PostgresStore) -> AsyncIterator[None]:
    """The tasks of an open store. An error of the block leaves as it is, not wrapped in our nursery's group."""
    error: BaseException | None = None
    ended = trio.Event()

    async def write(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        try:
            await store._run(task_status)
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        writer: trio.CancelScope = await nursery.start(write)
        nursery.start_soon(store._notifications.run)
        try:
            yield
        except BaseException as exc:
            error = exc
        with trio.CancelScope(shield=True):
            await store._flush(writer, ended)
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
