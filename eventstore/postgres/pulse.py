"""Signs of life and the identity of the store, on a connection of their own: they wait for no batch and no query."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from eventstore.errors import SqlError, StoreUnavailable
from eventstore.postgres.connection import Connect, silence_limit, uncancelled
from eventstore.postgres.errors import translated
from eventstore.postgres.statements import statement
from eventstore.pulse import Pulse

log = logging.getLogger(__name__)

BEAT_SECONDS_MAX = 2.0
"""PostgreSQL's own limit for a beat; a connection that is silent longer is replaced."""
SILENCE_SECONDS = 0.5


class PulseConnection:
    """Lives in the database thread. Any failure ends the connection: the next beat opens another."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: Any = None

    async def beat(self, name: str, stream_id: str, count: bool, ended: Sequence[str]) -> Pulse:
        """Raises `StoreUnavailable`, `StoreTimeout`."""
        row = await self._fetchrow(statement("beat"), name, stream_id, count, list(ended))
        return Pulse(
            counters=dict(zip(row["names"], row["counters"], strict=True)), version=row["version"], at=row["at"]
        )

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fetchrow(self, sql: str, *args: Any) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        connection = self._connection
        try:
            with translated(), silence_limit(connection, BEAT_SECONDS_MAX, SILENCE_SECONDS):
                return await uncancelled(connection, connection.fetchrow(sql, *args))
        except SqlError as exc:
            await self.close()
            raise StoreUnavailable(f"the database does not take signs of life: {exc}") from exc
        except BaseException:
            await self.close()
            raise


async def identity_of(connection: Any) -> str:
    """Which store this is, `<id>/<generation>`; a store that was opened somewhere else before is a generation further."""
    place = await _place(connection)
    with translated():
        if place is not None:
            status = await connection.execute(statement("identity"), place)
            if status == "UPDATE 1":
                log.info("the store is opened at a new place: %s", place)
        row = await connection.fetchrow("select store_id::text, generation from store_identity")
    return f"{row[0]}/{row[1]}"


async def _place(connection: Any) -> str | None:
    """Cluster, timeline and database; None where PostgreSQL does not tell them to this role."""
    try:
        with translated():
            place: str = await connection.fetchval(
                "select system_identifier::text || '/' || (select timeline_id from pg_control_checkpoint())::text || '/'"
                " || (select oid from pg_database where datname = current_database())::text from pg_control_system()"
            )
            return place
    except SqlError as exc:
        log.info("a restored backup will not be noticed: %s", exc)
        return None
