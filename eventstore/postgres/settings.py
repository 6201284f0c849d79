"""What can be set about the connection to PostgreSQL. Defaults are for one server of hetuflow."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt


@frozen(slots=True, kw_only=True)
class PostgresSettings:
    """Durations in seconds."""

    application_name: str = "hetuflow"
    role: str | None = None
    """Become this role on every connection (`hetuflow_server`, where `roles.may_become` says so)."""
    pool_size: int = field(default=6, validator=ge(1))
    """Connections for reads and projections, opened when needed; the writer and LISTEN have their own."""
    connection_seconds_max: float = field(default=3600.0, validator=gt(0))
    """A pooled connection older than this is not used again: what it has gathered in the server's memory goes."""
    statement_cache_size: int = field(default=100, validator=ge(0))
    """Prepared statements kept per connection; 0 behind pgbouncer in transaction mode."""
    connect_seconds_max: float = field(default=5.0, validator=gt(0))
    statement_seconds_max: float = field(default=10.0, validator=gt(0))
    lock_seconds_max: float = field(default=5.0, validator=gt(0))
    idle_seconds_max: float = field(default=3.0, validator=gt(0))
    """How long PostgreSQL lets a transaction of the pool wait for us. A server that stands still in the middle of one
    holds its locks that long, and no longer: less than `lock_seconds_max`, for another server waits for them. Except
    between a statement that is new to the connection and its values, where PostgreSQL does not call a transaction idle:
    there the limit is that of the whole transaction, and before PostgreSQL 17 there is none."""
    append_statement_seconds_max: float = field(default=4.0, validator=gt(0))
    """PostgreSQL's own limit for one batch. A second more, and the connection counts as dead: the batch is sent again."""
    append_seconds_max: float = field(default=15.0, validator=gt(0))
    """How long an append waits for a database that is away, from its call."""
    append_queue_max: int = field(default=2_000, validator=ge(1))
    """Appends waiting for the writer; beyond it callers wait: a slow disk becomes back-pressure."""
    poll_seconds: float = field(default=2.0, validator=gt(0))
    """Covers a lost hint and finds a dead connection: the only query of an idle store."""
    partition_positions: int = field(default=10_000_000, validator=ge(1))
    close_seconds_max: float = field(default=10.0, validator=gt(0))
    """For flushing what is queued at the stop."""
