"""Errors of the event store. The class docstring is the default message; errors carry fields, not only text."""

from __future__ import annotations


class EventStoreError(Exception):
    """The event store failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class WrongExpectedVersion(EventStoreError):
    """Another append changed the stream first.

    `stream_id` is the first losing claim of the append, be it a write or a guard; `actual` its version in the store.
    """

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        self.stream_id, self.expected, self.actual = stream_id, expected, actual
        super().__init__(f"stream {stream_id!r} is at version {actual}, expected {expected}")


class InvalidEvent(EventStoreError):
    """The event cannot be stored (NUL, lone surrogate, non-finite number, too large, malformed): nothing was written."""


class UnknownEventType(EventStoreError):
    """The log holds an event type or schema that this version of the program does not know."""


class StoreUnavailable(EventStoreError):
    """The database cannot be reached: nothing was written; try again."""


class StoreFull(StoreUnavailable):
    """The database has no space left on its disk: nothing was written; free some, it goes on by itself."""


class StoreTimeout(EventStoreError):
    """The deadline passed and the outcome is unknown: repeat the same append with the same event ids."""


class SqlError(EventStoreError):
    """PostgreSQL refused a statement; `sqlstate` is its five-character code, `message` what it said."""

    def __init__(self, sqlstate: str, message: str) -> None:
        self.sqlstate, self.message = sqlstate, message
        super().__init__(f"{message} (SQLSTATE {sqlstate})")


class StoreClosed(EventStoreError):
    """The store is stopping."""


class StartError(EventStoreError):
    """The store cannot be opened as it is; the message says what to do."""


class DatabaseTooOld(StartError):
    """PostgreSQL 13 or later is needed."""


class DatabaseTooNew(StartError):
    """The database was migrated by a newer version of hetuflow: start that version."""


class DatabaseNotMigrated(StartError):
    """The database has no hetuflow schema of this version: run `hetuflow migrate`."""


class DatabaseUnreachable(StartError):
    """No PostgreSQL answers at that address."""


class WrongCredentials(StartError):
    """PostgreSQL refused the user name or password."""
