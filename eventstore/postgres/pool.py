"""The pool, and `Database` over it.

Our own few lines instead of asyncpg's pool: no reset query after each use, no shielded release that can hang, and a
rule that is easy to check: a connection goes back only when it is open and outside a transaction, else it is ended.
A connection that died while idle is dropped when it is taken: the pool heals by being used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from eventstore.errors import SqlError, StartError, StoreClosed, StoreTimeout, StoreUnavailable
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.connection import (
    TranslatedConnection,
    connect,
    milliseconds,
    silence_limit,
    uncancelled,
)
from eventstore.postgres.database import Connection
from eventstore.postgres.errors import translated
from eventstore.postgres.settings import PostgresSettings

T = TypeVar("T")


class _Pooled:
    """An open connection, until when it is used, and the statement timeout it has now."""

    __slots__ = ("connection", "deadline", "statement_seconds")

    def __init__(self, connection: Any, statement_seconds: float, deadline: float) -> None:
        self.connection, self.statement_seconds, self.deadline = connection, statement_seconds, deadline


class Pool:
    """Connections for short work, at most `settings.pool_size`. Lives in the database thread."""

    def __init__(self, url: str, settings: PostgresSettings) -> None:
        self._url, self._settings = url, settings
        self._idle: list[_Pooled] = []
        self._busy: list[_Pooled] = []
        self._places: asyncio.Semaphore | None = None  # made in the thread, whose loop it belongs to
        self._closed = False
        self.opened = False  # from then on nothing is a start error any more

    def __repr__(self) -> str:
        return f"<Pool {len(self._busy)} busy, {len(self._idle)} idle of {self._settings.pool_size}>"

    @property
    def connections(self) -> int:
        """How many are open now, in use or idle. May be asked in any thread: both lists are copied in one step."""
        return len(tuple(self._busy)) + sum(not pooled.connection.is_closed() for pooled in tuple(self._idle))

    async def use(self, work: Callable[[Any], Awaitable[T]], seconds: float, *, local: bool = False) -> T:
        """Run `work(asyncpg connection)` with that statement timeout.

        With `local` the work sets the timeout of its own transaction.
        """
        if self._places is None:
            self._places = asyncio.Semaphore(self._settings.pool_size)
        async with self._places:
            pooled = await self._take()
            self._busy.append(pooled)
            try:
                with translated(), silence_limit(pooled.connection, seconds):
                    return await uncancelled(pooled.connection, self._run(pooled, work, None if local else seconds))
            finally:
                self._busy.remove(pooled)
                self._give_back(pooled)

    async def close(self) -> None:
        """End every connection: what is still running fails with `StoreUnavailable`."""
        self._closed = True
        for pooled in (*self._idle, *self._busy):
            pooled.connection.terminate()
        self._idle.clear()

    async def _run(self, pooled: _Pooled, work: Callable[[Any], Awaitable[T]], seconds: float | None) -> T:
        if seconds is not None and seconds != pooled.statement_seconds:
            await pooled.connection.execute(f"set statement_timeout = {milliseconds(seconds)}")
            pooled.statement_seconds = seconds
        return await work(pooled.connection)

    async def _take(self) -> _Pooled:
        if self._closed:
            raise StoreClosed
        self._retire()
        while self._idle:
            pooled = self._idle.pop()
            if not pooled.connection.is_closed():
                return pooled
        connection = await self.connect("pool", self._settings.statement_seconds_max)
        deadline = asyncio.get_running_loop().time() + self._settings.connection_seconds_max
        return _Pooled(connection, self._settings.statement_seconds_max, deadline)

    def _retire(self) -> None:
        """End the idle connections that are too old."""
        now = asyncio.get_running_loop().time()
        for pooled in [each for each in self._idle if each.deadline <= now]:
            self._idle.remove(pooled)
            pooled.connection.terminate()

    async def connect(self, purpose: str, statement_seconds_max: float) -> Any:
        """A new connection; of an open store every failure is `StoreUnavailable`."""
        try:
            return await connect(
                self._url,
                self._settings,
                purpose,
                statement_seconds_max=statement_seconds_max,
                role=self._settings.role,
            )
        except StartError as exc:
            if self.opened:
                raise StoreUnavailable(str(exc)) from exc
            raise

    def _give_back(self, pooled: _Pooled) -> None:
        if pooled.connection.is_closed():  # the others are probably dead too, and nobody has noticed yet
            while self._idle:
                self._idle.pop().connection.terminate()
            return
        if self._closed or pooled.connection.is_in_transaction() or self._is_old(pooled):
            pooled.connection.terminate()
        else:
            self._idle.append(pooled)

    def _is_old(self, pooled: _Pooled) -> bool:
        return pooled.deadline <= asyncio.get_running_loop().time()


SESSION_IDLE_SECONDS_MAX = 60.0
"""A rebuild computes between two statements, and holds nothing that others need."""


class PooledDatabase:
    """`Database` for trio: each call is one crossing of the bridge."""

    def __init__(self, bridge: Bridge, url: str, settings: PostgresSettings) -> None:
        self._bridge, self._settings = bridge, settings
        self.pool = Pool(url, settings)

    @property
    def connections(self) -> int:
        return self.pool.connections

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]:
        rows: Sequence[Any] = await self._bridge.call(
            self.pool.use, lambda connection: connection.fetch(sql, *args), timeout_seconds
        )
        return rows

    async def read(self, work: Callable[[Any], Awaitable[T]], *, timeout_seconds: float | None = None) -> T:
        """Run a read-only `work(asyncpg connection)`; once more on a new connection when the first was lost."""
        seconds = self._settings.statement_seconds_max if timeout_seconds is None else timeout_seconds
        try:
            return await self._bridge.call(self.pool.use, work, seconds)
        except StoreUnavailable:
            return await self._bridge.call(self.pool.use, work, seconds)

    async def transact(self, work: Callable[[Connection], Awaitable[T]], *, timeout_seconds: float = 30.0) -> T:
        return await self._bridge.call(
            partial(self.pool.use, local=True),
            partial(_transaction, work, timeout_seconds, self._settings.idle_seconds_max),
            timeout_seconds,
        )

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, timeout_seconds: float = 3600.0) -> T:
        return await self._bridge.call(self._dedicated, work, timeout_seconds)

    async def open_session(self, purpose: str, *, timeout_seconds: float) -> PostgresSession:
        connection = await self._bridge.call(self.pool.connect, purpose, timeout_seconds)
        return PostgresSession(self._bridge, connection, timeout_seconds)

    async def close(self) -> None:
        await self._bridge.call(self.pool.close)

    async def _dedicated(self, work: Callable[[Connection], Awaitable[T]], seconds: float) -> T:
        connection = await self.pool.connect("maintenance", seconds)
        try:
            with translated(), silence_limit(connection, seconds):
                return await uncancelled(connection, _awaited(work, connection))
        finally:
            connection.terminate()


class PostgresSession:
    """`Session` for trio: each call is one crossing of the bridge."""

    def __init__(self, bridge: Bridge, connection: Any, seconds: float) -> None:
        self._bridge, self._connection, self._seconds = bridge, connection, seconds

    @property
    def connections(self) -> int:
        return 0 if self.is_closed else 1

    @property
    def is_closed(self) -> bool:
        closed: bool = self._connection.is_closed()
        return closed

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]:
        rows: Sequence[Any] = await self._bridge.call(self._use, lambda connection: connection.fetch(sql, *args))
        return rows

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._bridge.call(self._use, partial(_transaction, work, self._seconds, SESSION_IDLE_SECONDS_MAX))

    async def close(self) -> None:
        await self._bridge.call(self._terminate)

    async def _terminate(self) -> None:
        self._connection.terminate()

    async def _use(self, work: Callable[[Any], Awaitable[T]]) -> T:
        with translated(), silence_limit(self._connection, self._seconds):
            return await uncancelled(self._connection, _plainly(work, self._connection))


async def _plainly(work: Callable[[Any], Awaitable[T]], connection: Any) -> T:
    return await work(connection)


async def _awaited(work: Callable[[Connection], Awaitable[T]], connection: Any) -> T:
    return await work(TranslatedConnection(connection))


async def _transaction(
    work: Callable[[Connection], Awaitable[T]], seconds: float, idle_seconds: float, connection: Any
) -> T:
    limits = {"statement_timeout": seconds, "idle_in_transaction_session_timeout": idle_seconds}
    if connection.get_server_version().major >= 17:
        limits["transaction_timeout"] = seconds + idle_seconds
    await connection.execute(
        "begin; " + "; ".join(f"set local {name} = {milliseconds(limit)}" for name, limit in limits.items())
    )
    try:
        result = await work(TranslatedConnection(connection))
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise
    try:
        with translated():
            status = await connection.execute("commit")
    except StoreUnavailable as exc:
        raise StoreTimeout(f"the connection was lost during COMMIT, the outcome is unknown: {exc}") from exc
    if status != "COMMIT":
        raise SqlError("25P02", "the transaction was rolled back: an error inside it was swallowed")
    return result
