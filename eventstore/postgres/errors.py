"""asyncpg's and PostgreSQL's errors -> ours, by one table. Nothing above this package sees a foreign error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg

from eventstore.errors import (
    DatabaseUnreachable,
    EventStoreError,
    SqlError,
    StoreFull,
    StoreTimeout,
    StoreUnavailable,
    WrongCredentials,
)

NO_PARTITION = "23514"
"""check_violation without a constraint: the position lies past the last partition."""

_STATES: dict[str, type[EventStoreError]] = {
    "08": StoreUnavailable,  # connection exception
    "57P": StoreUnavailable,  # shutdown, crash, starting up, database dropped
    "53100": StoreFull,  # disk_full
    "53": StoreUnavailable,  # out of connections or memory
    "58": StoreUnavailable,  # input or output error of the server
    "25006": StoreUnavailable,  # read only: a standby
    "57014": StoreTimeout,  # statement_timeout
    "55P03": StoreTimeout,  # lock_timeout
    "25P03": StoreUnavailable,  # idle_in_transaction_session_timeout ended the session
    "25P04": StoreUnavailable,  # transaction_timeout
}

_WHY: dict[str, str] = {
    "25006": "The database is read only, as a standby is: nothing was written; it goes on by itself when it is not",
    "53300": "The database takes no more connections: nothing was written; raise max_connections, or end some",
}
"""Where the error's own sentence would send somebody the wrong way."""

_CONNECT_STATES: dict[str, type[EventStoreError]] = {
    "28": WrongCredentials,
    "3D000": DatabaseUnreachable,  # no such database
}


def translate(exc: BaseException) -> EventStoreError | None:
    """Our error for a foreign one; None when it is not the database's."""
    if isinstance(exc, EventStoreError):
        return exc
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or "XX000"
        kind = _lookup(_STATES, state)
        if kind is None:
            return SqlError(state, str(exc))
        return kind(f"{_WHY.get(state) or _summary(kind)} ({exc}, SQLSTATE {state})")
    if isinstance(exc, asyncpg.InterfaceError) and isinstance(exc, ValueError):
        return SqlError("22000", str(exc))  # asyncpg could not encode an argument: nothing was sent
    if isinstance(exc, asyncpg.InterfaceError) and "closed" not in str(exc):
        return None  # wrong use of asyncpg: a defect
    if isinstance(exc, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)):
        return StoreUnavailable(f"{_summary(StoreUnavailable)} ({exc or type(exc).__name__})")
    if isinstance(exc, AttributeError) and exc.obj is None and _was_raised_in_asyncpg(exc):
        return StoreUnavailable(f"{_summary(StoreUnavailable)} (the connection was ended within a statement)")
    return None


def _was_raised_in_asyncpg(exc: BaseException) -> bool:
    """It looks for its protocol, which is gone when the connection ends after the plan of a statement has come and before
    its values are sent."""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith("asyncpg.")


def translate_connect(exc: BaseException, url: str) -> EventStoreError | None:
    """Our error for a failed connection attempt: a `StartError` where only an operator can help."""
    where = address(url)
    if isinstance(exc, asyncpg.PostgresError):
        kind = _lookup(_CONNECT_STATES, exc.sqlstate or "")
        if kind is WrongCredentials:
            return WrongCredentials(f"PostgreSQL at {where} refused the user name or password: {exc}")
        if kind is DatabaseUnreachable:
            return DatabaseUnreachable(
                f"PostgreSQL at {where}: {exc}; create it with createdb, or correct DATABASE_URL"
            )
        why = _WHY.get(exc.sqlstate or "", "it does not accept connections")
        return StoreUnavailable(f"PostgreSQL at {where}: {why} ({exc})")
    if isinstance(exc, (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        reason = getattr(exc, "strerror", None) or str(exc) or "no answer in time"
        return StoreUnavailable(f"no PostgreSQL answers at {where}: {reason}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors instead of foreign ones, with the foreign one as the cause."""
    try:
        yield
    except EventStoreError:
        raise
    except Exception as exc:
        ours = translate(exc)
        if ours is None:
            raise
        raise ours from exc


def was_refused(exc: EventStoreError) -> bool:
    """Did the server itself say that it did nothing (read only, out of space)? Else the connection was lost: unknown.

    Not 57P and 58: a backend that is told to end may have committed before.
    """
    cause = exc.__cause__
    return isinstance(cause, asyncpg.PostgresError) and (cause.sqlstate or "")[:2] in ("25", "53")


def is_data_error(exc: SqlError) -> bool:
    """Is a value to blame, so that the other half of the batch may go through?"""
    return exc.sqlstate[:2] in ("22", "23")


def address(url: str) -> str:
    """Host, port and database of a URL, without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def _lookup(table: dict[str, type[EventStoreError]], state: str) -> type[EventStoreError] | None:
    for length in (5, 3, 2):
        kind = table.get(state[:length])
        if kind is not None:
            return kind
    return None


def _summary(kind: type[EventStoreError]) -> str:
    return (kind.__doc__ or "").partition(":")[0].strip().rstrip(".")
