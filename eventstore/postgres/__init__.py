"""The event store on PostgreSQL 13 and later. The only package that knows asyncpg and asyncio.

Reading order: `store` (what is composed), `appender` and `batch` (group commit), `writer`, `reader`,
`notifications`, `pool` and `connection`, `bridge`, `migrate`, `errors`; SQL lies in `statements/` and `migrations/`.
"""

from eventstore.postgres.database import Connection, Database
from eventstore.postgres.migrate import EVENTSTORE, Migration, Source, migrate, migrations
from eventstore.postgres.settings import PostgresSettings
from eventstore.postgres.store import PostgresStore, open_postgres_store

__all__ = [
    "EVENTSTORE",
    "Connection",
    "Database",
    "Migration",
    "PostgresSettings",
    "PostgresStore",
    "Source",
    "migrate",
    "migrations",
    "open_postgres_store",
]
