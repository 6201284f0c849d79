"""The SQL port: for projections and queries, which speak SQL through the store's connections and nothing else of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Connection(Protocol):
    """What a transaction function may do. Runs in the database thread: it awaits these methods and nothing else.

    jsonb goes in and comes out as JSON text; timestamptz as aware datetimes; rows are tuples that also answer `row["name"]`.
    """

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...

    async def fetchval(self, sql: str, *args: Any) -> Any: ...

    async def execute(self, sql: str, *args: Any) -> str: ...


class Session(Protocol):
    """One connection of its own, used by one task at a time; what is made in it (temporary tables) stays until `close`."""

    @property
    def connections(self) -> int: ...

    @property
    def is_closed(self) -> bool: ...

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]:
        """Rows of one statement. The session's own timeout holds, not `timeout_seconds`."""
        ...

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction."""
        ...

    async def close(self) -> None: ...


class Asked(Protocol):
    """What answers a single statement: a `Database` or a `Session`."""

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]: ...


class Database(Protocol):
    """SQL for projections and queries, in the one room that speaks it. Errors are those of `eventstore.errors`.

    `StoreUnavailable`: the connection could not be had or was lost (nothing committed); `StoreTimeout`: the statement
    took longer than allowed (rolled back), or the connection was lost during COMMIT (unknown); `SqlError`: all else that
    PostgreSQL refuses.
    """

    @property
    def connections(self) -> int:
        """Pooled connections that are open now."""
        ...

    async def fetch(self, sql: str, *args: Any, timeout_seconds: float = 10.0) -> Sequence[Any]:
        """Rows of one statement on a pooled connection (server-side statement_timeout)."""
        ...

    async def transact(self, work: Callable[[Connection], Awaitable[T]], *, timeout_seconds: float = 30.0) -> T:
        """Run `work` in one transaction: committed when it returns, rolled back when it raises. One crossing of the bridge.

        `timeout_seconds` bounds each statement, and with some seconds of grace the whole.
        """
        ...

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, timeout_seconds: float = 3600.0) -> T:
        """Run `work` on a dedicated connection outside a transaction (rebuilds, DDL, maintenance)."""
        ...

    async def open_session(self, purpose: str, *, timeout_seconds: float) -> Session:
        """A dedicated connection for several statements; `timeout_seconds` bounds each. The caller closes it."""
        ...
