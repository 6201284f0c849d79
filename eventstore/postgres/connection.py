"""Opening connections, and using one without ever leaving it in doubt. All of it runs in the database thread.

A query is never cancelled half-way (asyncpg would open another connection to cancel it, and the first would be in
doubt): the server ends it by `statement_timeout`, and if nothing comes back even after that, the connection is
terminated. A cancelled caller terminates it too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import asyncpg

from eventstore.errors import DatabaseTooOld
from eventstore.postgres.errors import translate_connect, translated
from eventstore.postgres.settings import PostgresSettings

T = TypeVar("T")

VERSION_MIN = 13
_KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 5000}
"""Seconds of idleness, seconds between probes, probes; milliseconds that something sent may stay unacknowledged."""

SILENCE_SECONDS = 5.0
"""How long after the server's own timeout a connection may stay silent before it counts as dead."""


async def connect(
    url: str,
    settings: PostgresSettings,
    purpose: str,
    *,
    statement_seconds_max: float | None = None,
    role: str | None = None,
) -> Any:
    """Open a connection.

    Raises:
      StoreUnavailable: nobody answers, or not yet.
      StartError: only an operator can help (credentials, no such database, PostgreSQL too old).
    """
    statement_seconds = settings.statement_seconds_max if statement_seconds_max is None else statement_seconds_max
    options = {
        "application_name": f"{settings.application_name} {purpose}",
        "statement_timeout": milliseconds(statement_seconds),
        "lock_timeout": milliseconds(settings.lock_seconds_max),
        "idle_in_transaction_session_timeout": milliseconds(60.0),
        "timezone": "UTC",
        "tcp_keepalives_idle": "10",  # and PostgreSQL a client that vanished, with what it holds
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "jit": "off",
    }
    if role is not None:
        options["role"] = role
    try:
        connection = await asyncpg.connect(
            url,
            timeout=settings.connect_seconds_max,
            statement_cache_size=settings.statement_cache_size,
            max_cacheable_statement_size=0,  # however long: those that fold the log are
            server_settings=options,
        )
    except Exception as exc:
        ours = translate_connect(exc, url)
        if ours is None:
            raise
        raise ours from exc
    _notice_dead_peers(connection)
    version = connection.get_server_version()
    if version.major < VERSION_MIN:
        connection.terminate()
        raise DatabaseTooOld(f"this is PostgreSQL {version.major}, {VERSION_MIN} or later is needed: upgrade it")
    return connection


def _notice_dead_peers(connection: Any) -> None:
    """Let the kernel give up a peer that acknowledges nothing: within seconds, not a quarter of an hour."""
    sock = connection._transport.get_extra_info("socket")
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)  # macOS lacks some of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def milliseconds(seconds: float) -> str:
    """For PostgreSQL's timeouts; at least one, since 0 means "none" there."""
    return str(max(1, round(seconds * 1000)))


@contextmanager
def silence_limit(connection: Any, seconds: float, beyond: float = SILENCE_SECONDS) -> Iterator[None]:
    """Terminate the connection when the block takes longer: a dead peer is otherwise noticed after minutes."""
    timer = asyncio.get_running_loop().call_later(seconds + beyond, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


async def uncancelled(connection: Any, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, which uses `connection`; a cancellation ends the connection, and then the work with it."""
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        if not job.done():
            connection.terminate()
            await asyncio.wait([job])
        if not job.cancelled():
            job.exception()  # retrieved: it is the consequence, not the cause
        raise


class TranslatedConnection:
    """`database.Connection` over asyncpg, with our errors."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]:
        with translated():
            rows: Sequence[Any] = await self._connection.fetch(sql, *args)
            return rows

    async def fetchval(self, sql: str, *args: Any) -> Any:
        with translated():
            return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        with translated():
            status: str = await self._connection.execute(sql, *args)
            return status


Connect = Callable[[], Coroutine[Any, Any, Any]]
